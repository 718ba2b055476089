//! One file of a spool.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Ending of the names of segments.
const ENDING: &str = ".jsonl";

/// Bytes that are read at once to find the beginning of a line.
const CHUNK_BYTES: u64 = 64 << 10;

/// A file with whole lines. One thread appends to it; others read what is complete.
#[derive(Debug)]
pub(super) struct Segment {
    pub number: u64,
    /// Bytes of the whole lines.
    length: AtomicU64,
    file: File,
}

impl Segment {
    /// Segments of a folder, oldest first. Other files are left alone.
    pub(super) fn all(folder: &Path) -> io::Result<VecDeque<Arc<Self>>> {
        let mut segments = Vec::new();
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str());
            let Some(number) = name
                .and_then(|name| name.strip_suffix(ENDING))
                .and_then(|number| number.parse().ok())
            else {
                continue;
            };
            let file = OpenOptions::new().read(true).write(true).open(&path)?;
            segments.push(Arc::new(Self {
                number,
                length: AtomicU64::new(file.metadata()?.len()),
                file,
            }));
        }
        segments.sort_unstable_by_key(|segment| segment.number);
        Ok(segments.into())
    }

    pub(super) fn create(folder: &Path, number: u64) -> io::Result<Self> {
        let path = path(folder, number);
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create_new(true).open(path)?;
        Ok(Self {
            number,
            length: AtomicU64::new(0),
            file,
        })
    }

    pub(super) fn path(&self, folder: &Path) -> PathBuf {
        path(folder, self.number)
    }

    pub(super) fn length(&self) -> u64 {
        self.length.load(Ordering::Acquire)
    }

    /// Appends whole lines. After a failure, such as a full volume, nothing of them remains.
    pub(super) fn append(&self, lines: &[u8]) -> io::Result<()> {
        let length = self.length();
        if let Err(error) = self.file.write_all_at(lines, length) {
            // If this fails too, the next lines are written over what remains.
            let _ = self.file.set_len(length);
            return Err(error);
        }
        let length = length + lines.len() as u64;
        self.length.store(length, Ordering::Release);
        Ok(())
    }

    /// Checks that there is room for `bytes` on the volume, by writing them and cutting them off again.
    pub(super) fn probe(&self, bytes: usize) -> io::Result<()> {
        let length = self.length();
        let written = self.file.write_all_at(&vec![0; bytes], length);
        self.file.set_len(length)?;
        written
    }

    /// Lines from `offset` on.
    pub(super) fn count_lines(&self, offset: u64) -> io::Result<u64> {
        let (mut begin, end, mut lines) = (offset, self.length(), 0);
        while begin < end {
            let mut chunk = vec![0; usize::try_from((end - begin).min(CHUNK_BYTES)).unwrap_or(0)];
            self.file.read_exact_at(&mut chunk, begin)?;
            let ends = |count, byte: &u8| count + u64::from(*byte == b'\n');
            lines = chunk.iter().fold(lines, ends);
            begin += chunk.len() as u64;
        }
        Ok(lines)
    }

    /// Whole lines of at most `max` bytes, but at least one.
    pub(super) fn read(&self, offset: u64, max: usize) -> io::Result<Vec<u8>> {
        let rest = self.length().saturating_sub(offset);
        let mut lines = vec![0; usize::try_from(rest).unwrap_or(max).min(max)];
        self.file.read_exact_at(&mut lines, offset)?;
        if let Some(end) = lines.iter().rposition(|byte| *byte == b'\n') {
            lines.truncate(end + 1);
            return Ok(lines);
        }
        let mut chunk = vec![0; usize::try_from(rest).unwrap_or(max)];
        self.file.read_exact_at(&mut chunk, offset)?;
        let end = chunk.iter().position(|byte| *byte == b'\n');
        chunk.truncate(end.map_or(chunk.len(), |end| end + 1));
        Ok(chunk)
    }

    /// Last line, without its newline.
    pub(super) fn last_line(&self) -> io::Result<Vec<u8>> {
        let end = self.length().saturating_sub(1);
        let begin = self.line_before(end)?;
        let mut line = vec![0; usize::try_from(end - begin).unwrap_or_default()];
        self.file.read_exact_at(&mut line, begin)?;
        Ok(line)
    }

    /// Cuts off a last line without its newline.
    pub(super) fn cut_torn_line(&self) -> io::Result<()> {
        let whole = self.line_before(self.length())?;
        if whole < self.length() {
            self.file.set_len(whole)?;
            self.length.store(whole, Ordering::Release);
        }
        Ok(())
    }

    /// Place behind the last newline before `end`.
    fn line_before(&self, end: u64) -> io::Result<u64> {
        let mut end = end;
        while end > 0 {
            let begin = end.saturating_sub(CHUNK_BYTES);
            let mut chunk = vec![0; usize::try_from(end - begin).unwrap_or_default()];
            self.file.read_exact_at(&mut chunk, begin)?;
            if let Some(at) = chunk.iter().rposition(|byte| *byte == b'\n') {
                return Ok(begin + at as u64 + 1);
            }
            end = begin;
        }
        Ok(0)
    }
}

fn path(folder: &Path, number: u64) -> PathBuf {
    // As long as the largest number, so that a listing is in order.
    folder.join(format!("{number:020}{ENDING}"))
}
