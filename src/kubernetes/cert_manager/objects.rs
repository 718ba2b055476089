//! Fields of cert-manager's objects that are read.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::core::Object;
use serde::{Deserialize, Serialize};

/// API group of cert-manager's objects, and of the issuers that it implements itself.
pub const GROUP: &str = "cert-manager.io";

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CertificateSpec {
    /// Secret that the certificate is written to.
    #[serde(default)]
    pub secret_name: String,
    #[serde(default)]
    pub issuer_ref: IssuerRef,
}

/// Reference to the issuer that signs a certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IssuerRef {
    #[serde(default)]
    pub name: String,
    /// `Issuer` if absent.
    #[serde(default)]
    pub kind: Option<String>,
    /// [`GROUP`] if absent; issuers of other groups belong to other programs.
    #[serde(default)]
    pub group: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CertificateStatus {
    /// `Ready`, `Issuing`.
    #[serde(default)]
    pub conditions: Vec<CertManagerCondition>,
    /// End of validity of the certificate in the Secret.
    #[serde(default)]
    pub not_after: Option<Time>,
    /// Time at which the next certificate is due.
    #[serde(default)]
    pub renewal_time: Option<Time>,
}

/// Spec of an issuer, of which no field is needed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IssuerSpec {}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IssuerStatus {
    /// `Ready`.
    #[serde(default)]
    pub conditions: Vec<CertManagerCondition>,
}

/// Condition of a certificate or an issuer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertManagerCondition {
    /// `Ready`, `Issuing`.
    #[serde(rename = "type")]
    pub kind: String,
    /// `True`, `False`, `Unknown`.
    #[serde(default)]
    pub status: String,
    /// One word in camel case.
    #[serde(default)]
    pub reason: String,
    /// A sentence.
    #[serde(default)]
    pub message: String,
}

pub type Certificate = Object<CertificateSpec, CertificateStatus>;

/// An `Issuer` or a `ClusterIssuer`.
pub type Issuer = Object<IssuerSpec, IssuerStatus>;

impl IssuerRef {
    pub(super) fn kind(&self) -> &str {
        self.kind.as_deref().unwrap_or("Issuer")
    }

    /// Whether cert-manager itself implements the issuer.
    pub(super) fn is_built_in(&self) -> bool {
        self.group
            .as_deref()
            .is_none_or(|group| group.is_empty() || group == GROUP)
            && matches!(self.kind(), "Issuer" | "ClusterIssuer")
    }
}
