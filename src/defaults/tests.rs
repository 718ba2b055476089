//! Tests of defaults, in paused time over a scripted API server.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::{advance, sleep};

use super::cache::{MAX_CACHE_BYTES, READ_TIMEOUT};
use super::*;
use crate::backend::limits::{LimitSettings, Limits};
use crate::backend::registry::DecoratorSettings;
use crate::backend::{BackendKind, ErrorKind};
use injection::Annotations;

mod lifetimes;
mod outages;
mod sharing;

const READ: Duration = Duration::from_millis(20);

/// Behavior of the scripted API server.
#[derive(Clone, Copy, Debug)]
enum ServerBehavior {
    Responds,
    Slow(Duration),
    Fails(ErrorKind),
    NeverResponds,
}

/// Reader of scripted Namespaces and ServiceAccounts, which counts its calls.
#[derive(Debug)]
struct ScriptedReader {
    objects: Mutex<BTreeMap<(String, Option<String>), DefaultsObject>>,
    behavior: Mutex<ServerBehavior>,
    reads: Mutex<Vec<(String, Option<String>)>>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ScriptedReader {
    fn set(&self, namespace: &str, account: Option<&str>, annotations: &[(&str, &str)]) {
        let pairs = annotations
            .iter()
            .map(|(key, value)| (format!("secrets.floe.dev/{key}"), (*value).to_owned()));
        let object = DefaultsObject {
            annotations: Annotations::from_pairs(pairs),
            enabled: true,
            ..DefaultsObject::default()
        };
        lock(&self.objects).insert((namespace.to_owned(), account.map(str::to_owned)), object);
    }

    fn label(&self, namespace: &str, enabled: bool) {
        lock(&self.objects)
            .get_mut(&(namespace.to_owned(), None))
            .unwrap()
            .enabled = enabled;
    }

    fn remove(&self, namespace: &str, account: Option<&str>) {
        lock(&self.objects).remove(&(namespace.to_owned(), account.map(str::to_owned)));
    }

    fn behavior(&self, behavior: ServerBehavior) {
        *lock(&self.behavior) = behavior;
    }

    /// Number of reads of this object.
    fn reads(&self, namespace: &str, account: Option<&str>) -> usize {
        let key = (namespace.to_owned(), account.map(str::to_owned));
        lock(&self.reads)
            .iter()
            .filter(|read| **read == key)
            .count()
    }

    fn calls(&self) -> usize {
        lock(&self.reads).len()
    }

    async fn respond(
        &self,
        namespace: &str,
        account: Option<&str>,
    ) -> Result<Option<DefaultsObject>, BackendError> {
        let key = (namespace.to_owned(), account.map(str::to_owned));
        lock(&self.reads).push(key.clone());
        let found = lock(&self.objects).get(&key).cloned();
        let behavior = *lock(&self.behavior);
        match behavior {
            ServerBehavior::Responds => sleep(READ).await,
            ServerBehavior::Slow(delay) => sleep(delay).await,
            ServerBehavior::Fails(kind) => {
                return Err(BackendError::new(
                    kind,
                    BackendKind::Kubernetes,
                    namespace,
                    None,
                ));
            }
            ServerBehavior::NeverResponds => std::future::pending().await,
        }
        Ok(found)
    }
}

#[async_trait]
impl DefaultsReader for Arc<ScriptedReader> {
    async fn namespace(
        &self,
        name: &str,
        _: Instant,
    ) -> Result<Option<DefaultsObject>, BackendError> {
        self.respond(name, None).await
    }

    async fn service_account(
        &self,
        namespace: &str,
        name: &str,
        _: Instant,
    ) -> Result<Option<DefaultsObject>, BackendError> {
        self.respond(namespace, Some(name)).await
    }
}

/// Reader of a labelled namespace `jobs` and its account `default`; the defaults of both request a secret.
fn script() -> Arc<ScriptedReader> {
    let script = Arc::new(ScriptedReader {
        objects: Mutex::default(),
        behavior: Mutex::new(ServerBehavior::Responds),
        reads: Mutex::default(),
    });
    script.set("jobs", None, &[("env-from", "of-namespace")]);
    script.set("jobs", Some("default"), &[("env-from", "of-account")]);
    script
}

fn fixture() -> (Arc<Defaults>, Arc<ScriptedReader>) {
    let script = script();
    (
        Arc::new(Defaults::new(Arc::new(Arc::clone(&script)))),
        script,
    )
}

/// Fixture with retries, limits and a breaker, as in `serve`.
fn guarded() -> (Arc<Defaults>, Arc<ScriptedReader>) {
    let script = script();
    let limits = Limits::new(LimitSettings::default());
    let guarded = Guarded::new(Arc::clone(&script), limits, DecoratorSettings::default());
    (Arc::new(Defaults::new(Arc::new(guarded))), script)
}

async fn within(
    defaults: &Defaults,
    account: &str,
    time: Duration,
) -> Result<AppliedDefaults, BackendError> {
    let now = Instant::now();
    defaults.applied("jobs", account, now, now + time).await
}

async fn applied(defaults: &Defaults, account: &str) -> Result<AppliedDefaults, BackendError> {
    within(defaults, account, Duration::from_secs(9)).await
}

fn env_from(object: Option<&Arc<DefaultsObject>>) -> Option<&str> {
    object?.annotations.get("env-from")
}

/// Returns `env-from` of the namespace and of the account.
async fn env_from_of(defaults: &Defaults, account: &str) -> (Option<String>, Option<String>) {
    let applied = applied(defaults, account).await.unwrap();
    let text = |object: &Option<Arc<DefaultsObject>>| env_from(object.as_ref()).map(str::to_owned);
    (text(&applied.namespace), text(&applied.service_account))
}

fn some(namespace: &str, account: &str) -> (Option<String>, Option<String>) {
    (Some(namespace.to_owned()), Some(account.to_owned()))
}
