//! Compares the webhook configuration with the shipped one: entries, rules, conditions, policies.

mod conditions;
mod paths_and_rules;
mod policies;

use k8s_openapi::api::admissionregistration::v1::MutatingWebhook;

use crate::doctor::check::{Check, CheckId, or_ok};
use crate::doctor::entries::{find, shipped};
use crate::doctor::installation::{Installation, SimilarConfiguration};
use crate::kubernetes::Lookup;

/// Evaluates an entry against the shipped one.
type EvaluateEntry = fn(&MutatingWebhook, &MutatingWebhook, &Installation) -> Vec<Check>;

/// Evaluates the configuration.
pub fn evaluate(installation: &Installation) -> Vec<Check> {
    let name = &installation.configuration_name;
    match &installation.configuration {
        Lookup::Found(_) => {}
        Lookup::NotFound => {
            let message = format!(
                "MutatingWebhookConfiguration {name} not found: nobody is asked about any pod, and pods run without their secrets"
            );
            let fix = installation.install_method().reinstall_command();
            return vec![Check::failure(CheckId::Configuration, message, fix)];
        }
        Lookup::Unknown(reason) => {
            return vec![Check::unchecked(CheckId::Configuration, reason.clone())];
        }
    }
    let mut checks = or_ok(
        similar_configurations(&installation.similar),
        CheckId::Configuration,
        || format!("MutatingWebhookConfiguration {name} is there"),
    );
    let mut entries = missing_entries(installation);
    entries.extend(evaluate_each(installation, paths_and_rules::evaluate));
    checks.extend(or_ok(entries, CheckId::Entries, || {
        format!("all {} entries, as they are shipped", shipped().len())
    }));
    let conditions = evaluate_each(installation, conditions::evaluate);
    checks.extend(or_ok(conditions, CheckId::Conditions, || {
        let entries = installation.entries().iter();
        let count = entries
            .filter(|entry| find(shipped(), &entry.name).is_some())
            .count();
        format!("{count} entries have their conditions, and every field in them may be absent")
    }));
    let policies = evaluate_each(installation, policies::evaluate);
    checks.extend(or_ok(policies, CheckId::Policies, || {
        policies::summary(installation.entries())
    }));
    checks
}

fn evaluate_each(installation: &Installation, evaluate: EvaluateEntry) -> Vec<Check> {
    shipped()
        .iter()
        .filter_map(|shipped| Some((find(installation.entries(), &shipped.name)?, shipped)))
        .flat_map(|(entry, shipped)| evaluate(entry, shipped, installation))
        .collect()
}

/// Returns a warning for other configurations with entries of this webhook. If conditions on labels differ, it may be
/// another installation, for other pods. The fix only shows that one: if it were deleted, those pods would run without
/// their secrets.
fn similar_configurations(similar: &[SimilarConfiguration]) -> Vec<Check> {
    let names = |labelled: bool| -> Vec<&str> {
        similar
            .iter()
            .filter(|other| other.labelled == labelled)
            .map(|other| other.name.as_str())
            .collect()
    };
    let (duplicates, labelled) = (names(false), names(true));
    let mut checks = Vec::new();
    if !duplicates.is_empty() {
        let message = format!(
            "{} has entries of this webhook too: each object is sent twice",
            duplicates.join(", ")
        );
        let fix = format!(
            "kubectl delete mutatingwebhookconfiguration {}",
            duplicates.join(" ")
        );
        checks.push(Check::warning(CheckId::Configuration, message, fix));
    }
    if !labelled.is_empty() {
        let message = format!(
            "{} has entries of this webhook with other conditions on labels: objects that match both are sent twice. \
             It may be another installation, for other pods: see that the labels keep the two apart, and do not delete it \
             before you know whose it is",
            labelled.join(", ")
        );
        let fix = format!(
            "kubectl get mutatingwebhookconfiguration {} -o yaml",
            labelled.join(" ")
        );
        checks.push(Check::warning(CheckId::Configuration, message, fix));
    }
    checks
}

fn missing_entries(installation: &Installation) -> Vec<Check> {
    let missing: Vec<&str> = shipped()
        .iter()
        .map(|entry| entry.name.as_str())
        .filter(|name| find(installation.entries(), name).is_none())
        .collect();
    if missing.is_empty() {
        return Vec::new();
    }
    let message = format!(
        "missing: {}; what it concerns is never sent to the webhook",
        missing.join(", ")
    );
    let fix = installation.install_method().reinstall_command();
    vec![Check::failure(CheckId::Entries, message, fix)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::check::Status;
    use crate::doctor::test_support::{healthy_installation, with_entries};

    #[test]
    fn shipped_configuration_is_ok() {
        let checks = evaluate(&healthy_installation());
        assert_eq!(checks.len(), 4);
        assert!(
            checks.iter().all(|check| check.status == Status::Ok),
            "{checks:#?}"
        );
    }

    #[test]
    fn missing_entries_are_named() {
        let installation = with_entries(|entries| drop(entries.remove(1)));
        let problems: Vec<Check> = evaluate(&installation)
            .into_iter()
            .filter(|check| check.status != Status::Ok)
            .collect();
        let [problem]: [Check; 1] = problems.try_into().expect("one");
        assert_eq!(
            (problem.check, problem.status),
            (CheckId::Entries, Status::Failure)
        );
        assert!(
            problem
                .message
                .starts_with("missing: workloads.secrets.floe.dev;"),
            "{problem:?}"
        );
    }

    #[test]
    fn missing_configuration_is_installed_again() {
        let mut installation = healthy_installation();
        installation.configuration = Lookup::NotFound;
        let [check] = evaluate(&installation).try_into().expect("one");
        assert_eq!(
            check.fix.as_deref(),
            Some("kubectl apply --server-side --force-conflicts -k manifests/webhook")
        );
    }

    #[test]
    fn similar_configuration_with_other_labels_is_shown_and_not_deleted() {
        let mut installation = healthy_installation();
        let similar = |name: &str, labelled| SimilarConfiguration {
            name: name.to_owned(),
            labelled,
        };
        installation.similar = vec![similar("zz-copy", false), similar("zz-labelled", true)];
        let checks = evaluate(&installation);
        let [duplicate, labelled] = &checks[..2] else {
            panic!("{checks:#?}")
        };
        assert_eq!(
            (duplicate.status, labelled.status),
            (Status::Warning, Status::Warning)
        );
        assert_eq!(
            duplicate.fix.as_deref(),
            Some("kubectl delete mutatingwebhookconfiguration zz-copy")
        );
        assert_eq!(
            labelled.fix.as_deref(),
            Some("kubectl get mutatingwebhookconfiguration zz-labelled -o yaml")
        );
        assert!(
            labelled.message.contains("It may be another installation"),
            "{}",
            labelled.message
        );
    }
}
