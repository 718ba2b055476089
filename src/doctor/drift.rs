//! What runs without its secrets, by the scan.

use std::io::IsTerminal as _;

use kube::Client;
use tokio::sync::mpsc;

use super::check::{Check, Id};
use super::installation::Installation;
use crate::api::ObjectApi;
use crate::cli::SIDECARS;
use crate::injection::Pattern;
use crate::scan::{Found, Looked, Progress, Rules, Scanner, Scope, Task, exempt, say, tell};

/// Findings on their way.
const WAITING: usize = 64;

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
    let scanner = Scanner::new(ObjectApi::new(client.clone()), Rules { sidecars, exempt });
    let task = Task { scope: Scope::All, warned_since: None };
    let progress = Progress::default();
    let (sender, mut receiver) = mpsc::channel(WAITING);
    let scanning = async {
        let ended = scanner.scan(&task, &progress, &sender).await;
        drop(sender);
        ended
    };
    let collecting = async {
        let mut named = Vec::new();
        while let Some(found) = receiver.recv().await {
            if let Found::Drifted(finding) = found
                && named.len() < NAMED
            {
                named.push(format!("{}/{} in namespace {}", finding.kind, finding.name, finding.namespace));
            }
        }
        named
    };
    let both = futures::future::join(scanning, collecting);
    let (ended, named) = tokio::select! {
        done = both => done,
        never = tell(&progress, std::io::stderr().is_terminal(), say) => match never {},
    };
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
