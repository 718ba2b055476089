//! Kubeconfig files of the test bed.

use base64::Engine as _;
use kube::Config;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::json;

use super::pki::{Authority, CertificatePair};

/// Kubeconfig for a user with a client certificate.
pub(super) fn client_kubeconfig(
    server: &str,
    authority: &Authority,
    pair: &CertificatePair,
) -> String {
    let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    kubeconfig(
        server,
        authority,
        &json!({"client-certificate-data": encode(&pair.cert), "client-key-data": encode(&pair.key)}),
    )
}

/// Kubeconfig for one user; a JSON document is valid YAML.
pub(super) fn kubeconfig(server: &str, authority: &Authority, user: &serde_json::Value) -> String {
    let ca = base64::engine::general_purpose::STANDARD.encode(authority.pem());
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": {"server": server, "certificate-authority-data": ca}}],
        "users": [{"name": "test", "user": user}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        "current-context": "test",
    })
    .to_string()
}

/// Configuration of kube from a kubeconfig file.
pub(super) async fn config(kubeconfig: &std::path::Path) -> Config {
    let file = Kubeconfig::read_from(kubeconfig).expect("a generated kubeconfig");
    Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
        .await
        .expect("a generated kubeconfig")
}
