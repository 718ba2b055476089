//! Why there is no certificate that serves, in cert-manager's words. Serving never depends on it: it is looked at while
//! nothing can serve, or soon cannot, and all that comes of it are messages.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use kube::Client;
use tokio::time::sleep;
use tracing::warn;

use crate::kubernetes::Lookup;
use crate::kubernetes::cert_manager::{self, Trouble};
use crate::server::cert_store::CertStore;

/// Between two looks.
const EVERY: Duration = Duration::from_secs(10);

/// The `Certificate` that the served files come from.
#[derive(Clone)]
pub(super) struct CertificateStatus {
    client: Client,
    namespace: String,
    name: String,
    /// What it says; empty while the served pair is good.
    word: Arc<Mutex<String>>,
}

impl CertificateStatus {
    pub(super) fn new(client: Client, namespace: &str, name: &str) -> Self {
        Self {
            client,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            word: Arc::default(),
        }
    }

    /// What is wrong with it now; why it cannot be read, when that is so.
    pub(super) async fn ask(&self, now: Timestamp) -> Option<String> {
        let looked = cert_manager::look(&self.client, &self.namespace, &self.name).await;
        let trouble = cert_manager::trouble(&looked, now)
            .map(|Trouble { says, mend }| format!("{says} (try: {mend})"));
        trouble.or_else(|| match looked.certificate {
            Lookup::Unknown(why) => Some(format!(
                "certificate {} cannot be looked at: {why}",
                self.name
            )),
            Lookup::Found(_) | Lookup::NotFound => None,
        })
    }

    /// Asks every so often while nothing can serve, for as long as it is polled.
    pub(super) async fn watch(&self, store: &CertStore, now: impl Fn() -> Timestamp) {
        let mut said = String::new();
        loop {
            let word = match store.check() {
                Ok(()) => String::new(),
                Err(_) => self.ask(now()).await.unwrap_or_default(),
            };
            if !word.is_empty() && word != said {
                warn!(
                    certificate = self.name,
                    reason = word,
                    "no usable certificate"
                );
            }
            said.clone_from(&word);
            *self.word.lock().unwrap_or_else(PoisonError::into_inner) = word;
            sleep(EVERY).await;
        }
    }

    /// A failed check of the served pair, with what is known of its cause.
    pub(super) fn explain(&self, why: String) -> String {
        let word = self.word.lock().unwrap_or_else(PoisonError::into_inner);
        if word.is_empty() {
            why
        } else {
            format!("{why}: {word}")
        }
    }
}
