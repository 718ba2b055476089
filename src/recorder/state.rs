//! State that the handles of a recorder and its writer share, and the messages between them.

use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use jiff::Timestamp;
use tokio::sync::{oneshot, watch};

use super::chain_id::record_id;
use super::interval::merged;
use super::metrics::RecorderMetrics;
use super::refusals::may_repeat;
use crate::audit::emitter::Emitter;
use crate::audit::link::ChainId;
use crate::audit::record::{Interval, Record, Service};
use crate::audit::text::Text;
use crate::audit::unlinked::UnlinkedLine;
use crate::clock::Clock;

/// Limit of records that wait for the writer.
pub const QUEUE_CAPACITY: usize = 4_096;

/// Names of the process in its records.
#[derive(Clone, Debug)]
pub struct RecorderSettings {
    /// Name of the cluster; may be empty.
    pub cluster: Text<128>,
    pub service: Service,
    pub chain: ChainId,
}

/// Result of handing over a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recorded {
    /// The record is kept, or counted by a record that covers several refusals.
    Written,
    /// The record is written later.
    Late,
    /// There was no room where records are kept: the spool, or without one standard output. A gap record will report the
    /// number of such records.
    Dropped,
}

/// State that the handles and the writer share.
#[derive(Debug)]
pub(super) struct RecorderState {
    pub settings: RecorderSettings,
    pub clock: Clock,
    pub metrics: RecorderMetrics,
    /// Records that are not kept, and that no gap record has reported.
    lost: Mutex<Option<Interval>>,
    pub is_stopping: AtomicBool,
    /// Set when the last record is written.
    pub has_ended: watch::Sender<bool>,
}

pub(super) struct QueuedRecord {
    pub record: RecordForm,
    pub done: oneshot::Sender<Recorded>,
}

/// Form of a record in the queue.
pub(super) enum RecordForm {
    /// Record that is one line. It is made by the admission's thread, which takes less time than to hand over a record
    /// of many texts.
    Line(UnlinkedLine, Timestamp),
    /// Record that may be counted together with others, or need several lines, and the time at which it was handed over.
    Record(Box<Record>, Instant),
}

impl RecordForm {
    pub(super) fn of(record: Record) -> Self {
        let line = if may_repeat(&record) {
            None
        } else {
            UnlinkedLine::new(&record)
        };
        match line {
            Some(line) => Self::Line(line, record.time),
            None => Self::Record(Box::new(record), Instant::now()),
        }
    }
}

impl RecorderState {
    pub(super) fn new(settings: RecorderSettings, clock: Clock, metrics: RecorderMetrics) -> Self {
        Self {
            settings,
            clock,
            metrics,
            lost: Mutex::default(),
            is_stopping: AtomicBool::new(false),
            has_ended: watch::Sender::default(),
        }
    }

    pub(super) fn emitter(&self) -> Emitter {
        let time = self.clock.now();
        Emitter {
            cluster: self.settings.cluster.clone(),
            service: self.settings.service.clone(),
            time,
            id: record_id(time),
        }
    }

    pub(super) fn count_lost(&self, time: Timestamp) {
        self.count_all_lost(Interval {
            count: 1,
            from: time,
            to: time,
        });
    }

    pub(super) fn count_all_lost(&self, records: Interval) {
        self.metrics.dropped.inc_by(records.count);
        self.restore_lost(records);
    }

    /// Returns records that are counted already: the gap record about them is lost itself.
    pub(super) fn restore_lost(&self, records: Interval) {
        let mut lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        *lost = Some(merged(*lost, records));
    }

    pub(super) fn take_lost(&self) -> Option<Interval> {
        let mut lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        lost.take()
    }

    pub(super) fn has_lost(&self) -> bool {
        let lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        lost.is_some()
    }
}
