//! Thread beside the writer for slow work: it moves the WAL into the file, and fills the reserve.
//!
//! A checkpoint of this thread does not hold up commits. But the WAL begins again at its start only if all of it was moved
//! before a commit, so the writer moves the few pages itself that were added during a long checkpoint.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::reserve::Reserve;

/// Pages that the WAL gets between two checkpoints: 8 MiB. A page that many commits change is written once.
const CHECKPOINT_PAGES: u32 = 1_024;

/// Pages of the WAL after which it should begin again at its start: 16 MiB.
const RESTART_PAGES: u32 = 2_048;

/// Pages that a commit may find to move itself: 1 MiB. Appends wait for it.
const MOVED_BY_COMMIT: u32 = 128;

/// Checkpoints of a long WAL in a row, each of the pages that were added during the one before.
const MAX_CHECKPOINTS: usize = 5;

/// Time between attempts to fill a reserve that was given up.
const RESERVE_INTERVAL: Duration = Duration::from_mins(1);

/// Handle of the thread. Dropping it ends the thread, after a checkpoint under way.
#[derive(Debug)]
pub(super) struct Maintenance {
    shared: Arc<MaintenanceQueue>,
    reserve: Option<Reserve>,
    /// Pages of the WAL after the last commit.
    pages: u32,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct MaintenanceQueue {
    requests: Mutex<MaintenanceRequests>,
    changed: Condvar,
    /// Set by the thread after a checkpoint of a long WAL.
    restart: AtomicBool,
}

#[derive(Debug, Default)]
struct MaintenanceRequests {
    checkpoint: bool,
    reserve: bool,
    /// Senders that wait for the reserve.
    replies: Vec<oneshot::Sender<()>>,
    stop: bool,
}

impl MaintenanceQueue {
    fn requests(&self) -> MutexGuard<'_, MaintenanceRequests> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Maintenance {
    /// Fills the reserve, and starts the thread with a connection of its own. Blocks.
    pub(super) fn start(connection: Connection, reserve: Option<Reserve>) -> std::io::Result<Self> {
        if let Some(reserve) = &reserve {
            reserve.restore();
        }
        let shared = Arc::new(MaintenanceQueue::default());
        let state = (Arc::clone(&shared), reserve.clone());
        let thread = std::thread::Builder::new()
            .name("audit-maintain".to_owned())
            .spawn(move || run(&connection, &state.0, state.1.as_ref()))?;
        Ok(Self {
            shared,
            reserve,
            pages: 0,
            thread: Some(thread),
        })
    }

    /// Notes the pages of the WAL after a commit of a connection. Starts a checkpoint when there are many new ones.
    pub(super) fn committed(&mut self, connection: &Connection, pages: u32) {
        let before = std::mem::replace(&mut self.pages, pages);
        let mut requests = self.shared.requests();
        if pages / CHECKPOINT_PAGES > before / CHECKPOINT_PAGES {
            requests.checkpoint = true;
            self.shared.changed.notify_one();
        }
        drop(requests);
        if self.shared.restart.swap(false, Ordering::AcqRel) {
            checkpoint(connection);
        }
    }

    /// Gives up the reserve on a full volume, and moves the WAL into its room.
    pub(super) fn give_up_reserve(&self, connection: &Connection) {
        if let Some(reserve) = &self.reserve {
            reserve.give_up();
        }
        checkpoint(connection);
    }

    pub(super) fn reserve_keeper(&self) -> ReserveKeeper {
        ReserveKeeper(Arc::clone(&self.shared))
    }
}

/// Handle that asks for the reserve.
#[derive(Debug)]
pub(super) struct ReserveKeeper(Arc<MaintenanceQueue>);

impl ReserveKeeper {
    /// Fills the reserve, if it was given up and there is room for it.
    pub(super) async fn restore(&self) {
        let (reply, done) = oneshot::channel();
        {
            let mut requests = self.0.requests();
            requests.reserve = true;
            requests.replies.push(reply);
        }
        self.0.changed.notify_one();
        // The thread is gone only when the store is.
        drop(done.await);
    }
}

impl Drop for Maintenance {
    fn drop(&mut self) {
        self.shared.requests().stop = true;
        self.shared.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            // The connection is closed when the store is.
            drop(thread.join());
        }
    }
}

fn run(connection: &Connection, shared: &MaintenanceQueue, reserve: Option<&Reserve>) {
    loop {
        let mut requests = shared.requests();
        while !(requests.stop || requests.checkpoint || requests.reserve) {
            let waited = shared.changed.wait_timeout(requests, RESERVE_INTERVAL);
            let (guard, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            requests = guard;
            requests.reserve |= timeout.timed_out() && reserve.is_some();
        }
        if requests.stop {
            requests.replies.clear();
            return;
        }
        let restores = std::mem::take(&mut requests.reserve);
        requests.checkpoint = false;
        let replies = std::mem::take(&mut requests.replies);
        drop(requests);
        // Room of returned pages is free after a checkpoint.
        if is_restart_due(connection) {
            shared.restart.store(true, Ordering::Release);
        }
        if let Some(reserve) = reserve.filter(|_| restores) {
            reserve.restore();
        }
        for reply in replies {
            // A sender that is gone needs no reply.
            let _ = reply.send(());
        }
    }
}

/// Moves pages of the WAL. Returns whether it is long, and a commit would have to move few pages for it to begin again.
fn is_restart_due(connection: &Connection) -> bool {
    let mut before = checkpoint(connection).unwrap_or_default();
    if before < RESTART_PAGES {
        return false;
    }
    for _ in 1..MAX_CHECKPOINTS {
        let pages = checkpoint(connection).unwrap_or_default();
        if pages.saturating_sub(before) <= MOVED_BY_COMMIT {
            break;
        }
        before = pages;
    }
    true
}

/// Moves as much of the WAL as possible without waiting. Returns its pages. What fails is tried again: the next commit
/// reports a volume that is full.
fn checkpoint(connection: &Connection) -> Option<u32> {
    let sql = "PRAGMA wal_checkpoint(PASSIVE)";
    connection.query_row(sql, [], |row| row.get(1)).ok()
}
