//! Import of a range of lines into a chain, as far as stored lines confirm it.
//!
//! Stored lines with consecutive numbers are always linked. So an imported line is confirmed on a side if the lines next
//! to it, up to one that was received or that a checkpoint names, are stored.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::append::{ChainRow, Inserter, chain, extend_chain, hash_of};
use crate::audit::digest::Digest;
use crate::audit::stored::StoredLine;
use crate::store::{ImportOutcome, ImportRange, Provenance};

/// Imports a range, or returns why not, without a change. `last` becomes the position of the last new line.
pub(super) fn import(
    connection: &Connection,
    range: &ImportRange,
    last: &mut Option<u64>,
) -> rusqlite::Result<ImportOutcome> {
    let (Some(first), Some(tip)) = (range.lines.first(), range.lines.last()) else {
        return Ok(ImportOutcome::Unconfirmed);
    };
    let found = chain(connection, &range.chain)?;
    let (absent, compared) = match compare(connection, found, range)? {
        Ok(compared) => compared,
        Err(seq) => return Ok(ImportOutcome::SecondHistory { seq }),
    };
    let present = (range.lines.len() - absent.len()) as u64;
    let neighbours = match neighbours(connection, found, first, tip)? {
        Ok(count) => count,
        Err(seq) => return Ok(ImportOutcome::SecondHistory { seq }),
    };
    let is_confirmed = compared > 0 || neighbours > 0 || names_a_line(connection, range)?;
    if !is_confirmed {
        return Ok(ImportOutcome::Unconfirmed);
    }
    let one_sided = if absent.is_empty() {
        0
    } else {
        store(connection, found, range, &absent, last)?
    };
    Ok(ImportOutcome::Stored {
        added: absent.len() as u64,
        one_sided,
        present,
    })
}

/// Lines of a range that are not stored and were not deleted, and the number of those that are the same as stored ones;
/// the number of one that is not. Of deleted lines, only the last one of the chain is known.
fn compare<'r>(
    connection: &Connection,
    chain: Option<ChainRow>,
    range: &'r ImportRange,
) -> rusqlite::Result<Result<(Vec<&'r StoredLine>, u64), u64>> {
    let Some(chain) = chain else {
        return Ok(Ok((range.lines.iter().collect(), 0)));
    };
    let (mut absent, mut same) = (Vec::new(), 0);
    for line in &range.lines {
        let stored = if line.seq == chain.last_seq {
            Some(chain.last_hash)
        } else if line.seq <= chain.retained_seq {
            continue;
        } else {
            hash_of(connection, chain.key, line.seq)?
        };
        match stored {
            None => absent.push(line),
            Some(hash) if hash == line.hash => same += 1,
            Some(_) => return Ok(Err(line.seq)),
        }
    }
    Ok(Ok((absent, same)))
}

/// Number of lines next to a range that link to it; the number of one that does not.
fn neighbours(
    connection: &Connection,
    chain: Option<ChainRow>,
    first: &StoredLine,
    tip: &StoredLine,
) -> rusqlite::Result<Result<u64, u64>> {
    let mut linked = 0;
    let stored = |seq| match chain {
        Some(chain) if seq == chain.last_seq => Ok(Some(chain.last_hash)),
        Some(chain) => hash_of(connection, chain.key, seq),
        None => Ok(None),
    };
    let before = if first.seq == 1 {
        Some(first.chain.root())
    } else {
        stored(first.seq - 1)?
    };
    match before {
        Some(hash) if hash != first.prev => return Ok(Err(first.seq.saturating_sub(1).max(1))),
        Some(_) => linked += 1,
        None => {}
    }
    let after = match chain {
        Some(chain) => line(connection, chain.key, tip.seq + 1)?,
        None => None,
    };
    match after {
        Some(next) if next.prev != tip.hash => return Ok(Err(next.seq)),
        Some(_) => linked += 1,
        None => {}
    }
    Ok(Ok(linked))
}

fn line(connection: &Connection, chain: i64, seq: u64) -> rusqlite::Result<Option<StoredLine>> {
    let sql = "SELECT line FROM event WHERE chain = ?1 AND seq = ?2";
    let text = connection.query_row(sql, params![chain, seq], |row| row.get::<_, String>(0));
    Ok(text
        .optional()?
        .and_then(|text| StoredLine::parse(text.as_bytes()).ok()))
}

/// Whether a checkpoint that is confirmed itself names a line of a range.
fn names_a_line(connection: &Connection, range: &ImportRange) -> rusqlite::Result<bool> {
    let named = named(connection, &range.lines)?;
    Ok(named.is_some())
}

/// Last of some consecutive lines that a checkpoint names. One that is confirmed on one side alone confirms nothing.
fn named(connection: &Connection, lines: &[StoredLine]) -> rusqlite::Result<Option<u64>> {
    let (Some(first), Some(last)) = (lines.first(), lines.last()) else {
        return Ok(None);
    };
    let sql = "SELECT c.seq, c.hash FROM checkpoint AS c JOIN event AS e ON e.position = c.position
        WHERE c.chain = ?1 AND c.seq BETWEEN ?2 AND ?3 AND e.provenance <> 2 ORDER BY c.seq DESC";
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query(params![first.chain.as_str(), first.seq, last.seq])?;
    while let Some(row) = rows.next()? {
        let seq: u64 = row.get(0)?;
        let hash = Digest::from_bytes(row.get(1)?);
        let at = usize::try_from(seq - first.seq).unwrap_or(usize::MAX);
        if lines.get(at).is_some_and(|line| line.hash == hash) {
            return Ok(Some(seq));
        }
    }
    Ok(None)
}

/// Stores the absent lines of a range. Returns the number of those that only one side confirms.
fn store(
    connection: &Connection,
    before: Option<ChainRow>,
    range: &ImportRange,
    absent: &[&StoredLine],
    last: &mut Option<u64>,
) -> rusqlite::Result<u64> {
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
    let whole = (range.first(), range.lines.last().map_or(0, |line| line.seq));
    fill(connection, key, whole)?;
    confirm(connection, key, range)?;
    let sql = "SELECT count(*) FROM event INDEXED BY event_imported
        WHERE chain = ?1 AND seq BETWEEN ?2 AND ?3 AND provenance <> 0 AND provenance = 2";
    connection.query_row(sql, params![key, first.seq, tip.seq], |row| row.get(0))
}

/// Removes a range from the missing ones.
fn fill(connection: &Connection, chain: i64, (first, last): (u64, u64)) -> rusqlite::Result<()> {
    let sql = "DELETE FROM missing WHERE chain = ?1 AND first_seq <= ?3 AND last_seq >= ?2
        RETURNING first_seq, last_seq";
    let mut statement = connection.prepare(sql)?;
    let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
    let ranges = statement.query_map(params![chain, first, last], read)?;
    let ranges = ranges.collect::<rusqlite::Result<Vec<(u64, u64)>>>()?;
    let rest = ranges
        .iter()
        .flat_map(|(from, to)| [(*from, first.saturating_sub(1)), (last + 1, *to)]);
    for (from, to) in rest.filter(|(from, to)| from <= to) {
        let sql = "INSERT INTO missing (chain, first_seq, last_seq) VALUES (?1, ?2, ?3)";
        connection.execute(sql, params![chain, from, to])?;
    }
    Ok(())
}

/// Marks imported lines as confirmed that have a confirmed line on both sides, without a missing one in between.
fn confirm(connection: &Connection, chain: i64, range: &ImportRange) -> rusqlite::Result<()> {
    let (first, last) = (range.first(), range.lines.last().map_or(0, |line| line.seq));
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
    let named = named(connection, &range.lines)?.map(|seq| seq + 1);
    if let (Some(lowest), Some(highest)) = (lowest, highest.max(named)) {
        let sql = "UPDATE event SET provenance = 1
            WHERE chain = ?1 AND seq > ?2 AND seq < ?3 AND seq BETWEEN ?4 AND ?5 AND provenance = 2";
        connection.execute(sql, params![chain, lowest, highest, block.0, block.1])?;
    }
    Ok(())
}
