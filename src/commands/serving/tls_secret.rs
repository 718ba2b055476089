//! Reads the self-managed certificate from its Secret at an interval.

use std::time::Duration;

use secrecy::ExposeSecret as _;
use tokio::time::sleep;
use tracing::{info, warn};

use crate::kubernetes::tls_secret::TlsSecret;
use crate::server::cert_store::{CertStore, LoadOutcome};
use crate::telemetry::error_chain::ErrorChain;
use crate::tls::TlsError;

/// Interval until the first certificate serves.
const STARTUP_POLL_INTERVAL: Duration = Duration::from_millis(500);

/// Loads the Secret into the store at an interval, until the future is dropped. Each problem is logged once.
pub(super) async fn watch(secret: TlsSecret, store: &CertStore, poll_interval: Duration) {
    let mut logged: Option<String> = None;
    loop {
        match secret.read().await {
            Ok(pair) if pair.chain.is_empty() => {
                if logged.replace("empty".to_owned()).as_deref() != Some("empty") {
                    info!("waiting for the controller to issue the first certificate");
                }
            }
            Ok(pair) => {
                logged = None;
                let key = pair.key.expose_secret().as_bytes();
                let loaded: Result<LoadOutcome, TlsError> = store.load(&pair.chain, key);
                store.record(&[&pair.chain, key], &loaded);
            }
            Err(error) => {
                let error = ErrorChain(&error).to_string();
                if logged.as_deref() != Some(&*error) {
                    warn!(
                        error,
                        "cannot read the serving certificate; still serving the last valid one"
                    );
                }
                logged = Some(error);
            }
        }
        let serves = store.not_after().is_some();
        sleep(if serves {
            poll_interval
        } else {
            poll_interval.min(STARTUP_POLL_INTERVAL)
        })
        .await;
    }
}
