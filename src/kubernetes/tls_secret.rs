//! The Secret in which self-managed certificates are kept: the controller writes it, `serve` reads it.
//!
//! It exists already, empty, made with the rest of the installation. So nobody needs the right to create Secrets (who
//! has it in a namespace can mint tokens of every service account there), and it goes with the installation.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Deserializer};
use serde_json::json;

use crate::kubernetes::{ApiError, ObjectApi, Representation};
use crate::tls::{Bundle, Issued};

/// Why the Secret cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsSecretError {
    /// It is not there.
    #[error(
        "Secret \"{name}\" not found in namespace \"{namespace}\"; create it empty, or install the chart again"
    )]
    Missing {
        /// Where it should be.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// Its data are not those of a Secret.
    #[error("Secret \"{name}\" in namespace \"{namespace}\" cannot be read")]
    Unreadable {
        /// Where it is.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// The API server did not give or take it.
    #[error(transparent)]
    Api(#[from] ApiError),
}

/// One named Secret.
#[derive(Clone, Debug)]
pub struct TlsSecret {
    api: ObjectApi,
    namespace: String,
    name: String,
}

/// What it holds.
#[derive(Clone, Default)]
pub struct StoredPair {
    /// `tls.crt`: the chain, leaf first; empty before the first certificate.
    pub chain: Vec<u8>,
    /// `tls.key`.
    pub key: SecretString,
    /// `ca.crt`: the CAs whose leaves may serve.
    pub ca: Bundle,
    version: String,
}

/// The certificates that it holds, without the key: for who only looks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PublicCertificates {
    /// `tls.crt`: the chain, leaf first.
    pub chain: Vec<u8>,
    /// `ca.crt`: the CA, where its maker puts it there.
    pub ca: Bundle,
}

/// By hand: it holds a key.
impl std::fmt::Debug for StoredPair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoredPair")
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

impl TlsSecret {
    /// The Secret `name` in `namespace`.
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

    /// Reads it.
    ///
    /// # Errors
    /// When it is not there, or the API server does not give it.
    pub async fn read(&self) -> Result<StoredPair, TlsSecretError> {
        let (namespace, name) = (self.namespace.clone(), self.name.clone());
        let Some(body) = self.api.get(&self.path(), Representation::Full).await? else {
            return Err(TlsSecretError::Missing { namespace, name });
        };
        parse(&body).ok_or(TlsSecretError::Unreadable { namespace, name })
    }

    /// Reads its certificates; the key is skipped unread. `None` when there is no such Secret.
    ///
    /// # Errors
    /// When the API server does not give it.
    pub async fn certificates(&self) -> Result<Option<PublicCertificates>, ApiError> {
        let body = self.api.get(&self.path(), Representation::Full).await?;
        Ok(body.map(|body| shown(&body)))
    }

    /// Writes a new pair over what was read.
    ///
    /// # Errors
    /// [`crate::kubernetes::ApiErrorKind::Conflict`] when somebody else wrote since.
    pub async fn write(
        &self,
        over: &StoredPair,
        issued: &Issued,
        ca: &Bundle,
    ) -> Result<(), TlsSecretError> {
        let change = json!({
            "metadata": {"resourceVersion": over.version},
            "data": {
                "tls.crt": STANDARD.encode(&issued.chain),
                "tls.key": STANDARD.encode(issued.key.expose_secret()),
                "ca.crt": STANDARD.encode(ca.to_pem()),
            },
        });
        Ok(self.api.merge(&self.path(), &change).await?)
    }
}

fn parse(body: &Bytes) -> Option<StoredPair> {
    #[derive(Deserialize)]
    struct Object {
        metadata: Metadata,
        #[serde(default)]
        data: Option<Data>,
    }
    #[derive(Deserialize)]
    struct Metadata {
        #[serde(rename = "resourceVersion")]
        resource_version: String,
    }
    #[derive(Default, Deserialize)]
    struct Data {
        #[serde(rename = "tls.crt", default, deserialize_with = "decoded")]
        chain: Vec<u8>,
        #[serde(rename = "tls.key", default, deserialize_with = "decoded")]
        key: Vec<u8>,
        #[serde(rename = "ca.crt", default, deserialize_with = "decoded")]
        ca: Vec<u8>,
    }
    let Object { metadata, data } = serde_json::from_slice(body).ok()?;
    let Data { chain, key, ca } = data.unwrap_or_default();
    let key = String::from_utf8(key).unwrap_or_default();
    Some(StoredPair {
        chain,
        key: key.into(),
        ca: Bundle::from_pem(&ca),
        version: metadata.resource_version,
    })
}

/// What is no Secret holds nothing.
fn shown(body: &Bytes) -> PublicCertificates {
    #[derive(Default, Deserialize)]
    struct Object {
        #[serde(default)]
        data: Option<Data>,
    }
    #[derive(Default, Deserialize)]
    struct Data {
        #[serde(rename = "tls.crt", default, deserialize_with = "decoded")]
        chain: Vec<u8>,
        #[serde(rename = "ca.crt", default, deserialize_with = "decoded")]
        ca: Vec<u8>,
    }
    let Object { data } = serde_json::from_slice(body).unwrap_or_default();
    let Data { chain, ca } = data.unwrap_or_default();
    PublicCertificates {
        chain,
        ca: Bundle::from_pem(&ca),
    }
}

fn decoded<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?.unwrap_or_default();
    // What is no base64 is no certificate either, and is judged as such.
    Ok(STANDARD.decode(text).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_secret_holds_nothing_and_keys_are_not_shown() {
        for data in [
            "",
            r#","data":null"#,
            r#","data":{}"#,
            r#","data":{"tls.crt":null,"tls.key":"!"}"#,
        ] {
            let body = format!(r#"{{"metadata":{{"resourceVersion":"7"}}{data}}}"#);
            let kept = parse(&Bytes::from(body)).expect("a Secret");
            assert!(
                kept.chain.is_empty() && kept.key.expose_secret().is_empty() && kept.ca.is_empty()
            );
        }
        let body = format!(
            r#"{{"metadata":{{"resourceVersion":"7"}},"data":{{"tls.crt":"{}","tls.key":"{}"}}}}"#,
            STANDARD.encode("CHAIN"),
            STANDARD.encode("s3cr3t-canary")
        );
        let kept = parse(&Bytes::from(body)).expect("a Secret");
        assert_eq!(
            (kept.chain.as_slice(), kept.key.expose_secret()),
            (&b"CHAIN"[..], "s3cr3t-canary")
        );
        assert_eq!(format!("{kept:?}"), r#"StoredPair { version: "7", .. }"#);
        assert!(parse(&Bytes::from_static(b"{}")).is_none());
    }
}
