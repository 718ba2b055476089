//! Failed calls of the webhook by the API server: cause and fix, from the API server's error.

use crate::doctor::checks::trust::commands::publish_command;
use crate::doctor::installation::{Cloud, Installation, container};

/// Container port of the webhook if its Deployment is unknown.
const DEFAULT_PORT: i32 = 8443;

/// Parts of errors that mean that packets do not arrive.
const UNREACHABLE_ERRORS: [&str; 6] = [
    "deadline exceeded",
    "i/o timeout",
    "timed out",
    "no route to host",
    "unreachable",
    "No agent available",
];

/// Returns the cause and the fix of a failed call, from the error in the API server's response.
pub fn explain(installation: &Installation, error: &str) -> (String, String) {
    // The text before is the address.
    let cause = error.rsplit_once("\": ").map_or(error, |(_, cause)| cause);
    let contains = |text: &str| error.contains(text);
    let describe_pods = || {
        format!(
            "kubectl -n {} describe pods -l app.kubernetes.io/component=webhook",
            installation.namespace
        )
    };
    if contains("no endpoints available") {
        return (cause.to_owned(), describe_pods());
    }
    if contains("x509") || contains("tls: ") {
        return explain_tls(installation, error, cause);
    }
    if contains("not found") {
        let fix = installation.install_method().reinstall_command();
        return (cause.to_owned(), fix);
    }
    if contains("connection refused") {
        return (cause.to_owned(), describe_pods());
    }
    if UNREACHABLE_ERRORS.into_iter().any(contains) {
        return explain_unreachable(installation, cause);
    }
    (cause.to_owned(), describe_pods())
}

fn explain_tls(installation: &Installation, error: &str, cause: &str) -> (String, String) {
    let help = if error.contains("certificate required") || error.contains("bad certificate") {
        "see docs/operations/API-SERVER-CERTIFICATE.md: tls.clientCA is set and the API server shows no certificate of it"
    } else {
        "see `trust`, `certificate` and `ca-bundle` here"
    };
    let fix = if error.contains("unknown authority") {
        publish_command(installation)
    } else {
        format!(
            "kubectl get mutatingwebhookconfiguration {} -o jsonpath='{{.webhooks[0].clientConfig.caBundle}}' \
             | base64 -d | openssl x509 -noout -subject -enddate",
            installation.configuration_name
        )
    };
    (format!("{cause} ({help})"), fix)
}

fn explain_unreachable(installation: &Installation, cause: &str) -> (String, String) {
    let port = admission_port(installation).unwrap_or(DEFAULT_PORT);
    let message = format!(
        "{cause}. Something lies between the control plane and port {port} of the pods: on a private GKE cluster a \
         firewall rule for tcp:{port} from the control plane's range (or the value port: 10250); on EKS with \
         Calico or Cilium as an overlay the value hostNetwork: true; with Konnectivity its agents \
         (kubectl -n kube-system get pods -l k8s-app=konnectivity-agent); else a NetworkPolicy"
    );
    let fix = match installation.cloud() {
        Some(Cloud::Google) => format!(
            "gcloud compute firewall-rules create floe-secrets-webhook --allow=tcp:{port} \
             --source-ranges=CONTROL_PLANE_CIDR --target-tags=NODE_TAG --network=NETWORK"
        ),
        Some(Cloud::Amazon) => installation
            .install_method()
            .upgrade_command("--set hostNetwork=true"),
        None => format!(
            "kubectl -n {} describe networkpolicy",
            installation.namespace
        ),
    };
    (message, fix)
}

/// Returns the container port that receives reviews.
fn admission_port(installation: &Installation) -> Option<i32> {
    let ports = container(installation.deployment("webhook")?)?
        .ports
        .as_ref()?;
    ports
        .iter()
        .find(|port| port.name.as_deref() == Some("admission"))
        .map(|port| port.container_port)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::doctor::test_support::healthy_installation;

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
    fn cause_of_a_failed_call_selects_the_fix(#[case] cause: &str, #[case] fix: &str) {
        let explained = explain(&healthy_installation(), &format!("{CALL}{cause}"));
        assert!(
            explained.0.contains(cause) && !explained.0.contains("timeout=5s"),
            "{explained:?}"
        );
        assert!(explained.1.contains(fix), "{explained:?}");
    }

    #[test]
    fn fix_of_an_unreachable_webhook_depends_on_the_cloud() {
        let fix = |version: &str| {
            let mut installation = healthy_installation();
            version.clone_into(&mut installation.version);
            let (message, fix) =
                explain(&installation, &format!("{CALL}context deadline exceeded"));
            assert!(
                message.contains("firewall rule for tcp:8443") && message.contains("Konnectivity"),
                "{message}"
            );
            fix
        };
        assert!(fix("v1.33.5-gke.1125000").contains(
            "gcloud compute firewall-rules create floe-secrets-webhook --allow=tcp:8443"
        ));
        // The plain manifests have no values.
        assert!(fix("v1.33.5-eks-3025e55").starts_with("kubectl apply"));
        assert!(fix("v1.33.5").contains("networkpolicy"));
    }
}
