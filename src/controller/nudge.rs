//! The nudge: when the secrets that a refused pod waits for exist, its owner's controller is told at once.
//!
//! Controllers try a refused pod again after pauses that grow up to 16 minutes. An annotation on the owner makes them
//! look immediately. Its value is the secrets' uids, so that telling it again changes nothing; only an owner that has
//! waited once more for a key of the same secret is told by the secret's version too.

mod owner;
mod paced;
mod refusals;
mod waiting;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize as _;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::{debug, info, warn};

use self::owner::{ANNOTATION, Owner, Prospect, mark, prospect, wants_pods};
use self::paced::Paced;
use self::waiting::{Arrival, Head, OWNERS, Sight, Waiting};
use super::events::{Involved, Reason, Recorder};
use super::metrics::{ControllerMetrics, NudgeResult};
use crate::admission::mutator::{Answering, Binders, Mutator, Policy, Surface, Window};
use crate::api::{ApiError, ApiErrorKind, Form, ObjectApi, Pace};
use crate::backend::kubernetes::KubernetesBackend;
use crate::defaults::{Defaults, KubernetesSources};
use crate::injection::{self, Decision, Pattern, PodView, SecretId, SecretSource, Sources};
use crate::redact::ErrorChain;
use crate::traces::{Span, Traces};

/// How often awaited secrets are looked for.
const LOOK: Duration = Duration::from_secs(2);

/// GETs in a second, over all.
const GETS: u32 = 50;

/// The most secrets that one owner's template may ask for: planning reads them all, and others wait for that.
const SECRETS: usize = 100;

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
    defaults: Arc<Defaults>,
    exempt: BTreeSet<String>,
    events: Recorder,
    traces: Traces,
    metrics: ControllerMetrics,
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
        let sources = Paced { inner: KubernetesSources(api.client()), pace: Arc::clone(&pace) };
        let defaults = Arc::new(Defaults::patient(Arc::new(sources)));
        let binders = Binders::from([(SecretSource::Kubernetes, Answering { binder, names: None })]);
        let policy = Policy { sidecars, ..Policy::default() };
        Self {
            api: api.clone(),
            reader: api.paced(&pace),
            mutator: Mutator::new(binders, Arc::clone(&defaults), policy),
            defaults,
            exempt,
            events: Recorder::new(api.clone(), now),
            traces: Traces::off(),
            metrics,
        }
    }

    /// The same, and traced.
    #[must_use]
    pub fn traced(self, traces: &Traces) -> Self {
        Self { traces: traces.clone(), ..self }
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
            self.metrics.waiting.set(i64::try_from(waiting.len()).unwrap_or(i64::MAX));
        }
    }

    /// A refusal: plans, and waits or tells.
    async fn arrive(&self, owner: Owner, waiting: &mut Waiting) {
        if self.exempt.contains(&owner.namespace) {
            return;
        }
        match waiting.arrival(&owner) {
            Arrival::Known => {}
            Arrival::New => self.consider(owner, waiting).await,
            Arrival::Full => {
                warn!(
                    limit = OWNERS,
                    "too many owners wait for secrets; this one relies on its controller's own retries"
                );
                self.metrics.nudged(NudgeResult::Full);
            }
        }
    }

    /// Looks for what is awaited; owners whose secret changed are planned for again.
    async fn look(&self, waiting: &mut Waiting) {
        let mut sights = BTreeMap::new();
        for (namespace, secret) in waiting.turn() {
            let sight = match self.head(&namespace, &secret).await {
                Ok(head) => head.map_or(Sight::Absent, Sight::There),
                Err(error) => {
                    debug!(error = %ErrorChain(&error), "an awaited secret could not be looked for");
                    Sight::Unseen
                }
            };
            sights.insert((namespace, secret), sight);
        }
        for owner in waiting.look(sights) {
            self.consider(owner, waiting).await;
        }
    }

    /// Plans for an owner and does what follows.
    async fn consider(&self, owner: Owner, waiting: &mut Waiting) {
        let mut span = self.traces.work("nudge");
        span.word("kind", owner.kind.as_str());
        span.text("namespace", &owner.namespace);
        span.text("name", &owner.name);
        let object = match self.object(&owner).await {
            Ok(Some(object)) if wants_pods(&owner, &object) => object,
            Ok(_) => {
                span.word("result", "gone");
                return self.gone(&owner, waiting);
            }
            Err(error) => {
                span.failed("unread");
                debug!(error = %ErrorChain(&error), "an owner could not be read");
                return self.postpone(owner, waiting);
            }
        };
        let prospect = self.prospect(&owner, &object, &span).await;
        span.word("result", prospect.as_str());
        match prospect {
            Prospect::Awaits(awaits) => {
                if waiting.is_too_long(&owner) {
                    return self.give_up(&owner, waiting);
                }
                let sentence = awaiting(&awaits);
                if waiting.wait(owner.clone(), awaits) {
                    self.say(&owner, Reason::AwaitingSecrets, &sentence).await;
                }
            }
            Prospect::Ready(secrets) => {
                if self.nudge(&owner, &object, &secrets, waiting).await {
                    waiting.forget(&owner);
                } else {
                    self.postpone(owner, waiting);
                }
            }
            Prospect::Hopeless => self.gone(&owner, waiting),
            Prospect::Unknown => self.postpone(owner, waiting),
        }
    }

    fn gone(&self, owner: &Owner, waiting: &mut Waiting) {
        if waiting.forget(owner) {
            self.metrics.nudged(NudgeResult::Gone);
        }
    }

    fn postpone(&self, owner: Owner, waiting: &mut Waiting) {
        if waiting.is_too_long(&owner) {
            self.give_up(&owner, waiting);
        } else {
            waiting.postpone(owner);
        }
    }

    fn give_up(&self, owner: &Owner, waiting: &mut Waiting) {
        let Owner { kind, namespace, name, .. } = owner;
        info!(kind = kind.as_str(), namespace, name, "gave up waiting for secrets");
        waiting.give_up(owner);
        self.metrics.nudged(NudgeResult::GaveUp);
    }

    async fn object(&self, owner: &Owner) -> Result<Option<Value>, ApiError> {
        let body = self.reader.get(&owner.path(), Form::Whole).await?;
        Ok(body.and_then(|body| serde_json::from_slice(&body).ok()))
    }

    /// What the webhook would say to a pod of this owner.
    async fn prospect(&self, owner: &Owner, object: &Value, span: &Span) -> Prospect {
        let Some(template) = object.pointer("/spec/template") else { return Prospect::Hopeless };
        let Ok(mut pod) = PodView::deserialize(template) else { return Prospect::Hopeless };
        if asks_for_too_many(&pod) {
            return Prospect::Hopeless;
        }
        // What a template refers to already is awaited all the same, and a plan is not empty for it.
        for container in [&mut pod.spec.containers, &mut pod.spec.init_containers].into_iter().flatten().flatten() {
            (container.env, container.env_from) = (None, None);
        }
        let arrived = Instant::now();
        let window = Window { arrived, deadline: arrived + PATIENCE, span };
        let surface = match self.defaults.namespace(&owner.namespace, window.arrived, window.deadline).await {
            Ok(Some(source)) if source.enabled => Surface::DefaultsPods,
            Ok(Some(_)) => Surface::Pods,
            Ok(None) => return Prospect::Hopeless,
            Err(_) => return Prospect::Unknown,
        };
        prospect(Box::pin(self.mutator.inject(surface, &owner.namespace, &pod, window)).await)
    }

    /// Tells the owner's controller, unless it has been told the same before. `false` when it has to be tried again.
    async fn nudge(&self, owner: &Owner, object: &Value, secrets: &BTreeSet<SecretId>, waiting: &Waiting) -> bool {
        let waited = waiting.has_waited(owner);
        let mut heads = Vec::new();
        for secret in secrets {
            let seen = waiting.seen(&(owner.namespace.clone(), secret.clone())).cloned();
            let head = match seen {
                Some(head) => Ok(Some(head)),
                None => self.head(&owner.namespace, secret).await,
            };
            match head {
                Ok(Some(Head { uid, resource_version })) => heads.push((uid, resource_version)),
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

/// By its own annotations; what the operator writes as defaults is the operator's to bound.
fn asks_for_too_many(pod: &PodView<'_>) -> bool {
    let own = Sources { object: pod.annotations(), ..Sources::default() };
    matches!(injection::parse(&own), Ok(Decision::Inject(request)) if request.needs().len() > SECRETS)
}

#[derive(serde::Deserialize)]
struct Object {
    metadata: Head,
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
