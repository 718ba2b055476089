//! Single flight by "the next read": who may share which read of an object.
//!
//! A read that is under way may have looked before the caller's review arrived, so a caller shares it only
//! when it began later; otherwise the caller shares the *next* read, which waits for the one under way. So at
//! most one read per key runs and one waits, however many reviews come in.
//!
//! A read that is under way has the deadline of those who wanted it when it began. Whoever joins it with more time
//! than that, and is told that the time was too short, joins another one: a caller in a hurry harms nobody else.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::FutureExt;
use futures::future::{BoxFuture, Shared, WeakShared};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::backend::{BackendError, ErrorKind};

/// The answer of a read, for all of its waiters.
pub(crate) type Outcome<V> = Result<V, BackendError>;

/// A read that its waiters own together: when the last of them goes, it is dropped, and the work with it.
type Read<V> = Shared<BoxFuture<'static, Outcome<V>>>;

/// The wishes of all waiters of one read together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReadRequest {
    /// One of them wants key names, and not only to know that the object exists.
    pub(crate) keys: bool,
    /// When the last of them gives up.
    pub(crate) deadline: Instant,
}

/// The reads that are under way or waiting, by key. A key without either has no entry.
pub(crate) struct SingleFlight<K, V> {
    slots: Mutex<HashMap<K, Slot<V>>>,
    ids: AtomicU64,
}

impl<K, V> Default for SingleFlight<K, V> {
    fn default() -> Self {
        Self {
            slots: Mutex::default(),
            ids: AtomicU64::default(),
        }
    }
}

impl<K, V> fmt::Debug for SingleFlight<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SingleFlight")
            .field("keys", &self.len())
            .finish()
    }
}

struct Slot<V> {
    /// One permit: the right to read.
    gate: Arc<Semaphore>,
    /// How many tickets exist; the slot goes with the last.
    tickets: usize,
    next: Option<Waiting<V>>,
    running: Option<Running<V>>,
}

struct Waiting<V> {
    id: u64,
    ask: ReadRequest,
    read: WeakShared<BoxFuture<'static, Outcome<V>>>,
}

struct Running<V> {
    id: u64,
    ask: ReadRequest,
    began: Instant,
    read: WeakShared<BoxFuture<'static, Outcome<V>>>,
}

/// A read that a caller has joined.
struct Joined<V> {
    read: Read<V>,
    /// Others wanted it first.
    shared: bool,
    /// It began for those who give up sooner than the caller.
    hurried: bool,
}

impl<K, V> SingleFlight<K, V> {
    /// How many keys are being read.
    pub(crate) fn len(&self) -> usize {
        self.slots().len()
    }

    fn slots(&self) -> MutexGuard<'_, HashMap<K, Slot<V>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K, V> SingleFlight<K, V>
where
    K: Clone + Eq + Hash + Send + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// The answer of a read of `key` that begins after `arrived`, and whether the caller shared it with others.
    /// Where there is no such read, `work` makes it, from the wishes of its waiters by the time it begins, and that
    /// time.
    pub(crate) async fn read<W, F>(
        self: &Arc<Self>,
        key: &K,
        ask: ReadRequest,
        arrived: Instant,
        work: W,
    ) -> (Outcome<V>, bool)
    where
        W: FnOnce(ReadRequest, Instant) -> F + Clone + Send + 'static,
        F: Future<Output = Outcome<V>> + Send + 'static,
    {
        let Joined {
            read,
            shared,
            hurried,
        } = self.join(key, ask, arrived, true, work.clone());
        let outcome = read.await;
        if hurried && matches!(&outcome, Err(error) if error.kind == ErrorKind::Deadline) {
            // Now only with those who have as much time, so that there is no third time.
            let Joined { read, shared, .. } = self.join(key, ask, arrived, false, work);
            return (read.await, shared);
        }
        (outcome, shared)
    }

    /// A read of `key` that begins after `arrived`; with `hurried` perhaps one that others gave less time.
    fn join<W, F>(
        self: &Arc<Self>,
        key: &K,
        ask: ReadRequest,
        arrived: Instant,
        hurried: bool,
        work: W,
    ) -> Joined<V>
    where
        W: FnOnce(ReadRequest, Instant) -> F + Send + 'static,
        F: Future<Output = Outcome<V>> + Send + 'static,
    {
        let mut slots = self.slots();
        let slot = slots.entry(key.clone()).or_insert_with(Slot::new);
        // A strong handle is made only to be returned: dropping the last one here would drop its ticket,
        // which takes this lock.
        if let Some(joined) = slot.joinable(ask, arrived, hurried) {
            return joined;
        }
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        slot.tickets += 1;
        let ticket = Ticket {
            flights: Arc::clone(self),
            key: key.clone(),
            id,
        };
        let gate = Arc::clone(&slot.gate);
        let read = async move {
            let ticket = ticket;
            let _turn = gate
                .acquire_owned()
                .await
                .expect("a slot's gate is never closed");
            let (ask, began) = ticket.begin().unwrap_or((ask, Instant::now()));
            work(ask, began).await
        }
        .boxed()
        .shared();
        slot.next = read.downgrade().map(|read| Waiting { id, ask, read });
        Joined {
            read,
            shared: false,
            hurried: false,
        }
    }
}

impl<V: Clone> Slot<V> {
    fn new() -> Self {
        Self {
            gate: Arc::new(Semaphore::new(1)),
            tickets: 0,
            next: None,
            running: None,
        }
    }

    fn joinable(&mut self, ask: ReadRequest, arrived: Instant, hurried: bool) -> Option<Joined<V>> {
        let fits = |read: &&Running<V>| {
            read.began > arrived
                && (read.ask.keys || !ask.keys)
                && (hurried || read.ask.deadline >= ask.deadline)
        };
        if let Some(running) = self.running.as_ref().filter(fits)
            && let Some(read) = running.read.upgrade()
        {
            return Some(Joined {
                read,
                shared: true,
                hurried: running.ask.deadline < ask.deadline,
            });
        }
        let next = self.next.as_mut()?;
        let read = next.read.upgrade()?;
        next.ask.keys |= ask.keys;
        next.ask.deadline = next.ask.deadline.max(ask.deadline);
        Some(Joined {
            read,
            shared: true,
            hurried: false,
        })
    }
}

/// A read's place in its slot, given back when the read ends or is dropped.
struct Ticket<K: Eq + Hash, V> {
    flights: Arc<SingleFlight<K, V>>,
    key: K,
    id: u64,
}

impl<K: Eq + Hash, V> Ticket<K, V> {
    /// Closes the read for further waiters: from here on it looks, and those who come later need another.
    fn begin(&self) -> Option<(ReadRequest, Instant)> {
        let mut slots = self.flights.slots();
        let slot = slots.get_mut(&self.key)?;
        let Waiting { id, ask, read } = slot.next.take_if(|next| next.id == self.id)?;
        let began = Instant::now();
        slot.running = Some(Running {
            id,
            ask,
            began,
            read,
        });
        Some((ask, began))
    }
}

impl<K: Eq + Hash, V> Drop for Ticket<K, V> {
    fn drop(&mut self) {
        let mut slots = self.flights.slots();
        let Some(slot) = slots.get_mut(&self.key) else {
            return;
        };
        slot.next.take_if(|next| next.id == self.id);
        slot.running.take_if(|running| running.id == self.id);
        slot.tickets -= 1;
        if slot.tickets == 0 {
            slots.remove(&self.key);
        }
    }
}
