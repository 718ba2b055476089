//! Checks for pods and workloads that run without their secrets, and for annotations without effect, with the scan.

use std::sync::Arc;

use kube::Client;

use crate::cli::SIDECARS;
use crate::doctor::check::{Check, CheckId};
use crate::doctor::installation::Installation;
use crate::kubernetes::ObjectApi;
use crate::scan::{
    Progress, Rules, ScanFinding, ScanStats, Scanner, Scope, Task, exempt, run_with_progress,
};
use injection::Sidecar;

/// Limit of findings that a message names.
const MAX_NAMED_FINDINGS: usize = 3;

/// Command that lists all findings.
const SCAN_COMMAND: &str = "floe-secrets-webhook scan -A";

/// Result of a scan.
#[derive(Clone, Debug, Default)]
pub struct ScanResult {
    stats: ScanStats,
    /// ServiceAccounts may not be listed.
    hides_service_accounts: bool,
    /// First objects that run without their secrets.
    drifted: Vec<String>,
    /// First objects with annotations or labels that have no effect.
    ineffective: Vec<String>,
}

/// Scans all namespaces by the rules that the webhook's arguments set.
///
/// # Errors
/// If the scan failed.
pub async fn read(client: &Client, installation: &Installation) -> Result<ScanResult, String> {
    let scanner = Scanner::new(ObjectApi::new(client.clone()), rules(installation));
    let task = Task {
        scope: Scope::All,
        warned_since: None,
        ineffective: true,
        lost: false,
    };
    let progress = Arc::new(Progress::default());
    let (mut drifted, mut ineffective) = (Vec::new(), Vec::new());
    let note = |found: ScanFinding| {
        let (named, finding) = match found {
            ScanFinding::Drifted(finding) => (&mut drifted, finding),
            ScanFinding::Ineffective(finding) => (&mut ineffective, finding),
            // Not part of the task.
            ScanFinding::Lost(_) | ScanFinding::Warned(_) => return,
        };
        if named.len() < MAX_NAMED_FINDINGS {
            named.push(format!(
                "{}/{} in namespace {}",
                finding.kind, finding.name, finding.namespace
            ));
        }
    };
    run_with_progress(&scanner, &task, &progress, note)
        .await
        .map_err(|error| error.to_string())?;
    Ok(ScanResult {
        stats: progress.stats(),
        hides_service_accounts: progress.hides_service_accounts(),
        drifted,
        ineffective,
    })
}

fn rules(installation: &Installation) -> Rules {
    let list = |flag: &str, default: &str| -> Vec<String> {
        let value = installation.argument("webhook", flag).unwrap_or(default);
        value
            .split(',')
            .filter(|part| !part.is_empty())
            .map(str::to_owned)
            .collect()
    };
    let sidecars: Vec<Sidecar> = list("--sidecar-containers", SIDECARS)
        .iter()
        .filter_map(|sidecar| sidecar.parse().ok())
        .collect();
    let exempt = exempt(
        list("--exempt-namespaces", "")
            .into_iter()
            .chain([installation.namespace.clone()]),
    );
    Rules {
        sidecars,
        exempt,
        ..Rules::default()
    }
}

/// Evaluates the result of the scan.
pub fn evaluate(result: &Result<ScanResult, String>) -> [Check; 2] {
    match result {
        Ok(result) => [drift(result), ineffective_annotations(result)],
        Err(error) => [CheckId::Drift, CheckId::IneffectiveAnnotations]
            .map(|id| Check::unchecked(id, error.as_str())),
    }
}

fn drift(result: &ScanResult) -> Check {
    let ScanStats { objects, found, .. } = result.stats;
    if found == 0 {
        return Check::ok(
            CheckId::Drift,
            format!("{objects} objects looked at; none runs without the secrets that it asks for"),
        );
    }
    let message = format!(
        "{found} of {objects} objects run without the secrets that they ask for: {}",
        names(&result.drifted, found)
    );
    Check::warning(CheckId::Drift, message, SCAN_COMMAND)
}

fn ineffective_annotations(result: &ScanResult) -> Check {
    let ScanStats { ineffective, .. } = result.stats;
    if ineffective == 0 && result.hides_service_accounts {
        return Check::unchecked(
            CheckId::IneffectiveAnnotations,
            "ServiceAccounts may not be listed",
        );
    }
    if ineffective == 0 {
        return Check::ok(
            CheckId::IneffectiveAnnotations,
            "no annotation or label was found that has no effect",
        );
    }
    let message = format!(
        "{ineffective} objects have annotations or labels without effect: {}; defaults of a Namespace and its ServiceAccounts need the label secrets.floe.dev/inject=enabled",
        names(&result.ineffective, ineffective)
    );
    Check::warning(CheckId::IneffectiveAnnotations, message, SCAN_COMMAND)
}

/// Lists names; an ellipsis stands for those that are not in the list.
fn names(named: &[String], total: u64) -> String {
    let ellipsis = if total > named.len() as u64 {
        ", …"
    } else {
        ""
    };
    format!("{}{ellipsis}", named.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::check::Status;

    #[test]
    fn ineffective_annotations_are_counted_and_named() {
        let check_of = |ineffective: u64, hides_service_accounts: bool, named: &[&str]| {
            ineffective_annotations(&ScanResult {
                stats: ScanStats {
                    ineffective,
                    ..ScanStats::default()
                },
                hides_service_accounts,
                ineffective: named.iter().map(|name| (*name).to_owned()).collect(),
                ..ScanResult::default()
            })
        };
        assert_eq!(check_of(0, false, &[]).status, Status::Ok);
        assert_eq!(check_of(0, true, &[]).status, Status::NotChecked);
        let check = check_of(2, false, &["Namespace/jobs in namespace jobs"]);
        assert_eq!(
            (check.status, check.fix.as_deref()),
            (Status::Warning, Some("floe-secrets-webhook scan -A"))
        );
        let message = "2 objects have annotations or labels without effect: Namespace/jobs in namespace jobs, …; defaults";
        assert!(check.message.starts_with(message), "{}", check.message);
    }
}
