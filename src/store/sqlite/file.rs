//! Names of a store's files, and errors about them.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;

use crate::store::StoreError;

/// File of a store, as messages have it.
pub(super) fn name(path: &Path) -> String {
    path.display().to_string()
}

/// Path of a file beside the store.
pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

/// Error of a file system.
pub(super) fn failed(path: &Path, error: &io::Error) -> StoreError {
    let store = name(path);
    match error.kind() {
        io::ErrorKind::NotFound => StoreError::NotFound { store },
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
            StoreError::ReadOnly { store }
        }
        _ => StoreError::Failed {
            store,
            detail: error.to_string(),
        },
    }
}

/// Error of SQLite. Its messages have names of the schema, and no content.
pub(super) fn sqlite_error(store: &str, error: &rusqlite::Error) -> StoreError {
    let store = store.to_owned();
    let detail = error.to_string();
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => StoreError::Full { store, bytes: 0 },
        Some(ErrorCode::DatabaseCorrupt) => StoreError::Damaged { store, detail },
        Some(ErrorCode::NotADatabase) => StoreError::Foreign { store, detail },
        Some(ErrorCode::ReadOnly) => StoreError::ReadOnly { store },
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::Locked {
            store,
            holder: "a program that does not use the store's lock, such as a shell of SQLite"
                .to_owned(),
        },
        _ => StoreError::Failed { store, detail },
    }
}
