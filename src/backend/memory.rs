//! A backend in memory with scripted faults, for tests here and for authors of decorators.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use secrecy::SecretString;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::{
    BackendError, BackendKind, BackendMetadata, BindQuery, ErrorKind, HealthState, HealthStatus,
    KeyQuery, SecretBinder, SecretData, SecretsBackend,
};
use injection::{SecretBinding, SecretId, SecretKey, SecretName, SecretSource};

/// What a call does instead of answering at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It fails so.
    Fail(ErrorKind),
    /// It fails as rate-limited, with this Retry-After.
    SlowDown(Duration),
    /// It never answers.
    Hang,
    /// It answers after this long, from what is stored when it begins.
    Delay(Duration),
}

/// One stored secret.
#[derive(Clone, Debug, Default)]
struct Entry {
    data: BTreeMap<SecretKey, SecretString>,
    annotations: BTreeMap<String, String>,
    managed: bool,
}

#[derive(Debug, Default)]
struct State {
    secrets: BTreeMap<(String, SecretName), Entry>,
    next: VecDeque<Fault>,
    always: Option<Fault>,
}

/// Secrets by namespace, faults by script, and counts of what was asked.
#[derive(Debug, Default)]
pub struct MemoryBackend {
    state: Mutex<State>,
    calls: AtomicUsize,
    in_flight: AtomicUsize,
    keyed: AtomicUsize,
}

/// A bind query that arrives now, wants existence, and has ten seconds.
///
/// # Panics
/// If `name` is not a Secret name.
#[must_use]
pub fn query(namespace: &str, name: &str) -> BindQuery {
    let arrived = Instant::now();
    BindQuery {
        namespace: namespace.to_owned(),
        secret: SecretId {
            source: SecretSource::Kubernetes,
            name: secret_name(name),
        },
        keys: KeyQuery::default(),
        arrived,
        deadline: arrived + Duration::from_secs(10),
    }
}

fn secret_name(name: &str) -> SecretName {
    name.parse().expect("a test's Secret name")
}

impl MemoryBackend {
    /// An empty one without faults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Stores a secret as another program would: not managed by us.
    ///
    /// # Panics
    /// If a name is not one.
    pub fn put(&self, namespace: &str, name: &str, data: &[(&str, &str)]) {
        let data = data
            .iter()
            .map(|(key, value)| {
                (
                    key.parse().expect("a test's key"),
                    SecretString::from((*value).to_owned()),
                )
            })
            .collect();
        let entry = Entry {
            data,
            ..Entry::default()
        };
        self.state()
            .secrets
            .insert((namespace.to_owned(), secret_name(name)), entry);
    }

    /// Deletes a secret.
    ///
    /// # Panics
    /// If `name` is not a Secret name.
    pub fn remove(&self, namespace: &str, name: &str) {
        self.state()
            .secrets
            .remove(&(namespace.to_owned(), secret_name(name)));
    }

    /// Writes an annotation beside a stored secret.
    ///
    /// # Panics
    /// If there is no such secret.
    pub fn annotate(&self, namespace: &str, name: &str, key: &str, value: &str) {
        let mut state = self.state();
        let entry = state
            .secrets
            .get_mut(&(namespace.to_owned(), secret_name(name)))
            .expect("a stored secret");
        entry.annotations.insert(key.to_owned(), value.to_owned());
    }

    /// Reads an annotation of a stored secret.
    ///
    /// # Panics
    /// If `name` is not a Secret name.
    #[must_use]
    pub fn annotation(&self, namespace: &str, name: &str, key: &str) -> Option<String> {
        self.state()
            .secrets
            .get(&(namespace.to_owned(), secret_name(name)))?
            .annotations
            .get(key)
            .cloned()
    }

    /// What the next call without an earlier script does.
    pub fn next(&self, fault: Fault) {
        self.state().next.push_back(fault);
    }

    /// What every call does that [`Self::next`] does not script; `None` heals.
    pub fn always(&self, fault: Option<Fault>) {
        self.state().always = fault;
    }

    /// How many calls were begun.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    /// How many binds asked for key names.
    #[must_use]
    pub fn calls_for_keys(&self) -> usize {
        self.keyed.load(Ordering::SeqCst)
    }

    /// How many calls are under way.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::SeqCst)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn error(&self, kind: ErrorKind, namespace: &str, name: Option<&SecretName>) -> BackendError {
        BackendError::new(kind, self.kind(), namespace, name)
    }

    /// One call: the state as it is when the call begins, then the fault.
    async fn call<T>(
        &self,
        namespace: &str,
        name: Option<&SecretName>,
        work: impl FnOnce(&mut State) -> Result<T, ErrorKind> + Send,
    ) -> Result<T, BackendError> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        self.in_flight.fetch_add(1, Ordering::SeqCst);
        let _flight = Flight(&self.in_flight);
        let (fault, answer) = {
            let mut state = self.state();
            let fault = state.next.pop_front().or(state.always);
            let refused = matches!(
                fault,
                Some(Fault::Fail(_) | Fault::SlowDown(_) | Fault::Hang)
            );
            (fault, (!refused).then(|| work(&mut state)))
        };
        match fault {
            Some(Fault::Fail(kind)) => return Err(self.error(kind, namespace, name)),
            Some(Fault::SlowDown(pause)) => {
                let mut error = self.error(ErrorKind::RateLimited, namespace, name);
                error.retry_after = Some(pause);
                return Err(error);
            }
            Some(Fault::Delay(pause)) => sleep(pause).await,
            Some(Fault::Hang) | None => {}
        }
        match answer {
            Some(answer) => answer.map_err(|kind| self.error(kind, namespace, name)),
            None => std::future::pending().await,
        }
    }
}

/// Counts a call as over, however it ends.
struct Flight<'a>(&'a AtomicUsize);

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl SecretBinder for MemoryBackend {
    fn kind(&self) -> BackendKind {
        BackendKind::Memory
    }

    async fn bind(&self, query: &BindQuery) -> Result<SecretBinding, BackendError> {
        let BindQuery {
            namespace,
            secret,
            keys,
            deadline,
            ..
        } = query;
        if keys.needs_keys() {
            self.keyed.fetch_add(1, Ordering::SeqCst);
        }
        let read = self.call(namespace, Some(&secret.name), |state| {
            let entry = state
                .secrets
                .get(&(namespace.clone(), secret.name.clone()))
                .ok_or(ErrorKind::NotFound)?;
            let names = || {
                entry
                    .data
                    .keys()
                    .map(|key| key.as_str().to_owned())
                    .collect()
            };
            Ok(SecretBinding {
                secret_name: secret.name.as_str().to_owned(),
                keys: keys.needs_keys().then(names),
            })
        });
        match timeout_at(*deadline, read).await {
            Ok(answer) => answer,
            Err(_) => Err(BackendError::about(ErrorKind::Deadline, self.kind(), query)),
        }
    }
}

#[async_trait]
impl SecretsBackend for MemoryBackend {
    async fn get_secret(
        &self,
        namespace: &str,
        name: &SecretName,
        key: &SecretKey,
    ) -> Result<SecretString, BackendError> {
        self.call(namespace, Some(name), |state| {
            let entry = state
                .secrets
                .get(&(namespace.to_owned(), name.clone()))
                .ok_or(ErrorKind::NotFound)?;
            entry.data.get(key).cloned().ok_or(ErrorKind::NotFound)
        })
        .await
    }

    async fn get_all(
        &self,
        namespace: &str,
        name: &SecretName,
    ) -> Result<SecretData, BackendError> {
        self.call(namespace, Some(name), |state| {
            let entry = state
                .secrets
                .get(&(namespace.to_owned(), name.clone()))
                .ok_or(ErrorKind::NotFound)?;
            Ok(entry.data.clone())
        })
        .await
    }

    async fn set_secret(
        &self,
        namespace: &str,
        name: &SecretName,
        data: SecretData,
        metadata: BTreeMap<String, String>,
    ) -> Result<(), BackendError> {
        self.call(namespace, Some(name), |state| {
            let entry = state
                .secrets
                .entry((namespace.to_owned(), name.clone()))
                .or_insert_with(|| Entry {
                    managed: true,
                    ..Entry::default()
                });
            if !entry.managed {
                return Err(ErrorKind::Conflict);
            }
            entry.data.extend(data);
            entry.annotations.extend(metadata);
            Ok(())
        })
        .await
    }

    async fn list_secrets(
        &self,
        namespace: &str,
        prefix: &str,
    ) -> Result<Vec<SecretName>, BackendError> {
        self.call(namespace, None, |state| {
            let here = state
                .secrets
                .keys()
                .filter(|(of, name)| of == namespace && name.as_str().starts_with(prefix));
            Ok(here.map(|(_, name)| name.clone()).collect())
        })
        .await
    }

    async fn health_check(&self, limit: Duration) -> HealthStatus {
        match timeout(limit, self.call("", None, |_| Ok(()))).await {
            Ok(Ok(())) => HealthStatus {
                state: HealthState::Healthy,
                message: "answers".to_owned(),
            },
            Ok(Err(_)) => HealthStatus {
                state: HealthState::Unhealthy,
                message: "fails".to_owned(),
            },
            Err(_) => HealthStatus {
                state: HealthState::Unhealthy,
                message: "does not answer".to_owned(),
            },
        }
    }

    fn metadata(&self) -> BackendMetadata {
        BackendMetadata {
            name: "memory",
            version: env!("CARGO_PKG_VERSION"),
            floe_api_version: "1.0",
        }
    }
}
