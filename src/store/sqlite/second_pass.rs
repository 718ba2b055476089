//! Pairs of a use and its second pass, whichever of the two lines is stored first.

use rusqlite::{Connection, Row, Statement, params};

use super::names::compact_id;
use crate::audit::CLOCK_TOLERANCE;
use crate::audit::second_pass::{MAX_PASS_DELAY, is_second_pass};
use crate::audit::stored::StoredLine;
use crate::store::MAX_PASSES;
use crate::store::query::nanoseconds;

/// Uses with the request of a second pass. CROSS JOIN: the table on its left is read first.
pub(super) const FIRST_PASSES: &str = "SELECT e.position, e.line, p.position, s.time
    FROM event AS e INDEXED BY event_request_uid
    LEFT JOIN second_pass AS p ON p.first_position = e.position LEFT JOIN event AS s ON s.position = p.position
    WHERE e.request_uid = ?1 ORDER BY e.position LIMIT ?2";

/// Lines that name the request of a use, and are not the second pass of another one.
pub(super) const SECOND_PASSES: &str = "SELECT f.position, e.line
    FROM found_event AS f CROSS JOIN event AS e ON e.position = f.position
    WHERE f.request_uid = ?1 AND f.time BETWEEN ?2 AND ?3
        AND NOT EXISTS (SELECT 1 FROM second_pass WHERE position = f.position)
    ORDER BY f.time, f.position LIMIT ?4";

const PAIR: &str = "INSERT OR REPLACE INTO second_pass (position, first_position) VALUES (?1, ?2)";

/// Statements that find the other pass of a line that is stored.
pub(super) struct SecondPasses<'c> {
    found_event: Statement<'c>,
    first: Statement<'c>,
    second: Statement<'c>,
    pair: Statement<'c>,
}

/// A use with the request of a second pass, and its second pass so far.
struct FirstPass {
    position: i64,
    line: String,
    /// Time and position.
    second: Option<(i64, i64)>,
}

impl<'c> SecondPasses<'c> {
    pub(super) fn new(connection: &'c Connection) -> rusqlite::Result<Self> {
        let found_event =
            "INSERT INTO found_event (request_uid, time, position) VALUES (?1, ?2, ?3)";
        Ok(Self {
            found_event: connection.prepare(found_event)?,
            first: connection.prepare(FIRST_PASSES)?,
            second: connection.prepare(SECOND_PASSES)?,
            pair: connection.prepare(PAIR)?,
        })
    }

    /// Pairs a line that was stored with its other pass, if that is stored.
    pub(super) fn insert(&mut self, line: &StoredLine, position: i64) -> rusqlite::Result<()> {
        if !line.is_use() {
            Ok(())
        } else if line.found_event.is_empty() {
            self.pair_with_second(line, position)
        } else {
            self.pair_with_first(line, position)
        }
    }

    fn pair_with_first(&mut self, line: &StoredLine, position: i64) -> rusqlite::Result<()> {
        let (request, time) = (compact_id(&line.found_event), nanoseconds(line.time));
        self.found_event.execute(params![request, time, position])?;
        let firsts = self
            .first
            .query_map(params![request, MAX_PASSES as u64], first_pass)?;
        for first in firsts {
            let first = first?;
            let is_earliest = first.second.is_none_or(|second| (time, position) < second);
            if is_earliest && is_pair(&first.line, line) {
                self.pair.execute([position, first.position])?;
                break;
            }
        }
        Ok(())
    }

    fn pair_with_second(&mut self, line: &StoredLine, position: i64) -> rusqlite::Result<()> {
        let at = |time: Option<jiff::Timestamp>| time.map_or(i64::MAX, nanoseconds);
        let from = line.time.checked_sub(CLOCK_TOLERANCE).unwrap_or(line.time);
        let values = params![
            compact_id(&line.request_uid),
            nanoseconds(from),
            at(line.time.checked_add(MAX_PASS_DELAY).ok()),
            MAX_PASSES as u64
        ];
        let mut seconds = self.second.query(values)?;
        while let Some(row) = seconds.next()? {
            let text: String = row.get(1)?;
            // Only lines that can be read are stored.
            let second = StoredLine::parse(text.as_bytes());
            if second.is_ok_and(|second| is_second_pass(line, &second)) {
                self.pair.execute([row.get(0)?, position])?;
                break;
            }
        }
        Ok(())
    }
}

fn first_pass(row: &Row<'_>) -> rusqlite::Result<FirstPass> {
    let position: Option<i64> = row.get(2)?;
    let time: Option<i64> = row.get(3)?;
    Ok(FirstPass {
        position: row.get(0)?,
        line: row.get(1)?,
        second: time.zip(position),
    })
}

fn is_pair(first: &str, second: &StoredLine) -> bool {
    let first = StoredLine::parse(first.as_bytes());
    first.is_ok_and(|first| is_second_pass(&first, second))
}

/// Statements that delete what is known of the passes of a line.
pub(super) struct DeletedPasses<'c> {
    found_event: Statement<'c>,
    pair: Statement<'c>,
}

impl<'c> DeletedPasses<'c> {
    pub(super) fn new(connection: &'c Connection) -> rusqlite::Result<Self> {
        let found_event =
            "DELETE FROM found_event WHERE request_uid = ?1 AND time = ?2 AND position = ?3";
        let pair = "DELETE FROM second_pass WHERE position = ?1 OR first_position = ?1";
        Ok(Self {
            found_event: connection.prepare(found_event)?,
            pair: connection.prepare(pair)?,
        })
    }

    pub(super) fn delete(&mut self, line: &StoredLine, position: i64) -> rusqlite::Result<()> {
        if !line.is_use() {
            return Ok(());
        }
        if !line.found_event.is_empty() {
            let request = compact_id(&line.found_event);
            let values = params![request, nanoseconds(line.time), position];
            self.found_event.execute(values)?;
        }
        self.pair.execute([position])?;
        Ok(())
    }
}
