//! Thread that writes records: in groups, in the order in which they were handed over.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::account::GroupAccount;
use super::refusals::Refusals;
use super::sinks::RecordSinks;
use super::state::{QueuedRecord, RecordForm, Recorded, RecorderState};
use crate::audit::MAX_LINE;
use crate::audit::chain::{Chain, Line};
use crate::audit::parts::{MAX_TARGETS, parts};
use crate::audit::record::Record;
use crate::audit::unlinked::UnlinkedLine;
use crate::telemetry::mailbox::MailboxReceiver;
use jiff::Timestamp;
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
    sinks: RecordSinks,
    lines: Vec<u8>,
    count: u64,
    account: GroupAccount,
    /// Records of the group, whose admissions wait.
    waiting: Vec<oneshot::Sender<Recorded>>,
}

/// Writes records until the process stops or all handles are dropped.
pub(super) fn write_records(mut writer: RecordWriter, mut queue: MailboxReceiver<QueuedRecord>) {
    let start = writer.shared.emitter().start(writer.sinks.predecessor());
    writer.append(Box::new(start));
    writer.hand_over();
    let mut records = Vec::new();
    loop {
        let is_connected = queue.take(&mut records, writer.timeout());
        writer.write_group(&mut records);
        let is_stopping = writer.shared.is_stopping.load(Ordering::Acquire);
        if is_stopping || !is_connected {
            // Admissions that wait are written before the last record.
            queue.take(&mut records, Duration::ZERO);
            writer.write_group(&mut records);
            writer.end();
            return;
        }
    }
}

impl RecordWriter {
    pub(super) fn new(shared: Arc<RecorderState>, sinks: RecordSinks) -> Self {
        Self {
            chain: Chain::new(shared.settings.chain.clone()),
            shared,
            refusals: Refusals::default(),
            sinks,
            lines: Vec::new(),
            count: 0,
            account: GroupAccount::default(),
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

    /// Writes records that waited together.
    fn write_group(&mut self, records: &mut Vec<QueuedRecord>) {
        // Refusals of the interval before are reported first.
        self.write_due();
        for queued in records.drain(..) {
            self.write(queued);
            if self.lines.len() >= GROUP_BYTES {
                self.hand_over();
            }
        }
        self.write_due();
        self.hand_over();
    }

    fn write(&mut self, queued: QueuedRecord) {
        let QueuedRecord { record, done } = queued;
        let is_kept = match record {
            RecordForm::Line(line, time) => self.append_line(&line, time),
            RecordForm::Record(record, arrived) => {
                if let Some(record) = self.refusals.filter(record, arrived) {
                    self.append(record)
                } else {
                    self.shared.metrics.repeated.inc();
                    true
                }
            }
        };
        if is_kept {
            self.waiting.push(done);
        } else {
            // An admission that does not wait any more has gone on.
            let _ = done.send(Recorded::Dropped);
        }
    }

    /// Writes what is due without an admission: gaps, and records about refusals that repeat.
    fn write_due(&mut self) {
        self.write_gap();
        if self.refusals.due().is_some() {
            for record in self.refusals.take_due(Instant::now()) {
                self.append(Box::new(record));
            }
        }
    }

    fn write_gap(&mut self) {
        if self.shared.has_lost()
            && self.sinks.would_keep(self.lines.len() + MAX_LINE + 1)
            && let Some(gap) = self.shared.take_lost()
        {
            let record = self.shared.emitter().gap(gap);
            self.append(Box::new(record));
        }
    }

    /// Numbers a record that is one line, if there is room.
    fn append_line(&mut self, line: &UnlinkedLine, time: Timestamp) -> bool {
        let account = GroupAccount::of_one(time);
        if !self.has_room(1) {
            self.count_lost(&account);
            return false;
        }
        self.account.add(&account);
        self.chain.append_unlinked(line, &mut self.lines);
        self.count += 1;
        true
    }

    /// Numbers a record, if there is room for all of its parts.
    fn append(&mut self, record: Box<Record>) -> bool {
        let account = GroupAccount::of(&record);
        let record = if record.targets.len() <= MAX_TARGETS && self.has_room(1) {
            match self.chain.append_within(record, MAX_LINE) {
                Ok(line) => {
                    self.account.add(&account);
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
            self.count_lost(&account);
            return false;
        }
        self.account.add(&account);
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

    fn count_lost(&self, lost: &GroupAccount) {
        if let Some(records) = lost.records {
            self.shared.count_all_lost(records);
        }
        if let Some(reported) = lost.reported {
            self.shared.restore_lost(reported);
        }
    }

    /// Whether there is room for more lines. A group that would not be kept together with them is written before.
    fn has_room(&mut self, lines: usize) -> bool {
        let more = lines * (MAX_LINE + 1);
        if self.sinks.would_keep(self.lines.len() + more) {
            return true;
        }
        self.hand_over();
        self.sinks.has_room(more)
    }

    /// Writes the group, and lets its admissions go on.
    fn hand_over(&mut self) {
        let mut result = Recorded::Written;
        if !self.lines.is_empty() {
            self.shared.metrics.written.inc_by(self.count);
            let lines = std::mem::take(&mut self.lines);
            let account = std::mem::take(&mut self.account);
            if !self.sinks.write(lines, self.count) {
                result = Recorded::Dropped;
                self.count_lost(&account);
            }
            self.count = 0;
        }
        for done in self.waiting.drain(..) {
            // An admission that does not wait any more has gone on.
            let _ = done.send(result);
        }
    }

    /// Writes the last records of the chain.
    fn end(mut self) {
        if !self.has_room(MAX_LAST_LINES) {
            self.hand_over();
            self.sinks.out.flush(FLUSH_TIMEOUT);
        }
        for record in self.refusals.take_all() {
            self.append(Box::new(record));
        }
        self.write_gap();
        let stop = self.shared.emitter().stop();
        self.append(Box::new(stop));
        self.hand_over();
        self.sinks.out.flush(FLUSH_TIMEOUT);
        self.shared.has_ended.send_replace(true);
    }
}
