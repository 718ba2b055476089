//! Schema of the database: numbered SQL, applied once each, in a schema of its own.

use tokio_postgres::Client;
use tokio_postgres::types::Type;

use super::failure::Failure;
use crate::store::StoreError;

/// Changes of the schema, from nothing on. A number is never changed after its release.
pub(super) const MIGRATIONS: &[&str] = &[include_str!(
    "../../../migrations/audit/postgresql/0001.sql"
)];

/// Version of the schema that this program writes and reads.
#[expect(
    clippy::cast_possible_truncation,
    reason = "there are a few migrations"
)]
pub const SCHEMA_VERSION: u32 = MIGRATIONS.len() as u32;

/// Schema of the tables. A database may have those of other programs beside it.
pub(super) const SCHEMA: &str = "floe_secrets_audit";

/// Tables, with the version of the schema that has them first.
const TABLES: &[(&str, u32)] = &[
    ("attribution", 1),
    ("chain", 1),
    ("checkpoint", 1),
    ("event", 1),
    ("event_object", 1),
    ("event_secret", 1),
    ("found_event", 1),
    ("missing", 1),
    ("second_pass", 1),
    ("unattributed", 1),
];

/// Lock that serialises all writes of a database, so that positions become visible in their order. Its number is
/// `FSWA` in ASCII.
pub(super) const LOCK: &str = "SELECT pg_advisory_xact_lock(1179866945)";

/// Content of a database, as far as it is about the store.
#[derive(Debug)]
pub(super) enum DatabaseContent {
    Empty,
    Store { version: u32, id: String },
}

impl DatabaseContent {
    /// Whether the schema has to be updated.
    pub(super) fn is_older(&self) -> bool {
        matches!(self, Self::Store { version, .. } if *version < SCHEMA_VERSION)
    }
}

/// Finds out what a database has, without changing it.
pub(super) async fn look_at(client: &Client, store: &str) -> Result<DatabaseContent, Failure> {
    let sql = "SELECT current_setting('server_encoding'), to_regnamespace($1) IS NOT NULL,
        ARRAY(SELECT relname::text FROM pg_class WHERE relkind IN ('r', 'p', 'v') AND relnamespace = to_regnamespace($1))";
    let row = client
        .query_typed_one(sql, &[(&SCHEMA, Type::TEXT)])
        .await?;
    let foreign = |detail: String| StoreError::Foreign {
        store: store.to_owned(),
        detail,
    };
    let encoding: String = row.try_get(0)?;
    if encoding != "UTF8" {
        let detail = format!("its encoding is {encoding}, and UTF8 is required");
        return Err(foreign(detail).into());
    }
    let tables: Vec<String> = row.try_get(2)?;
    let has = |name: &str| tables.iter().any(|table| table == name);
    if tables.is_empty() {
        return Ok(DatabaseContent::Empty);
    }
    if !has("store") {
        let detail = format!("its schema {SCHEMA} is of another program");
        return Err(foreign(detail).into());
    }
    let sql = format!("SELECT version, id::text FROM {SCHEMA}.store");
    let damaged = |detail: &str| StoreError::Damaged {
        store: store.to_owned(),
        detail: detail.to_owned(),
    };
    let row = client.query_typed_opt(&sql, &[]).await?;
    let row = row.ok_or_else(|| damaged("it has no version of its schema"))?;
    let version: i32 = row.try_get(0)?;
    let found = u32::try_from(version).unwrap_or_default();
    if found > SCHEMA_VERSION {
        return Err(StoreError::Newer {
            store: store.to_owned(),
            found,
            known: SCHEMA_VERSION,
        }
        .into());
    }
    let mut of_version = TABLES.iter().filter(|(_, since)| *since <= found);
    match of_version.find(|(table, _)| !has(table)) {
        Some((table, _)) => Err(damaged(&format!("the table \"{table}\" is missing")).into()),
        None => Ok(DatabaseContent::Store {
            version: found,
            id: row.try_get(1)?,
        }),
    }
}

/// Creates or updates the schema up to a version, as one change that other programs wait for.
pub(super) async fn migrate(client: &Client, store: &str, to: u32) -> Result<(), Failure> {
    // Filling a new table may take longer than any statement.
    let begin = format!("BEGIN; SET LOCAL statement_timeout = 0; {LOCK}");
    client.batch_execute(&begin).await?;
    // Another program may have done it meanwhile.
    let from = match look_at(client, store).await? {
        DatabaseContent::Empty => {
            let create = format!("CREATE SCHEMA IF NOT EXISTS {SCHEMA}");
            client.batch_execute(&create).await?;
            0
        }
        DatabaseContent::Store { version, .. } => version,
    };
    let steps = (1..)
        .zip(MIGRATIONS)
        .filter(|(number, _)| (from + 1..=to).contains(number));
    for (number, sql) in steps {
        client.batch_execute(sql).await?;
        let sql = format!("UPDATE store SET version = {number}");
        client.batch_execute(&sql).await?;
    }
    client.batch_execute("COMMIT").await?;
    Ok(())
}
