//! Commands that fix certificates and CA bundles.

use crate::doctor::installation::{CertificateSource, Installation};

/// Command that makes the configuration trust the CA which signed the certificate.
pub fn publish_command(installation: &Installation) -> String {
    let namespace = &installation.namespace;
    match installation.certificate_source() {
        // The CA injector writes the CA when it starts.
        CertificateSource::CertManager { .. } => {
            "kubectl -n cert-manager rollout restart deployment cert-manager-cainjector".to_owned()
        }
        CertificateSource::SelfManaged => {
            format!(
                "kubectl -n {namespace} rollout restart deployment -l app.kubernetes.io/component=controller"
            )
        }
        CertificateSource::Existing => patch_command(installation),
    }
}

/// Command that writes the CA of the Secret, or of a file if the Secret has none, into every entry.
fn patch_command(installation: &Installation) -> String {
    let (namespace, configuration) = (&installation.namespace, &installation.configuration_name);
    let certificates = installation.secret_certificates.found();
    let ca = if certificates.is_some_and(|certificates| !certificates.ca.is_empty()) {
        format!(
            "$(kubectl -n {namespace} get secret {} -o jsonpath='{{.data.ca\\.crt}}')",
            installation.secret_name()
        )
    } else {
        "$(openssl base64 -A -in ca.crt)".to_owned()
    };
    let last = installation.entries().len().saturating_sub(1);
    format!(
        "ca={ca}; for entry in $(seq 0 {last}); do kubectl patch mutatingwebhookconfiguration {configuration} \
         --type=json -p \"[{{\\\"op\\\": \\\"add\\\", \\\"path\\\": \\\"/webhooks/$entry/clientConfig/caBundle\\\", \
         \\\"value\\\": \\\"$ca\\\"}}]\"; done"
    )
}

/// Command that replaces the certificate, or that shows why the controller does not.
pub fn renew_command(installation: &Installation) -> String {
    let namespace = &installation.namespace;
    match installation.certificate_source() {
        // Replicas keep serving the certificate that they have loaded.
        CertificateSource::CertManager { namespace, .. } => {
            let secret = installation.secret_name();
            format!("kubectl -n {namespace} delete secret {secret}")
        }
        CertificateSource::SelfManaged => {
            format!("kubectl -n {namespace} logs -l app.kubernetes.io/component=controller")
        }
        CertificateSource::Existing => create_secret_command(installation),
    }
}

/// Command that creates or replaces the Secret from files.
pub fn create_secret_command(installation: &Installation) -> String {
    let (namespace, secret) = (&installation.namespace, installation.secret_name());
    format!(
        "kubectl -n {namespace} create secret tls {secret} --cert=tls.crt --key=tls.key --dry-run=client -o yaml \
         | kubectl apply --server-side --force-conflicts -f -"
    )
}
