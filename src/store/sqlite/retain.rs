//! Deletion of the beginnings of chains.

use std::time::Instant;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, Row, Statement, params};

use super::append::{chain, hash_of};
use super::author::AuthorRows;
use super::names::{ReleasedNames, SECRET_KEY};
use super::second_pass::DeletedPasses;
use crate::audit::digest::Digest;
use crate::audit::link::{ChainId, Tip};
use crate::audit::stored::StoredLine;
use crate::store::query::{nanoseconds, timestamp};
use crate::store::retention::{
    DELETED_AT_ONCE, DELETED_SECRETS, DELETION_TIME, MAX_RETAINED_LINES,
};
use crate::store::{RetentionPlan, RetentionRule};

/// Pages that one transaction returns to the volume: each is one or two changed pages.
const SHRUNK_PAGES: u64 = 50;

/// Transactions that return pages after a deletion. Other pages are used again by new lines.
pub(super) const SHRINKS: usize = 10;

/// Lines that go by a rule, as the last one of each chain. At most [`MAX_RETAINED_LINES`] lines.
pub(super) fn plan(
    connection: &Connection,
    rule: RetentionRule,
) -> rusqlite::Result<RetentionPlan> {
    let cutoff = cutoff(connection, rule)?;
    let mut plan = RetentionPlan::default();
    let mut room = MAX_RETAINED_LINES;
    let sql = "SELECT key, id, retained_seq FROM chain WHERE lines > 0 ORDER BY key";
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (key, id, retained): (i64, String, u64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let Ok(chain) = ChainId::parse(&id) else {
            continue;
        };
        let (count, last) = prefix(connection, (key, retained), nanoseconds(cutoff), room)?;
        if let Some((seq, hash)) = last {
            plan.tips.push(Tip { chain, hash, seq });
        }
        room = room.saturating_sub(count);
        if room == 0 {
            break;
        }
    }
    Ok(plan)
}

/// Time before which lines go: the rule's, or a later one if the store is too large, but never beyond the least age.
fn cutoff(connection: &Connection, rule: RetentionRule) -> rusqlite::Result<Timestamp> {
    let by_age = rule.older_than.min(rule.min_age);
    let used = bytes(connection)?;
    let Some(excess) = rule.max_bytes.and_then(|max| used.checked_sub(max)) else {
        return Ok(by_age);
    };
    let sql = "SELECT coalesce(sum(lines), 0) FROM chain";
    let lines: u64 = connection.query_row(sql, [], |row| row.get(0))?;
    let count = excess.saturating_mul(lines) / used.max(1) + 1;
    let sql = "SELECT time FROM event INDEXED BY event_time ORDER BY time LIMIT 1 OFFSET ?1";
    let time = connection.query_row(sql, [count.min(MAX_RETAINED_LINES)], |row| row.get(0));
    let by_size = time.optional()?.map_or(Timestamp::MAX, timestamp);
    Ok(by_size.min(rule.min_age).max(by_age))
}

/// Number of a chain's first lines that are all before a time, and the last of them.
fn prefix(
    connection: &Connection,
    (chain, retained): (i64, u64),
    cutoff: i64,
    limit: u64,
) -> rusqlite::Result<(u64, Option<(u64, Digest)>)> {
    let sql = "SELECT seq, time FROM event INDEXED BY event_chain WHERE chain = ?1 AND seq > ?2
        ORDER BY seq LIMIT ?3";
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query(params![chain, retained, limit])?;
    let (mut count, mut last) = (0, None);
    while let Some(row) = rows.next()? {
        if row.get::<_, i64>(1)? >= cutoff {
            break;
        }
        count += 1;
        last = Some(row.get::<_, u64>(0)?);
    }
    let Some(seq) = last else {
        return Ok((0, None));
    };
    Ok((
        count,
        hash_of(connection, chain, seq)?.map(|hash| (seq, hash)),
    ))
}

/// Deletes the first lines of a chain up to one: at most [`DELETED_AT_ONCE`], and fewer if they have more than
/// [`DELETED_SECRETS`] or take longer than [`DELETION_TIME`]. Returns how many: 0 at the end, and if the line is not the one that was announced.
pub(super) fn delete(connection: &Connection, tip: &Tip) -> rusqlite::Result<u64> {
    let started = Instant::now();
    let Some(chain) = chain(connection, &tip.chain)? else {
        return Ok(0);
    };
    if tip.seq <= chain.retained_seq || hash_of(connection, chain.key, tip.seq)? != Some(tip.hash) {
        return Ok(0);
    }
    let sql = "SELECT position, actor, actor_uid, namespace, line FROM event INDEXED BY event_chain
        WHERE chain = ?1 AND seq <= ?2 ORDER BY seq LIMIT ?3";
    let mut statement = connection.prepare(sql)?;
    let values = params![chain.key, tip.seq, DELETED_AT_ONCE];
    let rows = statement.query_map(values, deleted_row)?;
    let rows = rows.collect::<rusqlite::Result<Vec<_>>>()?;
    let (mut last, mut count, mut secrets) = (chain.retained_seq, 0_u64, 0);
    let mut deleter = Deleter::new(connection)?;
    for row in &rows {
        // Only lines that can be read are stored.
        if let Ok(line) = StoredLine::parse(row.line.as_bytes()) {
            deleter.delete(&line, row)?;
            last = line.seq;
            secrets += line.secrets.len();
        }
        count += 1;
        if secrets >= DELETED_SECRETS || started.elapsed() >= DELETION_TIME {
            break;
        }
    }
    deleter.released.delete_unused(connection)?;
    let sql = "UPDATE chain SET retained_seq = ?2, lines = lines - ?3 WHERE key = ?1";
    connection.execute(sql, params![chain.key, last, count])?;
    let sql = "DELETE FROM missing WHERE chain = ?1 AND last_seq <= ?2";
    connection.execute(sql, params![chain.key, last])?;
    // A chain that goes on is kept: its next line has to follow the last one.
    let sql = "DELETE FROM chain WHERE key = ?1 AND lines = 0 AND ended = 1";
    connection.execute(sql, [chain.key])?;
    Ok(count)
}

/// Row of a line that is deleted.
struct DeletedRow {
    position: i64,
    /// Keys of its names.
    names: [Option<i64>; 3],
    line: String,
}

fn deleted_row(row: &Row<'_>) -> rusqlite::Result<DeletedRow> {
    Ok(DeletedRow {
        position: row.get(0)?,
        names: [row.get(1)?, row.get(2)?, row.get(3)?],
        line: row.get(4)?,
    })
}

/// Statements that delete a line and what refers to it.
struct Deleter<'c> {
    event: Statement<'c>,
    secret: Statement<'c>,
    author: AuthorRows<'c>,
    passes: DeletedPasses<'c>,
    checkpoint: Statement<'c>,
    released: ReleasedNames,
}

impl<'c> Deleter<'c> {
    fn new(connection: &'c Connection) -> rusqlite::Result<Self> {
        let secret = format!(
            "DELETE FROM event_secret WHERE secret = {SECRET_KEY} AND time = ? AND position = ? RETURNING secret"
        );
        Ok(Self {
            event: connection.prepare("DELETE FROM event WHERE position = ?1")?,
            secret: connection.prepare(&secret)?,
            author: AuthorRows::deleting(connection)?,
            passes: DeletedPasses::new(connection)?,
            checkpoint: connection.prepare("DELETE FROM checkpoint WHERE position = ?1")?,
            released: ReleasedNames::default(),
        })
    }

    fn delete(&mut self, line: &StoredLine, row: &DeletedRow) -> rusqlite::Result<()> {
        let (time, position) = (nanoseconds(line.time), row.position);
        for (namespace, name) in &line.secrets {
            let values = params![namespace, name, time, position];
            let key = self.secret.query_row(values, |row| row.get(0));
            let key: Option<i64> = key.optional()?;
            self.released.secrets.extend(key);
        }
        self.author.execute(line, position)?;
        self.passes.delete(line, position)?;
        if !line.confirmed.is_empty() {
            self.checkpoint.execute([position])?;
        }
        self.event.execute([position])?;
        self.released.names.extend(row.names.iter().flatten());
        Ok(())
    }
}

/// Bytes in use: pages of the file without the free ones.
pub(super) fn bytes(connection: &Connection) -> rusqlite::Result<u64> {
    let number = |pragma| connection.pragma_query_value(None, pragma, |row| row.get::<_, u64>(0));
    let pages = number("page_count")?.saturating_sub(number("freelist_count")?);
    Ok(pages * number("page_size")?)
}

/// Returns free pages to the volume, at most [`SHRUNK_PAGES`]. Returns how many.
pub(super) fn shrink(connection: &Connection) -> rusqlite::Result<u64> {
    let sql = format!("PRAGMA incremental_vacuum({SHRUNK_PAGES})");
    let mut statement = connection.prepare(&sql)?;
    let mut pages = statement.query([])?;
    let mut count = 0;
    // Each step returns one page.
    while pages.next()?.is_some() {
        count += 1;
    }
    Ok(count)
}
