//! Between those who end spans and the collector: a bounded queue, which never waits.
//!
//! The SDK's own batch processor has a thread of its own and tells nobody what it drops; this one is a task, and
//! counts.

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

/// As many spans as wait; each is about 2 kB.
const WAITING: usize = 2048;

/// As many as go in one request.
const BATCH: usize = 512;

/// How long the first span of a batch waits for others.
const GATHER: Duration = Duration::from_secs(1);

/// The queue's end for the SDK.
#[derive(Debug)]
pub(super) struct Queue {
    sender: mpsc::Sender<SpanData>,
    metrics: TraceMetrics,
}

/// The queue's other end.
#[derive(Debug)]
pub(super) struct Worker {
    receiver: mpsc::Receiver<SpanData>,
    exporter: SpanExporter,
    endpoint: Endpoint,
    metrics: TraceMetrics,
    /// The collector did not take the last batch.
    failing: bool,
    /// The queue was full, and it has been said.
    full: bool,
    /// How many had been dropped when it was looked last.
    dropped: u64,
}

/// Both ends.
pub(super) fn queue(
    exporter: SpanExporter,
    endpoint: Endpoint,
    metrics: TraceMetrics,
) -> (Queue, Worker) {
    let (sender, receiver) = mpsc::channel(WAITING);
    let queue = Queue {
        sender,
        metrics: metrics.clone(),
    };
    (
        queue,
        Worker {
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

impl SpanProcessor for Queue {
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

impl Worker {
    /// Sends until told to stop, and then what is left.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut batch = Vec::new();
        while !stop.is_cancelled() {
            tokio::select! {
                () = stop.cancelled() => break,
                received = self.receiver.recv_many(&mut batch, BATCH) => if received == 0 { return },
            }
            let gathered = Instant::now() + GATHER;
            while batch.len() < BATCH {
                let room = BATCH - batch.len();
                let more = self.receiver.recv_many(&mut batch, room);
                tokio::select! {
                    () = stop.cancelled() => break,
                    more = timeout_at(gathered, more) => if !more.is_ok_and(|more| more > 0) { break },
                }
            }
            self.send(std::mem::take(&mut batch)).await;
        }
        self.receiver.close();
        while self.receiver.recv_many(&mut batch, BATCH).await > 0 {
            self.send(std::mem::take(&mut batch)).await;
        }
    }

    async fn send(&mut self, batch: Vec<SpanData>) {
        let spans = batch.len();
        let sent = self.exporter.export(batch).await;
        let endpoint = &self.endpoint;
        match &sent {
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
        self.failing = sent.is_err();
        self.overflow();
    }

    /// Says that spans were dropped, once until the queue has been empty.
    fn overflow(&mut self) {
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
