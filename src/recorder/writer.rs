//! Thread that writes records: in groups, in the order in which they were handed over.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::refusals::Refusals;
use super::state::{QUEUE_CAPACITY, QueuedRecord, Recorded, RecorderMessage, RecorderState};
use crate::audit::MAX_LINE;
use crate::audit::chain::{Chain, Line};
use crate::audit::parts::{MAX_TARGETS, parts};
use crate::audit::record::{Interval, Record};
use crate::telemetry::line_writer::LineWriter;
use tokio::sync::oneshot;

/// Size in bytes from which a group of lines is handed over.
const GROUP_BYTES: usize = 256 << 10;

/// Interval in which a gap is reported, if there is room again and no record comes.
const GAP_INTERVAL: Duration = Duration::from_millis(250);

/// Interval of a writer without anything to do.
const IDLE_INTERVAL: Duration = Duration::from_hours(1);

/// Room for the last lines; further records about refusals are counted in the gap record if there is none.
const MAX_LAST_LINES: usize = 64;

/// Time limit of writing the last lines to standard output.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// End of the chain, and the lines of a group.
pub(super) struct RecordWriter {
    shared: Arc<RecorderState>,
    chain: Chain,
    refusals: Refusals,
    out: LineWriter,
    lines: Vec<u8>,
    count: u64,
    /// Records of the group, whose admissions wait.
    waiting: Vec<oneshot::Sender<Recorded>>,
}

/// Writes records until the process stops or all handles are dropped.
pub(super) fn write_records(mut writer: RecordWriter, messages: &Receiver<RecorderMessage>) {
    let start = writer.shared.emitter().start(None);
    writer.append(Box::new(start));
    writer.hand_over();
    loop {
        let is_connected = match messages.recv_timeout(writer.timeout()) {
            Ok(first) => {
                writer.write_group(first, messages);
                true
            }
            Err(RecvTimeoutError::Timeout) => true,
            Err(RecvTimeoutError::Disconnected) => false,
        };
        writer.write_due();
        writer.hand_over();
        let is_stopping = writer.shared.is_stopping.load(Ordering::Acquire);
        if is_stopping || !is_connected {
            // Admissions that wait are written before the last record.
            while let Ok(message) = messages.try_recv() {
                writer.write_group(message, messages);
            }
            writer.end();
            return;
        }
    }
}

impl RecordWriter {
    pub(super) fn new(shared: Arc<RecorderState>, out: LineWriter) -> Self {
        Self {
            chain: Chain::new(shared.settings.chain.clone()),
            shared,
            refusals: Refusals::default(),
            out,
            lines: Vec::new(),
            count: 0,
            waiting: Vec::new(),
        }
    }

    /// Time until something is to be written without another message.
    fn timeout(&self) -> Duration {
        let due = self.refusals.due();
        let due = due.map_or(IDLE_INTERVAL, |due| {
            due.saturating_duration_since(Instant::now())
        });
        if self.shared.has_lost() {
            due.min(GAP_INTERVAL)
        } else {
            due
        }
    }

    /// Writes a record and those that wait behind it.
    fn write_group(&mut self, first: RecorderMessage, messages: &Receiver<RecorderMessage>) {
        // Refusals of the interval before are reported first.
        self.write_due();
        let (mut next, mut count) = (Some(first), 0);
        while let Some(message) = next {
            if let RecorderMessage::Record(queued) = message {
                self.write(queued);
            }
            count += 1;
            let is_complete = count == QUEUE_CAPACITY || self.lines.len() >= GROUP_BYTES;
            next = if is_complete {
                None
            } else {
                messages.try_recv().ok()
            };
        }
        self.hand_over();
    }

    fn write(&mut self, queued: QueuedRecord) {
        let QueuedRecord {
            record,
            arrived,
            done,
        } = queued;
        match self.refusals.filter(record, arrived) {
            None => {
                self.shared.metrics.repeated.inc();
                self.waiting.push(done);
            }
            Some(record) => {
                if self.append(record) {
                    self.waiting.push(done);
                } else {
                    // An admission that does not wait any more has gone on.
                    let _ = done.send(Recorded::Dropped);
                }
            }
        }
    }

    /// Writes what is due without an admission: gaps, and records about refusals that repeat.
    fn write_due(&mut self) {
        self.write_gap();
        for record in self.refusals.take_due(Instant::now()) {
            self.append(Box::new(record));
        }
    }

    fn write_gap(&mut self) {
        if self.shared.has_lost()
            && self.has_room(1)
            && let Some(gap) = self.shared.take_lost()
        {
            let record = self.shared.emitter().gap(gap);
            self.append(Box::new(record));
        }
    }

    /// Numbers a record, if there is room for all of its parts.
    fn append(&mut self, record: Box<Record>) -> bool {
        let accounted = record.repeat.unwrap_or(Interval {
            count: 1,
            from: record.time,
            to: record.time,
        });
        let record = if record.targets.len() <= MAX_TARGETS && self.has_room(1) {
            match self.chain.append_within(record, MAX_LINE) {
                Ok(line) => {
                    self.push(&line);
                    return true;
                }
                Err(record) => record,
            }
        } else {
            record
        };
        let records = parts(*record);
        if !self.has_room(records.len()) {
            self.shared.count_all_lost(accounted);
            return false;
        }
        for record in records {
            let line = self.chain.append(record);
            self.push(&line);
        }
        true
    }

    fn push(&mut self, line: &Line) {
        self.lines.extend_from_slice(line.json.as_bytes());
        self.lines.push(b'\n');
        self.count += 1;
    }

    fn has_room(&self, lines: usize) -> bool {
        self.out.has_room(self.lines.len() + lines * (MAX_LINE + 1))
    }

    /// Hands the group to standard output, and lets its admissions go on.
    fn hand_over(&mut self) {
        if !self.lines.is_empty() {
            self.shared.metrics.written.inc_by(self.count);
            self.out.send(std::mem::take(&mut self.lines), self.count);
            self.count = 0;
        }
        for done in self.waiting.drain(..) {
            // An admission that does not wait any more has gone on.
            let _ = done.send(Recorded::Written);
        }
    }

    /// Writes the last records of the chain.
    fn end(mut self) {
        if !self.has_room(MAX_LAST_LINES) {
            self.hand_over();
            self.out.flush(FLUSH_TIMEOUT);
        }
        for record in self.refusals.take_all() {
            self.append(Box::new(record));
        }
        self.write_gap();
        let stop = self.shared.emitter().stop();
        self.append(Box::new(stop));
        self.hand_over();
        self.out.flush(FLUSH_TIMEOUT);
        self.shared.has_ended.send_replace(true);
    }
}
