//! Spool: records on disk until they are acknowledged. It survives the end of the process, however that comes.
//!
//! Lines are appended to segments of [`MAX_SEGMENT_BYTES`], at most [`MAX_SPOOL_BYTES`] in all. The acknowledged position
//! stands beside them; a segment is deleted when all of its lines are acknowledged. Nothing is synchronized to disk: the
//! page cache survives a killed process, and the loss of a node takes the volume with it. A line that a killed process
//! did not complete is cut off when the spool is opened, because its admission was never answered.
//!
//! One process has one spool. It is read and written by one thread.

mod segment;

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use self::segment::Segment;

/// Limit of a segment in bytes.
pub const MAX_SEGMENT_BYTES: u64 = 4 << 20;

/// Limit of all segments in bytes, far below the size of the volume: a pod that exceeds that is evicted.
pub const MAX_SPOOL_BYTES: u64 = 64 << 20;

/// File with the acknowledged position.
const ACKNOWLEDGED: &str = "acknowledged";

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

/// Spool in a folder.
#[derive(Debug)]
pub struct Spool {
    folder: PathBuf,
    /// Oldest first; the last one is written to. Never empty.
    segments: VecDeque<Segment>,
    acknowledged: SpoolPosition,
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
            if let Some(last) = segments.back_mut() {
                last.cut_torn_line()?;
            }
            if segments.is_empty() {
                // A number is never used twice, so that an old position cannot mean another line.
                segments.push_back(Segment::create(folder, written.segment + 1)?);
            }
            let mut spool = Self {
                folder: folder.to_owned(),
                segments,
                acknowledged: written.max(SpoolPosition {
                    segment: first,
                    offset: 0,
                }),
            };
            // Lines that are cut off were not acknowledged.
            spool.acknowledged = spool.acknowledged.min(spool.end());
            spool.delete_acknowledged()?;
            Ok(spool)
        };
        opened().map_err(|source| SpoolError::Io {
            folder: folder.to_owned(),
            source,
        })
    }

    /// Appends whole lines, all or none of them.
    ///
    /// # Errors
    /// The spool is full, or cannot be written.
    pub fn append(&mut self, lines: &[u8]) -> Result<(), SpoolError> {
        let length = lines.len() as u64;
        if self.bytes() + length > MAX_SPOOL_BYTES {
            return Err(SpoolError::Full);
        }
        self.try_append(lines).map_err(|source| self.error(source))
    }

    fn try_append(&mut self, lines: &[u8]) -> io::Result<()> {
        let last = self.last().ok_or(io::ErrorKind::NotFound)?;
        if last.length > 0 && last.length + lines.len() as u64 > MAX_SEGMENT_BYTES {
            let next = Segment::create(&self.folder, last.number + 1)?;
            self.segments.push_back(next);
        }
        let last = self.segments.back_mut().ok_or(io::ErrorKind::NotFound)?;
        last.append(lines)
    }

    /// Whole lines behind a position, of at most `max` bytes but at least one line, and the position behind them.
    ///
    /// # Errors
    /// [`SpoolError::Io`].
    pub fn read(
        &self,
        from: SpoolPosition,
        max: usize,
    ) -> Result<(Vec<u8>, SpoolPosition), SpoolError> {
        for segment in &self.segments {
            let offset = if segment.number == from.segment {
                from.offset
            } else {
                0
            };
            if segment.number < from.segment || offset >= segment.length {
                continue;
            }
            let lines = segment
                .read(offset, max)
                .map_err(|source| self.error(source))?;
            let position = SpoolPosition {
                segment: segment.number,
                offset: offset + lines.len() as u64,
            };
            return Ok((lines, position));
        }
        Ok((Vec::new(), from))
    }

    /// Acknowledges all lines before a position. Segments without others are deleted.
    ///
    /// # Errors
    /// [`SpoolError::Io`].
    pub fn acknowledge(&mut self, position: SpoolPosition) -> Result<(), SpoolError> {
        if position <= self.acknowledged {
            return Ok(());
        }
        self.acknowledged = position.min(self.end());
        let written = write_acknowledged(&self.folder, self.acknowledged)
            .and_then(|()| self.delete_acknowledged());
        written.map_err(|source| self.error(source))
    }

    /// Position behind the acknowledged lines.
    #[must_use]
    pub fn acknowledged(&self) -> SpoolPosition {
        self.acknowledged
    }

    /// Position behind the last line.
    #[must_use]
    pub fn end(&self) -> SpoolPosition {
        self.last().map_or(self.acknowledged, |last| SpoolPosition {
            segment: last.number,
            offset: last.length,
        })
    }

    /// Bytes of all segments.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.length).sum()
    }

    /// Last line, without its newline; `None` if the spool has none.
    ///
    /// # Errors
    /// [`SpoolError::Io`].
    pub fn last_line(&self) -> Result<Option<Vec<u8>>, SpoolError> {
        let written = self
            .segments
            .iter()
            .rev()
            .find(|segment| segment.length > 0);
        let line = written.map(Segment::last_line).transpose();
        line.map_err(|source| self.error(source))
    }

    fn last(&self) -> Option<&Segment> {
        self.segments.back()
    }

    /// Deletes the segments before the acknowledged position, but not the last one.
    fn delete_acknowledged(&mut self) -> io::Result<()> {
        while self.segments.len() > 1
            && let Some(first) = self.segments.front()
            && (first.number < self.acknowledged.segment
                || (first.number == self.acknowledged.segment
                    && first.length <= self.acknowledged.offset))
        {
            fs::remove_file(first.path(&self.folder))?;
            self.segments.pop_front();
        }
        Ok(())
    }

    fn error(&self, source: io::Error) -> SpoolError {
        SpoolError::Io {
            folder: self.folder.clone(),
            source,
        }
    }
}

/// Acknowledged position; the beginning if the file is absent or not as it is written: lines are sent again then, and
/// the collector knows them.
fn read_acknowledged(folder: &Path) -> io::Result<SpoolPosition> {
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
fn write_acknowledged(folder: &Path, position: SpoolPosition) -> io::Result<()> {
    let next = folder.join(NEXT_ACKNOWLEDGED);
    fs::write(&next, format!("{} {}\n", position.segment, position.offset))?;
    fs::rename(next, folder.join(ACKNOWLEDGED))
}

#[cfg(test)]
mod tests;
