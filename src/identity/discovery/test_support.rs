//! Issuer on a socket, with TLS and a discovery document.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};

use futures::FutureExt as _;
use serde_json::json;

use super::super::document::DEFAULT_STALE;
use super::{DiscoveryCache, DiscoveryRules};
use crate::http_client::test_server::{Reply, TestCa, TestServer, response};
use crate::http_client::{HostLookup, HttpClient, HttpSettings, Schemes};

/// Host of the issuer, by which the client finds it on loopback.
pub(crate) const HOST: &str = "id.test";

/// Running issuer, and a client of it. Stopped on drop.
pub(crate) struct TestIssuer {
    pub server: TestServer,
    pub client: HttpClient,
    pub discovery: Arc<DiscoveryCache>,
    folder: tempfile::TempDir,
}

impl TestIssuer {
    /// Starts an issuer whose certificate is for `host`. It sends what `script` returns for the head of a request, and
    /// otherwise its discovery document.
    pub(crate) async fn start(
        host: &str,
        script: impl Fn(&str) -> Option<Reply> + Send + Sync + 'static,
    ) -> Self {
        let ca = TestCa::new();
        let port = Arc::new(Mutex::new(0));
        let of_server = Arc::clone(&port);
        let reply = move |head: &str| {
            script(head).unwrap_or_else(|| {
                let issuer = format!("https://{HOST}:{}", of_server.lock().unwrap());
                let document = json!({
                    "issuer": issuer,
                    "jwks_uri": format!("{issuer}/certs"),
                    "token_endpoint": format!("{issuer}/token"),
                });
                response("200 OK", "", &document.to_string())
            })
        };
        let server = TestServer::start_with(Some(ca.acceptor(&[host], |_| {})), reply).await;
        *port.lock().unwrap() = server.port;
        let folder = tempfile::tempdir().unwrap();
        let ca_file = folder.path().join("ca.crt");
        std::fs::write(&ca_file, ca.pem()).unwrap();
        let settings = HttpSettings {
            ca_file: Some(ca_file),
            ..HttpSettings::default()
        };
        let lookup: HostLookup =
            Arc::new(|_| async { Ok(vec![IpAddr::from(Ipv4Addr::LOCALHOST)]) }.boxed());
        let client = HttpClient::with_lookup(&settings, lookup).unwrap();
        let issuer = format!("https://{HOST}:{}", server.port);
        let rules = DiscoveryRules::new(&issuer, None, &[], Schemes::Https).unwrap();
        let discovery = DiscoveryCache::new("main", rules, client.clone(), DEFAULT_STALE);
        Self {
            server,
            client,
            discovery: Arc::new(discovery),
            folder,
        }
    }

    pub(crate) fn issuer(&self) -> String {
        format!("https://{HOST}:{}", self.server.port)
    }

    /// Folder for files of the test.
    pub(crate) fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// Paths of the requests so far.
    pub(crate) fn requests(&self) -> Vec<String> {
        let heads = self.server.heads();
        let path = |head: &String| head.split(' ').nth(1).unwrap().to_owned();
        heads.iter().map(path).collect()
    }
}
