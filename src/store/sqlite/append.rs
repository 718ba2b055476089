//! Appending of a batch to its chain.

use rusqlite::{Connection, OptionalExtension as _, Row, Statement, params};

use super::author::AuthorRows;
use super::names::{Names, compact_id};
use super::second_pass::SecondPasses;
use crate::audit::digest::Digest;
use crate::audit::link::ChainId;
use crate::audit::record::Action;
use crate::audit::stored::StoredLine;
use crate::store::chain_row::{ChainRow, SplitBatch};
use crate::store::query::nanoseconds;
use crate::store::{AppendError, Appended, Batch, LinePosition, Provenance};

/// Appends a batch, or returns why not, without a change. `last` becomes the position of its last line.
pub(super) fn append(
    connection: &Connection,
    batch: &Batch,
    last: &mut Option<u64>,
) -> rusqlite::Result<Result<Appended, AppendError>> {
    let chain = chain(connection, &batch.chain)?;
    let split = match batch.split(chain.as_ref()) {
        Ok(split) => split,
        Err(error) => return Ok(Err(error)),
    };
    let SplitBatch {
        known,
        new,
        last_seq,
    } = split;
    if let Some(chain) = chain {
        for line in known.iter().filter(|line| !chain.has_deleted(line)) {
            let stored = hash_of(connection, chain.key, line.seq)?;
            if let Err(error) = chain.compare(line, stored) {
                return Ok(Err(error));
            }
        }
    }
    let (Some(first), Some(tip)) = (new.first(), new.last()) else {
        return Ok(Ok(Appended {
            durable: last_seq,
            added: 0,
        }));
    };
    let key = extend_chain(connection, tip, new.len())?;
    if first.seq > last_seq + 1 {
        let sql = "INSERT INTO missing (chain, first_seq, last_seq) VALUES (?1, ?2, ?3)";
        connection.execute(sql, params![key, last_seq + 1, first.seq - 1])?;
    }
    let mut inserter = Inserter::new(connection)?;
    for line in new {
        *last = Some(inserter.insert(key, line, Provenance::Received)?);
    }
    Ok(Ok(Appended {
        durable: tip.seq,
        added: new.len() as u64,
    }))
}

/// Hash of a stored line.
pub(super) fn hash_of(
    connection: &Connection,
    chain: i64,
    seq: u64,
) -> rusqlite::Result<Option<Digest>> {
    let sql = "SELECT line FROM event WHERE chain = ?1 AND seq = ?2";
    let line = connection.query_row(sql, params![chain, seq], |row| row.get::<_, String>(0));
    Ok(line.optional()?.map(|line| Digest::of(line.as_bytes())))
}

pub(super) fn chain(connection: &Connection, id: &ChainId) -> rusqlite::Result<Option<ChainRow>> {
    let sql = "SELECT key, last_seq, last_hash, retained_seq FROM chain WHERE id = ?1";
    let read = |row: &Row<'_>| {
        Ok(ChainRow {
            key: row.get(0)?,
            last_seq: row.get(1)?,
            last_hash: Digest::from_bytes(row.get(2)?),
            retained_seq: row.get(3)?,
        })
    };
    connection.query_row(sql, [id.as_str()], read).optional()
}

/// Makes a line the last one of its chain. Returns the chain's key.
pub(super) fn extend_chain(
    connection: &Connection,
    tip: &StoredLine,
    added: usize,
) -> rusqlite::Result<i64> {
    let sql = "INSERT INTO chain (id, last_seq, last_hash, last_time, retained_seq, lines, ended)
        VALUES (?1, ?2, ?3, ?4, 0, ?5, ?6)
        ON CONFLICT (id) DO UPDATE SET last_seq = excluded.last_seq, last_hash = excluded.last_hash,
            last_time = excluded.last_time, lines = lines + excluded.lines, ended = excluded.ended
        RETURNING key";
    let values = params![
        tip.chain.as_str(),
        tip.seq,
        tip.hash.as_bytes(),
        nanoseconds(tip.time),
        added as u64,
        tip.action == Action::Stop.as_str(),
    ];
    connection.query_row(sql, values, |row| row.get(0))
}

/// Position of the last line that was ever stored.
pub(super) fn last_position(connection: &Connection) -> rusqlite::Result<LinePosition> {
    let sql = "SELECT seq FROM sqlite_sequence WHERE name = 'event'";
    let position = connection.query_row(sql, [], |row| row.get(0)).optional()?;
    Ok(LinePosition(position.unwrap_or_default()))
}

/// Statements that store a line and its index.
pub(super) struct Inserter<'c> {
    connection: &'c Connection,
    names: Names<'c>,
    event: Statement<'c>,
    secret: Statement<'c>,
    checkpoint: Statement<'c>,
    author: AuthorRows<'c>,
    second_passes: SecondPasses<'c>,
}

impl<'c> Inserter<'c> {
    pub(super) fn new(connection: &'c Connection) -> rusqlite::Result<Self> {
        let event =
            "INSERT INTO event (id, chain, seq, time, provenance, class, action, outcome, actor,
            actor_uid, namespace, request_uid, line)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)";
        let secret = "INSERT INTO event_secret (secret, time, position) VALUES (?1, ?2, ?3)";
        let checkpoint =
            "INSERT OR IGNORE INTO checkpoint (chain, seq, hash, position) VALUES (?1, ?2, ?3, ?4)";
        Ok(Self {
            connection,
            names: Names::new(connection)?,
            event: connection.prepare(event)?,
            secret: connection.prepare(secret)?,
            checkpoint: connection.prepare(checkpoint)?,
            author: AuthorRows::inserting(connection)?,
            second_passes: SecondPasses::new(connection)?,
        })
    }

    /// Stores a line of a chain. Returns its position.
    pub(super) fn insert(
        &mut self,
        chain: i64,
        line: &StoredLine,
        provenance: Provenance,
    ) -> rusqlite::Result<u64> {
        let time = nanoseconds(line.time);
        self.event.execute(params![
            compact_id(&line.id),
            chain,
            line.seq,
            time,
            provenance.number(),
            line.class,
            line.action,
            line.outcome,
            self.names.name(&line.actor)?,
            self.names.name(&line.actor_uid)?,
            self.names.name(&line.namespace)?,
            compact_id(&line.request_uid),
            line.json,
        ])?;
        let position = self.connection.last_insert_rowid();
        for (namespace, name) in &line.secrets {
            let secret = self.names.secret(namespace, name)?;
            self.secret.execute(params![secret, time, position])?;
        }
        self.author.execute(line, position)?;
        self.second_passes.insert(line, position)?;
        for tip in &line.confirmed {
            self.checkpoint.execute(params![
                tip.chain.as_str(),
                tip.seq,
                tip.hash.as_bytes(),
                position
            ])?;
        }
        Ok(position.cast_unsigned())
    }
}
