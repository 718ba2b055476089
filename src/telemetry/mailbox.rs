//! Bounded queue of a thread. All that waits is taken at once, and the thread is woken only if it waits.
//!
//! The channels of std look for a next item again and again before they sleep, and wake the receiver for each one. For
//! a thread that writes what others hand over, that cost more than the writing.

use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Sending end. The queue ends when all clones are dropped.
pub(crate) struct MailboxSender<T>(Arc<Mailbox<T>>);

/// Receiving end.
pub(crate) struct MailboxReceiver<T> {
    mailbox: Arc<Mailbox<T>>,
    /// Least time between two takes. Items that come in quick succession are taken together.
    interval: Duration,
    last_take: Option<Instant>,
}

struct Mailbox<T> {
    state: Mutex<MailboxState<T>>,
    arrived: Condvar,
    capacity: usize,
}

struct MailboxState<T> {
    items: Vec<T>,
    /// Items that were taken last; they count as waiting until the next ones are taken.
    taken: usize,
    senders: usize,
    has_receiver: bool,
    is_waiting: bool,
    is_woken: bool,
}

/// Error of sending: the queue is full, or its receiver is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotSent;

/// Queue of at most `capacity` items, which are taken once per `interval` at most.
pub(crate) fn mailbox<T>(
    capacity: usize,
    interval: Duration,
) -> (MailboxSender<T>, MailboxReceiver<T>) {
    let mailbox = Arc::new(Mailbox {
        state: Mutex::new(MailboxState {
            items: Vec::new(),
            taken: 0,
            senders: 1,
            has_receiver: true,
            is_waiting: false,
            is_woken: false,
        }),
        arrived: Condvar::new(),
        capacity,
    });
    (
        MailboxSender(Arc::clone(&mailbox)),
        MailboxReceiver {
            mailbox,
            interval,
            last_take: None,
        },
    )
}

impl<T> Mailbox<T> {
    fn state(&self) -> MutexGuard<'_, MailboxState<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> MailboxState<T> {
    fn is_due(&self) -> bool {
        self.is_woken || self.senders == 0
    }
}

impl<T> MailboxSender<T> {
    /// Hands over an item.
    ///
    /// # Errors
    /// [`NotSent`].
    pub(crate) fn send(&self, item: T) -> Result<(), NotSent> {
        let mut state = self.0.state();
        if !state.has_receiver || state.items.len() + state.taken >= self.0.capacity {
            return Err(NotSent);
        }
        state.items.push(item);
        let is_waiting = std::mem::take(&mut state.is_waiting);
        drop(state);
        if is_waiting {
            self.0.arrived.notify_one();
        }
        Ok(())
    }

    /// Ends a wait of the receiver, the present or the next one.
    pub(crate) fn wake(&self) {
        self.0.state().is_woken = true;
        self.0.arrived.notify_one();
    }
}

impl<T> Clone for MailboxSender<T> {
    fn clone(&self) -> Self {
        self.0.state().senders += 1;
        Self(Arc::clone(&self.0))
    }
}

impl<T> Drop for MailboxSender<T> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.senders -= 1;
        let is_last = state.senders == 0;
        drop(state);
        if is_last {
            self.0.arrived.notify_one();
        }
    }
}

impl<T> fmt::Debug for MailboxSender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MailboxSender")
    }
}

impl<T> MailboxReceiver<T> {
    /// Moves all items to `items`, which is empty. Waits up to `timeout` for the first one, and then until the interval
    /// since the last take is over. Returns whether there may be more.
    pub(crate) fn take(&mut self, items: &mut Vec<T>, timeout: Duration) -> bool {
        let mut state = self.mailbox.state();
        state.taken = 0;
        if state.items.is_empty() && !state.is_due() && !timeout.is_zero() {
            state.is_waiting = true;
            let is_idle = |state: &mut MailboxState<T>| state.items.is_empty() && !state.is_due();
            let waited = self
                .mailbox
                .arrived
                .wait_timeout_while(state, timeout, is_idle);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            state.is_waiting = false;
        }
        let rest = self.last_take.map_or(Duration::ZERO, |last| {
            self.interval.saturating_sub(last.elapsed())
        });
        if !state.items.is_empty() && !state.is_due() && !rest.is_zero() {
            // Senders do not wake a receiver that has an item already.
            let is_early = |state: &mut MailboxState<T>| !state.is_due();
            let waited = self
                .mailbox
                .arrived
                .wait_timeout_while(state, rest, is_early);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.is_woken = false;
        std::mem::swap(&mut state.items, items);
        state.taken = items.len();
        let may_have_more = !items.is_empty() || state.senders > 0;
        drop(state);
        if !items.is_empty() && !self.interval.is_zero() {
            self.last_take = Some(Instant::now());
        }
        may_have_more
    }
}

impl<T> Drop for MailboxReceiver<T> {
    fn drop(&mut self) {
        let mut state = self.mailbox.state();
        state.has_receiver = false;
        // Dropped outside of the lock.
        let items = std::mem::take(&mut state.items);
        drop(state);
        drop(items);
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    const LONG: Duration = Duration::from_mins(1);

    fn taken<T>(receiver: &mut MailboxReceiver<T>, timeout: Duration) -> (Vec<T>, bool) {
        let mut items = Vec::new();
        let is_open = receiver.take(&mut items, timeout);
        (items, is_open)
    }

    #[test]
    fn items_are_taken_at_once_in_order() {
        let (sender, mut receiver) = mailbox(10, Duration::ZERO);
        for item in 0..5 {
            sender.send(item).unwrap();
        }
        assert_eq!(taken(&mut receiver, LONG), (vec![0, 1, 2, 3, 4], true));
        assert_eq!(taken(&mut receiver, Duration::ZERO), (Vec::new(), true));
    }

    #[test]
    fn taken_items_count_until_the_next_ones_are_taken() {
        let (sender, mut receiver) = mailbox(2, Duration::ZERO);
        sender.send(1).unwrap();
        assert_eq!(taken(&mut receiver, LONG).0, [1]);
        sender.send(2).unwrap();
        assert_eq!(sender.send(3), Err(NotSent));
        assert_eq!(taken(&mut receiver, LONG).0, [2]);
        sender.send(3).unwrap();
    }

    #[test]
    fn receiver_is_woken_by_an_item_a_call_and_the_last_sender() {
        let (sender, mut receiver) = mailbox(10, Duration::ZERO);
        let (other, began) = (sender.clone(), Instant::now());
        let sending = thread::spawn(move || {
            other.send(1).unwrap();
            other
        });
        assert_eq!(taken(&mut receiver, LONG), (vec![1], true));
        let other = sending.join().unwrap();
        let waking = thread::spawn(move || other.wake());
        assert_eq!(taken(&mut receiver, LONG), (Vec::new(), true));
        waking.join().unwrap();
        sender.send(2).unwrap();
        drop(sender);
        assert_eq!(taken(&mut receiver, LONG), (vec![2], true));
        assert_eq!(taken(&mut receiver, LONG), (Vec::new(), false));
        assert!(began.elapsed() < LONG);
    }

    #[test]
    fn items_in_quick_succession_are_taken_together_or_when_woken() {
        let (sender, mut receiver) = mailbox(10, LONG);
        let began = Instant::now();
        sender.send(1).unwrap();
        assert_eq!(taken(&mut receiver, LONG), (vec![1], true), "at once");
        sender.send(2).unwrap();
        let sending = thread::spawn(move || {
            sender.send(3).unwrap();
            sender.wake();
            sender
        });
        assert_eq!(taken(&mut receiver, LONG), (vec![2, 3], true));
        assert!(began.elapsed() < LONG);
        drop(sending.join().unwrap());

        let (sender, mut receiver) = mailbox(10, Duration::from_millis(20));
        let began = Instant::now();
        for item in 0..3 {
            sender.send(item).unwrap();
            assert_eq!(taken(&mut receiver, LONG).0, [item]);
        }
        assert!(began.elapsed() >= Duration::from_millis(40));
    }

    #[test]
    fn items_without_a_receiver_are_dropped() {
        let (sender, receiver) = mailbox(10, Duration::ZERO);
        let item = Arc::new(());
        sender.send(Arc::clone(&item)).unwrap();
        drop(receiver);
        assert_eq!(Arc::strong_count(&item), 1);
        assert_eq!(sender.send(item), Err(NotSent));
    }
}
