//! Schema of the file: numbered SQL, applied once each.

use rusqlite::Connection;

/// Marks a file as a store of the audit trail: `FSWA`.
pub(super) const APPLICATION_ID: i32 = 0x4653_5741;

/// Changes of the schema, from nothing on. A number is never changed after its release.
pub(super) const MIGRATIONS: &[&str] = &[
    include_str!("../../../migrations/audit/sqlite/0001.sql"),
    include_str!("../../../migrations/audit/sqlite/0002.sql"),
    include_str!("../../../migrations/audit/sqlite/0003.sql"),
    include_str!("../../../migrations/audit/sqlite/0004.sql"),
    include_str!("../../../migrations/audit/sqlite/0005.sql"),
];

/// Version of the schema that this program writes and reads.
#[expect(
    clippy::cast_possible_truncation,
    reason = "there are a few migrations"
)]
pub const SCHEMA_VERSION: u32 = MIGRATIONS.len() as u32;

/// Tables, with the version of the schema that has them first.
pub(super) const TABLES: &[(&str, u32)] = &[
    ("attribution", 2),
    ("chain", 1),
    ("checkpoint", 1),
    ("event", 1),
    ("event_object", 3),
    ("event_secret", 1),
    ("found_event", 4),
    ("missing", 1),
    ("name", 1),
    ("requester", 3),
    ("second_pass", 4),
    ("secret", 1),
    ("unattributed", 3),
];

/// Updates the schema from a version to `to`, each step in a transaction.
pub(super) fn migrate(connection: &mut Connection, from: u32, to: u32) -> rusqlite::Result<()> {
    let steps = (1..)
        .zip(MIGRATIONS)
        .filter(|(number, _)| (from + 1..=to).contains(number));
    for (number, sql) in steps {
        let transaction = connection.transaction()?;
        transaction.execute_batch(sql)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", number)?;
        transaction.commit()?;
    }
    Ok(())
}
