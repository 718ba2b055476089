//! What runs without its secrets, and what has no effect, by the scan.

use kube::Client;

use crate::cli::SIDECARS;
use crate::doctor::check::{Check, Id};
use crate::doctor::installation::Installation;
use crate::kubernetes::ObjectApi;
use crate::scan::{
    Found, Progress, Rules, ScanStats, Scanner, Scope, Task, exempt, run_with_progress,
};
use injection::Sidecar;

/// Findings that are named.
const NAMED: usize = 3;

/// Scans all namespaces, as the webhook's own arguments say what is whose.
pub async fn look(client: &Client, seen: &Installation) -> [Check; 2] {
    let list = |flag: &str, default: &str| -> Vec<String> {
        let value = seen.argument("webhook", flag).unwrap_or(default);
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
            .chain([seen.namespace.clone()]),
    );
    let scanner = Scanner::new(
        ObjectApi::new(client.clone()),
        Rules {
            sidecars,
            exempt,
            ..Rules::default()
        },
    );
    let task = Task {
        scope: Scope::All,
        warned_since: None,
        ineffective: true,
        lost: false,
    };
    let progress = Progress::default();
    let (mut without_secrets, mut without_effect) = (Vec::new(), Vec::new());
    let note = |found: Found| {
        let (named, finding) = match found {
            Found::Drifted(finding) => (&mut without_secrets, finding),
            Found::Ineffective(finding) => (&mut without_effect, finding),
            // Not asked for.
            Found::Lost(_) | Found::Warned(_) => return,
        };
        if named.len() < NAMED {
            named.push(format!(
                "{}/{} in namespace {}",
                finding.kind, finding.name, finding.namespace
            ));
        }
    };
    let ended = run_with_progress(&scanner, &task, &progress, note).await;
    match ended {
        Ok(()) => [
            judge(progress.looked(), &without_secrets),
            judge_effect(
                progress.looked(),
                progress.hides_service_accounts(),
                &without_effect,
            ),
        ],
        Err(error) => [Id::Drift, Id::IneffectiveAnnotations]
            .map(|id| Check::unchecked(id, error.to_string())),
    }
}

/// Whether annotations and labels of ours have an effect where they stand.
fn judge_effect(looked: ScanStats, hidden: bool, named: &[String]) -> Check {
    let ScanStats { ineffective, .. } = looked;
    if ineffective == 0 && hidden {
        return Check::unchecked(
            Id::IneffectiveAnnotations,
            "ServiceAccounts may not be listed",
        );
    }
    if ineffective == 0 {
        return Check::ok(
            Id::IneffectiveAnnotations,
            "no annotation or label was found that has no effect",
        );
    }
    let more = if ineffective > named.len() as u64 {
        ", …"
    } else {
        ""
    };
    let says = format!(
        "{ineffective} objects have annotations or labels without effect: {}{more}; defaults of a Namespace and its ServiceAccounts need the label secrets.floe.dev/inject=enabled",
        named.join(", ")
    );
    Check::warning(
        Id::IneffectiveAnnotations,
        says,
        "floe-secrets-webhook scan -A",
    )
}

fn judge(looked: ScanStats, named: &[String]) -> Check {
    let ScanStats { objects, found, .. } = looked;
    if found == 0 {
        return Check::ok(
            Id::Drift,
            format!("{objects} objects looked at; none runs without the secrets that it asks for"),
        );
    }
    let more = if found > named.len() as u64 {
        ", …"
    } else {
        ""
    };
    let says = format!(
        "{found} of {objects} objects run without the secrets that they ask for: {}{more}",
        named.join(", ")
    );
    Check::warning(Id::Drift, says, "floe-secrets-webhook scan -A")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::check::Status;

    #[test]
    fn what_has_no_effect_is_counted_and_named() {
        let of = |ineffective: u64, hidden: bool, named: &[&str]| {
            let named: Vec<String> = named.iter().map(|name| (*name).to_owned()).collect();
            judge_effect(
                ScanStats {
                    ineffective,
                    ..ScanStats::default()
                },
                hidden,
                &named,
            )
        };
        assert_eq!(of(0, false, &[]).status, Status::Ok);
        assert_eq!(of(0, true, &[]).status, Status::NotChecked);
        let check = of(2, false, &["Namespace/jobs in namespace jobs"]);
        assert_eq!(
            (check.status, check.fix.as_deref()),
            (Status::Warning, Some("floe-secrets-webhook scan -A"))
        );
        let says = "2 objects have annotations or labels without effect: Namespace/jobs in namespace jobs, …; defaults";
        assert!(check.message.starts_with(says), "{}", check.message);
    }
}
