//! Export: lines in the order in which they became durable, and imported ones in their place in the chain.

use std::collections::{HashMap, HashSet};

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::append::last_position;
use crate::store::query::nanoseconds;
use crate::store::{ExportRange, LinePosition, MAX_FOLLOWED, MAX_PAGE};

/// Row of an export.
struct ExportedRow {
    position: u64,
    chain: i64,
    seq: u64,
    is_imported: bool,
    line: String,
}

/// Lines of a range after a position, and the position to continue after.
pub(super) fn export(
    connection: &Connection,
    range: ExportRange,
    after: LinePosition,
) -> rusqlite::Result<(Vec<String>, Option<LinePosition>)> {
    let range = (nanoseconds(range.from), nanoseconds(range.to));
    if !has_later(connection, range, after)? {
        return Ok((Vec::new(), None));
    }
    let start = match after.0 {
        0 => first_position(connection, range)?.saturating_sub(1),
        after => after,
    };
    // Lines that are stored later continue behind the last one.
    let to = start
        .saturating_add(MAX_FOLLOWED)
        .min(last_position(connection)?.0);
    let sql = "SELECT position, chain, seq, provenance <> 0, line FROM event NOT INDEXED
        WHERE position > ?1 AND position <= ?2 AND time >= ?3 AND time < ?4 ORDER BY position LIMIT ?5";
    let mut statement = connection.prepare(sql)?;
    let values = params![start, to, range.0, range.1, MAX_PAGE as u64];
    let rows = statement.query_map(values, exported_row)?;
    let rows = rows.collect::<rusqlite::Result<Vec<_>>>()?;
    let last = rows.last().filter(|_| rows.len() == MAX_PAGE);
    let next = LinePosition(last.map_or(to, |row| row.position));
    let imported = chains_with_imports(connection)?;
    let mut next_received = NextReceived::default();
    let mut lines = Vec::with_capacity(rows.len());
    for row in rows {
        if !imported.contains(&row.chain) {
            lines.push(row.line);
        } else if row.is_imported {
            if !next_received.has_exported(connection, &row, range)? {
                lines.push(row.line);
            }
        } else {
            lines.extend(imported_before(connection, &row, range)?);
            lines.push(row.line);
        }
    }
    Ok((lines, Some(next)))
}

fn exported_row(row: &Row<'_>) -> rusqlite::Result<ExportedRow> {
    Ok(ExportedRow {
        position: row.get(0)?,
        chain: row.get(1)?,
        seq: row.get(2)?,
        is_imported: row.get(3)?,
        line: row.get(4)?,
    })
}

/// Whether a range of time has a line after a position. Usually its newest line is one, so that few entries are read
/// until the end of the range.
fn has_later(
    connection: &Connection,
    range: (i64, i64),
    after: LinePosition,
) -> rusqlite::Result<bool> {
    let sql = "SELECT 1 FROM event INDEXED BY event_time
        WHERE time >= ?1 AND time < ?2 AND position > ?3 ORDER BY time DESC LIMIT 1";
    let mut statement = connection.prepare(sql)?;
    statement.exists(params![range.0, range.1, after.0])
}

/// First position of a range of time. Reads the entries of the whole range: lines may be stored in another order than
/// that of their times.
fn first_position(connection: &Connection, range: (i64, i64)) -> rusqlite::Result<u64> {
    let sql = "SELECT coalesce(min(position), 0) FROM event INDEXED BY event_time
        WHERE time >= ?1 AND time < ?2";
    connection.query_row(sql, [range.0, range.1], |row| row.get(0))
}

fn chains_with_imports(connection: &Connection) -> rusqlite::Result<HashSet<i64>> {
    // By chain: in a store that was made from an export, all lines are imported.
    let sql = "SELECT key FROM chain WHERE EXISTS (SELECT 1 FROM event INDEXED BY event_imported
        WHERE event.chain = chain.key AND event.provenance <> 0)";
    let mut statement = connection.prepare(sql)?;
    let chains = statement.query_map([], |row| row.get(0))?;
    chains.collect()
}

/// Received lines that follow imported ones, by chain. A long imported part has one such line.
#[derive(Default)]
struct NextReceived(HashMap<i64, (u64, Option<ReceivedRow>)>);

#[derive(Clone, Copy)]
struct ReceivedRow {
    seq: u64,
    position: u64,
    is_in_range: bool,
}

impl NextReceived {
    /// Whether an imported line is exported before the next received one of its chain, which became durable earlier.
    fn has_exported(
        &mut self,
        connection: &Connection,
        row: &ExportedRow,
        range: (i64, i64),
    ) -> rusqlite::Result<bool> {
        let known =
            self.0.get(&row.chain).copied().filter(|(from, next)| {
                *from <= row.seq && next.is_none_or(|next| row.seq < next.seq)
            });
        let next = if let Some((_, next)) = known {
            next
        } else {
            let next = next_received(connection, row, range)?;
            self.0.insert(row.chain, (row.seq, next));
            next
        };
        Ok(next.is_some_and(|next| next.is_in_range && next.position < row.position))
    }
}

fn next_received(
    connection: &Connection,
    row: &ExportedRow,
    range: (i64, i64),
) -> rusqlite::Result<Option<ReceivedRow>> {
    let sql = "SELECT seq, position, time >= ?3 AND time < ?4 FROM event INDEXED BY event_chain
        WHERE chain = ?1 AND seq > ?2 AND provenance = 0 ORDER BY seq LIMIT 1";
    let read = |row: &Row<'_>| {
        Ok(ReceivedRow {
            seq: row.get(0)?,
            position: row.get(1)?,
            is_in_range: row.get(2)?,
        })
    };
    let values = params![row.chain, row.seq, range.0, range.1];
    connection.query_row(sql, values, read).optional()
}

/// Lines before a received one that were imported after it became durable.
fn imported_before(
    connection: &Connection,
    row: &ExportedRow,
    range: (i64, i64),
) -> rusqlite::Result<Vec<String>> {
    let sql = "SELECT line FROM event INDEXED BY event_imported
        WHERE chain = ?1 AND seq < ?2 AND provenance <> 0 AND position > ?3 AND time >= ?4 AND time < ?5
            AND seq > coalesce((SELECT max(seq) FROM event INDEXED BY event_chain
                WHERE chain = ?1 AND seq < ?2 AND provenance = 0), 0)
        ORDER BY seq";
    let mut statement = connection.prepare(sql)?;
    let values = params![row.chain, row.seq, row.position, range.0, range.1];
    let lines = statement.query_map(values, |row| row.get(0))?;
    lines.collect()
}
