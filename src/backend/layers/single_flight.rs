//! Single flight: concurrent reads of one object share a request.
//!
//! A read that is under way may have seen the object before the review of the caller arrived. So a caller shares it
//! only if it began later; otherwise the caller shares the *next* read, which waits for the one under way. At most one
//! read per key runs and one waits, however many reviews arrive.
//!
//! A read that is under way has the deadline of the callers that had joined when it began. A caller that joins it with
//! a later deadline, and gets [`ErrorKind::Deadline`], joins another read: a caller with a short deadline does not
//! affect the others.

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

/// Result of a read, for all of its waiters.
pub(crate) type ReadResult<V> = Result<V, BackendError>;

/// A read that its waiters own together: when the last of them leaves, it is dropped, and the work with it.
type SharedRead<V> = Shared<BoxFuture<'static, ReadResult<V>>>;

/// Requests of all waiters of one read together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReadRequest {
    /// Whether one of them needs key names, and not only existence.
    pub(crate) keys: bool,
    /// Latest deadline of them.
    pub(crate) deadline: Instant,
}

/// Reads that are under way or waiting, by key. A key without either has no entry.
pub(crate) struct SingleFlight<K, V> {
    slots: Mutex<HashMap<K, KeySlot<V>>>,
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

struct KeySlot<V> {
    /// One permit: the right to read.
    gate: Arc<Semaphore>,
    /// Number of tickets; the slot is removed with the last.
    tickets: usize,
    next: Option<QueuedRead<V>>,
    running: Option<RunningRead<V>>,
}

struct QueuedRead<V> {
    id: u64,
    request: ReadRequest,
    read: WeakShared<BoxFuture<'static, ReadResult<V>>>,
}

struct RunningRead<V> {
    id: u64,
    request: ReadRequest,
    began: Instant,
    read: WeakShared<BoxFuture<'static, ReadResult<V>>>,
}

/// A read that a caller has joined.
struct JoinedRead<V> {
    read: SharedRead<V>,
    /// Whether others had joined it before.
    shared: bool,
    /// Whether it began with an earlier deadline than that of the caller.
    short_deadline: bool,
}

impl<K, V> SingleFlight<K, V> {
    /// Number of keys that are being read.
    pub(crate) fn len(&self) -> usize {
        self.slots().len()
    }

    fn slots(&self) -> MutexGuard<'_, HashMap<K, KeySlot<V>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K, V> SingleFlight<K, V>
where
    K: Clone + Eq + Hash + Send + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Returns the result of a read of `key` that begins after `arrived`, and whether the caller shared it with others.
    /// If there is no such read, `work` makes it, from the requests of its waiters at the time it begins, and that
    /// time.
    pub(crate) async fn read<W, F>(
        self: &Arc<Self>,
        key: &K,
        request: ReadRequest,
        arrived: Instant,
        work: W,
    ) -> (ReadResult<V>, bool)
    where
        W: FnOnce(ReadRequest, Instant) -> F + Clone + Send + 'static,
        F: Future<Output = ReadResult<V>> + Send + 'static,
    {
        let JoinedRead {
            read,
            shared,
            short_deadline,
        } = self.join(key, request, arrived, true, work.clone());
        let result = read.await;
        if short_deadline && matches!(&result, Err(error) if error.kind == ErrorKind::Deadline) {
            // Only with callers that have as much time: there is no third attempt.
            let JoinedRead { read, shared, .. } = self.join(key, request, arrived, false, work);
            return (read.await, shared);
        }
        (result, shared)
    }

    /// Joins a read of `key` that begins after `arrived`; with `short_deadline`, possibly one that began with an
    /// earlier deadline.
    fn join<W, F>(
        self: &Arc<Self>,
        key: &K,
        request: ReadRequest,
        arrived: Instant,
        short_deadline: bool,
        work: W,
    ) -> JoinedRead<V>
    where
        W: FnOnce(ReadRequest, Instant) -> F + Send + 'static,
        F: Future<Output = ReadResult<V>> + Send + 'static,
    {
        let mut slots = self.slots();
        let slot = slots.entry(key.clone()).or_insert_with(KeySlot::new);
        // A strong handle is created only to be returned: dropping the last one here would drop its ticket, which takes
        // this lock.
        if let Some(joined) = slot.joinable(request, arrived, short_deadline) {
            return joined;
        }
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        slot.tickets += 1;
        let ticket = ReadTicket {
            single_flight: Arc::clone(self),
            key: key.clone(),
            id,
        };
        let gate = Arc::clone(&slot.gate);
        let read = async move {
            let ticket = ticket;
            let _permit = gate
                .acquire_owned()
                .await
                .expect("a slot's gate is never closed");
            let (request, began) = ticket.begin().unwrap_or((request, Instant::now()));
            work(request, began).await
        }
        .boxed()
        .shared();
        slot.next = read
            .downgrade()
            .map(|read| QueuedRead { id, request, read });
        JoinedRead {
            read,
            shared: false,
            short_deadline: false,
        }
    }
}

impl<V: Clone> KeySlot<V> {
    fn new() -> Self {
        Self {
            gate: Arc::new(Semaphore::new(1)),
            tickets: 0,
            next: None,
            running: None,
        }
    }

    fn joinable(
        &mut self,
        request: ReadRequest,
        arrived: Instant,
        short_deadline: bool,
    ) -> Option<JoinedRead<V>> {
        let fits = |read: &&RunningRead<V>| {
            read.began > arrived
                && (read.request.keys || !request.keys)
                && (short_deadline || read.request.deadline >= request.deadline)
        };
        if let Some(running) = self.running.as_ref().filter(fits)
            && let Some(read) = running.read.upgrade()
        {
            return Some(JoinedRead {
                read,
                shared: true,
                short_deadline: running.request.deadline < request.deadline,
            });
        }
        let next = self.next.as_mut()?;
        let read = next.read.upgrade()?;
        next.request.keys |= request.keys;
        next.request.deadline = next.request.deadline.max(request.deadline);
        Some(JoinedRead {
            read,
            shared: true,
            short_deadline: false,
        })
    }
}

/// Entry of a read in its slot, removed when the read ends or is dropped.
struct ReadTicket<K: Eq + Hash, V> {
    single_flight: Arc<SingleFlight<K, V>>,
    key: K,
    id: u64,
}

impl<K: Eq + Hash, V> ReadTicket<K, V> {
    /// Closes the read for further waiters: callers that arrive from now on need another one.
    fn begin(&self) -> Option<(ReadRequest, Instant)> {
        let mut slots = self.single_flight.slots();
        let slot = slots.get_mut(&self.key)?;
        let QueuedRead { id, request, read } = slot.next.take_if(|next| next.id == self.id)?;
        let began = Instant::now();
        slot.running = Some(RunningRead {
            id,
            request,
            began,
            read,
        });
        Some((request, began))
    }
}

impl<K: Eq + Hash, V> Drop for ReadTicket<K, V> {
    fn drop(&mut self) {
        let mut slots = self.single_flight.slots();
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
