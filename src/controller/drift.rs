//! Drift scan: at every interval, counts pods and workloads that run without their secrets, publishes Events about
//! them, and logs one line. Admission warnings about pods created by controllers become Events on their owners.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use super::metrics::{ControllerMetrics, DriftScanResult};
use crate::clock::Clock;
use crate::kubernetes::ObjectApi;
use crate::kubernetes::events::{EventReason, EventRecorder, InvolvedObject};
use crate::scan::{
    Finding, FindingOwner, Progress, Rules, ScanError, ScanFinding, ScanStats, Scanner, Scope,
    Task, Warned,
};
use crate::telemetry::error_chain::ErrorChain;
use crate::telemetry::span::Span;
use crate::telemetry::traces::Traces;

/// Findings that the scan may be ahead of the Events about them.
const FINDINGS_CAPACITY: usize = 64;

/// Limit of owners that get an Event about warnings in one scan.
const MAX_WARNED_OWNERS: usize = 1000;

/// Runs drift scans.
#[derive(Debug)]
pub struct Drift {
    scanner: Scanner,
    scope: Scope,
    events: EventRecorder,
    interval: Duration,
    metrics: ControllerMetrics,
    clock: Clock,
    traces: Traces,
}

/// Counts of one scan.
#[derive(Debug, Default)]
struct DriftReport {
    pods: i64,
    workloads: i64,
    /// Uids of the owners with an Event about warnings.
    warned: BTreeSet<String>,
    /// Events that could not be written.
    events_failed: u64,
}

impl Drift {
    /// Creates it without tracing. The first scan starts at once; `api` limits the rate of requests.
    #[must_use]
    pub fn new(
        api: &ObjectApi,
        rules: Rules,
        scope: Scope,
        interval: Duration,
        metrics: ControllerMetrics,
        clock: Clock,
    ) -> Self {
        let events = EventRecorder::new(api.clone(), clock.clone());
        Self {
            scanner: Scanner::new(api.clone(), rules),
            scope,
            events,
            interval,
            metrics,
            clock,
            traces: Traces::off(),
        }
    }

    /// Enables tracing.
    #[must_use]
    pub fn traced(self, traces: &Traces) -> Self {
        Self {
            traces: traces.clone(),
            ..self
        }
    }

    /// Scans at every interval, until it is dropped.
    pub async fn run(&self) {
        /// Only the leader reports these gauges; they are reset when the lease is lost.
        struct ResetDriftGauges<'a>(&'a ControllerMetrics);
        impl Drop for ResetDriftGauges<'_> {
            fn drop(&mut self) {
                self.0.set_uninjected(0, 0);
                self.0.skipped.set(0);
            }
        }
        let _reset = ResetDriftGauges(&self.metrics);
        loop {
            self.scan_once().await;
            sleep(self.interval).await;
        }
    }

    async fn scan_once(&self) {
        let began = Instant::now();
        let mut span = self.traces.root_span("drift.scan");
        let progress = Progress::default();
        let (sender, receiver) = mpsc::channel(FINDINGS_CAPACITY);
        // Twice the interval, so that no new pod is missed, however long a scan takes. Events are published once.
        let warned_since = self.clock.now().checked_sub(self.interval * 2).ok();
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
        let (ended, report) = futures::future::join(scanning, self.publish_all(receiver)).await;
        self.report(&mut span, ended, &report, progress.stats(), began);
    }

    /// Publishes Events about the findings of one scan.
    async fn publish_all(&self, mut findings: mpsc::Receiver<ScanFinding>) -> DriftReport {
        let mut report = DriftReport::default();
        while let Some(found) = findings.recv().await {
            match found {
                ScanFinding::Drifted(finding) => self.publish_drift(&finding, &mut report).await,
                // The task does not request them.
                ScanFinding::Ineffective(_) | ScanFinding::Lost(_) => {}
                ScanFinding::Warned(warned) => self.publish_warnings(&warned, &mut report).await,
            }
        }
        report
    }

    /// Records one scan in the span, the metrics and the log.
    fn report(
        &self,
        span: &mut Span,
        ended: Result<(), ScanError>,
        report: &DriftReport,
        stats: ScanStats,
        began: Instant,
    ) {
        let DriftReport {
            pods,
            workloads,
            warned,
            events_failed,
        } = report;
        let (pods, workloads) = (*pods, *workloads);
        span.set_i64("pods", pods);
        span.set_i64("workloads", workloads);
        span.set_i64("objects", i64::try_from(stats.objects).unwrap_or(i64::MAX));
        let result = if ended.is_ok() {
            DriftScanResult::Complete
        } else {
            DriftScanResult::Failed
        };
        span.set_static("result", result.as_str());
        match ended {
            Ok(()) => {
                self.metrics.set_uninjected(pods, workloads);
                self.metrics
                    .skipped
                    .set(i64::try_from(stats.skipped).unwrap_or(i64::MAX));
                self.metrics.scan_ended(result);
                info!(
                    pods,
                    workloads,
                    owners_warned = warned.len(),
                    objects = stats.objects,
                    read = stats.read,
                    skipped = stats.skipped,
                    events_failed,
                    seconds = began.elapsed().as_secs_f64(),
                    "drift scan"
                );
            }
            Err(error) => {
                span.set_error(result.as_str());
                self.metrics.scan_ended(result);
                warn!(error = %ErrorChain(&error), objects = stats.objects, "drift scan failed");
            }
        }
    }

    /// Publishes an Event on an object that runs without its secrets.
    async fn publish_drift(&self, finding: &Finding, report: &mut DriftReport) {
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
            &mut report.pods
        } else {
            &mut report.workloads
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
        let published = self
            .events
            .publish(&about, EventReason::SecretsNotInjected, &message)
            .await;
        report.events_failed += u64::from(published.is_err());
    }

    /// Publishes an Event about admission warnings on the owner, once for all of its pods. The API server returns
    /// warnings only to the client that creates a pod, which is the owner's controller here.
    async fn publish_warnings(&self, warned: &Warned, report: &mut DriftReport) {
        let Warned {
            namespace,
            owner:
                FindingOwner {
                    api_version,
                    kind,
                    name,
                    uid,
                },
            warnings,
        } = warned;
        if report.warned.len() >= MAX_WARNED_OWNERS || !report.warned.insert(uid.clone()) {
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
        let published = self
            .events
            .publish_once(&about, EventReason::InjectionWarnings, &message)
            .await;
        report.events_failed += u64::from(published.is_err());
    }
}
