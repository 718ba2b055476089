//! Objects of `admin` beside its Deployment, and its metrics.

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::{Api, Client};

use crate::doctor::installation::{Installation, name, pod_spec};
use crate::kubernetes::lookup::{Lookup, read_optional};
use crate::kubernetes::tls_secret::{PublicCertificates, TlsSecret};
use crate::kubernetes::{ObjectApi, Representation};

/// Objects as they were read.
#[derive(Clone, Debug)]
pub struct AdminObjects {
    /// Claim of the store; `None` if the store is not in a claim.
    pub claim: Option<Lookup<PersistentVolumeClaim>>,
    /// Certificates of the TLS Secret, never its key.
    pub certificates: Lookup<PublicCertificates>,
    /// Metrics, through the API server's proxy.
    pub metrics: Lookup<String>,
}

impl Default for AdminObjects {
    fn default() -> Self {
        let unread = || "there is no Deployment of admin".to_owned();
        Self {
            claim: None,
            certificates: Lookup::Unknown(unread()),
            metrics: Lookup::Unknown(unread()),
        }
    }
}

/// Reads the objects, if `admin` is installed.
pub async fn read(client: &Client, installation: &Installation) -> AdminObjects {
    let Some(deployment) = installation.deployment("admin") else {
        return AdminObjects::default();
    };
    let namespace = &installation.namespace;
    let volumes = pod_spec(deployment).and_then(|spec| spec.volumes.as_deref());
    let claim = volumes
        .unwrap_or_default()
        .iter()
        .find_map(|volume| volume.persistent_volume_claim.as_ref());
    let claim = match claim {
        Some(claim) => {
            let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), namespace);
            Some(read_optional(claims.get_opt(&claim.claim_name)).await)
        }
        None => None,
    };
    let api = ObjectApi::new(client.clone());
    let certificates = match installation.tls_secret_of("admin") {
        Some(secret) => TlsSecret::new(api.clone(), namespace, &secret)
            .certificates()
            .await
            .into(),
        None => Lookup::NotFound,
    };
    // The Service has the name of the Deployment.
    let service = name(&deployment.metadata);
    let path = format!("/api/v1/namespaces/{namespace}/services/{service}:ops/proxy/metrics");
    let metrics = Lookup::from(api.get(&path, Representation::Full).await);
    AdminObjects {
        claim,
        certificates,
        metrics: metrics.map(|body| String::from_utf8_lossy(&body).into_owned()),
    }
}
