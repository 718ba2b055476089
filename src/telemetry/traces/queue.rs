//! Bounded queue of ended spans for the exporter, which never blocks.
//!
//! It replaces the SDK's batch processor, which uses its own thread and does not report dropped spans. This one is a
//! task and counts them.

use std::time::Duration;

use opentelemetry::Context;
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Span, SpanData, SpanExporter as _, SpanProcessor};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::telemetry::error_chain::ErrorChain;
use crate::telemetry::traces::Endpoint;
use crate::telemetry::traces::metrics::{SpanResult, TraceMetrics, TraceSpans};

/// Limit of waiting spans; each is about 2 kB.
const QUEUE_CAPACITY: usize = 2048;

/// Limit of spans in one request.
const MAX_BATCH: usize = 512;

/// Time for which the first span of a batch waits for others.
const BATCH_INTERVAL: Duration = Duration::from_secs(1);

/// Sending end of the queue, for the SDK.
#[derive(Debug)]
pub(super) struct SpanQueue {
    sender: mpsc::Sender<SpanData>,
    metrics: TraceMetrics,
}

/// Receiving end of the queue, which exports the spans.
#[derive(Debug)]
pub(super) struct ExportWorker {
    receiver: mpsc::Receiver<SpanData>,
    exporter: SpanExporter,
    endpoint: Endpoint,
    metrics: TraceMetrics,
    /// Whether the export of the last batch failed.
    failing: bool,
    /// Whether a full queue was logged and has not been empty since.
    full: bool,
    /// Number of dropped spans after the previous batch.
    dropped: u64,
}

pub(super) fn queue(
    exporter: SpanExporter,
    endpoint: Endpoint,
    metrics: TraceMetrics,
) -> (SpanQueue, ExportWorker) {
    let (sender, receiver) = mpsc::channel(QUEUE_CAPACITY);
    let queue = SpanQueue {
        sender,
        metrics: metrics.clone(),
    };
    (
        queue,
        ExportWorker {
            receiver,
            exporter,
            endpoint,
            metrics,
            failing: false,
            full: false,
            dropped: 0,
        },
    )
}

fn count(metrics: &TraceMetrics, result: SpanResult, spans: usize) {
    metrics
        .spans
        .get_or_create(&TraceSpans { result })
        .inc_by(u64::try_from(spans).unwrap_or(u64::MAX));
}

impl SpanProcessor for SpanQueue {
    fn on_start(&self, _span: &mut Span, _cx: &Context) {}

    fn on_end(&self, span: SpanData) {
        if span.span_context.is_sampled() && self.sender.try_send(span).is_err() {
            count(&self.metrics, SpanResult::Dropped, 1);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _timeout: Duration) -> OTelSdkResult {
        Ok(())
    }
}

impl ExportWorker {
    /// Exports spans until `stop`, and then those that are left.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut batch = Vec::new();
        while !stop.is_cancelled() {
            tokio::select! {
                () = stop.cancelled() => break,
                received = self.receiver.recv_many(&mut batch, MAX_BATCH) => if received == 0 { return },
            }
            let batch_end = Instant::now() + BATCH_INTERVAL;
            while batch.len() < MAX_BATCH {
                let room = MAX_BATCH - batch.len();
                let receiving = self.receiver.recv_many(&mut batch, room);
                tokio::select! {
                    () = stop.cancelled() => break,
                    received = timeout_at(batch_end, receiving) => if !received.is_ok_and(|spans| spans > 0) { break },
                }
            }
            self.export(std::mem::take(&mut batch)).await;
        }
        self.receiver.close();
        while self.receiver.recv_many(&mut batch, MAX_BATCH).await > 0 {
            self.export(std::mem::take(&mut batch)).await;
        }
    }

    async fn export(&mut self, batch: Vec<SpanData>) {
        let spans = batch.len();
        let result = self.exporter.export(batch).await;
        let endpoint = &self.endpoint;
        match &result {
            Ok(()) => {
                count(&self.metrics, SpanResult::Exported, spans);
                if self.failing {
                    info!(%endpoint, "trace export succeeded again");
                }
            }
            Err(error) => {
                count(&self.metrics, SpanResult::Failed, spans);
                if !self.failing {
                    let error = ErrorChain(error);
                    warn!(%endpoint, %error, "trace export failed; spans are lost until it succeeds");
                }
            }
        }
        self.failing = result.is_err();
        self.log_overflow();
    }

    /// Logs that spans were dropped, once until the queue has been empty.
    fn log_overflow(&mut self) {
        let dropped = self
            .metrics
            .spans
            .get_or_create(&TraceSpans {
                result: SpanResult::Dropped,
            })
            .get();
        if dropped > self.dropped && !self.full {
            self.full = true;
            let endpoint = &self.endpoint;
            warn!(%endpoint, "trace queue is full; spans are dropped");
        }
        self.dropped = dropped;
        self.full &= !self.receiver.is_empty();
    }
}
