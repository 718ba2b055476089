//! Rows of lines as arrays, one for each column, so that a batch is one statement for each table.

use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Error, Row};

use crate::audit::digest::Digest;
use crate::audit::stored::StoredLine;
use crate::store::query::nanoseconds;
use crate::store::{LinePosition, Provenance};

/// Bytes of a row beside the line, with its entries in indexes and in other tables.
pub const ROW_BYTES: u64 = 1_000;

/// Value of a parameter and its type, so that a statement needs no round trip before it.
pub(super) type Parameter<'p> = (&'p (dyn ToSql + Sync), Type);

/// Number for a column. Numbers of lines and positions are far below the limit.
pub(super) fn integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Number of a column.
pub(super) fn number(row: &Row, column: usize) -> Result<u64, Error> {
    let number: i64 = row.try_get(column)?;
    Ok(u64::try_from(number).unwrap_or_default())
}

/// Hash of a column. One of another length is that of no line.
pub(super) fn digest(row: &Row, column: usize) -> Result<Digest, Error> {
    let bytes: &[u8] = row.try_get(column)?;
    Ok(Digest::from_bytes(bytes.try_into().unwrap_or_default()))
}

/// Text for a column. The database has no character 0; a name with one is not a name of Kubernetes.
pub(super) fn text(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// Text for a column; none if it is empty.
fn optional(value: &str) -> Option<String> {
    Some(text(value)).filter(|text| !text.is_empty())
}

/// Bytes that a line counts.
pub(super) fn size(line: &StoredLine) -> u64 {
    line.json.len() as u64 + ROW_BYTES
}

/// Rows of some lines of a chain.
#[derive(Debug, Default)]
pub(super) struct LineRows {
    positions: Vec<i64>,
    ids: Vec<Option<String>>,
    seqs: Vec<i64>,
    times: Vec<i64>,
    classes: Vec<String>,
    actions: Vec<String>,
    outcomes: Vec<String>,
    actors: Vec<Option<String>>,
    actor_uids: Vec<Option<String>>,
    namespaces: Vec<Option<String>>,
    request_uids: Vec<Option<String>>,
    lines: Vec<String>,
    secrets: NamedRows,
    objects: NamedRows,
    found_events: NamedRows,
    unattributed: Vec<i64>,
    confirmed: ConfirmedRows,
}

/// Rows with names, a time and a position.
#[derive(Debug, Default)]
struct NamedRows {
    namespaces: Vec<String>,
    kinds: Vec<String>,
    names: Vec<String>,
    times: Vec<i64>,
    positions: Vec<i64>,
}

#[derive(Debug, Default)]
struct ConfirmedRows {
    chains: Vec<String>,
    seqs: Vec<i64>,
    hashes: Vec<Vec<u8>>,
    positions: Vec<i64>,
}

impl NamedRows {
    fn add(&mut self, [namespace, kind, name]: [&str; 3], (time, position): (i64, i64)) {
        self.namespaces.push(text(namespace));
        self.kinds.push(text(kind));
        self.names.push(text(name));
        self.times.push(time);
        self.positions.push(position);
    }

    async fn execute(&self, client: &Client, sql: &str, has_kind: bool) -> Result<(), Error> {
        if self.positions.is_empty() {
            return Ok(());
        }
        let mut parameters: Vec<Parameter<'_>> = vec![
            (&self.namespaces, Type::TEXT_ARRAY),
            (&self.names, Type::TEXT_ARRAY),
            (&self.times, Type::INT8_ARRAY),
            (&self.positions, Type::INT8_ARRAY),
        ];
        if has_kind {
            parameters.push((&self.kinds, Type::TEXT_ARRAY));
        }
        client.execute_typed(sql, &parameters).await.map(drop)
    }
}

impl LineRows {
    /// Rows of lines with their positions.
    pub(super) fn of<'l>(lines: impl IntoIterator<Item = (&'l StoredLine, LinePosition)>) -> Self {
        let mut rows = Self::default();
        for (line, position) in lines {
            rows.add(line, integer(position.0));
        }
        rows
    }

    fn add(&mut self, line: &StoredLine, position: i64) {
        let time = nanoseconds(line.time);
        self.positions.push(position);
        self.ids.push(optional(&line.id));
        self.seqs.push(integer(line.seq));
        self.times.push(time);
        self.classes.push(text(&line.class));
        self.actions.push(text(&line.action));
        self.outcomes.push(text(&line.outcome));
        self.actors.push(optional(&line.actor));
        self.actor_uids.push(optional(&line.actor_uid));
        self.namespaces.push(optional(&line.namespace));
        self.request_uids.push(optional(&line.request_uid));
        self.lines.push(line.json.clone());
        for (namespace, name) in &line.secrets {
            self.secrets.add([namespace, "", name], (time, position));
        }
        if let Some(object) = &line.author_object {
            let names = [&*object.namespace, &object.kind, &object.name];
            self.objects.add(names, (time, position));
        }
        if line.is_use() && !line.found_event.is_empty() {
            let names = ["", "", &*line.found_event];
            self.found_events.add(names, (time, position));
        }
        if line.has_other_author {
            self.unattributed.push(position);
        }
        for tip in &line.confirmed {
            let confirmed = &mut self.confirmed;
            confirmed.chains.push(tip.chain.as_str().to_owned());
            confirmed.seqs.push(integer(tip.seq));
            confirmed.hashes.push(tip.hash.as_bytes().to_vec());
            confirmed.positions.push(position);
        }
    }

    /// Inserts the lines of a chain, and the rows beside them. The statements are sent without waiting for each other.
    pub(super) async fn insert(
        &self,
        client: &Client,
        chain: i64,
        provenance: Provenance,
    ) -> Result<(), Error> {
        let secrets = "INSERT INTO event_secret (namespace, name, time, position)
            SELECT * FROM unnest($1, $2, $3, $4) ON CONFLICT DO NOTHING";
        let objects = "INSERT INTO event_object (namespace, name, time, position, kind)
            SELECT * FROM unnest($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING";
        let found = "INSERT INTO found_event (request_uid, time, position)
            SELECT request_uid, time, position FROM unnest($1, $2, $3, $4) AS r (unused, request_uid, time, position)
            ON CONFLICT DO NOTHING";
        futures::try_join!(
            self.insert_events(client, chain, provenance),
            self.secrets.execute(client, secrets, false),
            self.objects.execute(client, objects, true),
            self.found_events.execute(client, found, false),
            self.insert_unattributed(client),
            self.insert_confirmed(client),
        )?;
        Ok(())
    }

    async fn insert_events(
        &self,
        client: &Client,
        chain: i64,
        provenance: Provenance,
    ) -> Result<(), Error> {
        // A position or a number that is there already is an error: the writer gives each out once.
        let sql = "INSERT INTO event (chain, provenance, position, id, seq, time, class, action, outcome, actor,
                actor_uid, namespace, request_uid, line)
            SELECT $1, $2, * FROM unnest($3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)";
        let provenance = i16::from(provenance.number());
        let parameters: [Parameter<'_>; 14] = [
            (&chain, Type::INT8),
            (&provenance, Type::INT2),
            (&self.positions, Type::INT8_ARRAY),
            (&self.ids, Type::TEXT_ARRAY),
            (&self.seqs, Type::INT8_ARRAY),
            (&self.times, Type::INT8_ARRAY),
            (&self.classes, Type::TEXT_ARRAY),
            (&self.actions, Type::TEXT_ARRAY),
            (&self.outcomes, Type::TEXT_ARRAY),
            (&self.actors, Type::TEXT_ARRAY),
            (&self.actor_uids, Type::TEXT_ARRAY),
            (&self.namespaces, Type::TEXT_ARRAY),
            (&self.request_uids, Type::TEXT_ARRAY),
            (&self.lines, Type::TEXT_ARRAY),
        ];
        client.execute_typed(sql, &parameters).await.map(drop)
    }

    async fn insert_unattributed(&self, client: &Client) -> Result<(), Error> {
        if self.unattributed.is_empty() {
            return Ok(());
        }
        let sql = "INSERT INTO unattributed (position) SELECT * FROM unnest($1)";
        let parameters: [Parameter<'_>; 1] = [(&self.unattributed, Type::INT8_ARRAY)];
        client.execute_typed(sql, &parameters).await.map(drop)
    }

    async fn insert_confirmed(&self, client: &Client) -> Result<(), Error> {
        let confirmed = &self.confirmed;
        if confirmed.positions.is_empty() {
            return Ok(());
        }
        let sql = "INSERT INTO checkpoint (chain, seq, hash, position)
            SELECT * FROM unnest($1, $2, $3, $4) ON CONFLICT DO NOTHING";
        let parameters: [Parameter<'_>; 4] = [
            (&confirmed.chains, Type::TEXT_ARRAY),
            (&confirmed.seqs, Type::INT8_ARRAY),
            (&confirmed.hashes, Type::BYTEA_ARRAY),
            (&confirmed.positions, Type::INT8_ARRAY),
        ];
        client.execute_typed(sql, &parameters).await.map(drop)
    }

    /// Deletes the lines and the rows beside them.
    pub(super) async fn delete(&self, client: &Client) -> Result<(), Error> {
        let secrets = "DELETE FROM event_secret WHERE (namespace, name, time, position) IN
            (SELECT * FROM unnest($1, $2, $3, $4))";
        let objects = "DELETE FROM event_object WHERE (namespace, name, time, position, kind) IN
            (SELECT * FROM unnest($1, $2, $3, $4, $5))";
        let found = "DELETE FROM found_event WHERE (request_uid, time, position) IN
            (SELECT request_uid, time, position FROM unnest($1, $2, $3, $4) AS r (unused, request_uid, time, position))";
        futures::try_join!(
            delete_positions(client, "event", &self.positions),
            self.secrets.execute(client, secrets, false),
            self.objects.execute(client, objects, true),
            self.found_events.execute(client, found, false),
            self.delete_passes(client),
            delete_positions(client, "unattributed", &self.unattributed),
            delete_positions(client, "attribution", &self.unattributed),
            delete_positions(client, "checkpoint", &self.confirmed.positions),
        )?;
        Ok(())
    }

    /// Deletes the pairs of a use and its second pass that have one of the lines.
    async fn delete_passes(&self, client: &Client) -> Result<(), Error> {
        let sql = "DELETE FROM second_pass WHERE position = ANY($1) OR first_position = ANY($1)";
        let parameters: [Parameter<'_>; 1] = [(&self.positions, Type::INT8_ARRAY)];
        client.execute_typed(sql, &parameters).await.map(drop)
    }
}

async fn delete_positions(client: &Client, table: &str, positions: &[i64]) -> Result<(), Error> {
    if positions.is_empty() {
        return Ok(());
    }
    let sql = format!("DELETE FROM {table} WHERE position = ANY($1)");
    let parameters: [Parameter<'_>; 1] = [(&positions, Type::INT8_ARRAY)];
    client.execute_typed(&sql, &parameters).await.map(drop)
}
