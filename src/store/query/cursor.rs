//! Cursor: the place where a page ends, bound to the query that it belongs to.
//!
//! A cursor grants nothing, because the query is checked and authorized for each page. The sum in it finds cursors that
//! were changed, cut, or sent with another query.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use thiserror::Error;

use crate::audit::digest::Digest;

/// Form of a cursor.
const VERSION: u8 = 1;

/// Bytes of the sum.
const SUM: usize = 16;

/// Bytes of a cursor: the form, four numbers, the sum.
const LENGTH: usize = 1 + 4 * 8 + SUM;

/// Reason why a text does not continue a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "the cursor does not belong to this query: send the cursor of the page before with the same filters and times, or start again without one"
)]
pub struct InvalidCursor;

/// Range of the query, and the last event of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cursor {
    pub from: i64,
    pub to: i64,
    pub time: i64,
    pub position: u64,
}

impl Cursor {
    pub(super) fn to_text(self, query: &str) -> String {
        let mut bytes = self.content().to_vec();
        bytes.extend(sum(&bytes, query));
        URL_SAFE_NO_PAD.encode(bytes)
    }

    fn content(self) -> [u8; LENGTH - SUM] {
        let mut bytes = [VERSION; LENGTH - SUM];
        let numbers = [
            self.from.to_be_bytes(),
            self.to.to_be_bytes(),
            self.time.to_be_bytes(),
            self.position.to_be_bytes(),
        ];
        let (_, rest) = bytes.split_at_mut(1);
        for (place, number) in rest.chunks_exact_mut(8).zip(numbers) {
            place.copy_from_slice(&number);
        }
        bytes
    }

    /// Reads a cursor of a query, which is its canonical text.
    pub(super) fn parse(text: &str, query: &str) -> Result<Self, InvalidCursor> {
        // A text of any other length is not decoded.
        if text.len() != LENGTH.div_ceil(3) * 4 - (3 - LENGTH % 3) % 3 {
            return Err(InvalidCursor);
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| InvalidCursor)?;
        let (content, found) = bytes.split_at_checked(LENGTH - SUM).ok_or(InvalidCursor)?;
        if sum(content, query) != found {
            return Err(InvalidCursor);
        }
        let (numbers, _) = content
            .split_first()
            .filter(|(version, _)| **version == VERSION)
            .ok_or(InvalidCursor)?
            .1
            .as_chunks::<8>();
        let [from, to, time, position] = numbers else {
            return Err(InvalidCursor);
        };
        Ok(Self {
            from: i64::from_be_bytes(*from),
            to: i64::from_be_bytes(*to),
            time: i64::from_be_bytes(*time),
            position: u64::from_be_bytes(*position),
        })
    }
}

fn sum(content: &[u8], query: &str) -> [u8; SUM] {
    let digest = Digest::of(&[b"audit-cursor\0", content, query.as_bytes()].concat());
    let mut sum = [0; SUM];
    for (to, from) in sum.iter_mut().zip(digest.as_bytes()) {
        *to = *from;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_changed_byte_is_found() {
        let cursor = Cursor {
            from: i64::MIN,
            to: i64::MAX,
            time: -1,
            position: 9,
        };
        let text = cursor.to_text("query");
        assert_eq!(Cursor::parse(&text, "query"), Ok(cursor));
        assert_eq!(Cursor::parse(&text, "other"), Err(InvalidCursor));
        for at in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert_eq!(
                Cursor::parse(&changed, "query"),
                Err(InvalidCursor),
                "{changed}"
            );
        }
    }
}
