//! Deletion of the beginnings of chains.

use jiff::Timestamp;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error};

use super::append::{HASH, Written, chain, hashes};
use super::rows::{LineRows, Parameter, digest, integer, number, size};
use crate::audit::link::{ChainId, Tip};
use crate::audit::stored::StoredLine;
use crate::store::query::{nanoseconds, timestamp};
use crate::store::retention::{DELETED_AT_ONCE, MAX_RETAINED_LINES};
use crate::store::{LinePosition, RetentionPlan, RetentionRule};

/// Lines that go by a rule, as the last one of each chain. At most [`MAX_RETAINED_LINES`] lines.
pub(super) async fn plan(client: &Client, rule: RetentionRule) -> Result<RetentionPlan, Error> {
    let cutoff = nanoseconds(cutoff(client, rule).await?);
    let mut plan = RetentionPlan::default();
    let mut room = MAX_RETAINED_LINES;
    // Chains whose first line goes.
    let sql = "SELECT c.key, c.id, c.retained_seq FROM chain AS c WHERE c.lines > 0 AND (SELECT e.time FROM event AS e
            WHERE e.chain = c.key AND e.seq > c.retained_seq ORDER BY e.seq LIMIT 1) < $1 ORDER BY c.key";
    for row in client.query_typed(sql, &[(&cutoff, Type::INT8)]).await? {
        let Ok(chain) = ChainId::parse(row.try_get(1)?) else {
            continue;
        };
        let first = (row.try_get(0)?, row.try_get(2)?);
        if let Some((count, seq)) = prefix(client, first, cutoff, room).await? {
            let hash = hashes(client, first.0, (seq, seq)).await?.remove(&seq);
            let tip = hash.map(|hash| Tip { chain, hash, seq });
            plan.tips.extend(tip);
            room = room.saturating_sub(count);
        }
        if room == 0 {
            break;
        }
    }
    Ok(plan)
}

/// Time before which lines go: the rule's, or a later one if the store is too large, but never beyond the least age.
async fn cutoff(client: &Client, rule: RetentionRule) -> Result<Timestamp, Error> {
    let by_age = rule.older_than.min(rule.min_age);
    let sql = "SELECT bytes, (SELECT coalesce(sum(lines), 0)::bigint FROM chain) FROM store";
    let row = client.query_typed_one(sql, &[]).await?;
    let (used, lines) = (number(&row, 0)?, number(&row, 1)?);
    let Some(excess) = rule.max_bytes.and_then(|max| used.checked_sub(max)) else {
        return Ok(by_age);
    };
    let count = excess.saturating_mul(lines) / used.max(1) + 1;
    let sql = "SELECT time FROM event ORDER BY time, position LIMIT 1 OFFSET $1";
    let count = integer(count.min(MAX_RETAINED_LINES));
    let row = client.query_typed_opt(sql, &[(&count, Type::INT8)]).await?;
    let time = row.map(|row| row.try_get(0)).transpose()?;
    let by_size = time.map_or(Timestamp::MAX, timestamp);
    Ok(by_size.min(rule.min_age).max(by_age))
}

/// Number of a chain's first lines that are all before a time, and the number of the last of them.
async fn prefix(
    client: &Client,
    (chain, retained): (i64, i64),
    cutoff: i64,
    limit: u64,
) -> Result<Option<(u64, u64)>, Error> {
    let sql = "SELECT count(*), coalesce(max(seq), 0) FROM (
            SELECT seq, bool_and(time < $3) OVER (ORDER BY seq) AS goes FROM (
                SELECT seq, time FROM event WHERE chain = $1 AND seq > $2 ORDER BY seq LIMIT $4) AS first) AS old
        WHERE goes";
    let parameters: [Parameter<'_>; 4] = [
        (&chain, Type::INT8),
        (&retained, Type::INT8),
        (&cutoff, Type::INT8),
        (&integer(limit), Type::INT8),
    ];
    let row = client.query_typed_one(sql, &parameters).await?;
    let found = (number(&row, 0)?, number(&row, 1)?);
    Ok(Some(found).filter(|(count, _)| *count > 0))
}

/// Deletes the first lines of a chain up to one, at most [`DELETED_AT_ONCE`]. Returns how many: 0 at the end, and if the
/// line is not the one that was announced.
pub(super) async fn delete(client: &Client, tip: &Tip) -> Result<Written<u64>, Error> {
    let nothing = Written::without_lines(0);
    let Some(chain) = chain(client, &tip.chain).await? else {
        return Ok(nothing);
    };
    let sql = format!("SELECT {HASH} FROM event WHERE chain = $1 AND seq = $2");
    let parameters: [Parameter<'_>; 2] =
        [(&chain.key, Type::INT8), (&integer(tip.seq), Type::INT8)];
    let row = client.query_typed_opt(&sql, &parameters).await?;
    let announced = row.map(|row| digest(&row, 0)).transpose()?;
    if tip.seq <= chain.retained_seq || announced != Some(tip.hash) {
        return Ok(nothing);
    }
    let sql =
        "SELECT position, line FROM event WHERE chain = $1 AND seq <= $2 ORDER BY seq LIMIT $3";
    let parameters: [Parameter<'_>; 3] = [
        (&chain.key, Type::INT8),
        (&integer(tip.seq), Type::INT8),
        (&integer(DELETED_AT_ONCE), Type::INT8),
    ];
    let mut lines = Vec::new();
    for row in client.query_typed(sql, &parameters).await? {
        let line: &str = row.try_get(1)?;
        // Only lines that can be read are stored.
        if let Ok(line) = StoredLine::parse(line.as_bytes()) {
            lines.push((line, LinePosition(number(&row, 0)?)));
        }
    }
    let Some((last, _)) = lines.last() else {
        return Ok(nothing);
    };
    let rows = LineRows::of(lines.iter().map(|(line, position)| (line, *position)));
    rows.delete(client).await?;
    let bytes = lines.iter().map(|(line, _)| size(line)).sum();
    let count = lines.len() as u64;
    shorten_chain(client, (chain.key, last.seq), count, bytes).await?;
    Ok(Written::without_lines(count))
}

/// Notes what was deleted of a chain.
async fn shorten_chain(
    client: &Client,
    (chain, last): (i64, u64),
    count: u64,
    bytes: u64,
) -> Result<(), Error> {
    let (key, last) = (chain, integer(last));
    let number = Type::INT8;
    let sql = "UPDATE chain SET retained_seq = $2, lines = lines - $3 WHERE key = $1";
    let parameters: [Parameter<'_>; 3] = [
        (&key, number.clone()),
        (&last, number.clone()),
        (&integer(count), number.clone()),
    ];
    client.execute_typed(sql, &parameters).await?;
    let sql = "DELETE FROM missing WHERE chain = $1 AND last_seq <= $2";
    let parameters: [Parameter<'_>; 2] = [(&key, number.clone()), (&last, number.clone())];
    client.execute_typed(sql, &parameters).await?;
    // A chain that goes on is kept: its next line has to follow the last one.
    let sql = "DELETE FROM chain WHERE key = $1 AND lines = 0 AND ended";
    client.execute_typed(sql, &[(&key, number.clone())]).await?;
    let sql = "UPDATE store SET bytes = greatest(bytes - $1, 0)";
    client
        .execute_typed(sql, &[(&integer(bytes), number)])
        .await?;
    Ok(())
}
