//! Single flight by "the next read": who may share which read of a secret.
//!
//! A read that is under way may have looked before the caller's review arrived, so a caller shares it only
//! when it began later; otherwise the caller shares the *next* read, which waits for the one under way. So at
//! most one read per secret runs and one waits, however many reviews come in.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::FutureExt;
use futures::future::{BoxFuture, Shared, WeakShared};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::{BindKey, Bound};
use crate::backend::BackendError;

/// What a read answers all of its waiters.
pub(super) type Outcome = Result<Arc<Bound>, BackendError>;

/// A read that its waiters own together: when the last of them goes, it is dropped, and the work with it.
pub(super) type Read = Shared<BoxFuture<'static, Outcome>>;

/// What all waiters of one read want together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ask {
    /// One of them wants key names.
    pub(super) keys: bool,
    /// When the last of them gives up.
    pub(super) deadline: Instant,
}

/// The reads that are under way or waiting, by secret. A secret without either has no entry.
#[derive(Default)]
pub(super) struct Flights {
    slots: Mutex<HashMap<BindKey, Slot>>,
    ids: AtomicU64,
}

impl fmt::Debug for Flights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flights").field("secrets", &self.len()).finish()
    }
}

struct Slot {
    /// One permit: the right to read.
    gate: Arc<Semaphore>,
    /// How many tickets exist; the slot goes with the last.
    tickets: usize,
    next: Option<Waiting>,
    running: Option<Running>,
}

struct Waiting {
    id: u64,
    ask: Ask,
    read: WeakShared<BoxFuture<'static, Outcome>>,
}

struct Running {
    id: u64,
    keys: bool,
    began: Instant,
    read: WeakShared<BoxFuture<'static, Outcome>>,
}

impl Flights {
    /// A read of `key` that begins after `arrived`, and whether the caller shares it with others. When there
    /// is none, `work` will be it, with what its waiters want by the time it begins, and that time.
    pub(super) fn join<W, F>(self: &Arc<Self>, key: &BindKey, ask: Ask, arrived: Instant, work: W) -> (Read, bool)
    where
        W: FnOnce(Ask, Instant) -> F + Send + 'static,
        F: Future<Output = Outcome> + Send + 'static,
    {
        let mut slots = self.slots();
        let slot = slots.entry(key.clone()).or_insert_with(Slot::new);
        // A strong handle is made only to be returned: dropping the last one here would drop its ticket,
        // which takes this lock.
        if let Some(read) = slot.joinable(ask, arrived) {
            return (read, true);
        }
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        slot.tickets += 1;
        let ticket = Ticket { flights: Arc::clone(self), key: key.clone(), id };
        let gate = Arc::clone(&slot.gate);
        let read = async move {
            let ticket = ticket;
            let _turn = gate.acquire_owned().await.expect("a slot's gate is never closed");
            let (ask, began) = ticket.begin().unwrap_or((ask, Instant::now()));
            work(ask, began).await
        }
        .boxed()
        .shared();
        slot.next = read.downgrade().map(|read| Waiting { id, ask, read });
        (read, false)
    }

    /// How many secrets are being read.
    pub(super) fn len(&self) -> usize {
        self.slots().len()
    }

    fn slots(&self) -> MutexGuard<'_, HashMap<BindKey, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    fn new() -> Self {
        Self { gate: Arc::new(Semaphore::new(1)), tickets: 0, next: None, running: None }
    }

    fn joinable(&mut self, ask: Ask, arrived: Instant) -> Option<Read> {
        let running = self.running.as_ref().filter(|read| read.began > arrived && (read.keys || !ask.keys));
        if let Some(read) = running.and_then(|running| running.read.upgrade()) {
            return Some(read);
        }
        let next = self.next.as_mut()?;
        let read = next.read.upgrade()?;
        next.ask.keys |= ask.keys;
        next.ask.deadline = next.ask.deadline.max(ask.deadline);
        Some(read)
    }
}

/// A read's place in its slot, given back when the read ends or is dropped.
struct Ticket {
    flights: Arc<Flights>,
    key: BindKey,
    id: u64,
}

impl Ticket {
    /// Closes the read for further waiters: from here on it looks, and those who come later need another.
    fn begin(&self) -> Option<(Ask, Instant)> {
        let mut slots = self.flights.slots();
        let slot = slots.get_mut(&self.key)?;
        let Waiting { id, ask, read } = slot.next.take_if(|next| next.id == self.id)?;
        let began = Instant::now();
        slot.running = Some(Running { id, keys: ask.keys, began, read });
        Some((ask, began))
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut slots = self.flights.slots();
        let Some(slot) = slots.get_mut(&self.key) else { return };
        slot.next.take_if(|next| next.id == self.id);
        slot.running.take_if(|running| running.id == self.id);
        slot.tickets -= 1;
        if slot.tickets == 0 {
            slots.remove(&self.key);
        }
    }
}
