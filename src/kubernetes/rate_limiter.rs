//! A rate limit over calls to the API server, shared fairly between tenants.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};

/// At most so many calls in a second, over all that share it. While several tenants wait, each gets a call in turn:
/// whoever wants a thousand delays another tenant by one.
#[derive(Debug)]
pub struct RateLimiter {
    gap: Duration,
    lines: Mutex<Lines>,
}

/// Callers that wait for a turn.
#[derive(Debug)]
struct Lines {
    /// When the next turn may be.
    next: Instant,
    /// By tenant, first come first served.
    waiting: BTreeMap<String, VecDeque<oneshot::Sender<()>>>,
    /// The tenants that wait; the first has the next turn.
    order: VecDeque<String>,
    /// Whether a task gives turns away: a caller that is not polled for a while must hold up nobody.
    granting: bool,
}

impl Lines {
    fn join(&mut self, tenant: &str) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        if let Some(line) = self.waiting.get_mut(tenant) {
            line.push_back(sender);
        } else {
            self.waiting
                .insert(tenant.to_owned(), VecDeque::from([sender]));
            self.order.push_back(tenant.to_owned());
        }
        receiver
    }

    /// Gives the next turn away, to the first tenant's first caller that still waits. `false` when nobody does.
    fn grant(&mut self, now: Instant, gap: Duration) -> bool {
        while let Some(tenant) = self.order.pop_front() {
            let Some(mut line) = self.waiting.remove(&tenant) else {
                continue;
            };
            let taken =
                std::iter::from_fn(|| line.pop_front()).any(|caller| caller.send(()).is_ok());
            if !line.is_empty() {
                self.waiting.insert(tenant.clone(), line);
                self.order.push_back(tenant);
            }
            if taken {
                self.next = self.next.max(now) + gap;
                return true;
            }
        }
        self.granting = false;
        false
    }
}

impl RateLimiter {
    /// `calls` in each second.
    #[must_use]
    pub fn per_second(calls: u32) -> Arc<Self> {
        let lines = Lines {
            next: Instant::now(),
            waiting: BTreeMap::new(),
            order: VecDeque::new(),
            granting: false,
        };
        Arc::new(Self {
            gap: Duration::from_secs(1) / calls.max(1),
            lines: Mutex::new(lines),
        })
    }

    /// Waits for a turn of this tenant; the empty name is that of calls for nobody in particular.
    pub async fn acquire(self: &Arc<Self>, tenant: &str) {
        let (granted, must_grant) = {
            let mut lines = self.lines();
            (
                lines.join(tenant),
                !std::mem::replace(&mut lines.granting, true),
            )
        };
        if must_grant {
            tokio::spawn(Arc::clone(self).grant());
        }
        // The sender is dropped only after it has sent.
        let _ = granted.await;
    }

    /// Gives turns away until nobody waits.
    async fn grant(self: Arc<Self>) {
        loop {
            let next = self.lines().next;
            sleep_until(next).await;
            if !self.lines().grant(Instant::now(), self.gap) {
                return;
            }
        }
    }

    fn lines(&self) -> std::sync::MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use futures::future::{join, join_all};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn calls_take_turns() {
        let limiter = RateLimiter::per_second(50);
        let began = Instant::now();
        join_all((0..101).map(|_| limiter.acquire("a"))).await;
        assert_eq!(began.elapsed(), Duration::from_secs(2));
        tokio::time::sleep(Duration::from_secs(5)).await;
        let idle = Instant::now();
        limiter.acquire("a").await;
        assert_eq!(
            idle.elapsed(),
            Duration::ZERO,
            "nobody waits after a pause, and turns are not saved up"
        );
        limiter.acquire("a").await;
        assert_eq!(idle.elapsed(), Duration::from_millis(20));
    }

    #[tokio::test(start_paused = true)]
    async fn a_tenant_with_a_thousand_calls_delays_another_by_one_turn() {
        let limiter = RateLimiter::per_second(50);
        let began = Instant::now();
        let many = join_all((0..1000).map(|_| limiter.acquire("many")));
        let few = async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let mut took = Vec::new();
            for _ in 0..10 {
                let asked = Instant::now();
                limiter.acquire("few").await;
                took.push(asked.elapsed());
            }
            took
        };
        let (_, took) = join(many, few).await;
        assert!(
            took.iter().all(|took| *took <= Duration::from_millis(40)),
            "{took:?}"
        );
        assert_eq!(
            began.elapsed(),
            Duration::from_millis(20) * 1009,
            "and nothing is lost"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn callers_that_went_away_cost_no_turn() {
        let limiter = RateLimiter::per_second(50);
        limiter.acquire("a").await;
        let began = Instant::now();
        let leaving = tokio::time::timeout(
            Duration::from_millis(5),
            join_all((0..100).map(|_| limiter.acquire("a"))),
        );
        assert!(leaving.await.is_err());
        limiter.acquire("a").await;
        assert_eq!(began.elapsed(), Duration::from_millis(20));
        assert!(limiter.lines().waiting.is_empty() && limiter.lines().order.is_empty());
    }
}
