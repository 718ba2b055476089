//! The end to end proof: a pod that asks for a secret that nobody has is refused with the webhook's sentence. It is
//! created with `dryRun=All`, so nothing is stored whatever the answer.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::PostParams;
use kube::{Api, Client};
use serde_json::json;
use tokio::time::timeout;

use crate::doctor::check::{Check, Id};
use crate::doctor::checks::{configuration, trust};
use crate::doctor::installation::{Cloud, Installation};
use crate::kubernetes::Lookup;
use crate::kubernetes::lookup;

/// The API server waits at most half a minute for each webhook; other webhooks take their time too.
const PATIENCE: Duration = Duration::from_secs(90);

/// What the API server answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It would create the pod.
    Admitted,
    /// It would not: HTTP status and message.
    Refused(u16, String),
    /// It did not answer.
    Silent,
}

/// A probe that was made.
#[derive(Clone, Debug)]
pub struct Probe {
    /// Where.
    pub namespace: String,
    /// The secret that nobody has.
    pub secret: String,
    /// The namespace's labels.
    pub labels: Lookup<BTreeMap<String, String>>,
    /// What came back.
    pub answer: Answer,
}

/// Makes it.
pub async fn make(client: &Client, namespace: &str) -> Probe {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let labels = lookup::look(namespaces.get_opt(namespace))
        .await
        .map(|found| found.metadata.labels.unwrap_or_default());
    let secret = format!("floe-secrets-doctor-{:08x}", fastrand::u32(..));
    let params = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let created = match pod(namespace, &secret) {
        Some(pod) => {
            timeout(
                PATIENCE,
                Api::<Pod>::namespaced(client.clone(), namespace).create(&params, &pod),
            )
            .await
        }
        None => {
            return Probe {
                namespace: namespace.to_owned(),
                secret,
                labels,
                answer: Answer::Silent,
            };
        }
    };
    let answer = match created {
        Ok(Ok(_)) => Answer::Admitted,
        Ok(Err(kube::Error::Api(status))) => Answer::Refused(status.code, status.message),
        Ok(Err(_)) | Err(_) => Answer::Silent,
    };
    Probe {
        namespace: namespace.to_owned(),
        secret,
        labels,
        answer,
    }
}

/// A pod that every policy lets through, so that the answer is the webhook's.
fn pod(namespace: &str, secret: &str) -> Option<Pod> {
    let pod = json!({
        "metadata": {
            "name": secret, "namespace": namespace,
            "annotations": {"secrets.floe.dev/env-from": secret, "secrets.floe.dev/on-missing": "deny"},
        },
        "spec": {
            "restartPolicy": "Never",
            "securityContext": {"runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": "never-runs", "image": "none",
                "resources": {"requests": {"cpu": "1m", "memory": "1Mi"}, "limits": {"cpu": "1m", "memory": "1Mi"}},
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]},
                    "readOnlyRootFilesystem": true},
            }],
        },
    });
    serde_json::from_value(pod).ok()
}

/// Judges what came back.
pub fn judge(seen: &Installation, probe: &Probe) -> Check {
    let Probe {
        namespace,
        secret,
        labels,
        answer,
    } = probe;
    let again = "floe-secrets-webhook doctor --namespace NAME";
    match labels {
        Lookup::NotFound => {
            return Check::unchecked(
                Id::Admission,
                format!("there is no namespace {namespace} to try it in"),
            )
            .with(again);
        }
        Lookup::Found(labels) if !is_asked_about(seen, labels) => {
            let says =
                format!("pods in namespace {namespace} are not the webhook's; try another one");
            return Check::unchecked(Id::Admission, says).with(again);
        }
        Lookup::Found(_) | Lookup::Unknown(_) => {}
    }
    match answer {
        Answer::Refused(_, message) if is_ours(message, secret) => Check::ok(
            Id::Admission,
            format!(
                "in namespace {namespace}, a pod that asks for a missing secret is refused with our sentence"
            ),
        ),
        Answer::Refused(_, message) if message.contains("failed calling webhook") => {
            let (says, mend) = unreached(seen, message);
            Check::failure(
                Id::Admission,
                format!("the API server does not reach the webhook: {says}"),
                mend,
            )
        }
        Answer::Refused(_, message) if message.contains(".secrets.floe.dev\" denied") => {
            let says = format!("the webhook answers, and not about the secret: {message}");
            let mend = format!(
                "kubectl -n {} logs -l app.kubernetes.io/component=webhook --tail=20",
                seen.namespace
            );
            Check::failure(Id::Admission, says, mend)
        }
        Answer::Refused(403, message) => {
            let says = format!("the pod was refused before the webhook was asked: {message}");
            Check::unchecked(Id::Admission, says).with(again)
        }
        Answer::Refused(code, message) => {
            Check::unchecked(Id::Admission, format!("HTTP {code}: {message}")).with(again)
        }
        Answer::Admitted => {
            let says = format!(
                "in namespace {namespace}, a pod that asks for a missing secret would be admitted: nobody was asked, or \
                 nobody answered and failurePolicy is Ignore"
            );
            Check::failure(Id::Admission, says, seen.origin().again())
        }
        Answer::Silent => Check::unchecked(Id::Admission, "the API server did not answer in time")
            .with("kubectl get --raw /readyz?verbose"),
    }
}

fn is_asked_about(seen: &Installation, labels: &BTreeMap<String, String>) -> bool {
    let entries = seen.entries();
    // Without entries of ours the probe itself shows what that means.
    entries.is_empty()
        || entries
            .iter()
            .filter(|entry| entry.name.ends_with("pods.secrets.floe.dev"))
            .any(|entry| configuration::selects(entry, labels))
        || !entries
            .iter()
            .any(|entry| entry.name.ends_with("pods.secrets.floe.dev"))
}

fn is_ours(message: &str, secret: &str) -> bool {
    message.contains(&format!("secret \"{secret}\" not found"))
}

/// Why the API server got no answer, and what helps.
fn unreached(seen: &Installation, message: &str) -> (String, String) {
    let Installation {
        namespace, name, ..
    } = seen;
    // What comes before is the address.
    let end = message
        .rsplit_once("\": ")
        .map_or(message, |(_, end)| end)
        .to_owned();
    let pods =
        format!("kubectl -n {namespace} describe pods -l app.kubernetes.io/component=webhook");
    let port = seen.deployment("webhook").and_then(|deployment| {
        let ports = crate::doctor::installation::container(deployment)?
            .ports
            .clone()?;
        ports
            .iter()
            .find(|port| port.name.as_deref() == Some("admission"))
            .map(|port| port.container_port)
    });
    let port = port.unwrap_or(8443);
    if message.contains("no endpoints available") {
        return (end, pods);
    }
    if message.contains("x509") || message.contains("tls: ") {
        let help = if message.contains("certificate required")
            || message.contains("bad certificate")
        {
            "see docs/operations/API-SERVER-CERTIFICATE.md: tls.clientCA is set and the API server shows no certificate of it"
        } else {
            "see `trust`, `certificate` and `ca-bundle` here"
        };
        let mend = if message.contains("unknown authority") {
            trust::publish(seen)
        } else {
            format!(
                "kubectl get mutatingwebhookconfiguration {name} -o jsonpath='{{.webhooks[0].clientConfig.caBundle}}' \
                 | base64 -d | openssl x509 -noout -subject -enddate"
            )
        };
        return (format!("{end} ({help})"), mend);
    }
    if message.contains("not found") {
        return (end, seen.origin().again());
    }
    if message.contains("connection refused") {
        return (end, pods);
    }
    let unreachable = [
        "deadline exceeded",
        "i/o timeout",
        "timed out",
        "no route to host",
        "unreachable",
        "No agent available",
    ];
    if unreachable.iter().any(|words| message.contains(words)) {
        let says = format!(
            "{end}. Something lies between the control plane and port {port} of the pods: on a private GKE cluster a \
             firewall rule for tcp:{port} from the control plane's range (or the value port: 10250); on EKS with \
             Calico or Cilium as an overlay the value hostNetwork: true; with Konnectivity its agents \
             (kubectl -n kube-system get pods -l k8s-app=konnectivity-agent); else a NetworkPolicy"
        );
        let mend = match seen.cloud() {
            Some(Cloud::Google) => format!(
                "gcloud compute firewall-rules create floe-secrets-webhook --allow=tcp:{port} \
                 --source-ranges=CONTROL_PLANE_CIDR --target-tags=NODE_TAG --network=NETWORK"
            ),
            Some(Cloud::Amazon) => seen.origin().set("--set hostNetwork=true"),
            None => format!("kubectl -n {namespace} describe networkpolicy"),
        };
        return (says, mend);
    }
    (end, pods)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::doctor::check::Status;
    use crate::doctor::test_support::installation;

    fn judged(namespace: &str, answer: Answer) -> Check {
        let labels = [(
            "kubernetes.io/metadata.name".to_owned(),
            namespace.to_owned(),
        )]
        .into();
        let probe = Probe {
            namespace: namespace.to_owned(),
            secret: "s-1".to_owned(),
            labels: Lookup::Found(labels),
            answer,
        };
        judge(&installation(), &probe)
    }

    const CALL: &str = r#"Internal error occurred: failed calling webhook "pods.secrets.floe.dev": failed to call webhook: Post "https://floe-secrets-webhook.floe-secrets-webhook.svc:443/admit/pods?timeout=5s": "#;

    #[rstest]
    #[case(
        "no endpoints available for service \"floe-secrets-webhook\"",
        "describe pods"
    )]
    #[case("context deadline exceeded", "describe networkpolicy")]
    #[case("dial tcp 10.0.0.1:443: i/o timeout", "describe networkpolicy")]
    #[case(
        "tls: failed to verify certificate: x509: certificate signed by unknown authority",
        "openssl"
    )]
    #[case("service \"floe-secrets-webhook\" not found", "kubectl apply")]
    #[case("dial tcp 127.0.0.1:1: connect: connection refused", "describe pods")]
    #[case("EOF", "describe pods")]
    fn what_the_api_server_says_leads_to_what_helps(#[case] end: &str, #[case] mend: &str) {
        let check = judged("default", Answer::Refused(500, format!("{CALL}{end}")));
        assert_eq!(check.status, Status::Failure);
        assert!(
            check.message.contains(end) && !check.message.contains("timeout=5s"),
            "{check:?}"
        );
        assert!(
            check.fix.as_deref().expect("a command").contains(mend),
            "{check:?}"
        );
    }

    #[test]
    fn what_lies_between_depends_on_the_cloud() {
        let mend = |version: &str| {
            let mut seen = installation();
            version.clone_into(&mut seen.version);
            let (says, mend) = unreached(&seen, &format!("{CALL}context deadline exceeded"));
            assert!(
                says.contains("firewall rule for tcp:8443") && says.contains("Konnectivity"),
                "{says}"
            );
            mend
        };
        assert!(mend("v1.33.5-gke.1125000").contains(
            "gcloud compute firewall-rules create floe-secrets-webhook --allow=tcp:8443"
        ));
        // The plain manifests have no values.
        assert!(mend("v1.33.5-eks-3025e55").starts_with("kubectl apply"));
        assert!(mend("v1.33.5").contains("networkpolicy"));
    }

    #[test]
    fn only_our_sentence_is_the_proof() {
        let denied = |text: &str| {
            Answer::Refused(
                422,
                format!("admission webhook \"pods.secrets.floe.dev\" denied the request: {text}"),
            )
        };
        let ours = "secret \"s-1\" not found in namespace \"default\" (backend kubernetes; …)";
        assert_eq!(judged("default", denied(ours)).status, Status::Ok);
        assert_eq!(
            judged("default", denied("the webhook may not read secret \"s-1\"")).status,
            Status::Failure
        );
        assert_eq!(judged("default", Answer::Admitted).status, Status::Failure);
        assert_eq!(
            judged("kube-system", Answer::Admitted).status,
            Status::NotChecked,
            "nobody is asked there"
        );
        let forbidden = Answer::Refused(
            403,
            "pods is forbidden: User \"u\" cannot create resource \"pods\"".to_owned(),
        );
        assert_eq!(judged("default", forbidden).status, Status::NotChecked);
        assert!(pod("default", "s-1").is_some());
    }
}
