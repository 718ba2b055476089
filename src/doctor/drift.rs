//! What runs without its secrets, by the scan.

use kube::Client;

use super::check::{Check, Id};
use super::installation::Installation;
use crate::api::ObjectApi;
use crate::cli::SIDECARS;
use crate::injection::Pattern;
use crate::scan::{Finding, Looked, Progress, Rules, Scanner, Scope, Task, exempt, survey};

/// Findings that are named.
const NAMED: usize = 3;

/// Scans all namespaces, as the webhook's own arguments say what is whose.
pub async fn look(client: &Client, seen: &Installation) -> Check {
    let list = |flag: &str, default: &str| -> Vec<String> {
        let value = seen.argument("webhook", flag).unwrap_or(default);
        value.split(',').filter(|part| !part.is_empty()).map(str::to_owned).collect()
    };
    let sidecars: Vec<Pattern> =
        list("--sidecar-containers", SIDECARS).iter().filter_map(|pattern| pattern.parse().ok()).collect();
    let exempt = exempt(list("--exempt-namespaces", "").into_iter().chain([seen.namespace.clone()]));
    let scanner = Scanner::new(ObjectApi::new(client.clone()), Rules { sidecars, exempt, ..Rules::default() });
    let task = Task { scope: Scope::All, warned_since: None };
    let progress = Progress::default();
    let mut named = Vec::new();
    let note = |finding: Finding| {
        if named.len() < NAMED {
            named.push(format!("{}/{} in namespace {}", finding.kind, finding.name, finding.namespace));
        }
    };
    let ended = survey(&scanner, &task, &progress, note).await;
    match ended {
        Ok(()) => judge(progress.looked(), &named),
        Err(error) => Check::unchecked(Id::Drift, error.to_string()),
    }
}

fn judge(looked: Looked, named: &[String]) -> Check {
    let Looked { objects, found, .. } = looked;
    if found == 0 {
        return Check::ok(
            Id::Drift,
            format!("{objects} objects looked at; none runs without the secrets that it asks for"),
        );
    }
    let more = if found > named.len() as u64 { ", …" } else { "" };
    let says =
        format!("{found} of {objects} objects run without the secrets that they ask for: {}{more}", named.join(", "));
    Check::warning(Id::Drift, says, "floe-secrets-webhook scan -A")
}
