//! Reads a certificate and its issuer.

use kube::core::{ApiResource, GroupVersionKind};
use kube::{Api, Client};

use super::objects::{Certificate, GROUP, Issuer, IssuerRef};
use crate::kubernetes::lookup::{self, Lookup};

/// API version that is read.
pub(super) const VERSION: &str = "v1";

/// A certificate and its issuer, as they were read.
#[derive(Clone, Debug)]
pub struct ObservedCertificate {
    pub namespace: String,
    /// Name of the certificate.
    pub name: String,
    /// Whether the API server serves the kind.
    pub served: bool,
    pub certificate: Lookup<Certificate>,
    /// [`Lookup::Unknown`] for an issuer of another program.
    pub issuer: Lookup<Issuer>,
}

/// Reads the certificate and its issuer.
pub async fn read(client: &Client, namespace: &str, name: &str) -> ObservedCertificate {
    let certificates: Api<Certificate> = Api::namespaced_with(
        client.clone(),
        namespace,
        &resource("Certificate", "certificates"),
    );
    let certificate = lookup::read_optional(certificates.get_opt(name)).await;
    let issuer = match &certificate {
        Lookup::Found(certificate) => issuer(client, namespace, &certificate.spec.issuer_ref).await,
        Lookup::NotFound | Lookup::Unknown(_) => {
            Lookup::Unknown("its certificate is not known".to_owned())
        }
    };
    // A missing object and a missing kind are both 404.
    let served = match certificate {
        Lookup::NotFound => client
            .list_api_group_resources(&format!("{GROUP}/{VERSION}"))
            .await
            .is_ok(),
        Lookup::Found(_) | Lookup::Unknown(_) => true,
    };
    ObservedCertificate {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        served,
        certificate,
        issuer,
    }
}

async fn issuer(client: &Client, namespace: &str, reference: &IssuerRef) -> Lookup<Issuer> {
    if !reference.is_built_in() {
        return Lookup::Unknown("it is another program's".to_owned());
    }
    let issuers: Api<Issuer> = if reference.kind() == "ClusterIssuer" {
        Api::all_with(client.clone(), &resource("ClusterIssuer", "clusterissuers"))
    } else {
        Api::namespaced_with(client.clone(), namespace, &resource("Issuer", "issuers"))
    };
    lookup::read_optional(issuers.get_opt(&reference.name)).await
}

fn resource(kind: &str, plural: &str) -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(GROUP, VERSION, kind), plural)
}
