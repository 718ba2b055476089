//! Checks of an installation from outside, with the caller's permissions.
//!
//! `reader` and the `read` functions of the checks do the IO. The `evaluate` functions are pure. `output` prints. Nothing
//! in the cluster is changed: the only pod that is created is created with `dryRun=All`.

mod check;
mod checks;
pub(crate) mod entries;
mod install_method;
mod installation;
pub(crate) mod output;
mod reader;
mod served_certificate;
#[cfg(test)]
mod test_support;

use kube::Client;

pub use check::{Check, CheckId, Status};

use self::checks::{
    admission, api_server, audit_trail, callers, certificate, configuration, drift, integrations,
    permissions, service, trust, workloads,
};
use self::reader::InstallationTarget;
use crate::clock::Clock;

/// Optional parts of a run, and the installation that it checks.
#[derive(Clone, Debug)]
pub(crate) struct DoctorRequest {
    /// Name of the webhook configuration; if absent, it is found by its entries.
    pub(crate) configuration: Option<String>,
    /// Namespace of the webhook if its configuration does not name one.
    pub(crate) webhook_namespace: String,
    /// Namespace of the probe's pod.
    pub(crate) namespace: String,
    /// Whether to request a dry-run create of a pod.
    pub(crate) probe: bool,
    /// Scan all pods and workloads.
    pub(crate) drift: bool,
}

/// Runs all checks; `clock` is the clock of this machine.
///
/// # Errors
/// If the API server does not respond: nothing can be checked then.
pub(crate) async fn examine(
    client: &Client,
    request: DoctorRequest,
    clock: &Clock,
) -> Result<Vec<Check>, String> {
    let DoctorRequest {
        configuration,
        webhook_namespace,
        namespace,
        probe,
        drift,
    } = request;
    let server = api_server::read(client, clock).await?;
    let target = InstallationTarget {
        configuration,
        namespace: webhook_namespace,
    };
    let installation = reader::read(client, &target, &server).await;
    let probe_namespace = probe.then_some(namespace.as_str());
    let review = permissions::read(client, &installation, probe_namespace, drift).await;

    let mut checks = vec![
        api_server::evaluate(&server),
        permissions::caller_permissions(&review),
    ];
    checks.extend(configuration::evaluate(&installation));
    checks.extend(trust::evaluate(&installation));
    checks.extend(certificate::evaluate(&installation));
    checks.extend(service::evaluate(&installation));
    checks.push(callers::evaluate(&installation));
    checks.extend(workloads::evaluate(&installation));
    let admin = audit_trail::read(client, &installation).await;
    checks.extend(audit_trail::evaluate(&installation, &admin));
    checks.extend(permissions::evaluate(&installation, &review));
    checks.push(match probe_namespace {
        Some(namespace) => {
            let probe = admission::read(client, namespace).await;
            admission::evaluate(&installation, &probe)
        }
        None => Check::unchecked(CheckId::Admission, "not asked for (--probe)"),
    });
    checks.extend(integrations::evaluate(&integrations::read(client).await));
    checks.extend(if drift {
        drift::evaluate(&drift::read(client, &installation).await)
    } else {
        [CheckId::Drift, CheckId::IneffectiveAnnotations]
            .map(|id| Check::unchecked(id, "not asked for (--drift)"))
    });
    Ok(checks)
}
