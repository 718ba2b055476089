//! Limit of concurrent calls to the API server, shared by tenants: one tenant takes at most a part of it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Calls in flight.
pub const MAX_CALLS: usize = 32;
/// Calls in flight of one tenant.
pub const MAX_TENANT_CALLS: usize = 8;
/// Calls of one tenant that are in flight or wait. More of them fail at once.
pub const MAX_TENANT_WAITING: usize = 256;

/// Limit of concurrent calls. A tenant waits for its own calls first and then, with at most [`MAX_TENANT_CALLS`], for
/// those of others, in order of arrival.
#[derive(Debug)]
pub(super) struct CallLimiter {
    total: Arc<Semaphore>,
    tenants: Mutex<HashMap<String, TenantCalls>>,
}

#[derive(Debug)]
struct TenantCalls {
    gate: Arc<Semaphore>,
    /// Calls that wait or are in flight; the entry is removed with the last.
    count: usize,
}

/// Permit for one call.
#[derive(Debug)]
pub(super) struct CallPermit {
    _total: OwnedSemaphorePermit,
    _tenant: OwnedSemaphorePermit,
    _registration: Registration,
}

/// Entry of one call in the table of tenants.
#[derive(Debug)]
struct Registration {
    limiter: Arc<CallLimiter>,
    tenant: String,
}

impl CallLimiter {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            total: Arc::new(Semaphore::new(MAX_CALLS)),
            tenants: Mutex::default(),
        })
    }

    /// Waits for a permit; `None` if too many calls of the tenant wait.
    pub(super) async fn acquire(self: &Arc<Self>, tenant: &str) -> Option<CallPermit> {
        let (registration, gate) = self.register(tenant)?;
        let own = gate.acquire_owned().await.ok()?;
        let total = Arc::clone(&self.total).acquire_owned().await.ok()?;
        Some(CallPermit {
            _total: total,
            _tenant: own,
            _registration: registration,
        })
    }

    fn register(self: &Arc<Self>, tenant: &str) -> Option<(Registration, Arc<Semaphore>)> {
        let mut tenants = self.tenants();
        let calls = tenants
            .entry(tenant.to_owned())
            .or_insert_with(|| TenantCalls {
                gate: Arc::new(Semaphore::new(MAX_TENANT_CALLS)),
                count: 0,
            });
        if calls.count >= MAX_TENANT_WAITING {
            return None;
        }
        calls.count += 1;
        let registration = Registration {
            limiter: Arc::clone(self),
            tenant: tenant.to_owned(),
        };
        Some((registration, Arc::clone(&calls.gate)))
    }

    fn tenants(&self) -> MutexGuard<'_, HashMap<String, TenantCalls>> {
        self.tenants.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut tenants = self.limiter.tenants();
        let Some(calls) = tenants.get_mut(&self.tenant) else {
            return;
        };
        calls.count = calls.count.saturating_sub(1);
        if calls.count == 0 {
            tenants.remove(&self.tenant);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn tenant_takes_a_part_of_the_calls() {
        let limiter = CallLimiter::new();
        let mut permits = Vec::new();
        for _ in 0..MAX_TENANT_CALLS {
            permits.push(limiter.acquire("a").await.unwrap());
        }
        assert!(limiter.acquire("a").now_or_never().is_none(), "its part");
        permits.push(limiter.acquire("b").await.unwrap());
        let waiting = limiter.acquire("a");
        tokio::pin!(waiting);
        assert!(waiting.as_mut().now_or_never().is_none());
        permits.remove(0);
        assert!(waiting.now_or_never().flatten().is_some(), "its next");
    }

    #[tokio::test]
    async fn all_tenants_together_are_limited_and_then_forgotten() {
        let limiter = CallLimiter::new();
        let mut permits = Vec::new();
        for tenant in 0..MAX_CALLS {
            permits.push(limiter.acquire(&tenant.to_string()).await.unwrap());
        }
        assert!(limiter.acquire("other").now_or_never().is_none());
        assert_eq!(
            limiter.tenants().len(),
            MAX_CALLS,
            "a cancelled call leaves"
        );
        drop(permits);
        assert!(limiter.tenants().is_empty());
        assert_eq!(limiter.total.available_permits(), MAX_CALLS);
    }

    #[tokio::test]
    async fn waiting_calls_of_a_tenant_are_limited() {
        let limiter = CallLimiter::new();
        let mut calls: Vec<_> = (0..MAX_TENANT_WAITING)
            .map(|_| Box::pin(limiter.acquire("a")))
            .collect();
        let mut permits = Vec::new();
        for call in &mut calls {
            permits.extend(call.as_mut().now_or_never().flatten());
        }
        assert_eq!(permits.len(), MAX_TENANT_CALLS);
        let next = limiter.acquire("a").now_or_never();
        assert!(matches!(next, Some(None)), "fails at once: {next:?}");
        assert!(limiter.acquire("b").now_or_never().flatten().is_some());
    }
}
