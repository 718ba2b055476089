//! Reading end of a spool: lines by their position, and the acknowledged position.

use std::sync::{Arc, PoisonError};

use super::segment::Segment;
use super::state::{SpoolError, SpoolPosition, SpoolState, write_acknowledged};

/// Reading end of a spool. There is one.
#[derive(Clone, Debug)]
pub struct SpoolReader {
    state: Arc<SpoolState>,
}

impl SpoolReader {
    pub(super) fn new(state: Arc<SpoolState>) -> Self {
        Self { state }
    }

    /// Whole lines behind a position, of at most `max` bytes but at least one line, and the position behind them. Lines
    /// of one call are of one segment.
    ///
    /// # Errors
    /// [`SpoolError::Io`].
    pub fn read(
        &self,
        from: SpoolPosition,
        max: usize,
    ) -> Result<(Vec<u8>, SpoolPosition), SpoolError> {
        let Some((segment, offset)) = self.behind(from).next() else {
            return Ok((Vec::new(), from));
        };
        let lines = segment.read(offset, max);
        let lines = lines.map_err(|source| self.state.error(source))?;
        let position = SpoolPosition {
            segment: segment.number,
            offset: offset + lines.len() as u64,
        };
        Ok((lines, position))
    }

    /// Bytes of the lines behind a position.
    #[must_use]
    pub fn bytes_behind(&self, from: SpoolPosition) -> u64 {
        let rest = |(segment, offset): (Arc<Segment>, u64)| segment.length() - offset;
        self.behind(from).map(rest).sum()
    }

    /// Number of the lines behind a position.
    ///
    /// # Errors
    /// [`SpoolError::Io`].
    pub fn lines_behind(&self, from: SpoolPosition) -> Result<u64, SpoolError> {
        let lines = self
            .behind(from)
            .map(|(segment, offset)| segment.count_lines(offset));
        let lines: std::io::Result<u64> = lines.sum();
        lines.map_err(|source| self.state.error(source))
    }

    /// Segments with lines behind a position, and the byte from which on they are behind it.
    fn behind(&self, from: SpoolPosition) -> impl Iterator<Item = (Arc<Segment>, u64)> {
        let segments = self.state.segments().clone();
        segments.into_iter().filter_map(move |segment| {
            let offset = if segment.number == from.segment {
                from.offset
            } else {
                0
            };
            let is_behind = segment.number >= from.segment && offset < segment.length();
            is_behind.then_some((segment, offset))
        })
    }

    /// Acknowledges all lines before a position. Segments without others are deleted.
    ///
    /// # Errors
    /// [`SpoolError::Io`].
    pub fn acknowledge(&self, position: SpoolPosition) -> Result<(), SpoolError> {
        if position <= self.acknowledged() {
            return Ok(());
        }
        let position = position.min(self.end());
        *self
            .state
            .acknowledged
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = position;
        // A full volume has room for the position only when a segment is gone. The next process begins behind it.
        let written = self
            .state
            .delete_acknowledged()
            .and_then(|()| write_acknowledged(&self.state.folder, position));
        written.map_err(|source| self.state.error(source))
    }

    /// Position behind the acknowledged lines.
    #[must_use]
    pub fn acknowledged(&self) -> SpoolPosition {
        self.state.acknowledged()
    }

    /// Position before the first line.
    #[must_use]
    pub fn begin(&self) -> SpoolPosition {
        let first = self.state.segments().front().map(|first| first.number);
        SpoolPosition {
            segment: first.unwrap_or_default(),
            offset: 0,
        }
    }

    /// Position behind the last line.
    #[must_use]
    pub fn end(&self) -> SpoolPosition {
        self.state.end()
    }

    /// Bytes of all segments.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.state.bytes()
    }
}
