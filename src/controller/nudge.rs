//! The nudge: when the secrets that a refused pod waits for exist, its owner's controller is told at once.
//!
//! Controllers try a refused pod again after pauses that grow up to 16 minutes. An annotation on the owner makes them
//! look immediately. Its value is the secrets' uids, so that telling it again changes nothing; only an owner that has
//! waited once more for a key of the same secret is told by the secret's version too.

mod owner;
mod paced;
mod refusals;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize as _;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::{debug, info, warn};

use self::owner::{ANNOTATION, Owner, Prospect, mark, prospect, wants_pods};
use self::paced::Paced;
use super::events::{Involved, Reason, Recorder};
use super::metrics::{ControllerMetrics, NudgeResult};
use crate::admission::mutator::{Answering, Binders, Mutator, Policy, Surface, Window};
use crate::api::{ApiError, ApiErrorKind, Form, ObjectApi, Pace};
use crate::backend::kubernetes::KubernetesBackend;
use crate::defaults::{Defaults, KubernetesSources, SourceReader};
use crate::injection::{Pattern, PodView, SecretId, SecretSource};
use crate::redact::ErrorChain;

/// How often awaited secrets are looked for.
const LOOK: Duration = Duration::from_secs(2);

/// How often an owner that waits is read again: it may be gone, or ask for something else.
const AGAIN: Duration = Duration::from_mins(1);

/// How long is waited for secrets.
const HOUR: Duration = Duration::from_hours(1);

/// The most owners that wait at the same time, and the most that are remembered as given up.
const OWNERS: usize = 1000;

/// GETs in a second, over all.
const GETS: u32 = 50;

/// Refused owners on their way.
const ARRIVING: usize = 256;

/// How long planning for one owner may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// Whose fields these are, in `managedFields`.
const FIELD_MANAGER: &str = "floe-secrets-controller";

/// Watches refusals and awaited secrets.
#[derive(Debug)]
pub struct Nudge {
    /// Watches, lists, writes.
    api: ObjectApi,
    /// Reads, at a pace.
    reader: ObjectApi,
    mutator: Mutator,
    sources: Arc<dyn SourceReader>,
    exempt: BTreeSet<String>,
    events: Recorder,
    metrics: ControllerMetrics,
}

/// An owner that waits.
#[derive(Debug)]
struct Wait {
    since: Instant,
    read: Instant,
    awaits: BTreeSet<SecretId>,
}

/// Who waits, and what was last seen of the secrets.
#[derive(Debug, Default)]
struct Waiting {
    owners: BTreeMap<Owner, Wait>,
    /// By namespace and name: the version that was last seen; `None` when there was none.
    secrets: BTreeMap<(String, SecretId), Option<String>>,
    given_up: VecDeque<String>,
}

impl Waiting {
    /// Not before the next round, in which its secrets are seen as if for the first time.
    fn postpone(&mut self, owner: &Owner) {
        for secret in self.owners.get(owner).iter().flat_map(|wait| &wait.awaits) {
            self.secrets.remove(&(owner.namespace.clone(), secret.clone()));
        }
    }
}

impl Nudge {
    /// Over `api`; `sidecars` and `exempt` as the webhook has them.
    #[must_use]
    pub fn new(
        api: &ObjectApi,
        sidecars: Vec<Pattern>,
        exempt: BTreeSet<String>,
        metrics: ControllerMetrics,
        now: fn() -> jiff::Timestamp,
    ) -> Self {
        let pace = Pace::per_second(GETS);
        let backend = KubernetesBackend::new(api.client(), None);
        let binder = Arc::new(Paced { inner: backend, pace: Arc::clone(&pace) });
        let sources: Arc<dyn SourceReader> =
            Arc::new(Paced { inner: KubernetesSources(api.client()), pace: Arc::clone(&pace) });
        let binders = Binders::from([(SecretSource::Kubernetes, Answering { binder, names: None })]);
        let policy = Policy { sidecars, ..Policy::default() };
        Self {
            api: api.clone(),
            reader: api.paced(&pace),
            mutator: Mutator::new(binders, Arc::new(Defaults::new(Arc::clone(&sources))), policy),
            sources,
            exempt,
            events: Recorder::new(api.clone(), now),
            metrics,
        }
    }

    /// Watches for as long as it is polled.
    pub async fn run(&self) {
        /// The figure is the leader's alone.
        struct Forget<'a>(&'a ControllerMetrics);
        impl Drop for Forget<'_> {
            fn drop(&mut self) {
                self.0.waiting.set(0);
            }
        }
        let _forget = Forget(&self.metrics);
        let (sender, receiver) = mpsc::channel(ARRIVING);
        tokio::join!(refusals::follow(&self.api, &sender), self.attend(receiver));
    }

    async fn attend(&self, mut arriving: mpsc::Receiver<Owner>) {
        let mut waiting = Waiting::default();
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = looks.tick() => self.look(&mut waiting).await,
                Some(owner) = arriving.recv() => self.arrive(owner, &mut waiting).await,
            }
            self.metrics.waiting.set(i64::try_from(waiting.owners.len()).unwrap_or(i64::MAX));
        }
    }

    /// A refusal: plans, and waits or tells.
    async fn arrive(&self, owner: Owner, waiting: &mut Waiting) {
        let known = waiting.owners.contains_key(&owner) || waiting.given_up.contains(&owner.uid);
        if known || self.exempt.contains(&owner.namespace) {
            return;
        }
        if waiting.owners.len() >= OWNERS {
            warn!(limit = OWNERS, "too many owners wait for secrets; this one relies on its controller's own retries");
            self.metrics.nudged(NudgeResult::Full);
            return;
        }
        self.consider(owner, waiting).await;
    }

    /// Looks for every awaited secret once; owners whose secrets changed are planned for again.
    async fn look(&self, waiting: &mut Waiting) {
        let mut awaited: BTreeMap<(String, SecretId), Option<String>> = BTreeMap::new();
        for (owner, wait) in &waiting.owners {
            awaited.extend(wait.awaits.iter().map(|secret| ((owner.namespace.clone(), secret.clone()), None)));
        }
        let mut changed = BTreeSet::new();
        for ((namespace, secret), version) in &mut awaited {
            let key = (namespace.clone(), secret.clone());
            match self.head(namespace, secret).await {
                Ok(head) => *version = head.map(|head| head.resource_version),
                // Not seen is not gone: whatever was known stays.
                Err(error) => {
                    debug!(error = %ErrorChain(&error), "an awaited secret could not be looked for");
                    *version = waiting.secrets.get(&key).cloned().flatten();
                    continue;
                }
            }
            if version.is_some() && waiting.secrets.get(&key) != Some(&*version) {
                changed.insert(key);
            }
        }
        waiting.secrets = awaited;
        let due: Vec<Owner> = waiting
            .owners
            .iter()
            .filter(|(owner, wait)| {
                let came = wait.awaits.iter().any(|s| changed.contains(&(owner.namespace.clone(), s.clone())));
                came || wait.read.elapsed() >= AGAIN
            })
            .map(|(owner, _)| owner.clone())
            .collect();
        for owner in due {
            self.consider(owner, waiting).await;
        }
    }

    /// Plans for an owner and does what follows.
    async fn consider(&self, owner: Owner, waiting: &mut Waiting) {
        let before = waiting.owners.get(&owner);
        let (since, waited) = before.map_or_else(|| (Instant::now(), false), |wait| (wait.since, true));
        let object = match self.object(&owner).await {
            Ok(Some(object)) if wants_pods(&owner, &object) => object,
            Ok(_) => {
                if waiting.owners.remove(&owner).is_some() {
                    self.metrics.nudged(NudgeResult::Gone);
                }
                return;
            }
            Err(error) => {
                debug!(error = %ErrorChain(&error), "an owner could not be read");
                return waiting.postpone(&owner);
            }
        };
        if since.elapsed() >= HOUR {
            waiting.owners.remove(&owner);
            info!(
                kind = owner.kind.as_str(),
                namespace = owner.namespace,
                name = owner.name,
                "gave up waiting for secrets"
            );
            waiting.given_up.push_back(owner.uid);
            if waiting.given_up.len() > OWNERS {
                waiting.given_up.pop_front();
            }
            return self.metrics.nudged(NudgeResult::GaveUp);
        }
        match self.prospect(&owner, &object).await {
            Prospect::Awaits(awaits) => {
                let news = waiting.owners.get(&owner).is_none_or(|wait| wait.awaits != awaits);
                if news {
                    self.say(&owner, Reason::AwaitingSecrets, &awaiting(&awaits)).await;
                }
                waiting.owners.insert(owner, Wait { since, read: Instant::now(), awaits });
            }
            Prospect::Ready(secrets) => {
                if self.nudge(&owner, &object, &secrets, waited).await {
                    waiting.owners.remove(&owner);
                } else {
                    waiting.postpone(&owner);
                }
            }
            Prospect::Hopeless => {
                if waiting.owners.remove(&owner).is_some() {
                    self.metrics.nudged(NudgeResult::Gone);
                }
            }
            Prospect::Unknown => waiting.postpone(&owner),
        }
    }

    async fn object(&self, owner: &Owner) -> Result<Option<Value>, ApiError> {
        let body = self.reader.get(&owner.path(), Form::Whole).await?;
        Ok(body.and_then(|body| serde_json::from_slice(&body).ok()))
    }

    /// What the webhook would say to a pod of this owner.
    async fn prospect(&self, owner: &Owner, object: &Value) -> Prospect {
        let Some(template) = object.pointer("/spec/template") else { return Prospect::Hopeless };
        let Ok(pod) = PodView::deserialize(template) else { return Prospect::Hopeless };
        let arrived = Instant::now();
        let window = Window { arrived, deadline: arrived + PATIENCE };
        let surface = match self.sources.namespace(&owner.namespace, window.deadline).await {
            Ok(Some(source)) if source.enabled => Surface::DefaultsPods,
            Ok(Some(_)) => Surface::Pods,
            Ok(None) => return Prospect::Hopeless,
            Err(_) => return Prospect::Unknown,
        };
        prospect(self.mutator.inject(surface, &owner.namespace, &pod, window).await)
    }

    /// Tells the owner's controller, unless it has been told the same before. `false` when it has to be tried again.
    async fn nudge(&self, owner: &Owner, object: &Value, secrets: &BTreeSet<SecretId>, waited: bool) -> bool {
        let mut heads = Vec::new();
        for secret in secrets {
            match self.head(&owner.namespace, secret).await {
                Ok(Some(head)) => heads.push((head.uid, head.resource_version)),
                // Gone again already, or nobody can say.
                Ok(None) | Err(_) => return false,
            }
        }
        let known = object.get("metadata").and_then(|m| m.get("annotations")?.get(ANNOTATION)?.as_str());
        let Some(value) = mark(known, &heads, waited) else {
            self.metrics.nudged(NudgeResult::Unchanged);
            return true;
        };
        let marked = json!({"metadata": {"uid": owner.uid, "annotations": {ANNOTATION: value}}});
        let path = format!("{}?fieldManager={FIELD_MANAGER}", owner.path());
        let Owner { kind, namespace, name, .. } = owner;
        let kind = kind.as_str();
        match self.api.merge(&path, &marked).await {
            Ok(()) => {
                self.metrics.nudged(NudgeResult::Nudged);
                info!(kind, namespace, name, waited, "told an owner that its secrets exist");
                self.say(owner, Reason::SecretsArrived, &arrived(secrets)).await;
            }
            // Another object has the name by now.
            Err(error) if matches!(error.kind, ApiErrorKind::NotFound | ApiErrorKind::Conflict) => {
                self.metrics.nudged(NudgeResult::Gone);
            }
            Err(error) if error.kind == ApiErrorKind::Unavailable => return false,
            Err(error) => {
                self.metrics.nudged(NudgeResult::Failed);
                warn!(error = %ErrorChain(&error), kind, namespace, name, "an owner could not be told that its secrets exist");
            }
        }
        true
    }

    async fn say(&self, owner: &Owner, reason: Reason, message: &str) {
        let Owner { uid, kind, namespace, name } = owner;
        let about = Involved { api_version: kind.api_version(), kind: kind.as_str(), namespace, name, uid };
        if let Err(error) = self.events.say(&about, reason, message).await {
            debug!(error = %ErrorChain(&error), "an event could not be written");
        }
    }

    /// A Secret's uid and version: its metadata alone.
    async fn head(&self, namespace: &str, secret: &SecretId) -> Result<Option<Head>, ApiError> {
        let path = format!("/api/v1/namespaces/{namespace}/secrets/{}", secret.name);
        let body = self.reader.get(&path, Form::Metadata).await?;
        Ok(body.and_then(|body| serde_json::from_slice::<Object>(&body).ok()).map(|object| object.metadata))
    }
}

#[derive(serde::Deserialize)]
struct Object {
    metadata: Head,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    uid: String,
    resource_version: String,
}

fn listed(secrets: &BTreeSet<SecretId>) -> String {
    let names: Vec<String> = secrets.iter().map(|secret| format!("\"{}\"", secret.name)).collect();
    format!("{} {}", if names.len() == 1 { "secret" } else { "secrets" }, names.join(", "))
}

fn awaiting(secrets: &BTreeSet<SecretId>) -> String {
    format!(
        "new pods wait for {}, or for keys of it, in this namespace; as soon as all is there, pods are tried again",
        listed(secrets)
    )
}

fn arrived(secrets: &BTreeSet<SecretId>) -> String {
    format!("{} can be injected now; pods are tried again at once", listed(secrets))
}
