//! Database of an open store: one connection that writes, and some that read. A connection that failed is replaced, after
//! a look at what the database has by then.

use std::pin::Pin;
use std::sync::{Mutex as StdMutex, PoisonError};

use tokio::sync::{Mutex, Semaphore, watch};
use tokio::time::timeout;
use tokio_postgres::{Client, Error};

use super::append::{SizeLimit, Written};
use super::connection::connect;
use super::failure::Failure;
use super::read::last_position;
use super::schema::{DatabaseContent, LOCK, SCHEMA_VERSION, look_at, migrate};
use super::settings::{PostgresSettings, READERS};
use crate::store::{LinePosition, StoreError};

/// Statements of one call, as a future that borrows its connection.
pub(super) type Statements<'c, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'c>>;

/// Transaction whose statements see one state of the store.
const BEGIN_READING: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

#[derive(Debug)]
pub(super) struct Database {
    settings: PostgresSettings,
    /// Id of the store that was opened. Another one is not written.
    id: String,
    writer: Mutex<Option<Client>>,
    readers: Semaphore,
    idle: StdMutex<Vec<Client>>,
    committed: watch::Sender<LinePosition>,
}

impl Database {
    /// Connects, and creates or updates the schema if the database is to be written.
    pub(super) async fn open(
        settings: PostgresSettings,
        is_written: bool,
    ) -> Result<Self, StoreError> {
        let opened = Self::open_client(&settings, is_written).await;
        let (client, id, last) =
            opened.map_err(|failure| failure.describe(settings.address.name()))?;
        Ok(Self {
            settings,
            id,
            writer: Mutex::new(is_written.then_some(client)),
            readers: Semaphore::new(READERS),
            idle: StdMutex::default(),
            committed: watch::channel(last).0,
        })
    }

    async fn open_client(
        settings: &PostgresSettings,
        is_written: bool,
    ) -> Result<(Client, String, LinePosition), Failure> {
        let name = settings.address.name();
        let connected = within_deadline(settings, async {
            let client = connect(settings).await?;
            let content = look_at(&client, name).await?;
            Ok((client, content))
        });
        let (client, mut content) = connected.await?;
        let is_created = is_written && settings.create && matches!(content, DatabaseContent::Empty);
        if is_created || is_written && content.is_older() {
            // Without a limit of time: a new table is filled.
            migrate(&client, name, SCHEMA_VERSION).await?;
            content = within_deadline(settings, look_at(&client, name)).await?;
        }
        if is_created {
            tracing::warn!(store = name, "the database had no audit store: created one");
        }
        let store = || name.to_owned();
        match content {
            DatabaseContent::Empty => Err(StoreError::NotFound { store: store() }.into()),
            DatabaseContent::Store { version, .. } if version < SCHEMA_VERSION => {
                Err(StoreError::Older {
                    store: store(),
                    found: version,
                    known: SCHEMA_VERSION,
                }
                .into())
            }
            DatabaseContent::Store { id, .. } => {
                let last = async { Ok(last_position(&client).await?) };
                let last = within_deadline(settings, last).await?;
                Ok((client, id, last))
            }
        }
    }

    pub(super) fn name(&self) -> &str {
        self.settings.address.name()
    }

    pub(super) fn limit(&self) -> SizeLimit {
        SizeLimit {
            store: self.name().to_owned(),
            max_bytes: self.settings.max_bytes,
        }
    }

    pub(super) fn committed(&self) -> watch::Receiver<LinePosition> {
        self.committed.subscribe()
    }

    /// Connects again, to the store that was opened.
    async fn reconnect(&self) -> Result<Client, Failure> {
        let client = connect(&self.settings).await?;
        let detail = match look_at(&client, self.name()).await? {
            DatabaseContent::Store { id, .. } if id == self.id => return Ok(client),
            DatabaseContent::Store { .. } => "another store",
            DatabaseContent::Empty => "no store",
        };
        Err(StoreError::Replaced {
            store: self.name().to_owned(),
            detail: detail.to_owned(),
        }
        .into())
    }

    /// Runs statements in one transaction that no other writer is in. When this returns, the transaction has ended, or
    /// the lock of the next one waits for its end.
    pub(super) async fn write<T>(
        &self,
        statements: impl for<'c> FnOnce(&'c Client) -> Statements<'c, Written<T>>,
    ) -> Result<T, StoreError> {
        let mut idle = self.writer.lock().await;
        let client = idle.take();
        let written = async {
            let client = match client.filter(|client| !client.is_closed()) {
                Some(client) => client,
                None => self.reconnect().await?,
            };
            // The server runs them in this order; the first statement need not wait for the response.
            let begin = format!("BEGIN; {LOCK}");
            let started = client.batch_execute(&begin);
            let ((), written) = futures::try_join!(started, statements(&client))?;
            client.batch_execute("COMMIT").await?;
            Ok::<_, Failure>((client, written))
        };
        let written = self.bounded(written).await;
        let (client, written) = written.map_err(|error| match error {
            // Not a query: there is nothing to narrow.
            StoreError::Timeout { seconds } => StoreError::Unreachable {
                store: self.name().to_owned(),
                detail: format!(
                    "a change waited longer than {seconds} s for its disk, or for another writer"
                ),
            },
            error => error,
        })?;
        // A connection whose transaction failed is not used again.
        *idle = Some(client);
        if let Some(last) = written.last {
            self.publish(last);
        }
        Ok(written.value)
    }

    /// Runs statements that see one state of the store.
    pub(super) async fn read<T>(
        &self,
        statements: impl for<'c> FnOnce(&'c Client) -> Statements<'c, T>,
    ) -> Result<T, StoreError> {
        let permit = self.readers.acquire().await;
        let _permit = permit.map_err(|_| StoreError::Closed {
            store: self.name().to_owned(),
        })?;
        let client = self.idle().pop();
        let read = async {
            let client = match client.filter(|client| !client.is_closed()) {
                Some(client) => client,
                None => self.reconnect().await?,
            };
            let started = client.batch_execute(BEGIN_READING);
            let ((), value) = futures::try_join!(started, statements(&client))?;
            client.batch_execute("COMMIT").await?;
            Ok::<_, Failure>((client, value))
        };
        let (client, value) = self.bounded(read).await?;
        self.idle().push(client);
        Ok(value)
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Client>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn bounded<T>(
        &self,
        call: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, StoreError> {
        let result = within_deadline(&self.settings, call).await;
        result.map_err(|failure| failure.describe(self.name()))
    }

    /// Reads the position of the last commit, which may be one of another program.
    pub(super) async fn refresh(&self) -> Result<(), StoreError> {
        let last = self.read(|client| Box::pin(last_position(client))).await?;
        self.publish(last);
        Ok(())
    }

    fn publish(&self, last: LinePosition) {
        let advance = |position: &mut LinePosition| {
            let is_later = *position < last;
            *position = last.max(*position);
            is_later
        };
        self.committed.send_if_modified(advance);
    }
}

/// Bounds a call whose server does not answer, not even that a statement took too long.
async fn within_deadline<T>(
    settings: &PostgresSettings,
    call: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let result = timeout(2 * settings.statement_timeout, call).await;
    result.unwrap_or_else(|_| {
        let detail = "it did not answer in time".to_owned();
        let store = settings.address.name().to_owned();
        Err(StoreError::Unreachable { store, detail }.into())
    })
}
