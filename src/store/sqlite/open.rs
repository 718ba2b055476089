//! Opening of a file: what it is, before anything of it is changed.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rusqlite::hooks::Wal;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::file::{failed, name, sqlite_error, with_suffix};
use super::lock::StoreLock;
use super::page_limit::PageLimit;
use super::schema::{APPLICATION_ID, SCHEMA_VERSION, TABLES, migrate};
use super::settings::SqliteSettings;
use crate::store::StoreError;

/// Time to wait for another connection, such as one that recovers the WAL.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);

/// Size to which the WAL is cut after a large transaction.
const WAL_LIMIT: u64 = 32 << 20;

/// Bytes of a page: five usual lines. Pages of 4 KiB would have two, and 30 % of them would be empty.
const PAGE_BYTES: u64 = 8 << 10;

/// Memory of a connection that reads for pages.
const READER_CACHE_KIBIBYTES: i64 = 2 << 10;

/// Memory of the writer for pages: those that a transaction of a thousand lines changes. With less, SQLite writes them
/// several times.
const WRITER_CACHE_KIBIBYTES: i64 = 16 << 10;

/// Connection that writes, with the lock on the file.
#[derive(Debug)]
pub(super) struct OpenedStore {
    pub connection: Connection,
    /// Pages of the WAL after the last commit of the connection.
    pub pages: Arc<AtomicU32>,
    /// Connection that moves the WAL into the file.
    pub maintenance: Connection,
    pub lock: StoreLock,
}

/// Content of a file.
enum Content {
    /// Nothing: no file, or one without bytes or tables.
    Empty,
    Store {
        version: u32,
    },
}

/// Opens a file for writing: locks it, looks at it, and only then creates or updates the schema.
pub(super) fn for_writing(settings: &SqliteSettings) -> Result<OpenedStore, StoreError> {
    let path = &settings.path;
    let store = name(path);
    if !settings.create && !path.try_exists().map_err(|error| failed(path, &error))? {
        return Err(StoreError::NotFound { store });
    }
    let lock = StoreLock::acquire(path, &settings.holder)?;
    let content = look_at(path)?;
    let failed = |error: rusqlite::Error| sqlite_error(&store, &error);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags).map_err(failed)?;
    prepare(&mut connection, settings, &content).map_err(failed)?;
    if let Content::Store { version } = content {
        migrate(&mut connection, version, SCHEMA_VERSION).map_err(failed)?;
    }
    let pages = count_pages(&mut connection).map_err(failed)?;
    let maintenance = Connection::open_with_flags(path, flags).map_err(failed)?;
    maintenance.busy_timeout(BUSY_TIMEOUT).map_err(failed)?;
    Ok(OpenedStore {
        connection,
        pages,
        maintenance,
        lock,
    })
}

/// Replaces the checkpoints of a connection's own commits by a count of the pages in the WAL.
fn count_pages(connection: &mut Connection) -> rusqlite::Result<Arc<AtomicU32>> {
    let pages = Arc::new(AtomicU32::new(0));
    let shared = Arc::clone(&pages);
    connection.wal_hook(Some(move |_: &mut Wal, count: i32| {
        shared.store(u32::try_from(count).unwrap_or_default(), Ordering::Relaxed);
        Ok(())
    }))?;
    Ok(pages)
}

/// Sets what a connection that writes needs, and creates the schema in an empty file.
fn prepare(
    connection: &mut Connection,
    settings: &SqliteSettings,
    content: &Content,
) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "cache_size", -WRITER_CACHE_KIBIBYTES)?;
    if matches!(content, Content::Empty) {
        // Before the first table; VACUUM for a file that has pages, but no table.
        connection.pragma_update(None, "page_size", PAGE_BYTES)?;
        connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
        connection.execute_batch("VACUUM")?;
    }
    let mode: String =
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
    debug_assert_eq!(mode, "wal");
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "journal_size_limit", WAL_LIMIT)?;
    if let Some(limit) = PageLimit::of(connection, settings)? {
        // For this connection alone. A limit below the present size becomes that size.
        limit.restore(connection)?;
    }
    if matches!(content, Content::Empty) {
        migrate(connection, 0, SCHEMA_VERSION)?;
    }
    Ok(())
}

/// Opens a file for reading. Its schema has to be this program's.
pub(super) fn for_reading(path: &Path) -> Result<Connection, StoreError> {
    let store = name(path);
    match look_at(path)? {
        Content::Store { version } if version < SCHEMA_VERSION => {
            return Err(StoreError::Older {
                store,
                found: version,
                known: SCHEMA_VERSION,
            });
        }
        Content::Store { .. } => {}
        Content::Empty if path.exists() => {
            let detail = "it is empty".to_owned();
            return Err(StoreError::Foreign { store, detail });
        }
        Content::Empty => return Err(StoreError::NotFound { store }),
    }
    read_only(path)
}

/// Connection that cannot change the file. A file on a read-only volume, without a WAL, cannot change at all.
fn read_only(path: &Path) -> Result<Connection, StoreError> {
    let store = name(path);
    let open = |immutable: bool| -> rusqlite::Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = if immutable {
            let text = path.to_string_lossy();
            let text = text
                .replace('%', "%25")
                .replace('?', "%3f")
                .replace('#', "%23");
            let uri = format!("file:{text}?immutable=1");
            Connection::open_with_flags(uri, flags | OpenFlags::SQLITE_OPEN_URI)?
        } else {
            Connection::open_with_flags(path, flags)?
        };
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.pragma_update(None, "cache_size", -READER_CACHE_KIBIBYTES)?;
        // Reads the file for the first time.
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
        Ok(connection)
    };
    let wal = with_suffix(path, "-wal");
    let has_wal = || wal.metadata().is_ok_and(|wal| wal.len() > 0);
    open(false)
        .or_else(|error| match error.sqlite_error_code() {
            Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly) if !has_wal() => open(true),
            _ => Err(error),
        })
        .map_err(|error| sqlite_error(&store, &error))
}

/// Finds out what a file is, without changing it.
fn look_at(path: &Path) -> Result<Content, StoreError> {
    match path.metadata() {
        Ok(file) if file.is_dir() => {
            return Err(StoreError::Foreign {
                store: name(path),
                detail: "it is a folder".to_owned(),
            });
        }
        Ok(file) if file.len() == 0 => return Ok(Content::Empty),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Content::Empty),
        Err(error) => return Err(failed(path, &error)),
    }
    let store = name(path);
    let connection = read_only(path)?;
    let failed = |error: rusqlite::Error| sqlite_error(&store, &error);
    let number = |pragma| connection.pragma_query_value(None, pragma, |row| row.get::<_, i32>(0));
    let id = number("application_id").map_err(failed)?;
    let version = number("user_version").map_err(failed)?;
    let tables = tables(&connection).map_err(failed)?;
    let version = u32::try_from(version).unwrap_or_default();
    match (id, version) {
        (0, 0) if tables.is_empty() => Ok(Content::Empty),
        (APPLICATION_ID, 0) => Err(StoreError::Damaged {
            store,
            detail: "it has no version of its schema".to_owned(),
        }),
        (APPLICATION_ID, found) if found > SCHEMA_VERSION => Err(StoreError::Newer {
            store,
            found,
            known: SCHEMA_VERSION,
        }),
        (APPLICATION_ID, version) => {
            check_tables(&tables, version, &store)?;
            Ok(Content::Store { version })
        }
        _ => Err(StoreError::Foreign {
            store,
            detail: "it is a SQLite database of another program".to_owned(),
        }),
    }
}

fn tables(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let sql = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'";
    let mut statement = connection.prepare(sql)?;
    let names = statement.query_map([], |row| row.get(0))?;
    names.collect()
}

fn check_tables(found: &[String], version: u32, store: &str) -> Result<(), StoreError> {
    let of_version = TABLES.iter().filter(|(_, since)| *since <= version);
    let mut missing = of_version.filter(|(table, _)| !found.iter().any(|found| found == table));
    missing.next().map_or(Ok(()), |(table, _)| {
        Err(StoreError::Damaged {
            store: store.to_owned(),
            detail: format!("the table \"{table}\" is missing"),
        })
    })
}
