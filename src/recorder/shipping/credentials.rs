//! Files that a connection to the collector needs: the CA and the token. Both are replaced while the program runs.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use rustls::ClientConfig;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use secrecy::zeroize::Zeroizing;
use tokio::fs::File;
use tokio::io::AsyncReadExt as _;
use tokio::time::{Instant, timeout};

use super::failure::ShippingFailure;
use crate::identity::kubernetes::MAX_TOKEN;
use crate::tls;

/// Interval at which the files are read during a connection. The kubelet replaces a token long before it ends.
pub const CREDENTIALS_INTERVAL: Duration = Duration::from_mins(1);

/// Limit of a token in bytes: that of the collector, which would reject a longer one.
pub const MAX_TOKEN_BYTES: usize = MAX_TOKEN;

/// Limit of the CA file in bytes: hundreds of certificates.
pub const MAX_CA_BYTES: usize = 256 << 10;

/// Time limit of reading both files.
const FILES_TIMEOUT: Duration = Duration::from_secs(5);

/// Credentials of the last reading.
pub(super) struct Credentials {
    ca_file: PathBuf,
    token_file: PathBuf,
    provider: Arc<CryptoProvider>,
    current: Option<CurrentCredentials>,
}

struct CurrentCredentials {
    ca: Vec<u8>,
    config: Arc<ClientConfig>,
    /// Header with the token; it is marked as sensitive.
    authorization: HeaderValue,
    read_at: Instant,
}

impl Credentials {
    pub(super) fn new(ca_file: PathBuf, token_file: PathBuf) -> Self {
        Self {
            ca_file,
            token_file,
            provider: Arc::new(aws_lc_rs::default_provider()),
            current: None,
        }
    }

    /// Whether it is time to read the files again.
    pub(super) fn are_due(&self) -> bool {
        let read_at = self.current.as_ref().map(|current| current.read_at);
        read_at.is_none_or(|at| at.elapsed() >= CREDENTIALS_INTERVAL)
    }

    /// Reads the files. Returns whether the CA has changed.
    pub(super) async fn read(&mut self) -> Result<bool, ShippingFailure> {
        let read = async {
            let ca = read_file(&self.ca_file, MAX_CA_BYTES).await?;
            let token = read_file(&self.token_file, MAX_TOKEN_BYTES).await?;
            Ok((ca, token))
        };
        let (ca, token) = timeout(FILES_TIMEOUT, read)
            .await
            .map_err(|_| ShippingFailure::Timeout("reading the token and the CA"))??;
        let authorization = authorization(&token).ok_or_else(|| ShippingFailure::Token {
            path: self.token_file.clone(),
        })?;
        let known = self.current.take().filter(|current| current.ca == *ca);
        let is_changed = known.is_none();
        let config = match known {
            Some(current) => current.config,
            None => self.config(&ca)?,
        };
        self.current = Some(CurrentCredentials {
            ca: ca.to_vec(),
            config,
            authorization,
            read_at: Instant::now(),
        });
        Ok(is_changed)
    }

    fn config(&self, ca: &[u8]) -> Result<Arc<ClientConfig>, ShippingFailure> {
        let unusable = |source| ShippingFailure::Ca {
            path: self.ca_file.clone(),
            source,
        };
        let roots = tls::client_roots(ca).map_err(|error| unusable(Some(error)))?;
        if roots.is_empty() {
            return Err(unusable(None));
        }
        let builder = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()
            .map_err(|source| {
                unusable(Some(tls::TlsError::ClientCa {
                    source: source.into(),
                }))
            })?;
        let config = builder.with_root_certificates(roots).with_no_client_auth();
        Ok(Arc::new(config))
    }

    /// Configuration of a handshake and the header of a request, of the last reading.
    pub(super) fn current(&self) -> Option<(Arc<ClientConfig>, HeaderValue)> {
        let current = self.current.as_ref()?;
        Some((Arc::clone(&current.config), current.authorization.clone()))
    }
}

/// Header with a token; `None` if the file has none.
fn authorization(token: &[u8]) -> Option<HeaderValue> {
    let token = token.trim_ascii();
    if token.is_empty() {
        return None;
    }
    let bearer = Zeroizing::new([b"Bearer ", token].concat());
    let mut value = HeaderValue::from_bytes(&bearer).ok()?;
    value.set_sensitive(true);
    Some(value)
}

async fn read_file(path: &Path, max: usize) -> Result<Zeroizing<Vec<u8>>, ShippingFailure> {
    let read = async {
        let file = File::open(path).await?;
        let mut content = Zeroizing::new(Vec::new());
        let length = file.take(max as u64 + 1).read_to_end(&mut content).await?;
        if length > max {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(content)
    };
    read.await.map_err(|source| ShippingFailure::File {
        path: path.to_owned(),
        source,
    })
}
