//! Limit of pages of a file, which announcements of deletions may exceed.

use rusqlite::Connection;

use super::settings::SqliteSettings;
use crate::store::RESERVED_BYTES;

/// Pages at which the store is full, and those at which it is full for announcements of deletions.
#[derive(Clone, Copy, Debug)]
pub(super) struct PageLimit {
    pages: u64,
    reserved: u64,
}

impl PageLimit {
    /// Limit of a store's settings, if they have one.
    pub(super) fn of(
        connection: &Connection,
        settings: &SqliteSettings,
    ) -> rusqlite::Result<Option<Self>> {
        let Some(bytes) = settings.max_bytes else {
            return Ok(None);
        };
        let size: u64 = connection.pragma_query_value(None, "page_size", |row| row.get(0))?;
        let pages = (bytes / size.max(1)).max(1);
        let reserved = pages + RESERVED_BYTES / size.max(1);
        Ok(Some(Self { pages, reserved }))
    }

    /// Sets the limit of a connection. It is that of the file's size, if the file is larger.
    pub(super) fn restore(self, connection: &Connection) -> rusqlite::Result<()> {
        set(connection, self.pages)
    }

    pub(super) fn raise(self, connection: &Connection) -> rusqlite::Result<()> {
        set(connection, self.reserved)
    }
}

fn set(connection: &Connection, pages: u64) -> rusqlite::Result<()> {
    connection.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))
}
