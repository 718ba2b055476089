//! Place of a store: a file of SQLite, or the URL of a PostgreSQL database.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::runtime::Handle;

use super::postgres::{InvalidAddress, PostgresAddress, PostgresSettings, PostgresStore};
use super::sqlite::{SqliteSettings, SqliteStore};
use super::{AuditStore, StoreError};

/// File or database of a store.
#[derive(Clone, PartialEq, Eq)]
pub enum StoreLocation {
    File(PathBuf),
    Database(PostgresAddress),
}

impl StoreLocation {
    /// Reads a path or a URL.
    ///
    /// # Errors
    ///
    /// The URL has a password, or is not complete.
    pub fn parse(text: &str) -> Result<Self, InvalidAddress> {
        Ok(if PostgresAddress::is_url(text) {
            Self::Database(PostgresAddress::parse(text)?)
        } else {
            Self::File(text.into())
        })
    }
}

impl fmt::Display for StoreLocation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(formatter, "{}", path.display()),
            Self::Database(address) => formatter.write_str(address.name()),
        }
    }
}

impl fmt::Debug for StoreLocation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{self}")
    }
}

/// Settings of a store of either kind.
#[derive(Clone, Debug)]
pub struct StoreSettings {
    pub location: StoreLocation,
    /// File with the password of the database.
    pub password_file: Option<PathBuf>,
    /// File with the CA of the database's certificate.
    pub ca_file: Option<PathBuf>,
    /// Creates the store if there is none. Nothing is created over anything else.
    pub create: bool,
    /// Size at which the store is full.
    pub max_bytes: Option<u64>,
    /// Name of this process for the message to another one that wants to write a file.
    pub holder: String,
    /// Keeps a file that is given up when the volume of a file is full.
    pub reserve: bool,
}

impl StoreSettings {
    /// Settings of a store that has to exist.
    #[must_use]
    pub fn new(location: StoreLocation) -> Self {
        Self {
            location,
            password_file: None,
            ca_file: None,
            create: false,
            max_bytes: None,
            holder: String::new(),
            reserve: false,
        }
    }

    fn file(&self, path: &PathBuf) -> SqliteSettings {
        SqliteSettings {
            create: self.create,
            max_bytes: self.max_bytes,
            holder: self.holder.clone(),
            reserve: self.reserve,
            ..SqliteSettings::new(path)
        }
    }

    fn database(&self, address: &PostgresAddress) -> PostgresSettings {
        PostgresSettings {
            password_file: self.password_file.clone(),
            ca_file: self.ca_file.clone(),
            create: self.create,
            max_bytes: self.max_bytes,
            ..PostgresSettings::new(address.clone())
        }
    }

    /// Opens the store for writing, and updates its schema. Blocks: to be called on a blocking thread of a runtime.
    ///
    /// # Errors
    ///
    /// The store cannot be reached, does not exist, is in use, damaged, foreign, or of a newer schema. It is left as it is
    /// then.
    pub fn open(&self) -> Result<Arc<dyn AuditStore>, StoreError> {
        Ok(match &self.location {
            StoreLocation::File(path) => Arc::new(SqliteStore::open(&self.file(path))?),
            StoreLocation::Database(address) => {
                let opening = PostgresStore::open(self.database(address));
                Arc::new(Handle::current().block_on(opening)?)
            }
        })
    }

    /// Opens the store for reading, also beside the process that writes it. Blocks: to be called on a blocking thread of
    /// a runtime.
    ///
    /// # Errors
    ///
    /// The store cannot be reached, does not exist, is damaged, foreign, or of another schema.
    pub fn open_read_only(&self) -> Result<Arc<dyn AuditStore>, StoreError> {
        Ok(match &self.location {
            StoreLocation::File(path) => Arc::new(SqliteStore::open_read_only(&self.file(path))?),
            StoreLocation::Database(address) => {
                let opening = PostgresStore::open_read_only(self.database(address));
                Arc::new(Handle::current().block_on(opening)?)
            }
        })
    }
}
