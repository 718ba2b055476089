//! The serving certificate: loaded, checked, replaced without dropping a connection.
//!
//! A [`CertStore`] is fed PEM by whoever has it ([`TlsFiles`] polls files; in self-managed mode the program polls a
//! Secret). What does not pass every check is refused and the last good pair serves on.

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

use crate::server::Clock;
use crate::server::metrics::{Reload, ReloadResult, ServerMetrics};
use crate::telemetry::error_chain::ErrorChain;
use crate::tls::{self, Pair, TlsError};

/// Whether callers must show a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    /// Anyone who reaches the port may call.
    None,
    /// A certificate from the client CA is demanded; until a CA is loaded nobody may call.
    Required,
}

/// What became of PEM that was offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadOutcome {
    /// It is what serves already.
    Unchanged,
    /// It serves from now on.
    Loaded,
}

/// The pair that serves, and the configuration that new handshakes take.
pub struct CertStore {
    provider: Arc<CryptoProvider>,
    clock: Clock,
    metrics: ServerMetrics,
    pair: Arc<Serving>,
    config: ArcSwapOption<ServerConfig>,
    prints: RandomState,
    known: Mutex<Fingerprints>,
}

/// Fingerprints of contents, so that neither keys nor warnings are kept twice.
#[derive(Default)]
struct Fingerprints {
    pair: Option<u64>,
    client_ca: Option<u64>,
    warned: Option<u64>,
}

/// The resolver that every configuration shares.
#[derive(Default)]
struct Serving(ArcSwapOption<Pair>);

impl CertStore {
    /// A store without a pair: no handshake succeeds until one is offered.
    #[must_use]
    pub fn new(client_auth: ClientAuth, clock: Clock, metrics: ServerMetrics) -> Arc<Self> {
        let store = Self {
            provider: Arc::new(aws_lc_rs::default_provider()),
            clock,
            metrics,
            pair: Arc::default(),
            config: ArcSwapOption::empty(),
            prints: RandomState::new(),
            known: Mutex::default(),
        };
        if client_auth == ClientAuth::None {
            store.config.store(Some(store.build_config(None)));
        }
        Arc::new(store)
    }

    /// Takes a certificate chain (leaf first) and its key, both PEM, if they pass.
    ///
    /// # Errors
    /// What is wrong with them; what served before serves on.
    pub fn load(&self, chain: &[u8], key: &[u8]) -> Result<LoadOutcome, TlsError> {
        let print = self.prints.hash_one((chain, key));
        if self.known().pair == Some(print) {
            return Ok(LoadOutcome::Unchanged);
        }
        let pair = Pair::from_pem(chain, key, &self.provider, (self.clock)())?;
        let not_after = pair.not_after;
        self.pair.0.store(Some(Arc::new(pair)));
        self.known().pair = Some(print);
        self.metrics.tls_not_after.set(not_after.as_second());
        info!(%not_after, "certificate loaded");
        Ok(LoadOutcome::Loaded)
    }

    /// Takes the CA (one or several certificates, PEM) that callers' certificates must come from. Connections that
    /// stand are not cut; they end by their age.
    ///
    /// # Errors
    /// What is wrong with it; what was demanded before is demanded still.
    pub fn offer_client_ca(&self, ca: &[u8]) -> Result<LoadOutcome, TlsError> {
        let print = self.prints.hash_one(ca);
        if self.known().client_ca == Some(print) {
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
        self.known().client_ca = Some(print);
        info!("client CA loaded");
        Ok(LoadOutcome::Loaded)
    }

    /// What a new handshake takes; nothing while there is no pair, or no client CA where one is required.
    #[must_use]
    pub fn server_config(&self) -> Option<Arc<ServerConfig>> {
        if self.pair.0.load().is_none() {
            return None;
        }
        self.config.load_full()
    }

    /// End of validity of what serves.
    #[must_use]
    pub fn not_after(&self) -> Option<Timestamp> {
        self.pair.0.load().as_ref().map(|pair| pair.not_after)
    }

    /// The readiness check.
    ///
    /// # Errors
    /// A reason, when no handshake can succeed.
    pub fn check(&self) -> Result<(), String> {
        let not_after = self.not_after().ok_or("no certificate yet")?;
        if not_after <= (self.clock)() {
            return Err(format!("certificate expired at {not_after}"));
        }
        if self.config.load().is_none() {
            return Err("no client CA yet".to_owned());
        }
        Ok(())
    }

    /// Counts what became of a reload, and warns about what was refused: once per distinct content and reason, as the
    /// same broken file is met again at each poll.
    pub fn record(&self, content: &[&[u8]], outcome: &Result<LoadOutcome, TlsError>) {
        let result = match outcome {
            Ok(LoadOutcome::Unchanged) => return,
            Ok(LoadOutcome::Loaded) => ReloadResult::Loaded,
            Err(_) => ReloadResult::Kept,
        };
        self.metrics
            .tls_reloads
            .get_or_create(&Reload { result })
            .inc();
        let Err(error) = outcome else { return };
        let print = self.prints.hash_one((content, error.to_string()));
        if self.known().warned.replace(print) != Some(print) {
            warn!(error = %ErrorChain(error), "certificate rejected; still serving the last valid one");
        }
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Fingerprints> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
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
        // The API server speaks nothing else to a Service, nor to a URL that is not localhost.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        // The API server resumes no sessions, and a resumed one would carry a client's identity past a change of CA.
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

impl fmt::Debug for Serving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Serving")
    }
}

impl ResolvesServerCert for Serving {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.load().as_ref().map(|pair| Arc::clone(&pair.key))
    }
}
