//! `serve` in self-managed mode: the certificate is read from its Secret again and again.

use std::time::Duration;

use secrecy::ExposeSecret as _;
use tokio::time::sleep;
use tracing::{info, warn};

use crate::kubernetes::tls_secret::TlsSecret;
use crate::server::cert_store::{CertStore, LoadOutcome};
use crate::telemetry::error_chain::ErrorChain;
use crate::tls::TlsError;

/// Between two looks while nothing serves yet.
const EAGER: Duration = Duration::from_millis(500);

/// Hands what the Secret holds to the store, every so often, until it is dropped.
pub(super) async fn watch(secret: TlsSecret, store: &CertStore, every: Duration) {
    let mut said = None;
    loop {
        match secret.read().await {
            Ok(kept) if kept.chain.is_empty() => {
                if said.replace("empty".to_owned()).as_deref() != Some("empty") {
                    info!("waiting for the controller to issue the first certificate");
                }
            }
            Ok(kept) => {
                said = None;
                let key = kept.key.expose_secret().as_bytes();
                let offered: Result<LoadOutcome, TlsError> = store.load(&kept.chain, key);
                store.record(&[&kept.chain, key], &offered);
            }
            Err(error) => {
                let error = ErrorChain(&error).to_string();
                if said.as_deref() != Some(&*error) {
                    warn!(
                        error,
                        "cannot read the serving certificate; still serving the last valid one"
                    );
                }
                said = Some(error);
            }
        }
        let serves = store.not_after().is_some();
        sleep(if serves { every } else { every.min(EAGER) }).await;
    }
}
