//! Endpoints of an issuer, by its discovery document (OIDC Discovery 1.0).
//!
//! The document decides where this program sends requests and credentials, so it is trusted only as far as the settings
//! go: its `issuer` is the configured one, byte for byte, and the endpoints that this program calls have the origin of
//! the document itself, or one that the settings list. Endpoints for browsers may be anywhere.

#[cfg(test)]
pub(crate) mod test_support;

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::StatusCode;
use serde::Deserialize;
use thiserror::Error;

use super::document::{CachedDocument, DocumentError, DocumentState, FetchedDocument};
use super::error::IdentityError;
use super::jose::{KeySet, SignatureAlgorithm};
use super::keys::fetch_keys;
use super::metrics::{IssuerDocument, IssuerMetrics};
use super::types::OidcConfig;
use crate::http_client::{HttpClient, HttpRequest, HttpUrl, InvalidUrl, Schemes};

/// Bytes of a discovery document.
pub const MAX_DISCOVERY: usize = 64 << 10;

/// Further origins that endpoints may have.
pub const MAX_ORIGINS: usize = 8;

const DOCUMENT: IssuerDocument = IssuerDocument::Discovery;

/// Path of the document below the issuer.
const WELL_KNOWN: [&str; 2] = [".well-known", "openid-configuration"];

/// Issuer, and what its discovery document may contain.
#[derive(Clone, Debug)]
pub struct DiscoveryRules {
    issuer: String,
    url: HttpUrl,
    origins: Vec<HttpUrl>,
    schemes: Schemes,
}

/// Reason why the settings of an issuer are wrong.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum InvalidIssuer {
    #[error("issuer: {0}")]
    Issuer(InvalidUrl),
    #[error("issuer: the URL has a query (?…): an issuer has none")]
    IssuerQuery,
    #[error("discoveryUrl: {0}")]
    DiscoveryUrl(InvalidUrl),
    #[error("origins: {0}")]
    Origin(InvalidUrl),
    #[error("origins: {url} is more than scheme, host and port")]
    NotOrigin { url: String },
    #[error("origins: at most {MAX_ORIGINS} are allowed")]
    TooManyOrigins,
}

impl DiscoveryRules {
    /// Rules for an issuer. Without `discovery_url`, the document is at the well-known path below the issuer. Endpoints
    /// may have the origin of the document, and `origins` besides.
    ///
    /// # Errors
    ///
    /// A URL is not usable.
    pub fn new(
        issuer: &str,
        discovery_url: Option<&str>,
        origins: &[String],
        schemes: Schemes,
    ) -> Result<Self, InvalidIssuer> {
        let parsed = HttpUrl::parse(issuer, schemes).map_err(InvalidIssuer::Issuer)?;
        if parsed.has_query() {
            return Err(InvalidIssuer::IssuerQuery);
        }
        let url = match discovery_url {
            Some(url) => HttpUrl::parse(url, schemes).map_err(InvalidIssuer::DiscoveryUrl)?,
            None => parsed.with_segments(&WELL_KNOWN),
        };
        if origins.len() > MAX_ORIGINS {
            return Err(InvalidIssuer::TooManyOrigins);
        }
        let origin = |text: &String| {
            let url = HttpUrl::parse(text, schemes).map_err(InvalidIssuer::Origin)?;
            if url.is_origin() {
                return Ok(url);
            }
            Err(InvalidIssuer::NotOrigin {
                url: url.to_string(),
            })
        };
        Ok(Self {
            issuer: issuer.to_owned(),
            url,
            origins: origins.iter().map(origin).collect::<Result<_, _>>()?,
            schemes,
        })
    }

    /// URL of the document.
    #[must_use]
    pub fn url(&self) -> &HttpUrl {
        &self.url
    }

    /// Reads a document.
    ///
    /// # Errors
    ///
    /// The document is of another issuer, lacks its keys, or has an endpoint that is not allowed.
    pub fn read(&self, body: &[u8]) -> Result<IssuerEndpoints, DocumentError> {
        let unusable = |problem| self.unusable(problem);
        let document: DiscoveryDocument = serde_json::from_slice(body).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            unusable(format!(
                "it is not a JSON object with texts for issuer, jwks_uri and endpoints (line {line}, column {column})"
            ))
        })?;
        if document.issuer != self.issuer {
            return Err(unusable(format!(
                "its issuer is not \"{}\", byte for byte: correct the issuer in the settings, or the host name of the issuer",
                self.issuer
            )));
        }
        let mut reader = EndpointReader {
            rules: self,
            foreign: Vec::new(),
        };
        let keys = reader.called("jwks_uri", Some(&document.jwks_uri))?;
        let keys = keys.ok_or_else(|| {
            unusable(
                "its jwks_uri has another origin than the document: list the origin in the settings, if the keys are the issuer's"
                    .to_owned(),
            )
        })?;
        Ok(IssuerEndpoints {
            issuer: self.issuer.clone(),
            discovery: self.url.clone(),
            keys,
            token: reader.called("token_endpoint", document.token_endpoint.as_deref())?,
            userinfo: reader.called("userinfo_endpoint", document.userinfo_endpoint.as_deref())?,
            introspection: reader.called(
                "introspection_endpoint",
                document.introspection_endpoint.as_deref(),
            )?,
            registration: reader.called(
                "registration_endpoint",
                document.registration_endpoint.as_deref(),
            )?,
            authorization: reader.parse(
                "authorization_endpoint",
                document.authorization_endpoint.as_deref(),
            )?,
            foreign: reader.foreign,
        })
    }

    fn unusable(&self, problem: String) -> DocumentError {
        DocumentError::Unusable {
            document: DOCUMENT,
            url: self.url.to_string(),
            problem,
        }
    }

    fn is_allowed(&self, url: &HttpUrl) -> bool {
        let mut allowed = std::iter::once(&self.url).chain(&self.origins);
        allowed.any(|origin| url.has_origin_of(origin))
    }
}

/// Endpoints of one document.
struct EndpointReader<'r> {
    rules: &'r DiscoveryRules,
    foreign: Vec<&'static str>,
}

impl EndpointReader<'_> {
    /// Endpoint that this program calls. One of an origin that is not allowed is left out.
    fn called(
        &mut self,
        name: &'static str,
        text: Option<&str>,
    ) -> Result<Option<HttpUrl>, DocumentError> {
        let Some(url) = self.parse(name, text)? else {
            return Ok(None);
        };
        if self.rules.is_allowed(&url) {
            return Ok(Some(url));
        }
        self.foreign.push(name);
        Ok(None)
    }

    fn parse(
        &self,
        name: &'static str,
        text: Option<&str>,
    ) -> Result<Option<HttpUrl>, DocumentError> {
        let parsed = text.map(|text| HttpUrl::parse(text, self.rules.schemes));
        let unusable = |error| self.rules.unusable(format!("its {name}: {error}"));
        parsed.transpose().map_err(unusable)
    }
}

/// Members that are used. Others are ignored; one that is there twice is an error.
#[derive(Deserialize)]
struct DiscoveryDocument {
    issuer: String,
    jwks_uri: String,
    token_endpoint: Option<String>,
    userinfo_endpoint: Option<String>,
    introspection_endpoint: Option<String>,
    registration_endpoint: Option<String>,
    authorization_endpoint: Option<String>,
}

/// Endpoints of an issuer. Those that it lacks are absent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuerEndpoints {
    pub issuer: String,
    pub discovery: HttpUrl,
    pub keys: HttpUrl,
    pub token: Option<HttpUrl>,
    pub userinfo: Option<HttpUrl>,
    pub introspection: Option<HttpUrl>,
    pub registration: Option<HttpUrl>,
    /// For browsers; this program does not call it.
    pub authorization: Option<HttpUrl>,
    /// Names of endpoints that were left out, because their origin is neither the document's nor listed.
    pub foreign: Vec<&'static str>,
}

impl IssuerEndpoints {
    /// `OIDCConfig` of the floe spec.
    #[must_use]
    pub fn to_config(&self) -> OidcConfig {
        let text = |url: &Option<HttpUrl>| url.as_ref().map(ToString::to_string);
        OidcConfig {
            issuer_url: self.issuer.clone(),
            discovery_url: self.discovery.to_string(),
            jwks_uri: self.keys.to_string(),
            authorization_endpoint: text(&self.authorization),
            token_endpoint: text(&self.token),
            userinfo_endpoint: text(&self.userinfo),
        }
    }
}

/// Endpoints of one issuer, fetched when they are needed.
#[derive(Debug)]
pub struct DiscoveryCache {
    document: CachedDocument<IssuerEndpoints>,
    client: HttpClient,
}

impl DiscoveryCache {
    /// Creates a cache without endpoints. Those that are no longer fresh are used for `stale` more while the issuer
    /// cannot be reached.
    #[must_use]
    pub fn new(provider: &str, rules: DiscoveryRules, client: HttpClient, stale: Duration) -> Self {
        Self::with_metrics(provider, rules, client, stale, IssuerMetrics::default())
    }

    /// Creates a cache as [`DiscoveryCache::new`] does, with metrics.
    #[must_use]
    pub fn with_metrics(
        provider: &str,
        rules: DiscoveryRules,
        client: HttpClient,
        stale: Duration,
        metrics: IssuerMetrics,
    ) -> Self {
        let rules = Arc::new(rules);
        let fetching = client.clone();
        let fetch = move || {
            let (client, rules) = (fetching.clone(), Arc::clone(&rules));
            async move { fetch_endpoints(&client, &rules).await }.boxed()
        };
        Self {
            document: CachedDocument::new(provider, DOCUMENT, stale, metrics, fetch),
            client,
        }
    }

    /// Endpoints of the issuer.
    ///
    /// # Errors
    ///
    /// There are none that may be used, and none arrive in time.
    pub async fn endpoints(&self) -> Result<Arc<IssuerEndpoints>, IdentityError> {
        let current = self.document.get().await?;
        Ok(Arc::clone(&current.value.value))
    }

    /// State of the endpoints.
    #[must_use]
    pub fn state(&self) -> DocumentState {
        self.document.state()
    }
}

/// Function that fetches the key set of a discovered issuer, for [`super::keys::KeyCache::new`]. Keys for other
/// algorithms than these are left out.
pub fn discovered_key_fetcher(
    discovery: Arc<DiscoveryCache>,
    algorithms: Arc<[SignatureAlgorithm]>,
) -> impl Fn() -> BoxFuture<'static, Result<FetchedDocument<KeySet>, DocumentError>>
+ Send
+ Sync
+ 'static {
    move || {
        let (discovery, algorithms) = (Arc::clone(&discovery), Arc::clone(&algorithms));
        async move {
            let endpoints = discovery.endpoints().await?;
            fetch_keys(&discovery.client, &endpoints.keys, &algorithms).await
        }
        .boxed()
    }
}

async fn fetch_endpoints(
    client: &HttpClient,
    rules: &DiscoveryRules,
) -> Result<FetchedDocument<IssuerEndpoints>, DocumentError> {
    let request = HttpRequest::get(rules.url.clone()).with_max_body(MAX_DISCOVERY);
    let response = client.send(request).await?.expect_status(StatusCode::OK)?;
    let endpoints = rules.read(response.body())?;
    if !endpoints.foreign.is_empty() {
        tracing::warn!(
            issuer = endpoints.issuer,
            endpoints = endpoints.foreign.join(" "),
            "endpoints of an issuer are left out, because their origin is not listed"
        );
    }
    Ok(FetchedDocument {
        value: Arc::new(endpoints),
        max_age: response.max_age(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const ISSUER: &str = "https://id.example.com/realms/main";

    fn rules(origins: &[&str]) -> DiscoveryRules {
        let origins: Vec<String> = origins.iter().copied().map(str::to_owned).collect();
        DiscoveryRules::new(ISSUER, None, &origins, Schemes::Https).unwrap()
    }

    fn document() -> Value {
        json!({
            "issuer": ISSUER,
            "jwks_uri": format!("{ISSUER}/certs"),
            "token_endpoint": format!("{ISSUER}/token"),
            "introspection_endpoint": format!("{ISSUER}/token/introspect"),
            "authorization_endpoint": "https://login.example.com/auth",
            "userinfo_endpoint": "https://users.example.com/me",
            "response_types_supported": ["code"],
        })
    }

    fn read(rules: &DiscoveryRules, document: &Value) -> Result<IssuerEndpoints, String> {
        let read = rules.read(document.to_string().as_bytes());
        read.map_err(|error| error.to_string())
    }

    #[test]
    fn document_has_the_endpoints_of_its_origin() {
        let rules = rules(&[]);
        let well_known = format!("{ISSUER}/.well-known/openid-configuration");
        assert_eq!(rules.url().as_str(), well_known);
        let endpoints = read(&rules, &document()).unwrap();
        assert_eq!(endpoints.foreign, ["userinfo_endpoint"]);
        assert_eq!(endpoints.registration, None);
        let introspection = endpoints.introspection.as_ref().unwrap();
        assert!(introspection.as_str().ends_with("/introspect"));
        let config = serde_json::to_value(endpoints.to_config()).unwrap();
        assert_eq!(
            config,
            json!({
                "issuer_url": ISSUER,
                "discovery_url": well_known,
                "jwks_uri": format!("{ISSUER}/certs"),
                "token_endpoint": format!("{ISSUER}/token"),
                "authorization_endpoint": "https://login.example.com/auth",
            })
        );
        // The API server's document has neither.
        let kubernetes = json!({"issuer": ISSUER, "jwks_uri": format!("{ISSUER}/jwks")});
        assert_eq!(read(&rules, &kubernetes).unwrap().token, None);
    }

    #[test]
    fn row_49_document_of_another_issuer_or_origin_is_refused() {
        let refused = |change: fn(&mut Value)| {
            let mut document = document();
            change(&mut document);
            read(&rules(&[]), &document).unwrap_err()
        };
        let issuer = refused(|document| document["issuer"] = json!(format!("{ISSUER}/")));
        assert!(issuer.contains("its issuer is not"), "{issuer}");
        let http = refused(|document| document["jwks_uri"] = json!("http://id.example.com/certs"));
        assert!(http.contains("https is required"), "{http}");
        for other in [
            "https://evil.example.com/certs",
            "https://id.example.com:8443/certs",
        ] {
            let mut document = document();
            document["jwks_uri"] = json!(other);
            let error = read(&rules(&[]), &document).unwrap_err();
            assert!(error.contains("another origin"), "{error}");
        }
        let userinfo = refused(|document| document["token_endpoint"] = json!("https://a@b/token"));
        assert!(userinfo.contains("its token_endpoint"), "{userinfo}");
        let script = refused(|document| document["authorization_endpoint"] = json!("javascript:x"));
        assert!(script.contains("authorization_endpoint"), "{script}");
        for body in [
            "",
            "[]",
            "<html>",
            "{}",
            r#"{"issuer":"a","issuer":"a","jwks_uri":"b"}"#,
        ] {
            let error = rules(&[]).read(body.as_bytes()).unwrap_err().to_string();
            assert!(error.contains("not a JSON object"), "{error}");
        }
    }

    #[test]
    fn origins_are_listed_in_the_settings() {
        let listed = rules(&["https://users.example.com", "https://keys.example.com:8443"]);
        let mut document = document();
        document["jwks_uri"] = json!("https://keys.example.com:8443/jwks");
        let endpoints = read(&listed, &document).unwrap();
        assert!(endpoints.foreign.is_empty() && endpoints.userinfo.is_some());
    }

    #[test]
    fn row_50_settings_of_an_issuer_are_checked() {
        let new = |issuer: &str, discovery: Option<&str>, origins: &[&str]| {
            let origins: Vec<String> = origins.iter().copied().map(str::to_owned).collect();
            DiscoveryRules::new(issuer, discovery, &origins, Schemes::Https).map(|_| ())
        };
        assert_eq!(
            new("https://a", Some("https://b/discovery?p=1"), &[]),
            Ok(())
        );
        for issuer in [
            "http://a",
            "https://u:p@a",
            "https://a/#f",
            "a",
            "https://A/",
        ] {
            let refused = new(issuer, None, &[]);
            assert!(matches!(refused, Err(InvalidIssuer::Issuer(_))), "{issuer}");
        }
        assert_eq!(
            new("https://a/?q", None, &[]),
            Err(InvalidIssuer::IssuerQuery)
        );
        let refused = new("https://a", Some("http://a"), &[]);
        assert!(matches!(refused, Err(InvalidIssuer::DiscoveryUrl(_))));
        let refused = new("https://a", None, &["https://b/path"]);
        assert!(matches!(refused, Err(InvalidIssuer::NotOrigin { .. })));
        let refused = new("https://a", None, &["b"]);
        assert!(matches!(refused, Err(InvalidIssuer::Origin(_))));
        let refused = new("https://a", None, &["https://b"; MAX_ORIGINS + 1]);
        assert_eq!(refused, Err(InvalidIssuer::TooManyOrigins));
    }
}
