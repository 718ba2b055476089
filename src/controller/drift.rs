//! The drift scan: from time to time, what runs without its secrets becomes a figure, Events and one log line.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use super::events::{Involved, Reason, Recorder};
use super::metrics::{ControllerMetrics, ScanResult};
use crate::api::ObjectApi;
use crate::redact::ErrorChain;
use crate::scan::{Finding, Progress, Rules, Scanner, Scope};

/// Findings on their way.
const WAITING: usize = 64;

/// Scans again and again.
#[derive(Debug)]
pub struct Drift {
    scanner: Scanner,
    events: Recorder,
    interval: Duration,
    metrics: ControllerMetrics,
}

impl Drift {
    /// A scan every `interval`, the first at once; `api` sets the pace.
    #[must_use]
    pub fn new(
        api: &ObjectApi,
        rules: Rules,
        interval: Duration,
        metrics: ControllerMetrics,
        now: fn() -> jiff::Timestamp,
    ) -> Self {
        Self { scanner: Scanner::new(api.clone(), rules), events: Recorder::new(api.clone(), now), interval, metrics }
    }

    /// Scans for as long as it is polled.
    pub async fn run(&self) {
        /// The figure is the leader's alone.
        struct Forget<'a>(&'a ControllerMetrics);
        impl Drop for Forget<'_> {
            fn drop(&mut self) {
                self.0.found(0, 0);
            }
        }
        let _forget = Forget(&self.metrics);
        loop {
            self.once().await;
            sleep(self.interval).await;
        }
    }

    async fn once(&self) {
        let began = Instant::now();
        let progress = Progress::default();
        let (sender, mut receiver) = mpsc::channel(WAITING);
        let scanning = async {
            let ended = self.scanner.scan(&Scope::All, &progress, &sender).await;
            drop(sender);
            ended
        };
        let telling = async {
            let (mut pods, mut workloads, mut untold) = (0, 0, 0);
            while let Some(finding) = receiver.recv().await {
                if finding.kind == "Pod" {
                    pods += 1;
                } else {
                    workloads += 1;
                }
                untold += u64::from(!self.tell(&finding).await);
            }
            (pods, workloads, untold)
        };
        let (ended, (pods, workloads, untold)) = futures::future::join(scanning, telling).await;
        let looked = progress.looked();
        match ended {
            Ok(()) => {
                self.metrics.found(pods, workloads);
                self.metrics.scanned(ScanResult::Complete);
                info!(
                    pods,
                    workloads,
                    objects = looked.objects,
                    read = looked.read,
                    events_failed = untold,
                    seconds = began.elapsed().as_secs_f64(),
                    "drift scan"
                );
            }
            Err(error) => {
                self.metrics.scanned(ScanResult::Failed);
                warn!(error = %ErrorChain(&error), objects = looked.objects, "the drift scan could not be completed");
            }
        }
    }

    /// Says it on the object.
    async fn tell(&self, finding: &Finding) -> bool {
        let Finding { namespace, api_version, kind, name, uid, owner: _, problems } = finding;
        let about = Involved { api_version, kind, namespace, name, uid };
        let remedy = match *kind {
            "Pod" => "delete the pod, so that its controller makes a new one",
            "Job" => "create the Job anew",
            _ => "apply the object again, or move the annotations to the pod template",
        };
        let message = format!("{}; it was created or changed without the webhook: {remedy}", problems.join("; "));
        self.events.say(&about, Reason::SecretsNotInjected, &message).await.is_ok()
    }
}
