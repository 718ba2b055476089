//! Time limits of a connection.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use super::{ConnectionActivity, ConnectionSettings};

/// Action that a time limit requires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::server) enum Verdict {
    /// Close gracefully, between requests.
    Close,
    /// Close without waiting for the peer.
    Drop,
    /// Abort: a request in flight has taken too long, and its response is discarded.
    Cut,
}

/// Timer of a connection. It is polled after the connection, in the same task, so that it always has the connection's
/// current state.
pub(in crate::server) struct Watchdog {
    activity: Arc<ConnectionActivity>,
    settings: Arc<ConnectionSettings>,
    timer: Pin<Box<Sleep>>,
    /// The listener no longer accepts, and idle connections are closed.
    stopping: bool,
    /// Another connection needs the place.
    evicted: bool,
    /// Time of [`Verdict::Close`]; the peer has a while to comply.
    close_requested: Option<Instant>,
}

impl Watchdog {
    pub(in crate::server) fn new(
        activity: Arc<ConnectionActivity>,
        settings: Arc<ConnectionSettings>,
    ) -> Self {
        let timer = Box::pin(sleep_until(activity.opened + settings.header_timeout));
        Self {
            activity,
            settings,
            timer,
            stopping: false,
            evicted: false,
            close_requested: None,
        }
    }

    /// Applies the limit of idle connections at the end of the program.
    pub(in crate::server) fn stop(&mut self) {
        self.stopping = true;
    }

    /// Closes the connection unless a request is in flight.
    pub(in crate::server) fn evict(&mut self) {
        self.evicted = true;
    }

    /// Completes at the next time limit. The timer is moved only if that is necessary, so that requests on a
    /// busy connection do not reset it.
    pub(in crate::server) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Verdict> {
        loop {
            let now = Instant::now();
            let (at, verdict) = self.next();
            if at <= now {
                if verdict == Verdict::Close {
                    self.close_requested = Some(now);
                }
                return Poll::Ready(verdict);
            }
            if at < self.timer.deadline() || self.timer.is_elapsed() {
                self.timer.as_mut().reset(at);
            }
            ready!(self.timer.as_mut().poll(cx));
        }
    }

    fn next(&self) -> (Instant, Verdict) {
        let (activity, settings) = (&*self.activity, &*self.settings);
        if let Some(since) = activity.oldest_request() {
            return (activity.at(since) + settings.response_timeout, Verdict::Cut);
        }
        let idle = activity.at(activity.idle_since.load(Ordering::Relaxed));
        let used = activity.used.load(Ordering::Relaxed);
        if let Some(requested) = self.close_requested {
            // An evicted connection gets no time to comply.
            let comply = if self.evicted {
                Duration::ZERO
            } else {
                settings.header_timeout
            };
            return (requested.max(idle) + comply, Verdict::Drop);
        }
        if let Some(head) = activity.head_since.get() {
            // The same as in `eviction_rank`. A used connection whose next request begins after the eviction has the
            // usual time.
            let time = if self.evicted && !used {
                Duration::ZERO
            } else {
                settings.header_timeout
            };
            return (activity.at(head) + time, Verdict::Drop);
        }
        let limit = if self.evicted {
            Duration::ZERO
        } else if self.stopping {
            settings.idle_at_stop
        } else if used {
            settings.idle_timeout
        } else {
            settings.unused_timeout
        };
        (idle + limit, Verdict::Close)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn head_begins_at_its_first_byte_and_a_body_begins_none() {
        let activity = ConnectionActivity::new(Duration::from_secs(1000));
        let settings = Arc::new(ConnectionSettings::default());
        let watchdog = Watchdog::new(Arc::clone(&activity), Arc::clone(&settings));
        let next = || {
            let (at, verdict) = watchdog.next();
            (at - activity.opened, verdict)
        };
        let seconds = Duration::from_secs;
        let idle = (settings.unused_timeout, Verdict::Close);

        assert_eq!(next(), idle);
        tokio::time::advance(seconds(20)).await;
        activity.arrived(b"\r\n");
        assert_eq!(next(), idle, "a stray line break is not a request");
        activity.arrived(b"POST");
        tokio::time::advance(seconds(5)).await;
        activity.arrived(b" /");
        assert_eq!(
            next(),
            (seconds(20) + settings.header_timeout, Verdict::Drop)
        );
        let in_flight = activity.begin();
        activity.arrived(b"body");
        activity.flushed();
        assert_eq!(
            next(),
            (seconds(25) + settings.response_timeout, Verdict::Cut),
            "there is no response yet"
        );
        tokio::time::advance(seconds(1)).await;
        drop(in_flight);
        assert_eq!(
            next(),
            (seconds(25) + settings.response_timeout, Verdict::Cut),
            "the response is not sent yet"
        );
        activity.flushed();
        assert_eq!(
            next(),
            (seconds(26) + settings.idle_timeout, Verdict::Close)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn request_behind_an_unread_response_does_not_extend_its_time() {
        let activity = ConnectionActivity::new(Duration::from_secs(1000));
        let settings = Arc::new(ConnectionSettings::default());
        let watchdog = Watchdog::new(Arc::clone(&activity), Arc::clone(&settings));
        let cut = |seconds| {
            (
                activity.opened + Duration::from_secs(seconds) + settings.response_timeout,
                Verdict::Cut,
            )
        };
        drop(activity.begin());
        tokio::time::advance(Duration::from_secs(7)).await;
        let second = activity.begin();
        assert_eq!(watchdog.next(), cut(0));
        activity.flushed();
        assert_eq!(watchdog.next(), cut(7), "the first was read");
        tokio::time::advance(Duration::from_secs(1)).await;
        drop(second);
        assert_eq!(watchdog.next(), cut(7));
    }
}
