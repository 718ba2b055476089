//! Segments and position of a spool, which its two ends share.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use thiserror::Error;

use super::segment::Segment;

/// Limit of a segment in bytes.
pub const MAX_SEGMENT_BYTES: u64 = 4 << 20;

/// Limit of all segments in bytes, far below the size of the volume: a pod that exceeds that is evicted.
pub const MAX_SPOOL_BYTES: u64 = 64 << 20;

/// File with the acknowledged position.
pub(super) const ACKNOWLEDGED: &str = "acknowledged";

/// File that replaces it.
const NEXT_ACKNOWLEDGED: &str = "acknowledged.next";

/// Place behind a line: the number of the segment, and the byte in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct SpoolPosition {
    pub segment: u64,
    pub offset: u64,
}

/// Reason why lines are not in the spool.
#[derive(Debug, Error)]
pub enum SpoolError {
    #[error(
        "the spool of the audit trail is full: {MAX_SPOOL_BYTES} bytes wait for the collector. Check that it can be \
         reached."
    )]
    Full,
    #[error("the spool of the audit trail in {folder} cannot be used. Check the volume.")]
    Io {
        folder: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// Segments and position that both ends share.
#[derive(Debug)]
pub(super) struct SpoolState {
    pub folder: PathBuf,
    /// Oldest first; the last one is written to. Never empty.
    pub segments: Mutex<VecDeque<Arc<Segment>>>,
    pub acknowledged: Mutex<SpoolPosition>,
}

impl SpoolState {
    pub(super) fn segments(&self) -> MutexGuard<'_, VecDeque<Arc<Segment>>> {
        self.segments.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn acknowledged(&self) -> SpoolPosition {
        let acknowledged = self.acknowledged.lock();
        *acknowledged.unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn bytes(&self) -> u64 {
        self.segments().iter().map(|segment| segment.length()).sum()
    }

    /// Position behind the last line.
    pub(super) fn end(&self) -> SpoolPosition {
        let last = self.segments().back().cloned();
        last.map_or_else(SpoolPosition::default, |last| SpoolPosition {
            segment: last.number,
            offset: last.length(),
        })
    }

    /// Deletes the segments before the acknowledged position, but not the last one with lines: the next process refers
    /// to its last line.
    pub(super) fn delete_acknowledged(&self) -> io::Result<()> {
        let acknowledged = self.acknowledged();
        loop {
            let mut segments = self.segments();
            let has_later_lines = segments.iter().skip(1).any(|later| later.length() > 0);
            let is_acknowledged = |first: &Segment| {
                first.number < acknowledged.segment
                    || (first.number == acknowledged.segment
                        && first.length() <= acknowledged.offset)
            };
            let first = segments.pop_front_if(|first| has_later_lines && is_acknowledged(first));
            drop(segments);
            let Some(first) = first else { return Ok(()) };
            fs::remove_file(first.path(&self.folder))?;
        }
    }

    pub(super) fn error(&self, source: io::Error) -> SpoolError {
        SpoolError::Io {
            folder: self.folder.clone(),
            source,
        }
    }
}

/// Acknowledged position; the beginning if the file is absent or not as it is written: lines are sent again then, and
/// the collector knows them.
pub(super) fn read_acknowledged(folder: &Path) -> io::Result<SpoolPosition> {
    let text = match fs::read_to_string(folder.join(ACKNOWLEDGED)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => String::new(),
        text => text?,
    };
    let position = text
        .trim_end()
        .split_once(' ')
        .and_then(|(segment, offset)| {
            Some(SpoolPosition {
                segment: segment.parse().ok()?,
                offset: offset.parse().ok()?,
            })
        });
    Ok(position.unwrap_or_default())
}

/// Replaces the file at once, so that a killed process leaves the old position or the new one.
pub(super) fn write_acknowledged(folder: &Path, position: SpoolPosition) -> io::Result<()> {
    let next = folder.join(NEXT_ACKNOWLEDGED);
    fs::write(&next, format!("{} {}\n", position.segment, position.offset))?;
    fs::rename(next, folder.join(ACKNOWLEDGED))
}
