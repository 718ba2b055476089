//! Checks of an installation from outside, with the permissions of whoever runs them.
//!
//! `reader` and the `look`s of the checks read, their `judge`s decide from what was read alone, `output` prints. Nothing
//! is changed in the cluster: the one pod that is created is created with `dryRun=All`.

mod check;
mod checks;
mod entries;
mod installation;
pub(crate) mod output;
mod reader;
mod served;
#[cfg(test)]
mod test_support;

use jiff::Timestamp;
use kube::Client;

pub use check::{Check, Id, Status};

use self::checks::{
    admission, api_server, callers, certificate, configuration, neighbours, permissions, service,
    trust, workloads,
};
use self::reader::Wanted;

/// What to check, beside what every run checks.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// The webhook configuration; found by its entries if absent.
    pub(crate) configuration: Option<String>,
    /// The namespace of the webhook, if its configuration does not name one.
    pub(crate) webhook_namespace: String,
    /// The namespace in which a pod is created, as a dry run.
    pub(crate) namespace: String,
    /// Create that pod.
    pub(crate) probe: bool,
    /// Scan all pods and workloads.
    pub(crate) drift: bool,
}

/// Runs all checks; `here` is the clock of this machine.
///
/// # Errors
/// If the API server does not respond: nothing can be checked then.
pub(crate) async fn examine(
    client: &Client,
    request: Request,
    here: fn() -> Timestamp,
) -> Result<Vec<Check>, String> {
    let Request {
        configuration,
        webhook_namespace,
        namespace,
        probe,
        drift,
    } = request;
    let server = reader::api_server(client, here).await?;
    let wanted = Wanted {
        configuration,
        namespace: webhook_namespace,
    };
    let seen = reader::read(client, &wanted, &server).await;
    let answers = permissions::ask(client, &seen, probe.then_some(namespace.as_str()), drift).await;

    let mut checks = vec![
        api_server::api_server(&server),
        permissions::yours(&answers),
    ];
    checks.extend(configuration::judge(&seen));
    checks.extend(trust::judge(&seen));
    checks.extend(certificate::certificate(&seen));
    checks.extend(service::judge(&seen));
    checks.push(callers::judge(&seen));
    checks.extend(workloads::judge(&seen));
    checks.extend(permissions::judge(&seen, &answers));
    checks.push(if probe {
        admission::judge(&seen, &admission::make(client, &namespace).await)
    } else {
        Check::unchecked(Id::Admission, "not asked for (--probe)")
    });
    checks.extend(neighbours::judge(&neighbours::look(client).await));
    checks.extend(if drift {
        checks::drift::look(client, &seen).await
    } else {
        [Id::Drift, Id::IneffectiveAnnotations]
            .map(|id| Check::unchecked(id, "not asked for (--drift)"))
    });
    Ok(checks)
}
