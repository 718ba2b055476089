//! Checks the path of an entry, and the requests that it matches.

use std::collections::BTreeSet;

use k8s_openapi::api::admissionregistration::v1::{MutatingWebhook, RuleWithOperations};

use crate::doctor::check::{Check, CheckId};
use crate::doctor::installation::Installation;

/// Evaluates an entry against the shipped one.
pub fn evaluate(
    entry: &MutatingWebhook,
    shipped: &MutatingWebhook,
    installation: &Installation,
) -> Vec<Check> {
    let name = &entry.name;
    let reinstall = || installation.install_method().reinstall_command();
    let mut checks = Vec::new();
    let (path, shipped_path) = (path(entry), path(shipped));
    if !path.trim_end_matches('/').ends_with(shipped_path.as_str()) {
        let message = format!("{name} leads to {path:?} and not to {shipped_path}");
        checks.push(Check::failure(CheckId::Entries, message, reinstall()));
    }
    let (rules, shipped_rules) = (rules(entry), rules(shipped));
    let difference = |one: &BTreeSet<String>, other: &BTreeSet<String>| {
        let rules: Vec<&str> = one.difference(other).map(String::as_str).collect();
        (!rules.is_empty()).then(|| rules.join(", "))
    };
    if let Some(missing) = difference(&shipped_rules, &rules) {
        let message = format!("{name} is not sent {missing}");
        checks.push(Check::failure(CheckId::Entries, message, reinstall()));
    }
    if let Some(unexpected) = difference(&rules, &shipped_rules) {
        let message = format!("{name} is sent more than the webhook looks at: {unexpected}");
        checks.push(Check::warning(CheckId::Entries, message, reinstall()));
    }
    checks
}

/// Returns the path of the Service, or the whole URL.
fn path(entry: &MutatingWebhook) -> String {
    match (&entry.client_config.service, &entry.client_config.url) {
        (Some(service), _) => service.path.clone().unwrap_or_default(),
        (None, Some(url)) => url.clone(),
        (None, None) => String::new(),
    }
}

/// Expands the rules of an entry to single ones, as in `CREATE apps/deployments`.
fn rules(entry: &MutatingWebhook) -> BTreeSet<String> {
    let all = |list: &Option<Vec<String>>| list.clone().unwrap_or_default();
    let expand = |rule: &RuleWithOperations| {
        let mut expanded = Vec::new();
        for group in all(&rule.api_groups) {
            let slash = if group.is_empty() { "" } else { "/" };
            for resource in all(&rule.resources) {
                expanded.extend(
                    all(&rule.operations)
                        .iter()
                        .map(|operation| format!("{operation} {group}{slash}{resource}")),
                );
            }
        }
        expanded
    };
    entry.rules.iter().flatten().flat_map(expand).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::check::Status;
    use crate::doctor::entries;
    use crate::doctor::test_support::healthy_installation;

    /// Evaluates a changed entry of the shipped configuration.
    fn only_problem(index: usize, change: impl FnOnce(&mut MutatingWebhook)) -> Check {
        let shipped = &entries::shipped()[index];
        let mut entry = shipped.clone();
        change(&mut entry);
        let [problem]: [Check; 1] = evaluate(&entry, shipped, &healthy_installation())
            .try_into()
            .expect("one");
        problem
    }

    #[test]
    fn missing_rule_is_a_failure() {
        let problem = only_problem(1, |entry| {
            entry.rules.as_mut().expect("rules").remove(0);
        });
        assert_eq!(problem.status, Status::Failure);
        assert!(
            problem
                .message
                .contains("is not sent CREATE apps/daemonsets"),
            "{problem:?}"
        );
    }

    #[test]
    fn additional_resource_is_a_warning() {
        let problem = only_problem(0, |entry| {
            entry.rules.as_mut().expect("rules")[0].resources =
                Some(vec!["pods".to_owned(), "secrets".to_owned()]);
        });
        assert_eq!(problem.status, Status::Warning);
    }
}
