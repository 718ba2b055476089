//! Messages of the Events about refused pods and their owners.

use std::collections::BTreeSet;

use injection::SecretId;

fn list(secrets: &BTreeSet<SecretId>) -> String {
    let names: Vec<String> = secrets
        .iter()
        .map(|secret| format!("\"{}\"", secret.name))
        .collect();
    format!(
        "{} {}",
        if names.len() == 1 {
            "secret"
        } else {
            "secrets"
        },
        names.join(", ")
    )
}

pub(super) fn awaiting_message(secrets: &BTreeSet<SecretId>) -> String {
    format!(
        "new pods wait for {}, or for keys of it, in this namespace; as soon as all is there, pods are tried again",
        list(secrets)
    )
}

pub(super) fn arrived_message(secrets: &BTreeSet<SecretId>) -> String {
    format!(
        "{} can be injected now; pods are tried again at once",
        list(secrets)
    )
}

pub(super) fn retried_message(secrets: &BTreeSet<SecretId>) -> String {
    format!(
        "{} can be injected now; its controller has tried again by itself",
        list(secrets)
    )
}
