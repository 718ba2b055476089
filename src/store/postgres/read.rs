//! Reading of events, chains and counts.

use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error, Row};

use super::rows::{Parameter, digest, integer, number};
use super::select::{self, EventSelect};
use crate::audit::link::{ChainId, Tip};
use crate::audit::stored::StoredLine;
use crate::store::query::{nanoseconds, timestamp};
use crate::store::{
    ChainSummary, EventFilter, EventPage, EventQuery, FollowedEvents, LinePosition, MAX_FOLLOWED,
    MAX_PAGE, MovedChains, Provenance, StoreCounts, StoredEvent,
};

pub(super) async fn page(client: &Client, query: &EventQuery) -> Result<EventPage, Error> {
    let mut events = events(client, &select::page(query)).await?;
    let is_more = events.len() > query.limit;
    events.truncate(query.limit);
    let last = events.last().filter(|_| is_more);
    let next = last.map(|last| query.cursor_after(nanoseconds(last.time), last.position.0));
    Ok(EventPage { events, next })
}

pub(super) async fn follow(
    client: &Client,
    filter: &EventFilter,
    after: LinePosition,
) -> Result<FollowedEvents, Error> {
    let last = last_position(client).await?;
    let to = after.0.saturating_add(MAX_FOLLOWED).min(last.0);
    let select = select::follow(filter, (after.0, to), MAX_PAGE);
    let events = events(client, &select).await?;
    let position = match events.last() {
        Some(event) if events.len() == MAX_PAGE => event.position,
        _ => LinePosition(to).max(after),
    };
    Ok(FollowedEvents { events, position })
}

async fn events(client: &Client, select: &EventSelect) -> Result<Vec<StoredEvent>, Error> {
    let rows = select.run(client).await?;
    rows.iter().map(event).collect()
}

pub(super) fn event(row: &Row) -> Result<StoredEvent, Error> {
    let provenance: i16 = row.try_get(1)?;
    let first: Option<i64> = row.try_get(4)?;
    Ok(StoredEvent {
        position: LinePosition(number(row, 0)?),
        provenance: Provenance::of_number(u8::try_from(provenance).unwrap_or(u8::MAX)),
        time: timestamp(row.try_get(2)?),
        line: row.try_get(3)?,
        second_pass_of: first
            .and_then(|first| u64::try_from(first).ok())
            .map(LinePosition),
    })
}

/// Position of the last line that was ever stored.
pub(super) async fn last_position(client: &Client) -> Result<LinePosition, Error> {
    let row = client.query_typed_one("SELECT last_position FROM store", &[]);
    Ok(LinePosition(number(&row.await?, 0)?))
}

pub(super) async fn chains(client: &Client) -> Result<Vec<ChainSummary>, Error> {
    // Starts of processes confirm lines as well as checkpoints do, and are not signed.
    let sql = "SELECT c.id, c.last_hash, c.last_seq, c.last_time, c.lines, c.retained_seq, c.ended,
            coalesce((SELECT k.seq FROM checkpoint AS k
                JOIN event AS e ON e.position = k.position AND e.action = 'system.checkpoint'
                WHERE k.chain = c.id ORDER BY k.seq DESC LIMIT 1), 0),
            ARRAY(SELECT m.first_seq FROM missing AS m WHERE m.chain = c.key ORDER BY m.first_seq),
            ARRAY(SELECT m.last_seq FROM missing AS m WHERE m.chain = c.key ORDER BY m.first_seq)
        FROM chain AS c ORDER BY c.key";
    let rows = client.query_typed(sql, &[]).await?;
    let chains = rows.iter().map(summary);
    chains.filter_map(Result::transpose).collect()
}

fn summary(row: &Row) -> Result<Option<ChainSummary>, Error> {
    let Some(tip) = tip(row)? else {
        return Ok(None);
    };
    let numbers = |column| -> Result<Vec<u64>, Error> {
        let numbers: Vec<i64> = row.try_get(column)?;
        let unsigned = |number| u64::try_from(number).unwrap_or_default();
        Ok(numbers.into_iter().map(unsigned).collect())
    };
    Ok(Some(ChainSummary {
        tip,
        time: timestamp(row.try_get(3)?),
        lines: number(row, 4)?,
        retained: number(row, 5)?,
        missing: numbers(8)?.into_iter().zip(numbers(9)?).collect(),
        ended: row.try_get(6)?,
        confirmed: number(row, 7)?,
    }))
}

pub(super) async fn moved(client: &Client, after: LinePosition) -> Result<MovedChains, Error> {
    let last = last_position(client).await?;
    let to = after.0.saturating_add(MAX_FOLLOWED).min(last.0);
    let sql = "SELECT id, last_hash, last_seq FROM chain WHERE key IN
        (SELECT DISTINCT chain FROM event WHERE position > $1 AND position <= $2) ORDER BY key";
    let parameters: [Parameter<'_>; 2] =
        [(&integer(after.0), Type::INT8), (&integer(to), Type::INT8)];
    let rows = client.query_typed(sql, &parameters).await?;
    let tips = rows.iter().map(tip).filter_map(Result::transpose);
    Ok(MovedChains {
        tips: tips.collect::<Result<_, _>>()?,
        position: LinePosition(to).max(after),
    })
}

/// Last deleted lines of chains that have lines. The first stored line has the hash of the last deleted one.
pub(super) async fn retained(client: &Client) -> Result<Vec<Tip>, Error> {
    let sql = "SELECT e.line FROM chain AS c JOIN event AS e
        ON e.chain = c.key AND e.seq = c.retained_seq + 1
        WHERE c.retained_seq > 0 ORDER BY c.key";
    let mut tips = Vec::new();
    for row in client.query_typed(sql, &[]).await? {
        let line: &str = row.try_get(0)?;
        // Only lines that can be read are stored.
        if let Ok(first) = StoredLine::parse(line.as_bytes()) {
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
fn tip(row: &Row) -> Result<Option<Tip>, Error> {
    let chain = ChainId::parse(row.try_get(0)?).ok();
    let (hash, seq) = (digest(row, 1)?, number(row, 2)?);
    Ok(chain.map(|chain| Tip { chain, hash, seq }))
}

/// Counts of the store. Lines are counted by their chains: counting rows would read an index of the whole store.
pub(super) async fn counts(client: &Client) -> Result<StoreCounts, Error> {
    let sql = "SELECT count(*), coalesce(sum(lines), 0)::bigint,
            (SELECT coalesce(sum(last_seq - first_seq + 1), 0)::bigint FROM missing),
            (SELECT bytes FROM store), (SELECT last_position FROM store)
        FROM chain";
    let row = client.query_typed_one(sql, &[]).await?;
    Ok(StoreCounts {
        chains: number(&row, 0)?,
        lines: number(&row, 1)?,
        missing: number(&row, 2)?,
        bytes: number(&row, 3)?,
        max_bytes: None,
        last_position: LinePosition(number(&row, 4)?),
    })
}
