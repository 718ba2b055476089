//! Checks the failure policy, timeout, match policies and namespace selector of an entry.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use k8s_openapi::api::admissionregistration::v1::MutatingWebhook;

use crate::defaults::ENABLED_LABEL;
use crate::doctor::check::{Check, CheckId};
use crate::doctor::entries::{NAME_LABEL, fails_closed, selects};
use crate::doctor::installation::Installation;

/// Reasonable timeouts in seconds. A shorter one refuses pods at the first slow response, a longer one delays every
/// create while the webhook is down.
const TIMEOUTS: RangeInclusive<i32> = 2..=10;

/// Timeout in seconds of an entry that has none.
const DEFAULT_TIMEOUT: i32 = 10;

/// Evaluates an entry against the shipped one.
pub fn evaluate(
    entry: &MutatingWebhook,
    shipped: &MutatingWebhook,
    installation: &Installation,
) -> Vec<Check> {
    failure_policy(entry, shipped, installation)
        .into_iter()
        .chain(timeout(entry, installation))
        .chain(other_policies(entry, shipped, installation))
        .chain(excluded_namespaces(entry, installation))
        .collect()
}

fn warning(entry: &MutatingWebhook, message: &str, fix: String) -> Check {
    Check::warning(CheckId::Policies, format!("{}: {message}", entry.name), fix)
}

fn failure_policy(
    entry: &MutatingWebhook,
    shipped: &MutatingWebhook,
    installation: &Installation,
) -> Option<Check> {
    let method = installation.install_method();
    match (fails_closed(entry), fails_closed(shipped)) {
        (true, true) | (false, false) => None,
        (false, true) => {
            let value = if entry.name.starts_with("defaults.") {
                "webhook.defaults.failurePolicy"
            } else {
                "webhook.failurePolicy"
            };
            let message = "failurePolicy is Ignore: while the webhook is away, pods run without their secrets";
            let fix = method.upgrade_command(&format!("--set {value}=Fail"));
            Some(warning(entry, message, fix))
        }
        (true, false) => {
            let message =
                "failurePolicy is Fail: while the webhook is away, workloads cannot be changed";
            Some(warning(entry, message, method.reinstall_command()))
        }
    }
}

fn timeout(entry: &MutatingWebhook, installation: &Installation) -> Option<Check> {
    let timeout = entry.timeout_seconds.unwrap_or(DEFAULT_TIMEOUT);
    if TIMEOUTS.contains(&timeout) {
        return None;
    }
    let message = format!(
        "timeoutSeconds is {timeout}; 2 to 10 are long enough, and short enough for those who wait"
    );
    let method = installation.install_method();
    let fix = method.upgrade_command("--set webhook.timeoutSeconds=5");
    Some(warning(entry, &message, fix))
}

fn other_policies(
    entry: &MutatingWebhook,
    shipped: &MutatingWebhook,
    installation: &Installation,
) -> Vec<Check> {
    let fields = |entry: &MutatingWebhook| {
        [
            ("matchPolicy", entry.match_policy.clone()),
            ("reinvocationPolicy", entry.reinvocation_policy.clone()),
            ("sideEffects", Some(entry.side_effects.clone())),
        ]
    };
    let fix = installation.install_method().reinstall_command();
    fields(entry)
        .into_iter()
        .zip(fields(shipped))
        .filter(|((_, actual), (_, expected))| actual != expected)
        .map(|((field, actual), (_, expected))| {
            let [actual, expected] =
                [actual, expected].map(|value| value.unwrap_or_else(|| "not set".to_owned()));
            let message = format!("{field} is {actual} and not {expected}");
            warning(entry, &message, fix.clone())
        })
        .collect()
}

/// Evaluates whether an entry that fails closed excludes the namespaces whose pods have to start before the webhook.
fn excluded_namespaces(entry: &MutatingWebhook, installation: &Installation) -> Option<Check> {
    let name = &entry.name;
    let included: Vec<&str> = ["kube-system", installation.namespace.as_str()]
        .into_iter()
        .filter(|namespace| fails_closed(entry) && selects(entry, &labels(namespace, name)))
        .collect();
    if included.is_empty() {
        return None;
    }
    let message = format!(
        "{name} concerns {}: what has to start before the webhook would wait for it",
        included.join(" and ")
    );
    let fix = installation.install_method().reinstall_command();
    Some(Check::failure(CheckId::Policies, message, fix))
}

/// Returns the labels of a namespace that an entry is meant for.
fn labels(namespace: &str, entry: &str) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::from([(NAME_LABEL.to_owned(), namespace.to_owned())]);
    if entry.starts_with("defaults.") {
        labels.insert(ENABLED_LABEL.0.to_owned(), ENABLED_LABEL.1.to_owned());
    }
    labels
}

/// Summarizes the policies of entries without problems.
pub fn summary(entries: &[MutatingWebhook]) -> String {
    let names = |closed: bool| -> String {
        let names: Vec<&str> = entries
            .iter()
            .filter(|entry| fails_closed(entry) == closed)
            .filter_map(|entry| entry.name.strip_suffix(".secrets.floe.dev"))
            .collect();
        names.join(", ")
    };
    let timeout = entries
        .iter()
        .filter_map(|entry| entry.timeout_seconds)
        .max()
        .unwrap_or(DEFAULT_TIMEOUT);
    format!(
        "Fail for {}; Ignore for {}; {timeout} s; kube-system and the webhook's own namespace are left alone",
        names(true),
        names(false)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::check::Status;
    use crate::doctor::entries::shipped;
    use crate::doctor::test_support::healthy_installation;

    /// Evaluates a changed entry of the shipped configuration.
    fn only_problem(index: usize, change: impl FnOnce(&mut MutatingWebhook)) -> Check {
        let shipped = &shipped()[index];
        let mut entry = shipped.clone();
        change(&mut entry);
        let [problem]: [Check; 1] = evaluate(&entry, shipped, &healthy_installation())
            .try_into()
            .expect("one");
        problem
    }

    #[test]
    fn entry_that_fails_open_is_reported() {
        let problem = only_problem(0, |entry| {
            entry.failure_policy = Some("Ignore".to_owned());
        });
        assert!(
            problem.status == Status::Warning
                && problem.message.contains("run without their secrets"),
            "{problem:?}"
        );
    }

    #[test]
    fn long_timeout_is_reported() {
        let problem = only_problem(3, |entry| entry.timeout_seconds = Some(30));
        assert!(
            problem
                .message
                .starts_with("defaults.workloads.secrets.floe.dev: timeoutSeconds is 30"),
            "{problem:?}"
        );
    }

    #[test]
    fn entry_that_matches_kube_system_is_a_failure() {
        let problem = only_problem(2, |entry| entry.namespace_selector = None);
        assert!(
            problem.status == Status::Failure
                && problem
                    .message
                    .contains("kube-system and floe-secrets-webhook"),
            "{problem:?}"
        );
    }
}
