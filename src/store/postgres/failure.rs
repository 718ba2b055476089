//! Errors of the database, by what has to be done.

use std::error::Error as _;

use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

use super::settings::STATEMENT_TIMEOUT;
use crate::store::StoreError;

/// Error of the database, or one that is explained already.
#[derive(Debug)]
pub(super) enum Failure {
    Database(Error),
    Store(StoreError),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Database(error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Failure {
    pub(super) fn describe(self, store: &str) -> StoreError {
        match self {
            Self::Store(error) => error,
            Self::Database(error) => describe(store, &error),
        }
    }
}

/// Explains an error. Messages of the server have names of its schema and of the user, and no content.
fn describe(store: &str, error: &Error) -> StoreError {
    let store = store.to_owned();
    let Some(database) = error.as_db_error() else {
        let detail = match error.source() {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        };
        return StoreError::Unreachable { store, detail };
    };
    let code = database.code();
    let detail = format!("{} {}", code.code(), database.message());
    if *code == SqlState::QUERY_CANCELED {
        let seconds = STATEMENT_TIMEOUT.as_secs();
        return StoreError::Timeout { seconds };
    }
    match code.code().get(..2).unwrap_or_default() {
        // Resources of the server; its volume is one of them.
        "53" if *code == SqlState::DISK_FULL => StoreError::Full { store, bytes: 0 },
        // Connection, authentication, database, resources, administration of the server.
        "08" | "28" | "3D" | "53" | "57" => StoreError::Unreachable { store, detail },
        "25" if *code == SqlState::READ_ONLY_SQL_TRANSACTION => StoreError::ReadOnly { store },
        // Absent tables and columns; damaged files.
        "42" if is_absent(code) => StoreError::Damaged { store, detail },
        "3F" | "XX" => StoreError::Damaged { store, detail },
        _ => StoreError::Failed { store, detail },
    }
}

fn is_absent(code: &SqlState) -> bool {
    [
        SqlState::UNDEFINED_TABLE,
        SqlState::UNDEFINED_COLUMN,
        SqlState::UNDEFINED_OBJECT,
    ]
    .contains(code)
}
