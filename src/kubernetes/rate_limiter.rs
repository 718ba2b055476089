//! Rate limit of calls to the API server, shared fairly between tenants.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};

/// Limits calls per second over all tenants that share it. Waiting tenants get calls in turn, so that a tenant with a
/// thousand calls delays another tenant by one.
#[derive(Debug)]
pub struct RateLimiter {
    interval: Duration,
    queues: Mutex<TenantQueues>,
}

/// Callers that wait for a permit.
#[derive(Debug)]
struct TenantQueues {
    /// Earliest time of the next permit.
    next: Instant,
    /// Callers by tenant, first in first out.
    waiting: BTreeMap<String, VecDeque<oneshot::Sender<()>>>,
    /// Waiting tenants; the first gets the next permit.
    order: VecDeque<String>,
    /// Whether a task grants permits. A task does it because a caller that is not polled must not delay others.
    granting: bool,
}

impl TenantQueues {
    fn enqueue(&mut self, tenant: &str) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        if let Some(queue) = self.waiting.get_mut(tenant) {
            queue.push_back(sender);
        } else {
            self.waiting
                .insert(tenant.to_owned(), VecDeque::from([sender]));
            self.order.push_back(tenant.to_owned());
        }
        receiver
    }

    /// Grants the next permit to the first caller of the first tenant that still waits. Returns whether there was one.
    fn grant(&mut self, now: Instant, interval: Duration) -> bool {
        while let Some(tenant) = self.order.pop_front() {
            let Some(mut queue) = self.waiting.remove(&tenant) else {
                continue;
            };
            let taken =
                std::iter::from_fn(|| queue.pop_front()).any(|caller| caller.send(()).is_ok());
            if !queue.is_empty() {
                self.waiting.insert(tenant.clone(), queue);
                self.order.push_back(tenant);
            }
            if taken {
                self.next = self.next.max(now) + interval;
                return true;
            }
        }
        self.granting = false;
        false
    }
}

impl RateLimiter {
    #[must_use]
    pub fn per_second(calls: u32) -> Arc<Self> {
        let queues = TenantQueues {
            next: Instant::now(),
            waiting: BTreeMap::new(),
            order: VecDeque::new(),
            granting: false,
        };
        Arc::new(Self {
            interval: Duration::from_secs(1) / calls.max(1),
            queues: Mutex::new(queues),
        })
    }

    /// Waits for a permit of this tenant. Calls that belong to no tenant use the empty name.
    pub async fn acquire(self: &Arc<Self>, tenant: &str) {
        let (granted, must_grant) = {
            let mut queues = self.queues();
            (
                queues.enqueue(tenant),
                !std::mem::replace(&mut queues.granting, true),
            )
        };
        if must_grant {
            tokio::spawn(Arc::clone(self).grant());
        }
        // The sender is dropped only after it has sent.
        let _ = granted.await;
    }

    /// Grants permits until no caller waits.
    async fn grant(self: Arc<Self>) {
        loop {
            let next = self.queues().next;
            sleep_until(next).await;
            if !self.queues().grant(Instant::now(), self.interval) {
                return;
            }
        }
    }

    fn queues(&self) -> std::sync::MutexGuard<'_, TenantQueues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use futures::future::{join, join_all};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn limiter_spaces_calls_and_saves_no_permits() {
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
            "the first call after a pause does not wait, and permits are not saved up"
        );
        limiter.acquire("a").await;
        assert_eq!(idle.elapsed(), Duration::from_millis(20));
    }

    #[tokio::test(start_paused = true)]
    async fn tenant_with_a_thousand_calls_delays_another_by_one_permit() {
        let limiter = RateLimiter::per_second(50);
        let began = Instant::now();
        let many = join_all((0..1000).map(|_| limiter.acquire("many")));
        let few = async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let mut took = Vec::new();
            for _ in 0..10 {
                let requested = Instant::now();
                limiter.acquire("few").await;
                took.push(requested.elapsed());
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
            "every call gets a permit"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn cancelled_callers_use_no_permit() {
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
        assert!(limiter.queues().waiting.is_empty() && limiter.queues().order.is_empty());
    }
}
