//! HTTPS client of Keycloak, and its admin API.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, LOCATION};
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::Keycloak;
use super::tokens::form;

/// Administrator of all realms.
pub(super) const ADMIN: &str = "admin";
pub(super) const ADMIN_PASSWORD: &str = "canary-admin-password";
/// Time for which its token is used.
const ADMIN_TOKEN_LIFETIME: Duration = Duration::from_secs(30);

/// Client that trusts one CA and opens a connection for each request.
#[derive(Clone)]
pub struct HttpsClient {
    connector: TlsConnector,
    port: u16,
}

/// Response of Keycloak.
#[derive(Debug)]
pub struct KeycloakResponse {
    pub status: u16,
    pub headers: HeaderMap,
    pub text: String,
}

impl KeycloakResponse {
    /// Body; panics if it is not JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// The response, if it has this status; panics otherwise.
    #[track_caller]
    pub fn expect_status(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.text);
        self
    }

    /// Id of a created object.
    #[track_caller]
    pub fn created_id(&self) -> String {
        assert_eq!(self.status, 201, "{}", self.text);
        let location = self
            .headers
            .get(LOCATION)
            .and_then(|value| value.to_str().ok());
        let id = location.and_then(|location| location.rsplit('/').next());
        id.expect("the location of the object").to_owned()
    }
}

impl HttpsClient {
    /// Client for `localhost` at a port.
    pub fn new(ca: &str, port: u16) -> Self {
        let mut roots = RootCertStore::empty();
        let ca = CertificateDer::from_pem_slice(ca.as_bytes()).expect("the test's CA");
        roots.add(ca).expect("the test's CA");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider's versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self {
            connector: TlsConnector::from(Arc::new(config)),
            port,
        }
    }

    /// Client of the same Keycloak at another port.
    pub fn on_port(&self, port: u16) -> Self {
        Self {
            port,
            ..self.clone()
        }
    }

    pub async fn get(&self, path: &str) -> std::io::Result<KeycloakResponse> {
        self.send(Method::GET, path, None, "", Bytes::new()).await
    }

    /// Sends a form, as the token endpoint has it.
    pub async fn post_form(
        &self,
        path: &str,
        fields: &[(&str, &str)],
    ) -> std::io::Result<KeycloakResponse> {
        let kind = "application/x-www-form-urlencoded";
        self.send(Method::POST, path, None, kind, form(fields).into())
            .await
    }

    /// Sends a request on a connection of its own.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        bearer: Option<&str>,
        content_type: &str,
        body: Bytes,
    ) -> std::io::Result<KeycloakResponse> {
        let tcp = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).await?;
        let name = ServerName::try_from("localhost").expect("a name");
        let stream = self.connector.connect(name, tcp).await?;
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(std::io::Error::other)?;
        let connection = tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(path);
        request = request.header(HOST, format!("localhost:{}", self.port));
        if !content_type.is_empty() {
            request = request.header(CONTENT_TYPE, content_type);
        }
        if let Some(token) = bearer {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = request.body(Full::new(body)).expect("a request");
        let response = sender.send_request(request).await;
        let (head, body) = response.map_err(std::io::Error::other)?.into_parts();
        let body = body.collect().await.map_err(std::io::Error::other)?;
        connection.abort();
        Ok(KeycloakResponse {
            status: head.status.as_u16(),
            headers: head.headers,
            text: String::from_utf8_lossy(&body.to_bytes()).into_owned(),
        })
    }
}

impl Keycloak {
    /// Calls the admin API as the administrator of all realms; `path` follows `/admin/realms`.
    pub async fn admin(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> KeycloakResponse {
        let token = self.admin_token().await;
        self.call_as(&token, method, &format!("/admin/realms{path}"), body)
            .await
    }

    /// Sends a request with JSON and a bearer token.
    pub async fn call_as(
        &self,
        token: &str,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> KeycloakResponse {
        let (kind, body) = match body {
            Some(body) => ("application/json", Bytes::from(body.to_string())),
            None => ("", Bytes::new()),
        };
        self.client()
            .send(method, path, Some(token), kind, body)
            .await
            .unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// The token lives for a minute. A new one costs a hash of the password.
    async fn admin_token(&self) -> String {
        let mut known = self.admin_token.lock().await;
        if let Some((began, token)) = known.as_ref()
            && began.elapsed() < ADMIN_TOKEN_LIFETIME
        {
            return token.clone();
        }
        let began = Instant::now();
        let path = "/realms/master/protocol/openid-connect/token";
        let fields = [
            ("grant_type", "password"),
            ("client_id", "admin-cli"),
            ("username", ADMIN),
            ("password", ADMIN_PASSWORD),
        ];
        let response = self.client().post_form(path, &fields).await;
        let response = response.expect("Keycloak responds").expect_status(200);
        let token = response.json();
        let token = token["access_token"].as_str().expect("a token").to_owned();
        *known = Some((began, token.clone()));
        token
    }
}
