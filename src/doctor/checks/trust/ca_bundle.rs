//! Checks the CA bundles of the entries.

use std::collections::BTreeSet;

use k8s_openapi::api::admissionregistration::v1::MutatingWebhook;

use super::commands::{publish_command, renew_command};
use crate::doctor::check::{Check, CheckId, or_ok};
use crate::doctor::entries::bundle_pem;
use crate::doctor::installation::Installation;
use crate::tls::Bundle;

/// Evaluates whether all entries have the same bundle, with a CA that is still valid.
pub fn evaluate(installation: &Installation) -> Vec<Check> {
    let entries = installation.entries();
    if entries.is_empty() {
        return Vec::new();
    }
    let bundles: BTreeSet<Option<&[u8]>> = entries.iter().map(bundle_pem).collect();
    let mut problems = unusable(installation);
    if problems.is_empty() && bundles.len() > 1 {
        let message = "the entries do not trust the same CA";
        let fix = publish_command(installation);
        problems.push(Check::warning(CheckId::CaBundle, message, fix));
    }
    problems.extend(expired(installation));
    or_ok(problems, CheckId::CaBundle, || {
        match bundles.first().copied().flatten() {
            Some(pem) => match Bundle::from_pem(pem).len() {
                1 => "every entry trusts the same one CA".to_owned(),
                count => format!("every entry trusts the same {count} CAs"),
            },
            None => {
                "no entry names a CA: the API server trusts the ones of its own machine".to_owned()
            }
        }
    })
}

/// Returns the problems of bundles that are missing or that have no readable certificate.
fn unusable(installation: &Installation) -> Vec<Check> {
    let failure =
        |message| Check::failure(CheckId::CaBundle, message, publish_command(installation));
    let is_missing =
        |entry: &MutatingWebhook| bundle_pem(entry).is_none() && entry.client_config.url.is_none();
    let is_unreadable = |entry: &MutatingWebhook| {
        bundle_pem(entry).is_some_and(|pem| Bundle::from_pem(pem).is_empty())
    };
    let missing = names_of(installation, is_missing).map(|names| {
        failure(format!(
            "no caBundle in {names}: the API server trusts nobody there"
        ))
    });
    let unreadable = names_of(installation, is_unreadable)
        .map(|names| failure(format!("the caBundle of {names} holds no certificate")));
    missing.into_iter().chain(unreadable).collect()
}

fn expired(installation: &Installation) -> Option<Check> {
    let is_expired = |entry: &MutatingWebhook| {
        bundle_pem(entry).is_some_and(|pem| {
            let bundle = Bundle::from_pem(pem);
            let valid = Bundle::default().prepend_to(&bundle, usize::MAX, installation.now);
            !bundle.is_empty() && valid.is_empty()
        })
    };
    let names = names_of(installation, is_expired)?;
    let message = format!("every CA in the caBundle of {names} has expired");
    let fix = renew_command(installation);
    Some(Check::failure(CheckId::CaBundle, message, fix))
}

/// Lists the entries for which the predicate is true; `None` if there are none.
fn names_of(
    installation: &Installation,
    predicate: impl Fn(&MutatingWebhook) -> bool,
) -> Option<String> {
    let names: Vec<&str> = installation
        .entries()
        .iter()
        .filter(|entry| predicate(entry))
        .map(|entry| entry.name.as_str())
        .collect();
    (!names.is_empty()).then(|| names.join(", "))
}
