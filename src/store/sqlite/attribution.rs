//! Reading and writing of attributions.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::read::event;
use crate::audit::asked_by::Requester;
use crate::audit::parts::MAX_RECORD_TARGETS;
use crate::audit::stored::AuthorObject;
use crate::store::query::{nanoseconds, timestamp};
use crate::store::{
    AskedBy, AttributedRecord, LinePosition, MAX_OBJECT_RECORDS, MAX_UNATTRIBUTED,
    RecordAttribution, StoredEvent, TargetAttribution, UnattributedEvent,
};

// CROSS JOIN: the table on its left is read first.
pub(super) const UNATTRIBUTED: &str = "SELECT u.position, u.since, e.line
    FROM unattributed AS u CROSS JOIN event AS e ON e.position = u.position
    WHERE u.position > ?1 ORDER BY u.position LIMIT ?2";

pub(super) const OBJECT_RECORDS: &str = "SELECT e.position, e.provenance, e.time, e.line, NULL
    FROM event_object AS o CROSS JOIN event AS e ON e.position = o.position
    WHERE o.namespace = ?1 AND o.kind = ?2 AND o.name = ?3 AND o.time >= ?4 AND o.time <= ?5
    ORDER BY o.time DESC, o.position DESC LIMIT ?6";

pub(super) const ATTRIBUTION: &str =
    "SELECT a.target, r.username, r.uid, a.source_position, a.reason
    FROM attribution AS a LEFT JOIN requester AS r ON r.key = a.requester
    WHERE a.position = ?1 ORDER BY a.target";

pub(super) const IS_UNATTRIBUTED: &str = "SELECT since FROM unattributed WHERE position = ?1";

pub(super) fn unattributed(
    connection: &Connection,
    after: LinePosition,
) -> rusqlite::Result<Vec<UnattributedEvent>> {
    let mut statement = connection.prepare(UNATTRIBUTED)?;
    let read = |row: &Row<'_>| {
        Ok(UnattributedEvent {
            position: LinePosition(row.get(0)?),
            since: row.get::<_, Option<i64>>(1)?.map(timestamp),
            line: row.get(2)?,
        })
    };
    let rows = statement.query_map(params![after.0, MAX_UNATTRIBUTED as u64], read)?;
    rows.collect()
}

pub(super) fn object_records(
    connection: &Connection,
    object: &AuthorObject,
    since: Timestamp,
    until: Timestamp,
) -> rusqlite::Result<Vec<StoredEvent>> {
    let mut statement = connection.prepare(OBJECT_RECORDS)?;
    let values = params![
        object.namespace,
        object.kind,
        object.name,
        nanoseconds(since),
        nanoseconds(until),
        MAX_OBJECT_RECORDS as u64 + 1
    ];
    statement.query_map(values, event)?.collect()
}

pub(super) fn attributions(
    connection: &Connection,
    positions: &[LinePosition],
) -> rusqlite::Result<Vec<RecordAttribution>> {
    let mut targets = connection.prepare(ATTRIBUTION)?;
    let mut pending = connection.prepare(IS_UNATTRIBUTED)?;
    let read = |position: &LinePosition| {
        let rows = targets.query_map([position.0], row_targets)?;
        let rows = rows.collect::<rusqlite::Result<Vec<_>>>()?;
        Ok(RecordAttribution {
            position: *position,
            targets: rows.into_iter().flatten().collect(),
            is_pending: pending.exists([position.0])?,
        })
    };
    positions.iter().map(read).collect()
}

/// Targets of a row: one, or so many first ones.
fn row_targets(row: &Row<'_>) -> rusqlite::Result<Vec<TargetAttribution>> {
    let number: i32 = row.get(0)?;
    let targets = match u32::try_from(number) {
        Ok(target) => target..target + 1,
        Err(_) => 0..number.unsigned_abs(),
    };
    let reason: Option<String> = row.get(4)?;
    let asked_by = AskedBy::of_row(row.get(1)?, row.get(2)?, row.get(3)?, reason.as_deref());
    let target = |target| TargetAttribution {
        target,
        asked_by: asked_by.clone(),
    };
    Ok(targets.take(MAX_RECORD_TARGETS).map(target).collect())
}

/// Attributions as rows: the number of a target, or, as a negative number, of first targets with one requester. Records
/// usually have one for all, and each row has an entry in an index.
fn rows(record: &AttributedRecord, is_first: bool) -> Vec<(i64, &AskedBy)> {
    let targets = record.targets.as_slice();
    if let [first, _, ..] = targets
        && is_first
        && record.is_final
        && (0..)
            .zip(targets)
            .all(|(at, target)| target.target == at && target.asked_by == first.asked_by)
    {
        let count = i64::try_from(targets.len()).unwrap_or(i64::MAX);
        return vec![(-count, &first.asked_by)];
    }
    let targets = targets.iter();
    targets
        .map(|target| (i64::from(target.target), &target.asked_by))
        .collect()
}

/// Writes results of attempts at a time.
pub(super) fn attribute(
    connection: &Connection,
    records: &[AttributedRecord],
    time: Timestamp,
) -> rusqlite::Result<()> {
    let mut unattributed_since = connection.prepare(IS_UNATTRIBUTED)?;
    let mut insert_requester =
        connection.prepare("INSERT OR IGNORE INTO requester (username, uid) VALUES (?1, ?2)")?;
    let mut insert = connection.prepare(
        "INSERT OR REPLACE INTO attribution (position, target, requester, source_position, reason)
        VALUES (?1, ?2, (SELECT key FROM requester WHERE username = ?3 AND uid = ?4), ?5, ?6)",
    )?;
    let mut done = connection.prepare("DELETE FROM unattributed WHERE position = ?1")?;
    let mut failed = connection
        .prepare("UPDATE unattributed SET since = ?2 WHERE position = ?1 AND since IS NULL")?;
    for record in records {
        let position = record.position.0;
        let since = unattributed_since.query_row([position], |row| row.get(0));
        let since: Option<Option<i64>> = since.optional()?;
        let Some(since) = since else { continue };
        for (target, asked_by) in rows(record, since.is_none()) {
            let (requester, source, reason) = match asked_by {
                AskedBy::Requester { requester, source } => (Some(requester), Some(source.0), None),
                AskedBy::Unknown(reason) => (None, None, Some(reason.as_str())),
            };
            if let Some(Requester { username, uid }) = requester {
                insert_requester.execute([username, uid])?;
            }
            let username = requester.map(|requester| &requester.username);
            let uid = requester.map(|requester| &requester.uid);
            insert.execute(params![position, target, username, uid, source, reason])?;
        }
        if record.is_final {
            done.execute([position])?;
        } else {
            failed.execute(params![position, nanoseconds(time)])?;
        }
    }
    Ok(())
}
