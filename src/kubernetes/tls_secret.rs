//! Secret of self-managed certificates: the controller writes it, `serve` reads it.
//!
//! The installation creates the Secret empty. So the controller does not need the permission to create Secrets, with
//! which tokens of every service account in the namespace can be minted, and the Secret is removed with the
//! installation.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Deserializer};
use serde_json::json;

use crate::kubernetes::{ApiError, ObjectApi, Representation};
use crate::tls::{Bundle, Issued};

/// Reason why the Secret cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsSecretError {
    #[error(
        "Secret \"{name}\" not found in namespace \"{namespace}\"; create it empty, or install the chart again"
    )]
    Missing { namespace: String, name: String },
    /// The response is not a Secret.
    #[error("Secret \"{name}\" in namespace \"{namespace}\" cannot be read")]
    Unreadable { namespace: String, name: String },
    /// The API server could not read or write the Secret.
    #[error(transparent)]
    Api(#[from] ApiError),
}

/// Access to the Secret.
#[derive(Clone, Debug)]
pub struct TlsSecret {
    api: ObjectApi,
    namespace: String,
    name: String,
}

/// Contents of the Secret.
#[derive(Clone, Default)]
pub struct StoredPair {
    /// `tls.crt`: the chain, leaf first; empty until the first certificate is issued.
    pub chain: Vec<u8>,
    /// `tls.key`.
    pub key: SecretString,
    /// `ca.crt`: the CAs whose leaves may serve.
    pub ca: Bundle,
    version: String,
}

/// Certificates in the Secret, without the key, for readers that only inspect it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PublicCertificates {
    /// `tls.crt`: the chain, leaf first.
    pub chain: Vec<u8>,
    /// `ca.crt`: the CA, if its issuer writes it.
    pub ca: Bundle,
}

/// Implemented by hand because it has a key.
impl std::fmt::Debug for StoredPair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoredPair")
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

impl TlsSecret {
    #[must_use]
    pub fn new(api: ObjectApi, namespace: &str, name: &str) -> Self {
        Self {
            api,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }

    fn path(&self) -> String {
        format!(
            "/api/v1/namespaces/{}/secrets/{}",
            self.namespace, self.name
        )
    }

    /// Reads the Secret with its key.
    ///
    /// # Errors
    /// The Secret does not exist or cannot be read.
    pub async fn read(&self) -> Result<StoredPair, TlsSecretError> {
        let (namespace, name) = (self.namespace.clone(), self.name.clone());
        let Some(body) = self.api.get(&self.path(), Representation::Full).await? else {
            return Err(TlsSecretError::Missing { namespace, name });
        };
        parse(&body).ok_or(TlsSecretError::Unreadable { namespace, name })
    }

    /// Reads the certificates; the key is not decoded. `None` if the Secret does not exist.
    ///
    /// # Errors
    /// The Secret cannot be read.
    pub async fn certificates(&self) -> Result<Option<PublicCertificates>, ApiError> {
        let body = self.api.get(&self.path(), Representation::Full).await?;
        Ok(body.map(|body| parse_public(&body)))
    }

    /// Replaces the pair that was read by a new one.
    ///
    /// # Errors
    /// [`crate::kubernetes::ApiErrorKind::Conflict`] if the Secret was changed since it was read.
    pub async fn write(
        &self,
        previous: &StoredPair,
        issued: &Issued,
        ca: &Bundle,
    ) -> Result<(), TlsSecretError> {
        let change = json!({
            "metadata": {"resourceVersion": previous.version},
            "data": {
                "tls.crt": STANDARD.encode(&issued.chain),
                "tls.key": STANDARD.encode(issued.key.expose_secret()),
                "ca.crt": STANDARD.encode(ca.to_pem()),
            },
        });
        Ok(self.api.merge(&self.path(), &change).await?)
    }

    /// Replaces the CAs that were read, and leaves the pair.
    ///
    /// # Errors
    /// [`crate::kubernetes::ApiErrorKind::Conflict`] if the Secret was changed since it was read.
    pub async fn write_ca(&self, previous: &StoredPair, ca: &Bundle) -> Result<(), TlsSecretError> {
        let change = json!({
            "metadata": {"resourceVersion": previous.version},
            "data": {"ca.crt": STANDARD.encode(ca.to_pem())},
        });
        Ok(self.api.merge(&self.path(), &change).await?)
    }
}

fn parse(body: &Bytes) -> Option<StoredPair> {
    #[derive(Deserialize)]
    struct TlsSecretObject {
        metadata: TlsSecretVersion,
        #[serde(default)]
        data: Option<PairData>,
    }
    #[derive(Deserialize)]
    struct TlsSecretVersion {
        #[serde(rename = "resourceVersion")]
        resource_version: String,
    }
    #[derive(Default, Deserialize)]
    struct PairData {
        #[serde(rename = "tls.crt", default, deserialize_with = "decoded")]
        chain: Vec<u8>,
        #[serde(rename = "tls.key", default, deserialize_with = "decoded")]
        key: Vec<u8>,
        #[serde(rename = "ca.crt", default, deserialize_with = "decoded")]
        ca: Vec<u8>,
    }
    let TlsSecretObject { metadata, data } = serde_json::from_slice(body).ok()?;
    let PairData { chain, key, ca } = data.unwrap_or_default();
    let key = String::from_utf8(key).unwrap_or_default();
    Some(StoredPair {
        chain,
        key: key.into(),
        ca: Bundle::from_pem(&ca),
        version: metadata.resource_version,
    })
}

/// Parses the certificates; a body that is not a Secret has none.
fn parse_public(body: &Bytes) -> PublicCertificates {
    #[derive(Default, Deserialize)]
    struct PublicSecretObject {
        #[serde(default)]
        data: Option<PublicData>,
    }
    #[derive(Default, Deserialize)]
    struct PublicData {
        #[serde(rename = "tls.crt", default, deserialize_with = "decoded")]
        chain: Vec<u8>,
        #[serde(rename = "ca.crt", default, deserialize_with = "decoded")]
        ca: Vec<u8>,
    }
    let PublicSecretObject { data } = serde_json::from_slice(body).unwrap_or_default();
    let PublicData { chain, ca } = data.unwrap_or_default();
    PublicCertificates {
        chain,
        ca: Bundle::from_pem(&ca),
    }
}

fn decoded<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?.unwrap_or_default();
    // Invalid base64 is reported as an invalid certificate by the code that uses the pair.
    Ok(STANDARD.decode(text).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_secret_has_no_pair_and_debug_hides_the_key() {
        for data in [
            "",
            r#","data":null"#,
            r#","data":{}"#,
            r#","data":{"tls.crt":null,"tls.key":"!"}"#,
        ] {
            let body = format!(r#"{{"metadata":{{"resourceVersion":"7"}}{data}}}"#);
            let stored = parse(&Bytes::from(body)).expect("a Secret");
            assert!(
                stored.chain.is_empty()
                    && stored.key.expose_secret().is_empty()
                    && stored.ca.is_empty()
            );
        }
        let body = format!(
            r#"{{"metadata":{{"resourceVersion":"7"}},"data":{{"tls.crt":"{}","tls.key":"{}"}}}}"#,
            STANDARD.encode("CHAIN"),
            STANDARD.encode("s3cr3t-canary")
        );
        let stored = parse(&Bytes::from(body)).expect("a Secret");
        assert_eq!(
            (stored.chain.as_slice(), stored.key.expose_secret()),
            (&b"CHAIN"[..], "s3cr3t-canary")
        );
        assert_eq!(format!("{stored:?}"), r#"StoredPair { version: "7", .. }"#);
        assert!(parse(&Bytes::from_static(b"{}")).is_none());
    }
}
