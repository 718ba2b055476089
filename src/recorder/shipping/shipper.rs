//! Task that ships: waits until a batch is due, sends it, and moves on by the response.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, sleep_until};

use super::backoff::ShippingBackoff;
use super::batch::{LineBatch, NextLines, find_line};
use super::client::{CollectorClient, CollectorResponse};
use super::failure::ShippingFailure;
use super::metrics::{ShippingMetrics, UnshippableReason};
use super::report::ShippingReport;
use super::settings::{BATCH_BYTES, BATCH_INTERVAL, ReadReplica, STATE_INTERVAL};
use crate::audit::delivery::{BatchHead, Receipt, RejectedBatch, Rejection, ReplicaState};
use crate::audit::link::ChainId;
use crate::recorder::AuditRecorder;
use crate::recorder::spool::{SpoolError, SpoolPosition, SpoolReader};

/// Limit of a pause while the program ends: its time is short, and the collector may be back at any moment.
const MAX_LAST_PAUSE: Duration = Duration::from_millis(500);

/// Outcome of an attempt that has not failed.
enum ShipOutcome {
    /// The collector has stored what was sent.
    Stored,
    /// Lines that cannot be shipped were passed over.
    Skipped,
}

/// State of the task.
pub(super) struct Shipper {
    recorder: AuditRecorder,
    client: CollectorClient,
    replica: Arc<ReadReplica>,
    metrics: ShippingMetrics,
    report: ShippingReport,
    backoff: ShippingBackoff,
    /// Position of the next batch; the acknowledged one until a response moves it.
    cursor: Option<SpoolPosition>,
    /// Chain and number that the collector wants next, as far as it has responded.
    wanted: Option<(ChainId, u64)>,
    /// Chain that the collector has another history of. Chains do not alternate in a spool, so that one is enough.
    refused: Option<ChainId>,
    /// Time since which lines wait.
    waiting_since: Option<Instant>,
    sent_at: Instant,
}

impl Shipper {
    pub(super) fn new(
        recorder: AuditRecorder,
        client: CollectorClient,
        replica: Arc<ReadReplica>,
        metrics: ShippingMetrics,
    ) -> Self {
        Self {
            recorder,
            client,
            replica,
            metrics,
            report: ShippingReport::default(),
            backoff: ShippingBackoff::default(),
            cursor: None,
            wanted: None,
            refused: None,
            waiting_since: None,
            sent_at: Instant::now(),
        }
    }

    /// Ships until `stop` is set and nothing is left.
    pub(super) async fn run(mut self, mut stop: watch::Receiver<bool>) {
        loop {
            let is_stopping = *stop.borrow_and_update();
            if is_stopping && self.unread() == 0 {
                return;
            }
            if !is_stopping {
                tokio::select! {
                    () = self.due() => {}
                    changed = stop.changed() => {
                        if changed.is_err() {
                            return;
                        }
                        continue;
                    }
                }
            }
            match self.ship().await {
                Ok(ShipOutcome::Stored) => {
                    self.backoff.reset();
                    self.report.succeeded();
                }
                Ok(ShipOutcome::Skipped) => {}
                Err(failure) => {
                    self.metrics.count_failure(failure.reason());
                    self.report.failed(&failure);
                    if failure.ends_connection() {
                        self.client.disconnect();
                    }
                    let mut pause = self.backoff.next_pause();
                    if is_stopping {
                        pause = pause.min(MAX_LAST_PAUSE);
                    }
                    tokio::select! {
                        () = sleep(pause) => {}
                        Ok(()) = stop.changed() => {}
                    }
                }
            }
        }
    }

    /// Waits until a batch is due.
    async fn due(&mut self) {
        loop {
            let cursor = self.cursor();
            let link = &self.recorder.link;
            let unread = link.bytes_behind(cursor);
            if unread == 0 {
                self.waiting_since = None;
                tokio::select! {
                    () = sleep_until(self.sent_at + STATE_INTERVAL) => return,
                    () = link.wait_for_bytes(cursor, 1) => continue,
                }
            }
            let since = *self.waiting_since.get_or_insert_with(Instant::now);
            if unread >= BATCH_BYTES as u64 {
                return;
            }
            tokio::select! {
                () = sleep_until(since + BATCH_INTERVAL) => return,
                () = link.wait_for_bytes(cursor, BATCH_BYTES as u64) => {}
            }
        }
    }

    fn cursor(&self) -> SpoolPosition {
        let acknowledged = || self.recorder.link.reader().map(SpoolReader::acknowledged);
        self.cursor.or_else(acknowledged).unwrap_or_default()
    }

    fn unread(&self) -> u64 {
        self.recorder.link.bytes_behind(self.cursor())
    }

    /// Sends the next lines, or the state of the replica if there are none.
    async fn ship(&mut self) -> Result<ShipOutcome, ShippingFailure> {
        let read_at = Instant::now();
        let batch = match self.next_lines().await? {
            NextLines::Batch(batch) => Some(batch),
            NextLines::None => None,
            NextLines::Skipped(reason, lines, end) => {
                self.metrics.count_unshippable(reason, lines);
                if reason == UnshippableReason::Unreadable {
                    tracing::error!(
                        lines,
                        "lines of the spool are not as they were written: they are not shipped"
                    );
                }
                self.recorder.link.remove_lines(lines);
                self.acknowledge(end).await?;
                return Ok(ShipOutcome::Skipped);
            }
        };
        self.report_age(batch.as_ref());
        let lost = batch.as_ref().map_or(0, |batch| self.lines_before(batch));
        let body = self.body(batch.as_ref(), lost > 0);
        let response = self.client.send(body).await;
        self.sent_at = Instant::now();
        let response = response?;
        match (response, batch) {
            (CollectorResponse::Stored(receipt), Some(batch)) => {
                self.stored(&batch, receipt, lost).await?;
                // Later lines came after the batch was read.
                self.waiting_since = Some(read_at);
                Ok(ShipOutcome::Stored)
            }
            (CollectorResponse::Stored(_), None) => Ok(ShipOutcome::Stored),
            (CollectorResponse::Rejected(rejected), batch) => {
                self.reposition(batch.as_ref(), &rejected).await?;
                Err(ShippingFailure::Rejected(rejected.reason))
            }
        }
    }

    async fn next_lines(&self) -> Result<NextLines, ShippingFailure> {
        let (cursor, refused) = (self.cursor(), self.refused.clone());
        self.with_reader(NextLines::None, move |reader| {
            NextLines::read(reader, cursor, BATCH_BYTES, refused.as_ref())
        })
        .await
    }

    /// Lines before a batch that the collector wants, and that the spool does not have.
    fn lines_before(&self, batch: &LineBatch) -> u64 {
        match &self.wanted {
            Some((chain, wanted)) if *chain == batch.chain => batch.first.saturating_sub(*wanted),
            _ => 0,
        }
    }

    fn body(&self, batch: Option<&LineBatch>, lost_before: bool) -> Bytes {
        let own = || self.recorder.shared.settings.chain.clone();
        let unshipped = self.recorder.link.unshipped_lines.get();
        let head = BatchHead {
            chain: batch.map_or_else(own, |batch| batch.chain.clone()),
            lost_before,
            replica: ReplicaState {
                dropped: self.recorder.shared.metrics.dropped.get(),
                unshipped: u64::try_from(unshipped).unwrap_or_default(),
                ..(self.replica)()
            },
        };
        let mut body = head.to_line();
        if let Some(batch) = batch {
            body.extend_from_slice(&batch.lines);
        }
        Bytes::from(body)
    }

    /// Acknowledges what is durable.
    async fn stored(
        &mut self,
        batch: &LineBatch,
        receipt: Receipt,
        lost: u64,
    ) -> Result<(), ShippingFailure> {
        if receipt.durable < batch.first {
            return Err(ShippingFailure::InvalidResponse);
        }
        if lost > 0 {
            let reason = UnshippableReason::NotInSpool;
            self.metrics.count_unshippable(reason, lost);
            tracing::error!(
                chain = %batch.chain,
                lines = lost,
                before = batch.first,
                "lines of the audit trail were not in the spool: import them from the log of the container"
            );
        }
        let durable = receipt.durable.min(batch.last);
        let end = batch.position_behind(durable);
        let link = &self.recorder.link;
        let before = link.reader().map_or(end, SpoolReader::acknowledged);
        let lines = batch.lines_between(before, end);
        self.metrics.shipped.inc_by(lines);
        link.remove_lines(lines);
        self.wanted = Some((batch.chain.clone(), durable + 1));
        self.acknowledge(end).await?;
        if self.unread() == 0 {
            self.metrics.oldest.set(0);
        }
        Ok(())
    }

    /// Moves to the lines that the next attempt sends.
    async fn reposition(
        &mut self,
        batch: Option<&LineBatch>,
        rejected: &RejectedBatch,
    ) -> Result<(), ShippingFailure> {
        match (rejected.reason, batch) {
            (Rejection::OutOfOrder, Some(batch)) => {
                // Lines that were sent already are not wanted out of order.
                let wanted = rejected.wanted.filter(|wanted| *wanted < batch.first);
                let wanted = wanted.ok_or(ShippingFailure::InvalidResponse)?;
                let chain = batch.chain.clone();
                let found = self
                    .with_reader(None, move |reader| find_line(reader, &chain, wanted))
                    .await?;
                self.cursor = Some(found.unwrap_or(batch.begin));
                self.wanted = Some((batch.chain.clone(), wanted));
            }
            (Rejection::SecondHistory, Some(batch)) => {
                tracing::error!(
                    chain = %batch.chain,
                    first = batch.first,
                    last = batch.last,
                    "the collector has another history of the chain: its lines are not shipped"
                );
                self.refused = Some(batch.chain.clone());
            }
            _ => {}
        }
        Ok(())
    }

    /// Moves on behind a position. A position that cannot be written is sent again by the next process.
    async fn acknowledge(&mut self, end: SpoolPosition) -> Result<(), ShippingFailure> {
        self.cursor = Some(end);
        let result = self.with_reader((), move |reader| reader.acknowledge(end));
        let result = result.await;
        if let Some(reader) = self.recorder.link.reader() {
            self.recorder.link.set_bytes(reader.bytes());
        }
        result
    }

    fn report_age(&self, batch: Option<&LineBatch>) {
        let age = batch.and_then(|batch| {
            let time: jiff::Timestamp = batch.time.parse().ok()?;
            Some(self.recorder.shared.clock.now().duration_since(time))
        });
        let seconds = age.map_or(0, |age| age.as_secs().max(0));
        self.metrics.oldest.set(seconds);
    }

    /// Uses the disk without blocking other tasks; `otherwise` is the result while the spool is not open.
    async fn with_reader<T: Send + 'static>(
        &self,
        otherwise: T,
        run: impl FnOnce(&SpoolReader) -> Result<T, SpoolError> + Send + 'static,
    ) -> Result<T, ShippingFailure> {
        let Some(reader) = self.recorder.link.reader().cloned() else {
            return Ok(otherwise);
        };
        match spawn_blocking(move || run(&reader)).await {
            Ok(result) => result.map_err(ShippingFailure::Spool),
            // The runtime is stopping.
            Err(_) => Ok(otherwise),
        }
    }
}
