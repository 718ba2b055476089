//! Fair shares of a backend: limits of concurrent calls per namespace, and in total.
//!
//! A caller that requests a thousand secrets waits for its own calls. The wait is in this program and not in the
//! backend, so it is outside of the circuit breaker: a deadline that passes here is not a failure of the backend.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use super::{BackendError, BackendKind, BindQuery, ErrorKind, SecretBinder};
use crate::backend::layers::circuit_breaker::Circuit;
use injection::SecretBinding;

/// Limits of concurrent calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitSettings {
    /// Limit in total. Each call has a connection of its own, so a burst of pods would be a burst of TLS handshakes
    /// with the very server that waits for the responses; the others wait here for a connection that is open already.
    /// It is the number that the shipped `PriorityLevelConfiguration` permits at the same time under the defaults of
    /// the API server.
    pub concurrent_calls: usize,
    /// Limit per namespace: a third of the total, so that one or two namespaces cannot use all of it.
    pub calls_per_namespace: usize,
    /// Namespaces that have a share at the same time; further ones have one share together. There are never more
    /// reviews under way than connections, and this is four times as many.
    pub max_namespaces: usize,
}

impl Default for LimitSettings {
    fn default() -> Self {
        Self {
            concurrent_calls: 24,
            calls_per_namespace: 8,
            max_namespaces: 4096,
        }
    }
}

/// Shares of one backend. A namespace has an entry only while it calls or waits.
#[derive(Debug)]
pub struct Limits {
    settings: LimitSettings,
    all: Arc<Semaphore>,
    shares: Mutex<HashMap<String, Share>>,
}

#[derive(Debug)]
struct Share {
    calls: Arc<Semaphore>,
    /// Number of callers that call or wait.
    users: usize,
}

/// Permit for one call, released when dropped.
#[derive(Debug)]
pub struct LimitPermit {
    _all: OwnedSemaphorePermit,
    _share: OwnedSemaphorePermit,
    _user: ShareUser,
}

/// One user of a share.
#[derive(Debug)]
struct ShareUser {
    limits: Arc<Limits>,
    namespace: String,
}

impl Limits {
    /// Creates limits without users.
    #[must_use]
    pub fn new(settings: LimitSettings) -> Arc<Self> {
        let all = Arc::new(Semaphore::new(settings.concurrent_calls));
        Arc::new(Self {
            settings,
            all,
            shares: Mutex::default(),
        })
    }

    /// Waits for a permit to call on behalf of `namespace`; `None` when `deadline` passes first.
    pub async fn acquire(
        self: &Arc<Self>,
        namespace: &str,
        deadline: Instant,
    ) -> Option<LimitPermit> {
        let (user, share) = self.join_share(namespace);
        let all = Arc::clone(&self.all);
        // First the share of the namespace: a call that waits for it holds no permit of the total.
        let permits = async {
            Some((
                share.acquire_owned().await.ok()?,
                all.acquire_owned().await.ok()?,
            ))
        };
        let (share, all) = timeout_at(deadline, permits).await.ok().flatten()?;
        Some(LimitPermit {
            _all: all,
            _share: share,
            _user: user,
        })
    }

    fn join_share(self: &Arc<Self>, namespace: &str) -> (ShareUser, Arc<Semaphore>) {
        let mut shares = self.shares();
        // No namespace has the empty name.
        let full = shares.len() >= self.settings.max_namespaces && !shares.contains_key(namespace);
        let namespace = if full { "" } else { namespace }.to_owned();
        let share = shares.entry(namespace.clone()).or_insert_with(|| Share {
            calls: Arc::new(Semaphore::new(self.settings.calls_per_namespace)),
            users: 0,
        });
        share.users += 1;
        (
            ShareUser {
                limits: Arc::clone(self),
                namespace,
            },
            Arc::clone(&share.calls),
        )
    }

    fn shares(&self) -> MutexGuard<'_, HashMap<String, Share>> {
        self.shares.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ShareUser {
    fn drop(&mut self) {
        let mut shares = self.limits.shares();
        if let Some(share) = shares.get_mut(&self.namespace) {
            share.users -= 1;
            if share.users == 0 {
                shares.remove(&self.namespace);
            }
        }
    }
}

/// Makes one call with a permit. While `circuit` is open it is made at once and without one, to be rejected by the
/// breaker: no call waits for a backend that is not called.
pub(crate) async fn call_limited<T>(
    limits: &Arc<Limits>,
    circuit: &Circuit,
    namespace: &str,
    deadline: Instant,
    deadline_error: impl FnOnce() -> BackendError,
    call: impl Future<Output = Result<T, BackendError>>,
) -> Result<T, BackendError> {
    let _permit = if circuit.is_open() {
        None
    } else {
        let permit = limits.acquire(namespace, deadline).await;
        Some(permit.ok_or_else(|| {
            deadline_error().because("the calls before this one took all the time")
        })?)
    };
    call.await
}

/// Decorator that limits the calls of each namespace to a backend, around its
/// [`crate::backend::layers::circuit_breaker::Breaker`].
#[derive(Debug)]
pub struct Limited<B> {
    inner: B,
    limits: Arc<Limits>,
    circuit: Arc<Circuit>,
}

impl<B: SecretBinder> Limited<B> {
    /// Limits the calls to `inner`, whose breaker has this circuit.
    #[must_use]
    pub fn new(inner: B, limits: Arc<Limits>, circuit: Arc<Circuit>) -> Self {
        Self {
            inner,
            limits,
            circuit,
        }
    }
}

#[async_trait]
impl<B: SecretBinder> SecretBinder for Limited<B> {
    fn kind(&self) -> BackendKind {
        self.inner.kind()
    }

    async fn bind(&self, query: &BindQuery) -> Result<SecretBinding, BackendError> {
        let deadline_error = || BackendError::about(ErrorKind::Deadline, self.kind(), query);
        let call = self.inner.bind(query);
        call_limited(
            &self.limits,
            &self.circuit,
            &query.namespace,
            query.deadline,
            deadline_error,
            call,
        )
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::future::join_all;
    use tokio::time::{sleep, timeout};

    use super::*;
    use crate::backend::layers::circuit_breaker::{Breaker, BreakerSettings};
    use crate::backend::memory::{Fault, MemoryBackend, query};

    const READ: Duration = Duration::from_millis(20);

    type LimitedBackend = Limited<Breaker<Arc<MemoryBackend>>>;

    fn subject(settings: LimitSettings) -> (LimitedBackend, Arc<MemoryBackend>) {
        let backend = Arc::new(MemoryBackend::new());
        backend.always(Some(Fault::Delay(READ)));
        let breaker = Breaker::new(Arc::clone(&backend), BreakerSettings::default());
        let circuit = breaker.circuit();
        (
            Limited::new(breaker, Limits::new(settings), circuit),
            backend,
        )
    }

    async fn bind(limited: &LimitedBackend, namespace: &str, name: &str) -> ErrorKind {
        limited
            .bind(&query(namespace, name))
            .await
            .unwrap_err()
            .kind
    }

    #[tokio::test(start_paused = true)]
    async fn namespace_with_a_thousand_missing_secrets_does_not_delay_others() {
        let (limited, backend) = subject(LimitSettings::default());
        let (kinds, other) = tokio::join!(
            join_all((0..1000).map(async |at| {
                let mut long_query = query("greedy", &format!("s{at}"));
                long_query.deadline += Duration::from_mins(1);
                limited.bind(&long_query).await.unwrap_err().kind
            })),
            async {
                sleep(READ / 2).await;
                assert_eq!(backend.in_flight(), 8);
                let began = Instant::now();
                (bind(&limited, "modest", "gone").await, began.elapsed())
            }
        );
        assert!(kinds.iter().all(|kind| *kind == ErrorKind::NotFound));
        assert_eq!(other, (ErrorKind::NotFound, READ));
        assert_eq!(backend.calls(), 1001);
        assert!(limited.limits.shares().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn all_namespaces_together_have_a_limit() {
        let (limited, backend) = subject(LimitSettings::default());
        let (limited, backend) = (&limited, &backend);
        let most = async {
            sleep(READ / 2).await;
            assert_eq!(limited.limits.shares().len(), 100);
            backend.in_flight()
        };
        let calls = (0..100).map(async |at| bind(limited, &format!("ns{at}"), "gone").await);
        let (_, most) = tokio::join!(join_all(calls), most);
        assert_eq!(most, 24);
        assert_eq!(backend.calls(), 100);
    }

    #[tokio::test(start_paused = true)]
    async fn namespaces_beyond_the_limit_share_one_share() {
        let (limited, backend) = subject(LimitSettings {
            max_namespaces: 3,
            ..LimitSettings::default()
        });
        let (limited, backend) = (&limited, &backend);
        let calls = (0..20).map(async |at| bind(limited, &format!("ns{at}"), "gone").await);
        let most = async {
            sleep(READ / 2).await;
            (backend.in_flight(), limited.limits.shares().len())
        };
        let (_, most) = tokio::join!(join_all(calls), most);
        assert_eq!(most, (3 + 8, 4));
        assert!(limited.limits.shares().is_empty());
    }

    /// Two thousand callers, of which nearly all wait in vain.
    #[tokio::test(start_paused = true)]
    async fn wait_for_a_permit_never_opens_the_breaker() {
        let (limited, backend) = subject(LimitSettings::default());
        backend.always(Some(Fault::Delay(Duration::from_millis(100))));
        let calls = (0..2000).map(async |at| {
            let mut short_query = query("greedy", &format!("s{at}"));
            short_query.deadline = short_query.arrived + Duration::from_millis(450);
            limited.bind(&short_query).await.unwrap_err().kind
        });
        let kinds = join_all(calls).await;
        let answered = kinds
            .iter()
            .filter(|kind| **kind == ErrorKind::NotFound)
            .count();
        assert_eq!(answered, 32, "four rounds of eight");
        assert!(
            kinds
                .iter()
                .all(|kind| matches!(kind, ErrorKind::NotFound | ErrorKind::Deadline))
        );
        assert!(!limited.circuit.is_open());
        assert_eq!(bind(&limited, "greedy", "gone").await, ErrorKind::NotFound);
        assert!(limited.limits.shares().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn calls_do_not_wait_for_a_permit_while_the_breaker_is_open() {
        let (limited, backend) = subject(LimitSettings::default());
        let limited = &limited;
        backend.always(Some(Fault::Hang));
        let hanging =
            join_all((0..8).map(async |at| bind(limited, "jobs", &format!("s{at}")).await));
        let refused = async {
            backend.always(Some(Fault::Fail(ErrorKind::Unavailable)));
            // Calls of another namespace open the breaker.
            for _ in 0..5 {
                bind(limited, "other", "gone").await;
            }
            let began = Instant::now();
            assert_eq!(bind(limited, "jobs", "gone").await, ErrorKind::Unavailable);
            began.elapsed()
        };
        let (_, took) = tokio::join!(hanging, refused);
        assert_eq!(took, Duration::ZERO);
        assert_eq!(backend.calls(), 8 + 5);
    }

    #[tokio::test(start_paused = true)]
    async fn caller_that_leaves_releases_its_place() {
        let (limited, backend) = subject(LimitSettings::default());
        backend.always(Some(Fault::Hang));
        let leaving = join_all((0..100).map(|_| bind(&limited, "jobs", "gone")));
        assert!(timeout(READ, leaving).await.is_err());
        assert!(limited.limits.shares().is_empty());
        backend.always(None);
        assert_eq!(
            timeout(READ, bind(&limited, "jobs", "gone")).await.ok(),
            Some(ErrorKind::NotFound)
        );
    }
}
