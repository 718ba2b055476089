//! Appending of a batch to its chain.

use std::collections::HashMap;

use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error};

use super::rows::{LineRows, Parameter, digest, integer, number, size};
use super::second_pass;
use crate::audit::digest::Digest;
use crate::audit::link::ChainId;
use crate::audit::record::Action;
use crate::audit::stored::StoredLine;
use crate::store::chain_row::{ChainRow, SplitBatch};
use crate::store::query::nanoseconds;
use crate::store::{
    AppendError, Appended, Batch, LinePosition, Provenance, RESERVED_BYTES, StoreError,
};

/// Hash of a line, computed where the line is.
pub(super) const HASH: &str = "sha256(convert_to(line, 'UTF8'))";

/// Result of a write, and the position of its last line.
#[derive(Debug)]
pub(super) struct Written<T> {
    pub value: T,
    pub last: Option<LinePosition>,
}

impl<T> Written<T> {
    pub(super) fn without_lines(value: T) -> Self {
        Self { value, last: None }
    }
}

/// Name of a store and the size at which it is full.
#[derive(Clone, Debug)]
pub(super) struct SizeLimit {
    pub store: String,
    pub max_bytes: Option<u64>,
}

/// Appends a batch, or returns why not, without a change.
pub(super) async fn append(
    client: &Client,
    batch: &Batch,
    limit: &SizeLimit,
) -> Result<Written<Result<Appended, AppendError>>, Error> {
    // Statements that do not depend on each other are sent without waiting for each other.
    let (chain, bytes) = futures::try_join!(chain(client, &batch.chain), bytes(client))?;
    let refused = |error| Ok(Written::without_lines(Err(error)));
    let split = match batch.split(chain.as_ref()) {
        Ok(split) => split,
        Err(error) => return refused(error),
    };
    let SplitBatch {
        known,
        new,
        last_seq,
    } = split;
    if let Some(chain) = chain
        && let Err(error) = compare(client, &chain, known).await?
    {
        return refused(error);
    }
    let (Some(first), Some(tip)) = (new.first(), new.last()) else {
        return Ok(Written::without_lines(Ok(Appended {
            durable: last_seq,
            added: 0,
        })));
    };
    if let Err(error) = limit.check(bytes, new.iter(), batch.is_reserved) {
        return refused(error.into());
    }
    let extend = extend_chain(client, tip, new.len());
    let (key, last) = futures::try_join!(extend, reserve(client, new.iter()))?;
    if first.seq > last_seq + 1 {
        insert_missing(client, key, &[(last_seq + 1, first.seq - 1)]).await?;
    }
    insert(client, key, (new.iter(), last), Provenance::Received).await?;
    Ok(Written {
        value: Ok(Appended {
            durable: tip.seq,
            added: new.len() as u64,
        }),
        last: Some(last),
    })
}

/// Compares lines with the stored ones of their numbers.
async fn compare(
    client: &Client,
    chain: &ChainRow,
    known: &[StoredLine],
) -> Result<Result<(), AppendError>, Error> {
    let (Some(first), Some(last)) = (known.first(), known.last()) else {
        return Ok(Ok(()));
    };
    let stored = hashes(client, chain.key, (first.seq, last.seq)).await?;
    let mut rest = known.iter().filter(|line| !chain.has_deleted(line));
    Ok(rest.try_for_each(|line| chain.compare(line, stored.get(&line.seq).copied())))
}

/// Hashes of the stored lines of a range.
pub(super) async fn hashes(
    client: &Client,
    chain: i64,
    (first, last): (u64, u64),
) -> Result<HashMap<u64, Digest>, Error> {
    let sql = format!("SELECT seq, {HASH} FROM event WHERE chain = $1 AND seq BETWEEN $2 AND $3");
    let parameters: [Parameter<'_>; 3] = [
        (&chain, Type::INT8),
        (&integer(first), Type::INT8),
        (&integer(last), Type::INT8),
    ];
    let rows = client.query_typed(&sql, &parameters).await?;
    rows.iter()
        .map(|row| Ok((number(row, 0)?, digest(row, 1)?)))
        .collect()
}

pub(super) async fn chain(client: &Client, id: &ChainId) -> Result<Option<ChainRow>, Error> {
    let sql = "SELECT key, last_seq, last_hash, retained_seq FROM chain WHERE id = $1";
    let id = id.as_str();
    let row = client.query_typed_opt(sql, &[(&id, Type::TEXT)]).await?;
    let Some(row) = row else {
        return Ok(None);
    };
    Ok(Some(ChainRow {
        key: row.try_get(0)?,
        last_seq: number(&row, 1)?,
        last_hash: digest(&row, 2)?,
        retained_seq: number(&row, 3)?,
    }))
}

/// Bytes of the store.
pub(super) async fn bytes(client: &Client) -> Result<u64, Error> {
    let row = client.query_typed_one("SELECT bytes FROM store", &[]);
    number(&row.await?, 0)
}

impl SizeLimit {
    /// Checks that a store has room for lines. Announcements of deletions have more.
    pub(super) fn check<'l>(
        &self,
        bytes: u64,
        lines: impl Iterator<Item = &'l StoredLine>,
        is_reserved: bool,
    ) -> Result<(), StoreError> {
        let Some(max_bytes) = self.max_bytes else {
            return Ok(());
        };
        let reserved = if is_reserved { RESERVED_BYTES } else { 0 };
        let added: u64 = lines.map(size).sum();
        if bytes + added <= max_bytes.saturating_add(reserved) {
            return Ok(());
        }
        let store = self.store.clone();
        Err(StoreError::Full { store, bytes })
    }
}

/// Makes a line the last one of its chain. Returns the chain's key.
pub(super) async fn extend_chain(
    client: &Client,
    tip: &StoredLine,
    added: usize,
) -> Result<i64, Error> {
    let sql =
        "INSERT INTO chain AS c (id, last_seq, last_hash, last_time, retained_seq, lines, ended)
        VALUES ($1, $2, $3, $4, 0, $5, $6)
        ON CONFLICT (id) DO UPDATE SET last_seq = excluded.last_seq, last_hash = excluded.last_hash,
            last_time = excluded.last_time, lines = c.lines + excluded.lines, ended = excluded.ended
        RETURNING key";
    let parameters: [Parameter<'_>; 6] = [
        (&tip.chain.as_str(), Type::TEXT),
        (&integer(tip.seq), Type::INT8),
        (&tip.hash.as_bytes().as_slice(), Type::BYTEA),
        (&nanoseconds(tip.time), Type::INT8),
        (&integer(added as u64), Type::INT8),
        (&(tip.action == Action::Stop.as_str()), Type::BOOL),
    ];
    client.query_typed_one(sql, &parameters).await?.try_get(0)
}

pub(super) async fn insert_missing(
    client: &Client,
    chain: i64,
    ranges: &[(u64, u64)],
) -> Result<(), Error> {
    let (first, last): (Vec<i64>, Vec<i64>) = ranges
        .iter()
        .map(|(first, last)| (integer(*first), integer(*last)))
        .unzip();
    let sql = "INSERT INTO missing (chain, first_seq, last_seq) SELECT $1, * FROM unnest($2, $3)";
    let parameters: [Parameter<'_>; 3] = [
        (&chain, Type::INT8),
        (&first, Type::INT8_ARRAY),
        (&last, Type::INT8_ARRAY),
    ];
    client.execute_typed(sql, &parameters).await.map(drop)
}

/// Takes the next positions for lines. Returns the last one.
pub(super) async fn reserve<'l>(
    client: &Client,
    lines: impl Iterator<Item = &'l StoredLine>,
) -> Result<LinePosition, Error> {
    let (count, bytes) = lines.fold((0, 0), |(count, bytes), line| {
        (count + 1, bytes + size(line))
    });
    let sql = "UPDATE store SET last_position = last_position + $1, bytes = bytes + $2
        RETURNING last_position";
    let parameters: [Parameter<'_>; 2] =
        [(&integer(count), Type::INT8), (&integer(bytes), Type::INT8)];
    let row = client.query_typed_one(sql, &parameters).await?;
    Ok(LinePosition(number(&row, 0)?))
}

/// Stores lines of a chain, up to a position.
pub(super) async fn insert<'l>(
    client: &Client,
    chain: i64,
    (lines, last): (
        impl ExactSizeIterator<Item = &'l StoredLine> + Clone,
        LinePosition,
    ),
    provenance: Provenance,
) -> Result<(), Error> {
    let first = last.0 - lines.len() as u64 + 1;
    let lines = lines.zip((first..).map(LinePosition));
    let rows = LineRows::of(lines.clone());
    rows.insert(client, chain, provenance).await?;
    second_pass::pair(client, lines).await
}
