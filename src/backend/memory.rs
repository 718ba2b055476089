//! Backend in memory with scripted faults, for tests here and for authors of decorators.

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

/// Fault of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The call fails with this kind.
    Fail(ErrorKind),
    /// The call fails as rate-limited, with this Retry-After.
    SlowDown(Duration),
    /// The call never returns.
    Hang,
    /// The call returns after this delay, with what was stored when it began.
    Delay(Duration),
}

#[derive(Clone, Debug, Default)]
struct StoredSecret {
    data: BTreeMap<SecretKey, SecretString>,
    annotations: BTreeMap<String, String>,
    managed: bool,
}

#[derive(Debug, Default)]
struct MemoryState {
    secrets: BTreeMap<(String, SecretName), StoredSecret>,
    next: VecDeque<Fault>,
    always: Option<Fault>,
}

/// Secrets by namespace, scripted faults, and counts of calls.
#[derive(Debug, Default)]
pub struct MemoryBackend {
    state: Mutex<MemoryState>,
    calls: AtomicUsize,
    in_flight: AtomicUsize,
    calls_with_keys: AtomicUsize,
}

/// Bind query that arrives now, needs only existence, and has ten seconds.
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
    /// Creates an empty backend without faults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Stores a secret as another program would: it is not managed by this one.
    ///
    /// # Panics
    /// If a name is not valid.
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
        let entry = StoredSecret {
            data,
            ..StoredSecret::default()
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

    /// Scripts a fault for the next call that has none yet.
    pub fn next(&self, fault: Fault) {
        self.state().next.push_back(fault);
    }

    /// Sets the fault of every call that [`Self::next`] does not script; `None` ends it.
    pub fn always(&self, fault: Option<Fault>) {
        self.state().always = fault;
    }

    /// Number of calls that were begun.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    /// Number of binds that needed key names.
    #[must_use]
    pub fn calls_for_keys(&self) -> usize {
        self.calls_with_keys.load(Ordering::SeqCst)
    }

    /// Number of calls that are under way.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::SeqCst)
    }

    fn state(&self) -> MutexGuard<'_, MemoryState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn error(&self, kind: ErrorKind, namespace: &str, name: Option<&SecretName>) -> BackendError {
        BackendError::new(kind, self.kind(), namespace, name)
    }

    /// Makes one call: it uses the state at its begin, then applies the fault.
    async fn call<T>(
        &self,
        namespace: &str,
        name: Option<&SecretName>,
        work: impl FnOnce(&mut MemoryState) -> Result<T, ErrorKind> + Send,
    ) -> Result<T, BackendError> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        self.in_flight.fetch_add(1, Ordering::SeqCst);
        let _in_flight = InFlightCall(&self.in_flight);
        let (fault, result) = {
            let mut state = self.state();
            let fault = state.next.pop_front().or(state.always);
            let fails = matches!(
                fault,
                Some(Fault::Fail(_) | Fault::SlowDown(_) | Fault::Hang)
            );
            (fault, (!fails).then(|| work(&mut state)))
        };
        match fault {
            Some(Fault::Fail(kind)) => return Err(self.error(kind, namespace, name)),
            Some(Fault::SlowDown(delay)) => {
                let mut error = self.error(ErrorKind::RateLimited, namespace, name);
                error.retry_after = Some(delay);
                return Err(error);
            }
            Some(Fault::Delay(delay)) => sleep(delay).await,
            Some(Fault::Hang) | None => {}
        }
        match result {
            Some(result) => result.map_err(|kind| self.error(kind, namespace, name)),
            None => std::future::pending().await,
        }
    }
}

/// Call that is under way; it ends when dropped.
struct InFlightCall<'a>(&'a AtomicUsize);

impl Drop for InFlightCall<'_> {
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
            self.calls_with_keys.fetch_add(1, Ordering::SeqCst);
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
            Ok(result) => result,
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
                .or_insert_with(|| StoredSecret {
                    managed: true,
                    ..StoredSecret::default()
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
            let names = state
                .secrets
                .keys()
                .filter(|(of, name)| of == namespace && name.as_str().starts_with(prefix));
            Ok(names.map(|(_, name)| name.clone()).collect())
        })
        .await
    }

    async fn health_check(&self, limit: Duration) -> HealthStatus {
        match timeout(limit, self.call("", None, |_| Ok(()))).await {
            Ok(Ok(())) => HealthStatus::new(HealthState::Healthy, "answers"),
            Ok(Err(_)) => HealthStatus::new(HealthState::Unhealthy, "fails"),
            Err(_) => HealthStatus::new(HealthState::Unhealthy, "does not answer"),
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
