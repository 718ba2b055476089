//! Reading of events, chains and counts.

use rusqlite::{Connection, OptionalExtension as _, Row, params_from_iter};

use super::append::last_position;
use super::query_index::{QueryIndex, indexes};
use super::retain::bytes;
use super::select::{self, Select};
use crate::audit::digest::Digest;
use crate::audit::link::{ChainId, Tip};
use crate::audit::stored::StoredLine;
use crate::store::query::{nanoseconds, timestamp};
use crate::store::{
    ChainSummary, EventFilter, EventPage, EventQuery, FollowedEvents, LinePosition, MAX_FOLLOWED,
    MAX_PAGE, MovedChains, Provenance, StoreCounts, StoredEvent,
};

/// Entries after which an index counts as long. They are counted without reading a line, in a millisecond or two.
pub(super) const MAX_COUNTED: u64 = 20_000;

pub(super) fn page(connection: &Connection, query: &EventQuery) -> rusqlite::Result<EventPage> {
    let index = shortest_index(connection, query)?;
    let mut events = events(connection, &select::page(query, index))?;
    let is_more = events.len() > query.limit;
    events.truncate(query.limit);
    let last = events.last().filter(|_| is_more);
    let next = last.map(|last| query.cursor_after(nanoseconds(last.time), last.position.0));
    Ok(EventPage { events, next })
}

/// Index with the fewest entries in the range of a query; the first one of several long ones.
pub(super) fn shortest_index(
    connection: &Connection,
    query: &EventQuery,
) -> rusqlite::Result<QueryIndex> {
    let indexes = indexes(&query.filter);
    if let [index] = indexes.as_slice() {
        return Ok(*index);
    }
    let (mut shortest, mut fewest) = (QueryIndex::Time, MAX_COUNTED);
    for index in indexes {
        let count = select::count(query, index, fewest);
        let values = params_from_iter(&count.values);
        let count: u64 = connection.query_row(&count.sql, values, |row| row.get(0))?;
        if shortest == QueryIndex::Time || count < fewest {
            (shortest, fewest) = (index, count);
        }
    }
    Ok(shortest)
}

pub(super) fn follow(
    connection: &Connection,
    filter: &EventFilter,
    after: LinePosition,
) -> rusqlite::Result<FollowedEvents> {
    let last = last_position(connection)?;
    let to = after.0.saturating_add(MAX_FOLLOWED).min(last.0);
    let events = events(connection, &select::follow(filter, (after.0, to), MAX_PAGE))?;
    let position = match events.last() {
        Some(event) if events.len() == MAX_PAGE => event.position,
        _ => LinePosition(to).max(after),
    };
    Ok(FollowedEvents { events, position })
}

fn events(connection: &Connection, select: &Select) -> rusqlite::Result<Vec<StoredEvent>> {
    let mut statement = connection.prepare(&select.sql)?;
    let rows = statement.query_map(params_from_iter(&select.values), event)?;
    rows.collect()
}

pub(super) fn event(row: &Row<'_>) -> rusqlite::Result<StoredEvent> {
    Ok(StoredEvent {
        position: LinePosition(row.get(0)?),
        provenance: Provenance::of_number(row.get(1)?),
        time: timestamp(row.get(2)?),
        line: row.get(3)?,
        second_pass_of: row.get::<_, Option<u64>>(4)?.map(LinePosition),
    })
}

/// Last line of a chain that a checkpoint confirms. Starts of processes confirm lines as well, and are not signed.
const CONFIRMED: &str = "SELECT checkpoint.seq FROM checkpoint
    JOIN event ON event.position = checkpoint.position AND event.action = 'system.checkpoint'
    WHERE checkpoint.chain = ?1 ORDER BY checkpoint.seq DESC LIMIT 1";

pub(super) fn chains(connection: &Connection) -> rusqlite::Result<Vec<ChainSummary>> {
    let mut missing = connection
        .prepare("SELECT first_seq, last_seq FROM missing WHERE chain = ?1 ORDER BY first_seq")?;
    let mut confirmed = connection.prepare(CONFIRMED)?;
    let mut statement = connection.prepare(
        "SELECT key, id, last_seq, last_hash, last_time, lines, retained_seq, ended FROM chain ORDER BY key",
    )?;
    let mut rows = statement.query([])?;
    let mut chains = Vec::new();
    while let Some(row) = rows.next()? {
        let id: String = row.get(1)?;
        // Only valid ids are stored.
        let Ok(chain) = ChainId::parse(&id) else {
            continue;
        };
        let key: i64 = row.get(0)?;
        let missing = missing.query_map([key], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let confirmed = confirmed.query_row([&id], |row| row.get(0)).optional()?;
        chains.push(ChainSummary {
            tip: Tip {
                chain,
                hash: Digest::from_bytes(row.get(3)?),
                seq: row.get(2)?,
            },
            time: timestamp(row.get(4)?),
            lines: row.get(5)?,
            retained: row.get(6)?,
            missing: missing.collect::<rusqlite::Result<_>>()?,
            ended: row.get(7)?,
            confirmed: confirmed.unwrap_or_default(),
        });
    }
    Ok(chains)
}

pub(super) fn moved(connection: &Connection, after: LinePosition) -> rusqlite::Result<MovedChains> {
    let last = last_position(connection)?;
    let to = after.0.saturating_add(MAX_FOLLOWED).min(last.0);
    let sql = "SELECT id, last_hash, last_seq FROM chain WHERE key IN
        (SELECT chain FROM event WHERE position > ?1 AND position <= ?2) ORDER BY key";
    let mut statement = connection.prepare(sql)?;
    let rows = statement.query_map([after.0, to], tip)?;
    let tips = rows
        .filter_map(Result::transpose)
        .collect::<Result<_, _>>()?;
    Ok(MovedChains {
        tips,
        position: LinePosition(to).max(after),
    })
}

/// Last deleted lines of chains that have lines. The first stored line has the hash of the last deleted one.
pub(super) fn retained(connection: &Connection) -> rusqlite::Result<Vec<Tip>> {
    let sql = "SELECT event.line FROM chain JOIN event
        ON event.chain = chain.key AND event.seq = chain.retained_seq + 1
        WHERE chain.retained_seq > 0 ORDER BY chain.key";
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([])?;
    let mut tips = Vec::new();
    while let Some(row) = rows.next()? {
        // Only lines that can be read are stored.
        if let Ok(first) = StoredLine::parse(row.get::<_, String>(0)?.as_bytes()) {
            tips.push(Tip {
                chain: first.chain,
                hash: first.prev,
                seq: first.seq - 1,
            });
        }
    }
    Ok(tips)
}

/// Line of a row with a chain's id, a hash and a number. Only valid ids are stored.
fn tip(row: &Row<'_>) -> rusqlite::Result<Option<Tip>> {
    let chain = ChainId::parse(&row.get::<_, String>(0)?).ok();
    let (hash, seq) = (Digest::from_bytes(row.get(1)?), row.get(2)?);
    Ok(chain.map(|chain| Tip { chain, hash, seq }))
}

/// Counts of the store. Lines are counted by their chains: counting rows would read an index of the whole store.
pub(super) fn counts(connection: &Connection) -> rusqlite::Result<StoreCounts> {
    let sql = "SELECT count(*), coalesce(sum(lines), 0),
        (SELECT coalesce(sum(last_seq - first_seq + 1), 0) FROM missing) FROM chain";
    let (chains, lines, missing) =
        connection.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    Ok(StoreCounts {
        chains,
        lines,
        missing,
        bytes: bytes(connection)?,
        max_bytes: None,
        last_position: last_position(connection)?,
    })
}
