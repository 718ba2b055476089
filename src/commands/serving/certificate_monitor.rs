//! Reports why no certificate can serve, with the reason that cert-manager gives.
//!
//! Serving never depends on it: the `Certificate` is read only while the pair that is served is unusable, and the only
//! results are messages.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use kube::Client;
use tokio::time::sleep;
use tracing::warn;

use crate::kubernetes::Lookup;
use crate::kubernetes::cert_manager;
use crate::server::cert_store::CertStore;

/// Interval at which the `Certificate` is read.
const POLL_INTERVAL: Duration = Duration::from_secs(10);

/// Monitors the `Certificate` that the served files come from.
#[derive(Clone)]
pub(crate) struct CertificateMonitor {
    client: Client,
    namespace: String,
    name: String,
    /// Last reported problem; empty while the served pair is good.
    problem: Arc<Mutex<String>>,
}

impl CertificateMonitor {
    pub(super) fn new(client: Client, namespace: &str, name: &str) -> Self {
        Self {
            client,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            problem: Arc::default(),
        }
    }

    /// Describes the present problem of the `Certificate`, or the reason why it cannot be read.
    pub(super) async fn describe_problem(&self, now: Timestamp) -> Option<String> {
        let observed = cert_manager::read(&self.client, &self.namespace, &self.name).await;
        if let Some(problem) = cert_manager::find_problem(&observed, now) {
            return Some(format!("{} (try: {})", problem.message, problem.fix));
        }
        match observed.certificate {
            Lookup::Unknown(reason) => Some(format!(
                "certificate {} cannot be looked at: {reason}",
                self.name
            )),
            Lookup::Found(_) | Lookup::NotFound => None,
        }
    }

    /// Updates the problem while the served pair is unusable, for as long as it is polled. Each problem is logged once.
    pub(super) async fn watch(&self, store: &CertStore, now: impl Fn() -> Timestamp) {
        let mut logged = String::new();
        loop {
            let problem = match store.check() {
                Ok(()) => String::new(),
                Err(_) => self.describe_problem(now()).await.unwrap_or_default(),
            };
            if !problem.is_empty() && problem != logged {
                warn!(
                    certificate = self.name,
                    reason = problem,
                    "no usable certificate"
                );
            }
            logged.clone_from(&problem);
            *self.problem.lock().unwrap_or_else(PoisonError::into_inner) = problem;
            sleep(POLL_INTERVAL).await;
        }
    }

    /// Adds the known problem to the error of a failed check of the served pair.
    pub(super) fn explain(&self, error: String) -> String {
        let problem = self.problem.lock().unwrap_or_else(PoisonError::into_inner);
        if problem.is_empty() {
            error
        } else {
            format!("{error}: {problem}")
        }
    }
}
