//! Spool: records on disk until they are acknowledged. It survives the end of the process, however that comes.
//!
//! Lines are appended to segments of [`MAX_SEGMENT_BYTES`], at most [`MAX_SPOOL_BYTES`] in all. The acknowledged position
//! stands beside them; a segment is deleted when all of its lines are acknowledged. Nothing is synchronized to disk: the
//! page cache survives a killed process, and the loss of a node takes the volume with it. A line that a killed process
//! did not complete is cut off when the spool is opened, because its admission was never answered.
//!
//! One process has one spool. One thread writes it ([`Spool`]); another one reads and acknowledges ([`SpoolReader`]).
//! Neither waits for the other's access to the disk.

mod reader;
mod segment;
mod state;

use std::fs;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

pub use self::reader::SpoolReader;
use self::segment::Segment;
pub use self::state::{MAX_SEGMENT_BYTES, MAX_SPOOL_BYTES, SpoolError, SpoolPosition};
use self::state::{SpoolState, read_acknowledged};

/// Writing end of the spool in a folder.
#[derive(Debug)]
pub struct Spool {
    state: Arc<SpoolState>,
    last: Arc<Segment>,
}

impl Spool {
    /// Opens the spool of a folder, and creates the folder if it does not exist.
    ///
    /// # Errors
    /// [`SpoolError::Io`].
    pub fn open(folder: &Path) -> Result<Self, SpoolError> {
        let opened = || {
            fs::create_dir_all(folder)?;
            let mut segments = Segment::all(folder)?;
            let written = read_acknowledged(folder)?;
            let first = segments
                .front()
                .map_or(written.segment, |first| first.number);
            let last = if let Some(last) = segments.back() {
                last.cut_torn_line()?;
                Arc::clone(last)
            } else {
                // A number is never used twice, so that an old position cannot mean another line.
                let created = Arc::new(Segment::create(folder, written.segment + 1)?);
                segments.push_back(Arc::clone(&created));
                created
            };
            let begin = SpoolPosition {
                segment: first,
                offset: 0,
            };
            let end = SpoolPosition {
                segment: last.number,
                offset: last.length(),
            };
            let state = Arc::new(SpoolState {
                folder: folder.to_owned(),
                segments: Mutex::new(segments),
                // Lines that are cut off were not acknowledged.
                acknowledged: Mutex::new(written.max(begin).min(end)),
            });
            state.delete_acknowledged()?;
            Ok(Self { state, last })
        };
        opened().map_err(|source| SpoolError::Io {
            folder: folder.to_owned(),
            source,
        })
    }

    /// Reading end.
    #[must_use]
    pub fn reader(&self) -> SpoolReader {
        SpoolReader::new(Arc::clone(&self.state))
    }

    /// Whether there is room for this many bytes, as far as the limit is concerned.
    #[must_use]
    pub fn has_room(&self, bytes: usize) -> bool {
        self.bytes() + bytes as u64 <= MAX_SPOOL_BYTES
    }

    /// Checks that the volume takes this many bytes, without leaving anything.
    ///
    /// # Errors
    /// [`SpoolError::Io`].
    pub fn probe(&self, bytes: usize) -> Result<(), SpoolError> {
        let probed = self.last.probe(bytes);
        probed.map_err(|source| self.state.error(source))
    }

    /// Appends whole lines, all or none of them.
    ///
    /// # Errors
    /// The spool is full, or cannot be written.
    pub fn append(&mut self, lines: &[u8]) -> Result<(), SpoolError> {
        if !self.has_room(lines.len()) {
            return Err(SpoolError::Full);
        }
        let appended = self.try_append(lines);
        appended.map_err(|source| self.state.error(source))
    }

    fn try_append(&mut self, lines: &[u8]) -> io::Result<()> {
        let length = self.last.length();
        if length > 0 && length + lines.len() as u64 > MAX_SEGMENT_BYTES {
            let number = self.last.number + 1;
            let next = Arc::new(Segment::create(&self.state.folder, number)?);
            self.state.segments().push_back(Arc::clone(&next));
            self.last = next;
        }
        self.last.append(lines)
    }

    /// Bytes of all segments.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.state.bytes()
    }

    /// Last line, without its newline; `None` if the spool has none.
    ///
    /// # Errors
    /// [`SpoolError::Io`].
    pub fn last_line(&self) -> Result<Option<Vec<u8>>, SpoolError> {
        let segments = self.state.segments().clone();
        let written = segments.iter().rev().find(|segment| segment.length() > 0);
        let line = written.map(|segment| segment.last_line()).transpose();
        line.map_err(|source| self.state.error(source))
    }
}

#[cfg(test)]
mod tests;
