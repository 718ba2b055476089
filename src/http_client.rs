//! HTTP client of services outside the cluster: identity providers and secret stores.
//!
//! This room alone builds such clients, so that every request has the same rules:
//! - TLS by rustls on aws-lc-rs, by the certificates of a file or of the system; `https` alone unless the settings
//!   allow more.
//! - URLs are parsed once, by the parser that the client uses ([`HttpUrl`]).
//! - Redirects are not followed, responses are not decompressed, cookies are not kept, and no request is repeated.
//! - A time limit covers the whole exchange, and bodies are counted while they arrive.
//! - Addresses that no such service has are refused after the names are resolved ([`AddressPolicy`]).
//!
//! Errors name the method and the URL without its query. They contain no header and no body.

mod addresses;
mod error;
mod limits;
mod proxy;
mod request;
mod resolver;
mod response;
#[cfg(test)]
pub(crate) mod test_server;
#[cfg(test)]
mod tests;
mod url;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use http::HeaderValue;
use http::header::{ACCEPT_ENCODING, HeaderMap};
use reqwest::redirect::Policy;
use reqwest::tls::{Certificate, Version};
use reqwest::{Client, ClientBuilder};
use thiserror::Error;
use tokio::time::timeout;

pub use self::addresses::{AddressClass, AddressPolicy, InvalidNetwork};
pub use self::error::HttpError;
pub use self::limits::{
    CONNECT_TIMEOUT, EXCHANGE_TIMEOUT, IDLE_TIMEOUT, MAX_ADDRESSES, MAX_ALLOWED_NETWORKS, MAX_BODY,
    MAX_CA_FILE, MAX_IDLE, MAX_PROXY, MAX_URL,
};
pub use self::proxy::{InvalidOutboundProxy, OutboundProxy};
pub use self::request::HttpRequest;
use self::resolver::CheckedResolver;
pub use self::resolver::{HostLookup, system_lookup};
pub use self::response::HttpResponse;
pub use self::url::{HttpUrl, InvalidUrl, Schemes};

const USER_AGENT: &str = concat!("floe-secrets-webhook/", env!("CARGO_PKG_VERSION"));

/// Settings of a client.
#[derive(Clone, Debug, Default)]
pub struct HttpSettings {
    /// PEM file of the CA certificates that issue the servers' certificates; those of the system are not used then.
    pub ca_file: Option<PathBuf>,
    /// Addresses that the client may connect to.
    pub addresses: AddressPolicy,
    /// Proxy on the way, which resolves names itself.
    pub proxy: Option<OutboundProxy>,
}

/// Client of services outside the cluster. Clones share their connections.
#[derive(Clone)]
pub struct HttpClient {
    client: Client,
    addresses: Arc<AddressPolicy>,
}

/// Reason why a client cannot be created.
#[derive(Debug, Error)]
pub enum InvalidHttpSettings {
    #[error("the CA certificates in {} cannot be read", path.display())]
    ReadCa {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error(
        "{} holds no usable CA certificate, or one that cannot be used: it has to be PEM blocks \"CERTIFICATE\" of at most {} KiB",
        path.display(),
        MAX_CA_FILE >> 10
    )]
    UnusableCa { path: PathBuf },
    #[error(transparent)]
    Proxy(#[from] InvalidOutboundProxy),
    #[error(
        "the client of HTTP cannot be created: name a file of CA certificates, or install those of the system"
    )]
    Build,
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpClient")
            .field("addresses", &self.addresses)
            .finish_non_exhaustive()
    }
}

impl HttpClient {
    /// Creates a client that resolves names as the system does. Reads the file of CA certificates, blocking.
    ///
    /// # Errors
    ///
    /// The CA certificates or the proxy cannot be used.
    pub fn new(settings: &HttpSettings) -> Result<Self, InvalidHttpSettings> {
        Self::with_lookup(settings, system_lookup())
    }

    /// Creates a client that resolves names by `lookup`.
    ///
    /// # Errors
    ///
    /// The CA certificates or the proxy cannot be used.
    pub fn with_lookup(
        settings: &HttpSettings,
        lookup: HostLookup,
    ) -> Result<Self, InvalidHttpSettings> {
        let addresses = Arc::new(settings.addresses.clone());
        let resolver = CheckedResolver::new(lookup, Arc::clone(&addresses));
        let mut builder = Client::builder()
            .user_agent(USER_AGENT)
            .default_headers(HeaderMap::from_iter([(
                ACCEPT_ENCODING,
                HeaderValue::from_static("identity"),
            )]))
            .redirect(Policy::none())
            .referer(false)
            .retry(reqwest::retry::never())
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_max_idle_per_host(MAX_IDLE)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .tls_backend_rustls()
            .tls_version_min(Version::TLS_1_2)
            .dns_resolver(resolver)
            // The variables of the environment are read by `OutboundProxy`, if they are read at all.
            .no_proxy();
        if let Some(proxy) = &settings.proxy {
            builder = builder.proxy(proxy.to_reqwest()?);
        }
        if let Some(path) = &settings.ca_file {
            builder = trust(builder, path)?;
        }
        let client = builder.build().map_err(|_| match &settings.ca_file {
            Some(path) => InvalidHttpSettings::UnusableCa { path: path.clone() },
            None => InvalidHttpSettings::Build,
        })?;
        Ok(Self { client, addresses })
    }

    /// Sends a request and reads its whole response, whatever its status is.
    ///
    /// # Errors
    ///
    /// The address is refused, there is no complete response within the time limit, or it is too large.
    pub async fn send(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let target = request.target();
        if let Some(address) = request.url.literal_address() {
            self.addresses
                .check(address)
                .map_err(|class| HttpError::RefusedAddress {
                    target: target.clone(),
                    address,
                    class,
                })?;
        }
        let limit = request.timeout;
        let exchange = async {
            let max_body = request.max_body;
            let response = self.client.execute(request.into_reqwest()).await;
            let response = response.map_err(|error| HttpError::of_reqwest(&target, &error))?;
            HttpResponse::read(&target, response, max_body).await
        };
        match timeout(limit, exchange).await {
            Ok(result) => result,
            Err(_) => Err(HttpError::Timeout {
                target: target.clone(),
                limit,
            }),
        }
    }
}

/// Makes the certificates of a file the only ones that issue certificates of servers.
fn trust(builder: ClientBuilder, path: &Path) -> Result<ClientBuilder, InvalidHttpSettings> {
    let unusable = || InvalidHttpSettings::UnusableCa {
        path: path.to_owned(),
    };
    let unreadable = |source| InvalidHttpSettings::ReadCa {
        path: path.to_owned(),
        source,
    };
    if std::fs::metadata(path).map_err(unreadable)?.len() > MAX_CA_FILE {
        return Err(unusable());
    }
    let pem = std::fs::read(path).map_err(unreadable)?;
    let certificates = Certificate::from_pem_bundle(&pem).map_err(|_| unusable())?;
    if certificates.is_empty() {
        return Err(unusable());
    }
    Ok(builder.tls_certs_only(certificates))
}
