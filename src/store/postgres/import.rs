//! Import of a range of lines into a chain, as far as stored lines confirm it.

use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error};

use super::append::{
    SizeLimit, Written, bytes, chain, extend_chain, hashes, insert, insert_missing, reserve,
};
use super::rows::{Parameter, digest, integer, number};
use crate::audit::stored::StoredLine;
use crate::store::chain_row::ChainRow;
use crate::store::import_check::{CheckedRange, Surroundings, left_missing};
use crate::store::{ImportOutcome, ImportRange, LinePosition, Provenance, StoreError};

/// Imports a range, or returns why not, without a change.
pub(super) async fn import(
    client: &Client,
    range: &ImportRange,
    limit: &SizeLimit,
) -> Result<Written<Result<ImportOutcome, StoreError>>, Error> {
    let surroundings = surroundings(client, range).await?;
    let checked = match surroundings.check(range) {
        Ok(checked) => checked,
        Err(outcome) => return Ok(Written::without_lines(Ok(outcome))),
    };
    let absent = checked.absent.iter().copied();
    if let Err(error) = limit.check(bytes(client).await?, absent, false) {
        return Ok(Written::without_lines(Err(error)));
    }
    let (one_sided, last) = store(client, surroundings.chain, range, &checked).await?;
    let outcome = ImportOutcome::Stored {
        added: checked.absent.len() as u64,
        one_sided,
        present: checked.present,
    };
    Ok(Written {
        value: Ok(outcome),
        last,
    })
}

/// Reads what is stored around a range.
async fn surroundings(client: &Client, range: &ImportRange) -> Result<Surroundings, Error> {
    let (first, last) = range.bounds();
    let chain = chain(client, &range.chain).await?;
    let mut surroundings = Surroundings {
        chain,
        ..Surroundings::default()
    };
    if let Some(chain) = chain {
        let stored = hashes(client, chain.key, (first.saturating_sub(1), last));
        surroundings.hashes = stored.await?;
        let sql = "SELECT line FROM event WHERE chain = $1 AND seq = $2";
        let parameters: [Parameter<'_>; 2] =
            [(&chain.key, Type::INT8), (&integer(last + 1), Type::INT8)];
        let row = client.query_typed_opt(sql, &parameters).await?;
        let text: Option<String> = row.map(|row| row.try_get(0)).transpose()?;
        let next = text.and_then(|text| StoredLine::parse(text.as_bytes()).ok());
        surroundings.next = next.map(|next| (next.seq, next.prev));
    }
    let sql = "SELECT c.seq, c.hash FROM checkpoint AS c JOIN event AS e ON e.position = c.position
        WHERE c.chain = $1 AND c.seq BETWEEN $2 AND $3 AND e.provenance <> 2 ORDER BY c.seq DESC";
    let parameters: [Parameter<'_>; 3] = [
        (&range.chain.as_str(), Type::TEXT),
        (&integer(first), Type::INT8),
        (&integer(last), Type::INT8),
    ];
    for row in client.query_typed(sql, &parameters).await? {
        surroundings
            .named
            .push((number(&row, 0)?, digest(&row, 1)?));
    }
    Ok(surroundings)
}

/// Stores the absent lines of a range. Returns the number of those that only one side confirms, and the position of the
/// last line.
async fn store(
    client: &Client,
    before: Option<ChainRow>,
    range: &ImportRange,
    checked: &CheckedRange<'_>,
) -> Result<(u64, Option<LinePosition>), Error> {
    let absent = &checked.absent;
    let (Some(first), Some(tip)) = (absent.first(), absent.last()) else {
        return Ok((0, None));
    };
    let last_seq = before.map_or(0, |chain| chain.last_seq);
    let key = if tip.seq > last_seq {
        let key = extend_chain(client, tip, absent.len()).await?;
        if first.seq > last_seq + 1 {
            insert_missing(client, key, &[(last_seq + 1, first.seq - 1)]).await?;
        }
        key
    } else {
        let sql = "UPDATE chain SET lines = lines + $2 WHERE id = $1 RETURNING key";
        let parameters: [Parameter<'_>; 2] = [
            (&range.chain.as_str(), Type::TEXT),
            (&integer(absent.len() as u64), Type::INT8),
        ];
        let row = client.query_typed_one(sql, &parameters).await?;
        row.try_get(0)?
    };
    let lines = absent.iter().copied();
    let last = reserve(client, lines.clone()).await?;
    insert(client, key, (lines, last), Provenance::OneSided).await?;
    fill(client, key, range.bounds()).await?;
    confirm(client, key, range.bounds(), checked.named).await?;
    let sql = "SELECT count(*) FROM event
        WHERE chain = $1 AND seq BETWEEN $2 AND $3 AND provenance <> 0 AND provenance = 2";
    let parameters: [Parameter<'_>; 3] = [
        (&key, Type::INT8),
        (&integer(first.seq), Type::INT8),
        (&integer(tip.seq), Type::INT8),
    ];
    let row = client.query_typed_one(sql, &parameters).await?;
    Ok((number(&row, 0)?, Some(last)))
}

/// Removes a range from the missing ones.
async fn fill(client: &Client, chain: i64, (first, last): (u64, u64)) -> Result<(), Error> {
    let sql = "DELETE FROM missing WHERE chain = $1 AND first_seq <= $3 AND last_seq >= $2
        RETURNING first_seq, last_seq";
    let parameters: [Parameter<'_>; 3] = [
        (&chain, Type::INT8),
        (&integer(first), Type::INT8),
        (&integer(last), Type::INT8),
    ];
    let rows = client.query_typed(sql, &parameters).await?;
    let ranges = rows
        .iter()
        .map(|row| Ok((number(row, 0)?, number(row, 1)?)))
        .collect::<Result<Vec<_>, Error>>()?;
    let left: Vec<_> = left_missing(&ranges, (first, last)).collect();
    insert_missing(client, chain, &left).await
}

/// Marks imported lines as confirmed that have a confirmed line on both sides, without a missing one in between.
async fn confirm(
    client: &Client,
    chain: i64,
    (first, last): (u64, u64),
    named: Option<u64>,
) -> Result<(), Error> {
    // The block of stored lines around the range, and the first and last received line in it.
    let sql = "WITH block AS (
            SELECT
                (SELECT max(last_seq) FROM missing WHERE chain = $1 AND last_seq < $2) AS low,
                (SELECT min(first_seq) FROM missing WHERE chain = $1 AND first_seq > $3) AS high,
                (SELECT retained_seq FROM chain WHERE key = $1) AS retained
        ), bounds AS (
            SELECT coalesce(low, retained) + 1 AS first, coalesce(high - 1, 9223372036854775807) AS last,
                low IS NULL AND retained = 0 AS is_whole FROM block
        ), received AS (
            SELECT
                CASE WHEN is_whole THEN 0 ELSE (SELECT min(seq) FROM event
                    WHERE chain = $1 AND seq BETWEEN bounds.first AND bounds.last AND provenance = 0) END AS lowest,
                greatest($4, (SELECT max(seq) FROM event
                    WHERE chain = $1 AND seq BETWEEN bounds.first AND bounds.last AND provenance = 0)) AS highest
            FROM bounds
        )
        UPDATE event SET provenance = 1 FROM received, bounds
        WHERE chain = $1 AND seq > lowest AND seq < highest AND seq BETWEEN bounds.first AND bounds.last
            AND provenance <> 0 AND provenance = 2";
    // The line that a checkpoint names is confirmed by it.
    let named = named.map(|seq| integer(seq + 1));
    let parameters: [Parameter<'_>; 4] = [
        (&chain, Type::INT8),
        (&integer(first), Type::INT8),
        (&integer(last), Type::INT8),
        (&named, Type::INT8),
    ];
    client.execute_typed(sql, &parameters).await.map(drop)
}
