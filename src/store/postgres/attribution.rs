//! Reading and writing of attributions.

use std::collections::{BTreeMap, HashMap, HashSet};

use jiff::Timestamp;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error};

use super::read::event;
use super::rows::{Parameter, integer, number, text};
use crate::audit::stored::AuthorObject;
use crate::store::query::{nanoseconds, timestamp};
use crate::store::{
    AskedBy, AttributedRecord, LinePosition, MAX_OBJECT_RECORDS, MAX_UNATTRIBUTED,
    RecordAttribution, StoredEvent, TargetAttribution, UnattributedEvent,
};

pub(super) async fn unattributed(
    client: &Client,
    after: LinePosition,
) -> Result<Vec<UnattributedEvent>, Error> {
    let sql = "SELECT u.position, u.since, e.line FROM unattributed AS u JOIN event AS e ON e.position = u.position
        WHERE u.position > $1 ORDER BY u.position LIMIT $2";
    let parameters: [Parameter<'_>; 2] = [
        (&integer(after.0), Type::INT8),
        (&integer(MAX_UNATTRIBUTED as u64), Type::INT8),
    ];
    let rows = client.query_typed(sql, &parameters).await?;
    let event = |row: &tokio_postgres::Row| {
        let since: Option<i64> = row.try_get(1)?;
        Ok(UnattributedEvent {
            position: LinePosition(number(row, 0)?),
            since: since.map(timestamp),
            line: row.try_get(2)?,
        })
    };
    rows.iter().map(event).collect()
}

pub(super) async fn object_records(
    client: &Client,
    object: &AuthorObject,
    since: Timestamp,
    until: Timestamp,
) -> Result<Vec<StoredEvent>, Error> {
    let sql = "SELECT e.position, e.provenance, e.time, e.line, NULL::bigint
        FROM event_object AS o JOIN event AS e ON e.position = o.position
        WHERE o.namespace = $1 AND o.kind = $2 AND o.name = $3 AND o.time >= $4 AND o.time <= $5
        ORDER BY o.time DESC, o.position DESC LIMIT $6";
    let parameters: [Parameter<'_>; 6] = [
        (&text(&object.namespace), Type::TEXT),
        (&text(&object.kind), Type::TEXT),
        (&text(&object.name), Type::TEXT),
        (&nanoseconds(since), Type::INT8),
        (&nanoseconds(until), Type::INT8),
        (&integer(MAX_OBJECT_RECORDS as u64 + 1), Type::INT8),
    ];
    let rows = client.query_typed(sql, &parameters).await?;
    rows.iter().map(event).collect()
}

pub(super) async fn attributions(
    client: &Client,
    positions: &[LinePosition],
) -> Result<Vec<RecordAttribution>, Error> {
    let numbers: Vec<i64> = positions.iter().map(|at| integer(at.0)).collect();
    let sql = "SELECT position, target, username, uid, source_position, reason FROM attribution
        WHERE position = ANY($1) ORDER BY position, target";
    let mut targets: HashMap<u64, Vec<TargetAttribution>> = HashMap::new();
    let parameters: [Parameter<'_>; 1] = [(&numbers, Type::INT8_ARRAY)];
    for row in client.query_typed(sql, &parameters).await? {
        let (target, source): (i32, Option<i64>) = (row.try_get(1)?, row.try_get(4)?);
        let source = source.and_then(|source| u64::try_from(source).ok());
        let reason: Option<&str> = row.try_get(5)?;
        let found = TargetAttribution {
            target: u32::try_from(target).unwrap_or_default(),
            asked_by: AskedBy::of_row(row.try_get(2)?, row.try_get(3)?, source, reason),
        };
        let of_record = targets.entry(number(&row, 0)?).or_default();
        of_record.push(found);
    }
    let pending = pending(client, &numbers).await?;
    let attribution = |position: &LinePosition| RecordAttribution {
        position: *position,
        targets: targets.get(&position.0).cloned().unwrap_or_default(),
        is_pending: pending.contains(&integer(position.0)),
    };
    Ok(positions.iter().map(attribution).collect())
}

/// Positions of unattributed records.
async fn pending(client: &Client, positions: &[i64]) -> Result<HashSet<i64>, Error> {
    let sql = "SELECT position FROM unattributed WHERE position = ANY($1)";
    let parameters: [Parameter<'_>; 1] = [(&positions, Type::INT8_ARRAY)];
    let rows = client.query_typed(sql, &parameters).await?;
    rows.iter().map(|row| row.try_get(0)).collect()
}

/// Rows of results, one for each secret.
#[derive(Default)]
struct AttributionRows<'r> {
    askers: BTreeMap<(i64, i32), &'r AskedBy>,
    done: Vec<i64>,
    failed: Vec<i64>,
}

/// Writes results of attempts at a time.
pub(super) async fn attribute(
    client: &Client,
    records: &[AttributedRecord],
    time: Timestamp,
) -> Result<(), Error> {
    let positions: Vec<i64> = records.iter().map(|of| integer(of.position.0)).collect();
    let mut pending = pending(client, &positions).await?;
    let mut rows = AttributionRows::default();
    for record in records {
        let position = integer(record.position.0);
        if !pending.contains(&position) {
            continue;
        }
        for TargetAttribution { target, asked_by } in &record.targets {
            let target = i32::try_from(*target).unwrap_or(i32::MAX);
            rows.askers.insert((position, target), asked_by);
        }
        if record.is_final {
            pending.remove(&position);
            rows.done.push(position);
        } else {
            rows.failed.push(position);
        }
    }
    rows.write(client, nanoseconds(time)).await
}

impl AttributionRows<'_> {
    async fn write(&self, client: &Client, time: i64) -> Result<(), Error> {
        let (positions, targets): (Vec<_>, Vec<_>) = self.askers.keys().copied().unzip();
        let (mut usernames, mut uids) = (Vec::new(), Vec::new());
        let (mut sources, mut reasons) = (Vec::new(), Vec::new());
        for asked_by in self.askers.values() {
            let (requester, source, reason) = match asked_by {
                AskedBy::Requester { requester, source } => {
                    (Some(requester), Some(integer(source.0)), None)
                }
                AskedBy::Unknown(reason) => (None, None, Some(reason.as_str())),
            };
            usernames.push(requester.map(|requester| text(&requester.username)));
            uids.push(requester.map(|requester| text(&requester.uid)));
            sources.push(source);
            reasons.push(reason);
        }
        let sql = "INSERT INTO attribution (position, target, username, uid, source_position, reason)
            SELECT * FROM unnest($1, $2, $3, $4, $5, $6)
            ON CONFLICT (position, target) DO UPDATE SET username = excluded.username, uid = excluded.uid,
                source_position = excluded.source_position, reason = excluded.reason";
        let parameters: [Parameter<'_>; 6] = [
            (&positions, Type::INT8_ARRAY),
            (&targets, Type::INT4_ARRAY),
            (&usernames, Type::TEXT_ARRAY),
            (&uids, Type::TEXT_ARRAY),
            (&sources, Type::INT8_ARRAY),
            (&reasons, Type::TEXT_ARRAY),
        ];
        client.execute_typed(sql, &parameters).await?;
        let sql = "DELETE FROM unattributed WHERE position = ANY($1)";
        let done: [Parameter<'_>; 1] = [(&self.done, Type::INT8_ARRAY)];
        client.execute_typed(sql, &done).await?;
        let sql = "UPDATE unattributed SET since = $2 WHERE position = ANY($1) AND since IS NULL";
        let failed: [Parameter<'_>; 2] = [(&self.failed, Type::INT8_ARRAY), (&time, Type::INT8)];
        client.execute_typed(sql, &failed).await?;
        Ok(())
    }
}
