//! Batches: the lines of one chain, without a hole, that follow each other in the spool.

use serde::Deserialize;

use super::metrics::UnshippableReason;
use crate::audit::MAX_LINE;
use crate::audit::link::ChainId;
use crate::recorder::spool::{SpoolError, SpoolPosition, SpoolReader};

/// Bytes that a search of the spool reads at once.
const SEARCH_BYTES: usize = 256 << 10;

/// Lines to be sent.
#[derive(Debug)]
pub(super) struct LineBatch {
    pub chain: ChainId,
    /// Number of the first line.
    pub first: u64,
    /// Number of the last line.
    pub last: u64,
    /// Time of the first line, as it is written.
    pub time: Box<str>,
    pub lines: Vec<u8>,
    /// Position before the first line.
    pub begin: SpoolPosition,
}

/// Next lines of a spool.
#[derive(Debug)]
pub(super) enum NextLines {
    Batch(LineBatch),
    /// Lines that are not sent, and the position behind them.
    Skipped(UnshippableReason, u64, SpoolPosition),
    None,
}

/// Place of a line, without the rest of it.
#[derive(Deserialize)]
struct LinePlace<'a> {
    #[serde(borrow)]
    chain: LineLink<'a>,
    time: &'a str,
}

#[derive(Deserialize)]
struct LineLink<'a> {
    id: &'a str,
    seq: u64,
}

impl NextLines {
    /// Reads lines behind a position. Lines of `refused` are skipped.
    pub(super) fn read(
        reader: &SpoolReader,
        from: SpoolPosition,
        max: usize,
        refused: Option<&ChainId>,
    ) -> Result<Self, SpoolError> {
        let (lines, end) = reader.read(from, max)?;
        let begin = SpoolPosition {
            segment: end.segment,
            offset: end.offset - lines.len() as u64,
        };
        Ok(Self::of(lines, begin, refused))
    }

    fn of(mut lines: Vec<u8>, begin: SpoolPosition, refused: Option<&ChainId>) -> Self {
        let mut batch: Option<(ChainId, u64, u64, Box<str>)> = None;
        let mut skipped: Option<(UnshippableReason, u64)> = None;
        let mut length = 0;
        for line in lines.split_inclusive(|byte| *byte == b'\n') {
            let place = place(line);
            let reason = match &place {
                None => Some(UnshippableReason::Unreadable),
                Some(place) if refused.is_some_and(|id| id.as_str() == place.chain.id) => {
                    Some(UnshippableReason::SecondHistory)
                }
                Some(_) => None,
            };
            match (&mut batch, &mut skipped, place, reason) {
                (None, None, _, Some(reason)) => skipped = Some((reason, 1)),
                (None, Some((first, count)), _, Some(reason)) if *first == reason => *count += 1,
                (None, None, Some(place), None) => match ChainId::parse(place.chain.id) {
                    Ok(id) => {
                        batch = Some((id, place.chain.seq, place.chain.seq, place.time.into()));
                    }
                    Err(_) => skipped = Some((UnshippableReason::Unreadable, 1)),
                },
                (Some((id, _, last, _)), None, Some(place), None)
                    if id.as_str() == place.chain.id && place.chain.seq == *last + 1 =>
                {
                    *last += 1;
                }
                _ => break,
            }
            length += line.len();
        }
        if let Some((reason, count)) = skipped {
            return Self::Skipped(reason, count, behind(begin, length));
        }
        lines.truncate(length);
        batch.map_or(Self::None, |(chain, first, last, time)| {
            Self::Batch(LineBatch {
                chain,
                first,
                last,
                time,
                lines,
                begin,
            })
        })
    }
}

impl LineBatch {
    /// Position behind the line with a number, which the batch has.
    pub(super) fn position_behind(&self, seq: u64) -> SpoolPosition {
        let lines = usize::try_from((seq + 1).saturating_sub(self.first)).unwrap_or(usize::MAX);
        let length: usize = self.split().take(lines).map(<[u8]>::len).sum();
        behind(self.begin, length)
    }

    /// Number of lines that end between two positions.
    pub(super) fn lines_between(&self, from: SpoolPosition, to: SpoolPosition) -> u64 {
        let mut end = self.begin;
        let mut count = 0;
        for line in self.split() {
            end = behind(end, line.len());
            count += u64::from(from < end && end <= to);
        }
        count
    }

    fn split(&self) -> impl Iterator<Item = &[u8]> {
        self.lines.split_inclusive(|byte| *byte == b'\n')
    }
}

/// First line of a chain in a spool that has at least a number: the position before it.
pub(super) fn find_line(
    reader: &SpoolReader,
    chain: &ChainId,
    at_least: u64,
) -> Result<Option<SpoolPosition>, SpoolError> {
    let mut position = reader.begin();
    loop {
        let (lines, end) = reader.read(position, SEARCH_BYTES)?;
        if lines.is_empty() {
            return Ok(None);
        }
        let mut at = SpoolPosition {
            segment: end.segment,
            offset: end.offset - lines.len() as u64,
        };
        for line in lines.split_inclusive(|byte| *byte == b'\n') {
            let is_wanted = place(line).is_some_and(|place| {
                place.chain.id == chain.as_str() && place.chain.seq >= at_least
            });
            if is_wanted {
                return Ok(Some(at));
            }
            at = behind(at, line.len());
        }
        position = end;
    }
}

/// Place of a line; `None` if it is not as it was written.
fn place(line: &[u8]) -> Option<LinePlace<'_>> {
    let line = line.strip_suffix(b"\n")?;
    if line.len() > MAX_LINE {
        return None;
    }
    serde_json::from_slice(line).ok()
}

fn behind(position: SpoolPosition, bytes: usize) -> SpoolPosition {
    SpoolPosition {
        offset: position.offset + bytes as u64,
        ..position
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recorder::spool::Spool;

    fn line(chain: &str, seq: u64) -> String {
        let time = "2026-11-28T12:00:00Z";
        format!("{{\"chain\":{{\"id\":\"{chain}\",\"seq\":{seq}}},\"time\":\"{time}\"}}\n")
    }

    /// Description of all that is read from a spool with these lines.
    fn read(lines: &[String], max: usize, refused: Option<&str>) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(folder.path()).unwrap();
        spool.append(lines.concat().as_bytes()).unwrap();
        let reader = spool.reader();
        let refused = refused.map(|id| ChainId::parse(id).unwrap());
        let (mut position, mut found) = (reader.acknowledged(), Vec::new());
        loop {
            match NextLines::read(&reader, position, max, refused.as_ref()).unwrap() {
                NextLines::Batch(batch) => {
                    found.push(format!("{} {}-{}", batch.chain, batch.first, batch.last));
                    let end = batch.position_behind(batch.last);
                    let count = batch.lines_between(position, end);
                    assert_eq!(count, batch.last - batch.first + 1);
                    assert_eq!(batch.lines_between(end, end), 0);
                    position = end;
                }
                NextLines::Skipped(reason, count, end) => {
                    found.push(format!("{} {count}", reason.as_str()));
                    position = end;
                }
                NextLines::None => return found,
            }
        }
    }

    #[test]
    fn batch_has_lines_of_one_chain_without_a_hole() {
        let mut lines: Vec<String> = (1..=3).map(|seq| line("a/1", seq)).collect();
        lines.extend((1..=2).chain(4..=5).map(|seq| line("a/2", seq)));
        assert_eq!(
            read(&lines, 1 << 20, None),
            ["a/1 1-3", "a/2 1-2", "a/2 4-5"]
        );
        assert_eq!(read(&lines, 1, None).len(), 7);
    }

    #[test]
    fn lines_that_are_not_shipped_are_skipped() {
        let long = format!("{{\"x\":\"{}\"}}\n", "x".repeat(MAX_LINE));
        let lines = [
            "garbage\n".to_owned(),
            long,
            line("a b", 1),
            line("a/1", 1),
            line("a/1", 2),
            line("a/2", 1),
            "{}\n".to_owned(),
            line("a/2", 2),
        ];
        assert_eq!(
            read(&lines, 1 << 20, Some("a/1")),
            [
                "unreadable 2",
                "unreadable 1",
                "second_history 2",
                "a/2 1-1",
                "unreadable 1",
                "a/2 2-2"
            ]
        );
    }

    #[test]
    fn line_is_found_by_its_number() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(folder.path()).unwrap();
        let lines = [line("a/1", 7), line("a/2", 5), line("a/2", 9)];
        spool.append(lines.concat().as_bytes()).unwrap();
        let reader = spool.reader();
        let find = |chain, seq| {
            let chain = ChainId::parse(chain).unwrap();
            let found = find_line(&reader, &chain, seq).unwrap();
            found.map(|position| usize::try_from(position.offset).unwrap())
        };
        assert_eq!(find("a/1", 1), Some(0));
        assert_eq!(find("a/2", 5), Some(lines[0].len()));
        assert_eq!(find("a/2", 6), Some(lines[0].len() + lines[1].len()));
        assert_eq!(find("a/2", 10), None);
        assert_eq!(find("a/3", 1), None);
    }
}
