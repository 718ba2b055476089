//! Checks the complete path of a review: the API server has to refuse a pod that refers to a missing secret, with the
//! webhook's message. The pod is created with `dryRun=All`, so it is never stored.

mod call_failure;
mod probe;

use std::collections::BTreeMap;

use crate::doctor::check::{Check, CheckId};
use crate::doctor::entries::selects;
use crate::doctor::installation::Installation;
use crate::kubernetes::Lookup;

pub use self::probe::{AdmissionProbe, ProbeResponse, read};

/// Command that repeats the probe in another namespace.
const RETRY_COMMAND: &str = "floe-secrets-webhook doctor --namespace NAME";

/// Evaluates the response to the probe.
pub fn evaluate(installation: &Installation, probe: &AdmissionProbe) -> Check {
    let namespace = &probe.namespace;
    let unchecked = |message| Check::unchecked(CheckId::Admission, message).with_fix(RETRY_COMMAND);
    match &probe.labels {
        Lookup::NotFound => {
            return unchecked(format!("there is no namespace {namespace} to try it in"));
        }
        Lookup::Found(labels) if !matches_pods(installation, labels) => {
            return unchecked(format!(
                "pods in namespace {namespace} are not the webhook's; try another one"
            ));
        }
        Lookup::Found(_) | Lookup::Unknown(_) => {}
    }
    match &probe.response {
        ProbeResponse::Refused(code, message) => {
            evaluate_refusal(installation, probe, *code, message)
        }
        ProbeResponse::Admitted => {
            let message = format!(
                "in namespace {namespace}, a pod that asks for a missing secret would be admitted: nobody was asked, or \
                 nobody answered and failurePolicy is Ignore"
            );
            let fix = installation.install_method().reinstall_command();
            Check::failure(CheckId::Admission, message, fix)
        }
        ProbeResponse::NoResponse => {
            Check::unchecked(CheckId::Admission, "the API server did not answer in time")
                .with_fix("kubectl get --raw /readyz?verbose")
        }
    }
}

/// Evaluates the message of the refusal: the webhook's own, of a failed call, or of another plugin.
fn evaluate_refusal(
    installation: &Installation,
    probe: &AdmissionProbe,
    code: u16,
    refusal: &str,
) -> Check {
    let AdmissionProbe {
        namespace, secret, ..
    } = probe;
    if refusal.contains(&format!("secret \"{secret}\" not found")) {
        Check::ok(
            CheckId::Admission,
            format!(
                "in namespace {namespace}, a pod that asks for a missing secret is refused with our sentence"
            ),
        )
    } else if refusal.contains("failed calling webhook") {
        let (cause, fix) = call_failure::explain(installation, refusal);
        let message = format!("the API server does not reach the webhook: {cause}");
        Check::failure(CheckId::Admission, message, fix)
    } else if refusal.contains(".secrets.floe.dev\" denied") {
        let message = format!("the webhook answers, and not about the secret: {refusal}");
        let fix = format!(
            "kubectl -n {} logs -l app.kubernetes.io/component=webhook --tail=20",
            installation.namespace
        );
        Check::failure(CheckId::Admission, message, fix)
    } else if code == 403 {
        let message = format!("the pod was refused before the webhook was asked: {refusal}");
        Check::unchecked(CheckId::Admission, message).with_fix(RETRY_COMMAND)
    } else {
        let message = format!("HTTP {code}: {refusal}");
        Check::unchecked(CheckId::Admission, message).with_fix(RETRY_COMMAND)
    }
}

/// Whether an entry for pods matches a namespace with these labels. Without such an entry the probe is sent too: its
/// response shows the consequence.
fn matches_pods(installation: &Installation, labels: &BTreeMap<String, String>) -> bool {
    let mut entries = installation
        .entries()
        .iter()
        .filter(|entry| entry.name.ends_with("pods.secrets.floe.dev"))
        .peekable();
    entries.peek().is_none() || entries.any(|entry| selects(entry, labels))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::check::Status;
    use crate::doctor::entries::NAME_LABEL;
    use crate::doctor::test_support::healthy_installation;

    fn status(namespace: &str, response: ProbeResponse) -> Status {
        let labels = BTreeMap::from([(NAME_LABEL.to_owned(), namespace.to_owned())]);
        let probe = AdmissionProbe {
            namespace: namespace.to_owned(),
            labels: Lookup::Found(labels),
            secret: "s-1".to_owned(),
            response,
        };
        evaluate(&healthy_installation(), &probe).status
    }

    fn denied(message: &str) -> ProbeResponse {
        ProbeResponse::Refused(
            422,
            format!("admission webhook \"pods.secrets.floe.dev\" denied the request: {message}"),
        )
    }

    #[test]
    fn probe_is_ok_only_with_the_message_of_the_webhook() {
        let not_found = "secret \"s-1\" not found in namespace \"default\" (backend kubernetes; …)";
        assert_eq!(status("default", denied(not_found)), Status::Ok);
        let forbidden = denied("the webhook may not read secret \"s-1\"");
        assert_eq!(status("default", forbidden), Status::Failure);
        assert_eq!(status("default", ProbeResponse::Admitted), Status::Failure);
    }

    #[test]
    fn failed_call_is_a_failure() {
        let message = "Internal error occurred: failed calling webhook \"pods.secrets.floe.dev\": failed to call webhook: Post \"https://a.b.svc:443/\": EOF";
        let response = ProbeResponse::Refused(500, message.to_owned());
        assert_eq!(status("default", response), Status::Failure);
    }

    #[test]
    fn probe_is_not_checked_where_the_webhook_is_not_called() {
        assert_eq!(
            status("kube-system", ProbeResponse::Admitted),
            Status::NotChecked,
            "the entries exclude the namespace"
        );
        let forbidden = ProbeResponse::Refused(
            403,
            "pods is forbidden: User \"u\" cannot create resource \"pods\"".to_owned(),
        );
        assert_eq!(status("default", forbidden), Status::NotChecked);
    }
}
