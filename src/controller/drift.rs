//! The drift scan: from time to time, what runs without its secrets becomes a figure, Events and one log line, and what
//! admission said about a controller's pod becomes an Event where somebody sees it.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use super::metrics::{ControllerMetrics, ScanResult};
use crate::kubernetes::ObjectApi;
use crate::kubernetes::events::{EventRecorder, InvolvedObject, Reason};
use crate::scan::{Finding, Found, Owner, Progress, Rules, Scanner, Scope, Task, Warned};
use crate::telemetry::error_chain::ErrorChain;
use crate::telemetry::traces::Traces;

/// Findings on their way.
const WAITING: usize = 64;

/// The most owners that one scan tells about warnings.
const OWNERS: usize = 1000;

/// Scans again and again.
#[derive(Debug)]
pub struct Drift {
    scanner: Scanner,
    scope: Scope,
    events: EventRecorder,
    interval: Duration,
    metrics: ControllerMetrics,
    now: fn() -> jiff::Timestamp,
    traces: Traces,
}

/// What came of one scan.
#[derive(Debug, Default)]
struct Told {
    pods: i64,
    workloads: i64,
    /// By uid: the owners that were told about warnings.
    warned: BTreeSet<String>,
    /// Events that could not be written.
    failed: u64,
}

impl Drift {
    /// A scan every `interval`, the first at once; `api` sets the pace.
    #[must_use]
    pub fn new(
        api: &ObjectApi,
        rules: Rules,
        scope: Scope,
        interval: Duration,
        metrics: ControllerMetrics,
        now: fn() -> jiff::Timestamp,
    ) -> Self {
        let events = EventRecorder::new(api.clone(), now);
        Self {
            scanner: Scanner::new(api.clone(), rules),
            scope,
            events,
            interval,
            metrics,
            now,
            traces: Traces::off(),
        }
    }

    /// The same, and traced.
    #[must_use]
    pub fn traced(self, traces: &Traces) -> Self {
        Self {
            traces: traces.clone(),
            ..self
        }
    }

    /// Scans for as long as it is polled.
    pub async fn run(&self) {
        /// The figure is the leader's alone.
        struct Forget<'a>(&'a ControllerMetrics);
        impl Drop for Forget<'_> {
            fn drop(&mut self) {
                self.0.found(0, 0);
                self.0.skipped.set(0);
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
        let mut span = self.traces.root_span("drift.scan");
        let progress = Progress::default();
        let (sender, mut receiver) = mpsc::channel(WAITING);
        // Twice the pause: no pod comes and is overlooked, however long a scan takes. Nothing is said twice.
        let warned_since = (self.now)().checked_sub(self.interval * 2).ok();
        let task = Task {
            scope: self.scope.clone(),
            warned_since,
            ineffective: false,
            lost: false,
        };
        let scanning = async {
            let ended = self.scanner.scan(&task, &progress, &sender).await;
            drop(sender);
            ended
        };
        let telling = async {
            let mut told = Told::default();
            while let Some(found) = receiver.recv().await {
                match found {
                    Found::Drifted(finding) => self.drifted(&finding, &mut told).await,
                    // Not asked for.
                    Found::Ineffective(_) | Found::Lost(_) => {}
                    Found::Warned(warned) => self.warned(&warned, &mut told).await,
                }
            }
            told
        };
        let (ended, told) = futures::future::join(scanning, telling).await;
        let Told {
            pods,
            workloads,
            warned,
            failed,
        } = told;
        let looked = progress.looked();
        span.set_i64("pods", pods);
        span.set_i64("workloads", workloads);
        span.set_i64("objects", i64::try_from(looked.objects).unwrap_or(i64::MAX));
        let result = if ended.is_ok() {
            ScanResult::Complete
        } else {
            ScanResult::Failed
        };
        span.set_static("result", result.as_str());
        match ended {
            Ok(()) => {
                self.metrics.found(pods, workloads);
                self.metrics
                    .skipped
                    .set(i64::try_from(looked.skipped).unwrap_or(i64::MAX));
                self.metrics.scanned(ScanResult::Complete);
                info!(
                    pods,
                    workloads,
                    owners_warned = warned.len(),
                    objects = looked.objects,
                    read = looked.read,
                    skipped = looked.skipped,
                    events_failed = failed,
                    seconds = began.elapsed().as_secs_f64(),
                    "drift scan"
                );
            }
            Err(error) => {
                span.set_error(result.as_str());
                self.metrics.scanned(ScanResult::Failed);
                warn!(error = %ErrorChain(&error), objects = looked.objects, "drift scan failed");
            }
        }
    }

    /// Says it on the object.
    async fn drifted(&self, finding: &Finding, told: &mut Told) {
        let Finding {
            namespace,
            api_version,
            kind,
            name,
            uid,
            owner: _,
            problems,
        } = finding;
        *if *kind == "Pod" {
            &mut told.pods
        } else {
            &mut told.workloads
        } += 1;
        let about = InvolvedObject {
            api_version,
            kind,
            namespace,
            name,
            uid,
        };
        let remedy = match *kind {
            "Pod" => "delete the pod, so that its controller makes a new one",
            "Job" => "create the Job anew",
            _ => "apply the object again, or move the annotations to the pod template",
        };
        let message = format!(
            "{}; it was created or changed without the webhook: {remedy}",
            problems.join("; ")
        );
        let said = self
            .events
            .publish(&about, Reason::SecretsNotInjected, &message)
            .await;
        told.failed += u64::from(said.is_err());
    }

    /// Says it on the owner, once for all of its pods: the API server tells whoever creates a pod, and that is a
    /// program.
    async fn warned(&self, warned: &Warned, told: &mut Told) {
        let Warned {
            namespace,
            owner:
                Owner {
                    api_version,
                    kind,
                    name,
                    uid,
                },
            warnings,
        } = warned;
        if told.warned.len() >= OWNERS || !told.warned.insert(uid.clone()) {
            return;
        }
        let about = InvolvedObject {
            api_version,
            kind,
            namespace,
            name,
            uid,
        };
        let message = format!(
            "its pods were admitted with warnings: {}",
            warnings.join("; ")
        );
        let said = self
            .events
            .publish_once(&about, Reason::InjectionWarnings, &message)
            .await;
        told.failed += u64::from(said.is_err());
    }
}
