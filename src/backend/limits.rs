//! Fair shares of a backend: so many calls at once for a namespace, and so many in all.
//!
//! Whoever asks for a thousand secrets waits behind himself. The wait is ours and not the backend's, so it happens
//! outside of the circuit breaker: a deadline that passes in here says nothing about the backend.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use super::{BackendError, BackendKind, BindQuery, ErrorKind, SecretBinder};
use crate::backend::layers::circuit_breaker::Circuit;
use injection::SecretBinding;

/// How many calls are under way at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitSettings {
    /// In all. Each has a connection to itself, so a burst of pods would be a burst of TLS handshakes with the very
    /// server that is waiting for our answers; the others wait here for a connection that is open already. As many as
    /// the shipped `PriorityLevelConfiguration` lets through together under the API server's own defaults.
    pub at_once: usize,
    /// For one namespace: a third of all, so that no one or two of them fill the line.
    pub by_namespace: usize,
    /// Namespaces that have a share of their own at once; those beyond have one together. There are never more
    /// reviews under way than connections, and this is four times as many.
    pub namespaces: usize,
}

impl Default for LimitSettings {
    fn default() -> Self {
        Self {
            at_once: 24,
            by_namespace: 8,
            namespaces: 4096,
        }
    }
}

/// The shares of one backend. A namespace has an entry only while somebody calls or waits for it.
#[derive(Debug)]
pub struct Limits {
    settings: LimitSettings,
    all: Arc<Semaphore>,
    shares: Mutex<HashMap<String, Share>>,
}

#[derive(Debug)]
struct Share {
    calls: Arc<Semaphore>,
    /// How many call or wait.
    users: usize,
}

/// The right to one call, given back when dropped.
#[derive(Debug)]
pub struct Turn {
    _all: OwnedSemaphorePermit,
    _own: OwnedSemaphorePermit,
    _place: Place,
}

/// A user of a share.
#[derive(Debug)]
struct Place {
    limits: Arc<Limits>,
    namespace: String,
}

impl Limits {
    /// Shares without users.
    #[must_use]
    pub fn new(settings: LimitSettings) -> Arc<Self> {
        let all = Arc::new(Semaphore::new(settings.at_once));
        Arc::new(Self {
            settings,
            all,
            shares: Mutex::default(),
        })
    }

    /// Waits for the right to call on behalf of `namespace`; `None` when `deadline` passes first.
    pub async fn turn(self: &Arc<Self>, namespace: &str, deadline: Instant) -> Option<Turn> {
        let (place, own) = self.place(namespace);
        let all = Arc::clone(&self.all);
        // First the own share, so that who waits for it holds no place in the line of all.
        let permits = async {
            Some((
                own.acquire_owned().await.ok()?,
                all.acquire_owned().await.ok()?,
            ))
        };
        let (own, all) = timeout_at(deadline, permits).await.ok().flatten()?;
        Some(Turn {
            _all: all,
            _own: own,
            _place: place,
        })
    }

    fn place(self: &Arc<Self>, namespace: &str) -> (Place, Arc<Semaphore>) {
        let mut shares = self.shares();
        // No namespace has the empty name.
        let full = shares.len() >= self.settings.namespaces && !shares.contains_key(namespace);
        let namespace = if full { "" } else { namespace }.to_owned();
        let share = shares.entry(namespace.clone()).or_insert_with(|| Share {
            calls: Arc::new(Semaphore::new(self.settings.by_namespace)),
            users: 0,
        });
        share.users += 1;
        (
            Place {
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

impl Drop for Place {
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

/// Makes one call when it is its turn; at once, and to be refused by the breaker, while `circuit` is open: nobody
/// waits in line for a backend that is not asked.
pub(crate) async fn in_turn<T>(
    limits: &Arc<Limits>,
    circuit: &Circuit,
    namespace: &str,
    deadline: Instant,
    too_late: impl FnOnce() -> BackendError,
    call: impl Future<Output = Result<T, BackendError>>,
) -> Result<T, BackendError> {
    let _turn = if circuit.is_open() {
        None
    } else {
        let turn = limits.turn(namespace, deadline).await;
        Some(turn.ok_or_else(|| too_late().because("the calls before this one took all the time"))?)
    };
    call.await
}

/// A decorator that lets each namespace have its share of a backend, around its [`crate::backend::layers::circuit_breaker::Breaker`].
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
        let too_late = || BackendError::about(ErrorKind::Deadline, self.kind(), query);
        let call = self.inner.bind(query);
        in_turn(
            &self.limits,
            &self.circuit,
            &query.namespace,
            query.deadline,
            too_late,
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

    type Subject = Limited<Breaker<Arc<MemoryBackend>>>;

    fn subject(settings: LimitSettings) -> (Subject, Arc<MemoryBackend>) {
        let backend = Arc::new(MemoryBackend::new());
        backend.always(Some(Fault::Delay(READ)));
        let breaker = Breaker::new(Arc::clone(&backend), BreakerSettings::default());
        let circuit = breaker.circuit();
        (
            Limited::new(breaker, Limits::new(settings), circuit),
            backend,
        )
    }

    async fn ask(limited: &Subject, namespace: &str, name: &str) -> ErrorKind {
        limited
            .bind(&query(namespace, name))
            .await
            .unwrap_err()
            .kind
    }

    #[tokio::test(start_paused = true)]
    async fn namespace_with_a_thousand_missing_secrets_delays_no_other() {
        let (limited, backend) = subject(LimitSettings::default());
        let (told, other) = tokio::join!(
            join_all((0..1000).map(async |at| {
                let mut patient = query("greedy", &format!("s{at}"));
                patient.deadline += Duration::from_mins(1);
                limited.bind(&patient).await.unwrap_err().kind
            })),
            async {
                sleep(READ / 2).await;
                assert_eq!(backend.in_flight(), 8);
                let began = Instant::now();
                (ask(&limited, "modest", "gone").await, began.elapsed())
            }
        );
        assert!(told.iter().all(|kind| *kind == ErrorKind::NotFound));
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
        let calls = (0..100).map(async |at| ask(limited, &format!("ns{at}"), "gone").await);
        let (_, most) = tokio::join!(join_all(calls), most);
        assert_eq!(most, 24);
        assert_eq!(backend.calls(), 100);
    }

    #[tokio::test(start_paused = true)]
    async fn namespaces_beyond_the_table_share_one_share() {
        let (limited, backend) = subject(LimitSettings {
            namespaces: 3,
            ..LimitSettings::default()
        });
        let (limited, backend) = (&limited, &backend);
        let calls = (0..20).map(async |at| ask(limited, &format!("ns{at}"), "gone").await);
        let most = async {
            sleep(READ / 2).await;
            (backend.in_flight(), limited.limits.shares().len())
        };
        let (_, most) = tokio::join!(join_all(calls), most);
        assert_eq!(most, (3 + 8, 4));
        assert!(limited.limits.shares().is_empty());
    }

    /// Two thousand callers, of whom nearly all wait in vain.
    #[tokio::test(start_paused = true)]
    async fn waiting_in_our_own_line_never_opens_the_breaker() {
        let (limited, backend) = subject(LimitSettings::default());
        backend.always(Some(Fault::Delay(Duration::from_millis(100))));
        let calls = (0..2000).map(async |at| {
            let mut hurried = query("greedy", &format!("s{at}"));
            hurried.deadline = hurried.arrived + Duration::from_millis(450);
            limited.bind(&hurried).await.unwrap_err().kind
        });
        let told = join_all(calls).await;
        let answered = told
            .iter()
            .filter(|kind| **kind == ErrorKind::NotFound)
            .count();
        assert_eq!(answered, 32, "four rounds of eight");
        assert!(
            told.iter()
                .all(|kind| matches!(kind, ErrorKind::NotFound | ErrorKind::Deadline))
        );
        assert!(!limited.circuit.is_open());
        assert_eq!(ask(&limited, "greedy", "gone").await, ErrorKind::NotFound);
        assert!(limited.limits.shares().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_in_line_for_a_backend_that_is_not_asked() {
        let (limited, backend) = subject(LimitSettings::default());
        let limited = &limited;
        backend.always(Some(Fault::Hang));
        let hanging =
            join_all((0..8).map(async |at| ask(limited, "jobs", &format!("s{at}")).await));
        let refused = async {
            backend.always(Some(Fault::Fail(ErrorKind::Unavailable)));
            // Another namespace learns that the backend is dead.
            for _ in 0..5 {
                ask(limited, "other", "gone").await;
            }
            let began = Instant::now();
            assert_eq!(ask(limited, "jobs", "gone").await, ErrorKind::Unavailable);
            began.elapsed()
        };
        let (_, took) = tokio::join!(hanging, refused);
        assert_eq!(took, Duration::ZERO);
        assert_eq!(backend.calls(), 8 + 5);
    }

    #[tokio::test(start_paused = true)]
    async fn who_leaves_the_line_makes_room() {
        let (limited, backend) = subject(LimitSettings::default());
        backend.always(Some(Fault::Hang));
        let leaving = join_all((0..100).map(|_| ask(&limited, "jobs", "gone")));
        assert!(timeout(READ, leaving).await.is_err());
        assert!(limited.limits.shares().is_empty());
        backend.always(None);
        assert_eq!(
            timeout(READ, ask(&limited, "jobs", "gone")).await.ok(),
            Some(ErrorKind::NotFound)
        );
    }
}
