//! Serving certificate: loaded, checked, and replaced without closing connections.
//!
//! A [`CertStore`] loads PEM from files, which [`TlsFiles`] polls, or in self-managed mode from a Secret, which the
//! program polls. A pair that does not pass every check is rejected, and the last valid one is still served.

mod files;

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwapOption;
use jiff::Timestamp;
use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{
    ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use tracing::{info, warn};

pub use files::TlsFiles;

use crate::clock::Clock;
use crate::server::metrics::{ReloadLabels, ReloadResult, ServerMetrics};
use crate::telemetry::error_chain::ErrorChain;
use crate::tls::{self, ServingPair, TlsError};

/// Requirement of a client certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    /// Anybody who can reach the port is accepted.
    None,
    /// A certificate from the client CA is required. Until a CA is loaded, all callers are rejected.
    Required,
}

/// Outcome of loading PEM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadOutcome {
    /// The content is in use already.
    Unchanged,
    /// The content is in use from now on.
    Loaded,
}

/// Serving pair, and the configuration for new handshakes.
pub struct CertStore {
    provider: Arc<CryptoProvider>,
    clock: Clock,
    metrics: ServerMetrics,
    pair: Arc<CertResolver>,
    config: ArcSwapOption<ServerConfig>,
    hasher: RandomState,
    fingerprints: Mutex<Fingerprints>,
}

/// Fingerprints of loaded contents and of the last warning, to recognize repetitions without storing keys.
#[derive(Default)]
struct Fingerprints {
    pair: Option<u64>,
    client_ca: Option<u64>,
    warned: Option<u64>,
}

/// Resolver that all configurations share.
#[derive(Default)]
struct CertResolver(ArcSwapOption<ServingPair>);

impl CertStore {
    /// Store without a pair: no handshake succeeds until one is loaded.
    #[must_use]
    pub fn new(client_auth: ClientAuth, clock: Clock, metrics: ServerMetrics) -> Arc<Self> {
        let store = Self {
            provider: Arc::new(aws_lc_rs::default_provider()),
            clock,
            metrics,
            pair: Arc::default(),
            config: ArcSwapOption::empty(),
            hasher: RandomState::new(),
            fingerprints: Mutex::default(),
        };
        if client_auth == ClientAuth::None {
            store.config.store(Some(store.build_config(None)));
        }
        Arc::new(store)
    }

    /// Loads a certificate chain (leaf first) and its key, both in PEM, if they pass all checks.
    ///
    /// # Errors
    /// [`TlsError`]; the previous pair is still served.
    pub fn load(&self, chain: &[u8], key: &[u8]) -> Result<LoadOutcome, TlsError> {
        let fingerprint = self.hasher.hash_one((chain, key));
        if self.fingerprints().pair == Some(fingerprint) {
            return Ok(LoadOutcome::Unchanged);
        }
        let pair = ServingPair::from_pem(chain, key, &self.provider, self.clock.now())?;
        let not_after = pair.not_after;
        self.pair.0.store(Some(Arc::new(pair)));
        self.fingerprints().pair = Some(fingerprint);
        self.metrics.tls_not_after.set(not_after.as_second());
        info!(%not_after, "certificate loaded");
        Ok(LoadOutcome::Loaded)
    }

    /// Loads the CA of client certificates (one or several certificates in PEM). Open connections are not closed; they
    /// end by their age.
    ///
    /// # Errors
    /// [`TlsError`]; the previous CA is still required.
    pub fn load_client_ca(&self, ca: &[u8]) -> Result<LoadOutcome, TlsError> {
        let fingerprint = self.hasher.hash_one(ca);
        if self.fingerprints().client_ca == Some(fingerprint) {
            return Ok(LoadOutcome::Unchanged);
        }
        let roots = tls::client_roots(ca)?;
        let verifier = WebPkiClientVerifier::builder_with_provider(
            Arc::new(roots),
            Arc::clone(&self.provider),
        )
        .build()
        .map_err(|source| TlsError::ClientCa {
            source: source.into(),
        })?;
        self.config.store(Some(self.build_config(Some(verifier))));
        self.fingerprints().client_ca = Some(fingerprint);
        info!("client CA loaded");
        Ok(LoadOutcome::Loaded)
    }

    /// Configuration for a new handshake; `None` without a pair, or without a client CA if one is required.
    #[must_use]
    pub fn server_config(&self) -> Option<Arc<ServerConfig>> {
        if self.pair.0.load().is_none() {
            return None;
        }
        self.config.load_full()
    }

    /// End of validity of the serving certificate.
    #[must_use]
    pub fn not_after(&self) -> Option<Timestamp> {
        self.pair.0.load().as_ref().map(|pair| pair.not_after)
    }

    /// Readiness check.
    ///
    /// # Errors
    /// Reason for which no handshake can succeed.
    pub fn check(&self) -> Result<(), String> {
        let not_after = self.not_after().ok_or("no certificate yet")?;
        if not_after <= self.clock.now() {
            return Err(format!("certificate expired at {not_after}"));
        }
        if self.config.load().is_none() {
            return Err("no client CA yet".to_owned());
        }
        Ok(())
    }

    /// Counts the outcome of a reload, and warns if it was rejected: once for each content and reason, because each
    /// poll reads the same malformed file again.
    pub fn record(&self, content: &[&[u8]], outcome: &Result<LoadOutcome, TlsError>) {
        let result = match outcome {
            Ok(LoadOutcome::Unchanged) => return,
            Ok(LoadOutcome::Loaded) => ReloadResult::Loaded,
            Err(_) => ReloadResult::Kept,
        };
        self.metrics
            .tls_reloads
            .get_or_create(&ReloadLabels { result })
            .inc();
        let Err(error) = outcome else { return };
        let fingerprint = self.hasher.hash_one((content, error.to_string()));
        if self.fingerprints().warned.replace(fingerprint) != Some(fingerprint) {
            warn!(error = %ErrorChain(error), "certificate rejected; still serving the last valid one");
        }
    }

    fn fingerprints(&self) -> std::sync::MutexGuard<'_, Fingerprints> {
        self.fingerprints
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn build_config(&self, verifier: Option<Arc<dyn ClientCertVerifier>>) -> Arc<ServerConfig> {
        let builder = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .expect("the provider has suites for both versions");
        let builder = match verifier {
            Some(verifier) => builder.with_client_cert_verifier(verifier),
            None => builder.with_no_client_auth(),
        };
        let mut config =
            builder.with_cert_resolver(Arc::clone(&self.pair) as Arc<dyn ResolvesServerCert>);
        // The API server supports nothing else for a Service, or for a URL other than localhost.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        // The API server does not resume sessions, and a resumed one would keep a client's identity after a change of
        // CA.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Arc::new(config)
    }
}

impl fmt::Debug for CertStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertStore")
            .field("not_after", &self.not_after())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for CertResolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CertResolver")
    }
}

impl ResolvesServerCert for CertResolver {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.load().as_ref().map(|pair| Arc::clone(&pair.key))
    }
}
