//! Rows about authors that a line has beside its index.

use rusqlite::{Connection, Statement, params};

use crate::audit::stored::{AuthorObject, StoredLine};
use crate::store::query::nanoseconds;

/// Statements about the rows of a line beside its index.
pub(super) struct AuthorRows<'c> {
    object: Statement<'c>,
    unattributed: Statement<'c>,
    attribution: Option<Statement<'c>>,
}

impl<'c> AuthorRows<'c> {
    pub(super) fn inserting(connection: &'c Connection) -> rusqlite::Result<Self> {
        let object = "INSERT INTO event_object (namespace, kind, name, time, position)
            VALUES (?1, ?2, ?3, ?4, ?5)";
        let unattributed = "INSERT INTO unattributed (position) VALUES (?1)";
        Ok(Self {
            object: connection.prepare(object)?,
            unattributed: connection.prepare(unattributed)?,
            attribution: None,
        })
    }

    pub(super) fn deleting(connection: &'c Connection) -> rusqlite::Result<Self> {
        let object = "DELETE FROM event_object
            WHERE namespace = ?1 AND kind = ?2 AND name = ?3 AND time = ?4 AND position = ?5";
        let unattributed = "DELETE FROM unattributed WHERE position = ?1";
        let attribution = "DELETE FROM attribution WHERE position = ?1";
        Ok(Self {
            object: connection.prepare(object)?,
            unattributed: connection.prepare(unattributed)?,
            attribution: Some(connection.prepare(attribution)?),
        })
    }

    /// Inserts or deletes the rows of a line.
    pub(super) fn execute(&mut self, line: &StoredLine, position: i64) -> rusqlite::Result<()> {
        if let Some(object) = &line.author_object {
            let time = nanoseconds(line.time);
            let AuthorObject {
                namespace,
                kind,
                name,
            } = object;
            self.object
                .execute(params![namespace, kind, name, time, position])?;
        }
        if line.has_other_author {
            self.unattributed.execute([position])?;
            if let Some(attribution) = &mut self.attribution {
                attribution.execute([position])?;
            }
        }
        Ok(())
    }
}
