//! Import of a range of lines into a chain, as far as stored lines confirm it.

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::append::{Inserter, chain, extend_chain};
use crate::audit::digest::Digest;
use crate::audit::stored::StoredLine;
use crate::store::chain_row::ChainRow;
use crate::store::import_check::{CheckedRange, Surroundings, left_missing};
use crate::store::{ImportOutcome, ImportRange, Provenance};

/// Imports a range, or returns why not, without a change. `last` becomes the position of the last new line.
pub(super) fn import(
    connection: &Connection,
    range: &ImportRange,
    last: &mut Option<u64>,
) -> rusqlite::Result<ImportOutcome> {
    let surroundings = surroundings(connection, range)?;
    let checked = match surroundings.check(range) {
        Ok(checked) => checked,
        Err(outcome) => return Ok(outcome),
    };
    let one_sided = if checked.absent.is_empty() {
        0
    } else {
        store(connection, surroundings.chain, range, &checked, last)?
    };
    Ok(ImportOutcome::Stored {
        added: checked.absent.len() as u64,
        one_sided,
        present: checked.present,
    })
}

/// Reads what is stored around a range.
fn surroundings(connection: &Connection, range: &ImportRange) -> rusqlite::Result<Surroundings> {
    let (first, last) = range.bounds();
    let chain = chain(connection, &range.chain)?;
    let mut surroundings = Surroundings {
        chain,
        ..Surroundings::default()
    };
    if let Some(chain) = chain {
        let sql = "SELECT seq, line FROM event WHERE chain = ?1 AND seq BETWEEN ?2 AND ?3";
        let mut statement = connection.prepare(sql)?;
        let mut rows = statement.query(params![chain.key, first.saturating_sub(1), last])?;
        while let Some(row) = rows.next()? {
            let line: String = row.get(1)?;
            let hash = Digest::of(line.as_bytes());
            surroundings.hashes.insert(row.get(0)?, hash);
        }
        let next = line(connection, chain.key, last + 1)?;
        surroundings.next = next.map(|next| (next.seq, next.prev));
    }
    let sql = "SELECT c.seq, c.hash FROM checkpoint AS c JOIN event AS e ON e.position = c.position
        WHERE c.chain = ?1 AND c.seq BETWEEN ?2 AND ?3 AND e.provenance <> 2 ORDER BY c.seq DESC";
    let mut statement = connection.prepare(sql)?;
    let named = |row: &Row<'_>| Ok((row.get(0)?, Digest::from_bytes(row.get(1)?)));
    let rows = statement.query_map(params![range.chain.as_str(), first, last], named)?;
    surroundings.named = rows.collect::<rusqlite::Result<_>>()?;
    Ok(surroundings)
}

fn line(connection: &Connection, chain: i64, seq: u64) -> rusqlite::Result<Option<StoredLine>> {
    let sql = "SELECT line FROM event WHERE chain = ?1 AND seq = ?2";
    let text = connection.query_row(sql, params![chain, seq], |row| row.get::<_, String>(0));
    Ok(text
        .optional()?
        .and_then(|text| StoredLine::parse(text.as_bytes()).ok()))
}

/// Stores the absent lines of a range. Returns the number of those that only one side confirms.
fn store(
    connection: &Connection,
    before: Option<ChainRow>,
    range: &ImportRange,
    checked: &CheckedRange<'_>,
    last: &mut Option<u64>,
) -> rusqlite::Result<u64> {
    let absent = &checked.absent;
    let (Some(first), Some(tip)) = (absent.first(), absent.last()) else {
        return Ok(0);
    };
    let last_seq = before.map_or(0, |chain| chain.last_seq);
    let key = if tip.seq > last_seq {
        let key = extend_chain(connection, tip, absent.len())?;
        if first.seq > last_seq + 1 {
            let sql = "INSERT INTO missing (chain, first_seq, last_seq) VALUES (?1, ?2, ?3)";
            connection.execute(sql, params![key, last_seq + 1, first.seq - 1])?;
        }
        key
    } else {
        let sql = "UPDATE chain SET lines = lines + ?2 WHERE id = ?1 RETURNING key";
        let values = params![range.chain.as_str(), absent.len() as u64];
        connection.query_row(sql, values, |row| row.get(0))?
    };
    let mut inserter = Inserter::new(connection)?;
    for line in absent {
        *last = Some(inserter.insert(key, line, Provenance::OneSided)?);
    }
    fill(connection, key, range.bounds())?;
    confirm(connection, key, range.bounds(), checked.named)?;
    let sql = "SELECT count(*) FROM event INDEXED BY event_imported
        WHERE chain = ?1 AND seq BETWEEN ?2 AND ?3 AND provenance <> 0 AND provenance = 2";
    connection.query_row(sql, params![key, first.seq, tip.seq], |row| row.get(0))
}

/// Removes a range from the missing ones.
fn fill(connection: &Connection, chain: i64, (first, last): (u64, u64)) -> rusqlite::Result<()> {
    let sql = "DELETE FROM missing WHERE chain = ?1 AND first_seq <= ?3 AND last_seq >= ?2
        RETURNING first_seq, last_seq";
    let mut statement = connection.prepare(sql)?;
    let read = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?));
    let ranges = statement.query_map(params![chain, first, last], read)?;
    let ranges = ranges.collect::<rusqlite::Result<Vec<(u64, u64)>>>()?;
    for (from, to) in left_missing(&ranges, (first, last)) {
        let sql = "INSERT INTO missing (chain, first_seq, last_seq) VALUES (?1, ?2, ?3)";
        connection.execute(sql, params![chain, from, to])?;
    }
    Ok(())
}

/// Marks imported lines as confirmed that have a confirmed line on both sides, without a missing one in between.
fn confirm(
    connection: &Connection,
    chain: i64,
    (first, last): (u64, u64),
    named: Option<u64>,
) -> rusqlite::Result<()> {
    let number = |sql: &str, values: &[u64]| -> rusqlite::Result<Option<u64>> {
        let values = [chain.cast_unsigned()]
            .into_iter()
            .chain(values.iter().copied());
        connection.query_row(sql, rusqlite::params_from_iter(values), |row| row.get(0))
    };
    let low = number(
        "SELECT max(last_seq) FROM missing WHERE chain = ?1 AND last_seq < ?2",
        &[first],
    )?;
    let high = number(
        "SELECT min(first_seq) FROM missing WHERE chain = ?1 AND first_seq > ?2",
        &[last],
    )?;
    let retained =
        number("SELECT retained_seq FROM chain WHERE key = ?1", &[])?.unwrap_or_default();
    let block = (
        low.unwrap_or(retained) + 1,
        high.map_or(i64::MAX.cast_unsigned(), |high| high - 1),
    );
    let received = "FROM event INDEXED BY event_chain WHERE chain = ?1 AND seq BETWEEN ?2 AND ?3 AND provenance = 0";
    let lowest = if low.is_none() && retained == 0 {
        Some(0)
    } else {
        number(&format!("SELECT min(seq) {received}"), &[block.0, block.1])?
    };
    let highest = number(&format!("SELECT max(seq) {received}"), &[block.0, block.1])?;
    // The line that a checkpoint names is confirmed by it.
    let named = named.map(|seq| seq + 1);
    if let (Some(lowest), Some(highest)) = (lowest, highest.max(named)) {
        let sql = "UPDATE event SET provenance = 1
            WHERE chain = ?1 AND seq > ?2 AND seq < ?3 AND seq BETWEEN ?4 AND ?5 AND provenance = 2";
        connection.execute(sql, params![chain, lowest, highest, block.0, block.1])?;
    }
    Ok(())
}
