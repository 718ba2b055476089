//! Short forms of texts that rows would repeat: keys of names and secrets, and the bytes of ids.

use std::collections::{BTreeSet, HashMap};

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension as _, Statement, params};
use uuid::Uuid;

/// Condition that a column has the key of a name. Its parameter is the name.
pub(super) fn has_name(column: &str) -> String {
    format!("e.{column} = (SELECT key FROM name WHERE text = ?)")
}

/// Key of a secret by its namespace and name.
pub(super) const SECRET_KEY: &str = "(SELECT key FROM secret WHERE namespace = ? AND name = ?)";

/// Keys of names and secrets that a transaction stores. They are found once in it.
pub(super) struct Names<'c> {
    connection: &'c Connection,
    find_name: Statement<'c>,
    find_secret: Statement<'c>,
    keys_by_text: HashMap<String, i64>,
    keys_by_secret: HashMap<(String, String), i64>,
}

impl<'c> Names<'c> {
    pub(super) fn new(connection: &'c Connection) -> rusqlite::Result<Self> {
        let find_secret = "SELECT key FROM secret WHERE namespace = ?1 AND name = ?2";
        Ok(Self {
            connection,
            find_name: connection.prepare("SELECT key FROM name WHERE text = ?1")?,
            find_secret: connection.prepare(find_secret)?,
            keys_by_text: HashMap::new(),
            keys_by_secret: HashMap::new(),
        })
    }

    /// Key of a name, which is stored if it is new. The empty text is none.
    pub(super) fn name(&mut self, text: &str) -> rusqlite::Result<Option<i64>> {
        if text.is_empty() {
            return Ok(None);
        }
        if let Some(key) = self.keys_by_text.get(text) {
            return Ok(Some(*key));
        }
        let found = self.find_name.query_row([text], |row| row.get(0));
        let key = if let Some(key) = found.optional()? {
            key
        } else {
            let sql = "INSERT INTO name (text) VALUES (?1)";
            self.connection.execute(sql, [text])?;
            self.connection.last_insert_rowid()
        };
        self.keys_by_text.insert(text.to_owned(), key);
        Ok(Some(key))
    }

    /// Key of a secret, which is stored if it is new.
    pub(super) fn secret(&mut self, namespace: &str, name: &str) -> rusqlite::Result<i64> {
        let names = (namespace.to_owned(), name.to_owned());
        if let Some(key) = self.keys_by_secret.get(&names) {
            return Ok(*key);
        }
        let values = params![namespace, name];
        let found = self.find_secret.query_row(values, |row| row.get(0));
        let key = if let Some(key) = found.optional()? {
            key
        } else {
            let sql = "INSERT INTO secret (namespace, name) VALUES (?1, ?2)";
            self.connection.execute(sql, values)?;
            self.connection.last_insert_rowid()
        };
        self.keys_by_secret.insert(names, key);
        Ok(key)
    }
}

/// Names and secrets of deleted lines, by their keys.
#[derive(Debug, Default)]
pub(super) struct ReleasedNames {
    pub names: BTreeSet<i64>,
    pub secrets: BTreeSet<i64>,
}

impl ReleasedNames {
    /// Deletes those that no line has any more.
    pub(super) fn delete_unused(self, connection: &Connection) -> rusqlite::Result<()> {
        let sql = "DELETE FROM name WHERE key = ?1
            AND NOT EXISTS (SELECT 1 FROM event INDEXED BY event_actor WHERE actor = ?1)
            AND NOT EXISTS (SELECT 1 FROM event INDEXED BY event_actor_uid WHERE actor_uid = ?1)
            AND NOT EXISTS (SELECT 1 FROM event INDEXED BY event_namespace WHERE namespace = ?1)";
        let mut name = connection.prepare(sql)?;
        for key in self.names {
            name.execute([key])?;
        }
        let sql = "DELETE FROM secret WHERE key = ?1
            AND NOT EXISTS (SELECT 1 FROM event_secret WHERE secret = ?1)";
        let mut secret = connection.prepare(sql)?;
        for key in self.secrets {
            secret.execute([key])?;
        }
        Ok(())
    }
}

/// Id in its column: the bytes of a UUID in its usual form, or the text. The empty text is none.
pub(super) fn compact_id(text: &str) -> Value {
    let uuid = Uuid::try_parse(text).ok();
    // Only a form that has the same text again.
    let uuid = uuid.filter(|uuid| uuid.hyphenated().encode_lower(&mut [0; 36]) == text);
    match uuid {
        Some(uuid) => Value::Blob(uuid.into_bytes().to_vec()),
        None if text.is_empty() => Value::Null,
        None => Value::Text(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ids_in_the_usual_form_are_bytes() {
        let id = "019acb1e-7d30-7000-8000-000000000001";
        assert!(matches!(compact_id(id), Value::Blob(bytes) if bytes.len() == 16));
        for other in [
            id.to_uppercase(),
            id.replace('-', ""),
            format!("{{{id}}}"),
            "a-1".to_owned(),
        ] {
            assert_eq!(compact_id(&other), Value::Text(other.clone()));
        }
        assert_eq!(compact_id(""), Value::Null);
    }
}
