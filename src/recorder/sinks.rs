//! Places that a group of lines is written to: the spool, if there is one, and standard output.
//!
//! The spool decides whether records are kept, and standard output has a copy of each line. A spool that is full or
//! cannot be written is passed over: lines get their numbers and are on standard output alone then, so that they can be
//! imported later, and their records count as lost. Without a spool, standard output decides.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::link::SpoolLink;
use super::spool::{Spool, SpoolError};
use crate::audit::MAX_LINE;
use crate::audit::link::Tip;
use crate::audit::stored::StoredLine;
use crate::telemetry::error_chain::ErrorChain;
use crate::telemetry::line_writer::LineWriter;

/// Interval at which a spool is tried again that cannot be opened or written.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Sinks of the writer thread.
pub(super) struct RecordSinks {
    pub out: LineWriter,
    spool: Option<SpoolSink>,
}

/// Spool that may not be usable at the moment.
struct SpoolSink {
    folder: PathBuf,
    spool: Option<Spool>,
    link: Arc<SpoolLink>,
    /// Time of the next attempt to open or write it, after a failure.
    retry_at: Option<Instant>,
    /// Whether the last group is not in the spool; such a change is logged once.
    is_failing: bool,
}

impl RecordSinks {
    /// Opens the spool of `folder`, if there is one. A spool that cannot be opened is tried again later.
    pub(super) fn open(out: LineWriter, spool: Option<(PathBuf, Arc<SpoolLink>)>) -> Self {
        let spool = spool.map(|(folder, link)| {
            let mut sink = SpoolSink {
                folder,
                spool: None,
                link,
                retry_at: None,
                is_failing: false,
            };
            sink.is_usable(0);
            sink
        });
        Self { out, spool }
    }

    /// Last line of the process before, in the same pod.
    pub(super) fn predecessor(&self) -> Option<Tip> {
        let spool = self.spool.as_ref()?.spool.as_ref()?;
        // A line that cannot be read is reported by the shipper.
        let line = StoredLine::parse(&spool.last_line().ok()??).ok()?;
        Some(Tip {
            chain: line.chain,
            hash: line.hash,
            seq: line.seq,
        })
    }

    /// Whether lines of so many bytes would be kept.
    pub(super) fn would_keep(&mut self, bytes: usize) -> bool {
        match &mut self.spool {
            Some(spool) => spool.is_usable(bytes),
            None => self.out.has_room(bytes),
        }
    }

    /// Whether lines of so many bytes have a place, in the spool or on standard output.
    pub(super) fn has_room(&mut self, bytes: usize) -> bool {
        self.would_keep(bytes) || self.out.has_room(bytes)
    }

    /// Writes a group. Returns whether it is kept.
    pub(super) fn write(&mut self, lines: Vec<u8>, count: u64) -> bool {
        let is_kept = match &mut self.spool {
            Some(spool) => spool.write(&lines, count),
            // There was room when the lines got their numbers.
            None => true,
        };
        self.out.send(lines, count);
        is_kept
    }
}

impl SpoolSink {
    fn is_usable(&mut self, bytes: usize) -> bool {
        if self.retry_at.is_some_and(|at| Instant::now() < at) {
            return false;
        }
        match self.try_use(bytes) {
            Ok(()) => {
                self.retry_at = None;
                true
            }
            Err(error) => {
                self.fail(&error);
                false
            }
        }
    }

    /// Opens the spool if necessary, and checks that there is room.
    fn try_use(&mut self, bytes: usize) -> Result<(), SpoolError> {
        if self.spool.is_none() {
            let opened = Spool::open(&self.folder)?;
            self.link.set_reader(opened.reader());
            self.spool = Some(opened);
        }
        let Some(spool) = &self.spool else {
            return Ok(());
        };
        if !spool.has_room(bytes) {
            return Err(SpoolError::Full);
        }
        if self.retry_at.is_some() {
            spool.probe(MAX_LINE)?;
        }
        Ok(())
    }

    fn write(&mut self, lines: &[u8], count: u64) -> bool {
        if !self.is_usable(lines.len()) {
            return false;
        }
        let Some(spool) = &mut self.spool else {
            return false;
        };
        match spool.append(lines) {
            Ok(()) => {
                self.link.add(lines.len(), count, spool.bytes());
                if self.is_failing {
                    self.is_failing = false;
                    tracing::info!("the spool of the audit trail takes records again");
                }
                true
            }
            Err(error) => {
                self.fail(&error);
                false
            }
        }
    }

    fn fail(&mut self, error: &SpoolError) {
        if !matches!(error, SpoolError::Full) {
            self.retry_at = Some(Instant::now() + RETRY_INTERVAL);
        }
        if !self.is_failing {
            self.is_failing = true;
            tracing::error!(
                error = %ErrorChain(error),
                "records of the audit trail are not kept in the spool: they are counted, and on standard output alone"
            );
        }
    }
}
