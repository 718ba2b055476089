//! Export: lines in the order in which they became durable, and imported ones in their place in the chain.

use std::collections::{HashMap, HashSet};

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use crate::store::query::nanoseconds;
use crate::store::{ExportRange, LinePosition, MAX_PAGE};

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
    let Some((first, last)) = positions(connection, range)? else {
        return Ok((Vec::new(), None));
    };
    let start = after.0.max(first.saturating_sub(1));
    let sql = "SELECT position, chain, seq, provenance <> 0, line FROM event NOT INDEXED
        WHERE position > ?1 AND position <= ?2 AND time >= ?3 AND time < ?4 ORDER BY position LIMIT ?5";
    let mut statement = connection.prepare(sql)?;
    let values = params![start, last, range.0, range.1, MAX_PAGE as u64];
    let rows = statement.query_map(values, exported_row)?;
    let rows = rows.collect::<rusqlite::Result<Vec<_>>>()?;
    let next = rows.last().filter(|_| rows.len() == MAX_PAGE);
    let next = next.map(|row| LinePosition(row.position));
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
    Ok((lines, next))
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

/// First and last position of a range of time.
fn positions(connection: &Connection, range: (i64, i64)) -> rusqlite::Result<Option<(u64, u64)>> {
    let sql = "SELECT min(position), max(position) FROM event INDEXED BY event_time
        WHERE time >= ?1 AND time < ?2";
    connection.query_row(sql, [range.0, range.1], |row| {
        let first: Option<u64> = row.get(0)?;
        Ok(first.zip(row.get(1)?))
    })
}

fn chains_with_imports(connection: &Connection) -> rusqlite::Result<HashSet<i64>> {
    let sql = "SELECT DISTINCT chain FROM event INDEXED BY event_imported WHERE provenance <> 0";
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
