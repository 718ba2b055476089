//! The nudge: when the secrets that a refused pod waits for exist, its owner's controller is told at once.
//!
//! Controllers try a refused pod again after pauses that grow up to 16 minutes. An annotation on the owner makes them
//! look immediately. Its value is the secrets' uids, so that telling it again changes nothing; an owner that has waited
//! once more for a key of the same secret is told by the secret's version too, and one whose next try was refused all
//! the same by another form of the same.

mod owner;
mod paced;
mod refusals;
mod rounds;
mod told;
mod waiting;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use self::owner::{ANNOTATION, Owner, OwnerView, Prospect, Repeat, Wants, mark, prospect};
use self::paced::Paced;
use self::rounds::Rounds;
use self::told::{Told, Turn};
use self::waiting::{Head, Waiting};
use super::events::{Involved, Reason, Recorder};
use super::metrics::{ControllerMetrics, NudgeResult};
use crate::admission::mutator::{Answering, Binders, Mutator, Policy, Surface, Window};
use crate::api::{ApiError, ApiErrorKind, Form, ObjectApi, Pace};
use crate::backend::BackendError;
use crate::backend::kubernetes::KubernetesBackend;
use crate::defaults::{Defaults, KubernetesSources};
use crate::injection::{self, Decision, PodView, SecretId, SecretSource, Sources};
use crate::redact::ErrorChain;
use crate::scan::{Rules, Scope};
use crate::traces::{Span, Traces};

/// GETs in a second, over all: namespaces that want some get one in turn.
const GETS: u32 = 50;

/// The most secrets that one owner's template may ask for, defaults included: planning reads them all, and the other
/// owners of its namespace wait for that. Admission takes no more either.
const SECRETS: usize = 64;

/// How long planning for one owner may take: all of its secrets, while ten other namespaces want their share.
const PATIENCE: Duration = Duration::from_secs(30);

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
    rules: Rules,
    scope: Scope,
    events: Recorder,
    traces: Traces,
    metrics: ControllerMetrics,
    waiting: Mutex<Waiting>,
    told: Mutex<Told>,
}

impl Nudge {
    /// Over `api`; `rules` and `scope` as the webhook has them.
    #[must_use]
    pub fn new(
        api: &ObjectApi,
        rules: Rules,
        scope: Scope,
        metrics: ControllerMetrics,
        now: fn() -> jiff::Timestamp,
    ) -> Self {
        let pace = Pace::per_second(GETS);
        let backend = KubernetesBackend::new(api.client(), None);
        let binder = Arc::new(Paced { inner: backend, pace: Arc::clone(&pace) });
        let sources = Paced { inner: KubernetesSources(api.client()), pace: Arc::clone(&pace) };
        let defaults = Arc::new(Defaults::patient(Arc::new(sources)));
        let binders = Binders::from([(SecretSource::Kubernetes, Answering { binder, names: None })]);
        let policy = Policy { sidecars: rules.sidecars.clone(), ..Policy::default() };
        Self {
            api: api.clone(),
            reader: api.paced(&pace),
            mutator: Mutator::new(binders, Arc::clone(&defaults), policy),
            defaults,
            rules,
            scope,
            events: Recorder::new(api.clone(), now),
            traces: Traces::off(),
            metrics,
            waiting: Mutex::default(),
            told: Mutex::default(),
        }
    }

    /// The same, and traced.
    #[must_use]
    pub fn traced(self, traces: &Traces) -> Self {
        Self { traces: traces.clone(), ..self }
    }

    /// Watches for as long as it is polled.
    pub async fn run(&self) {
        /// What was known of those who wait is the leader's alone.
        struct Forget<'a>(&'a Nudge);
        impl Drop for Forget<'_> {
            fn drop(&mut self) {
                *self.0.waiting() = Waiting::default();
                *self.0.told() = Told::default();
                self.0.metrics.waiting.set(0);
            }
        }
        let _forget = Forget(self);
        let rounds = Rounds::new(self);
        let arrive = |owner| rounds.arrive(owner);
        let following = async {
            match &self.scope {
                Scope::All => refusals::follow(&self.api, None, &arrive).await,
                Scope::Namespaces(namespaces) => {
                    let each = namespaces.iter().map(|name| refusals::follow(&self.api, Some(name), &arrive));
                    futures::future::join_all(each).await;
                }
            }
        };
        tokio::join!(following, rounds.run());
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Plans for an owner and does what follows.
    async fn consider(&self, owner: Owner) {
        let mut span = self.traces.work("nudge");
        span.word("kind", owner.kind.as_str());
        span.text("namespace", &owner.namespace);
        span.text("name", &owner.name);
        let body = match self.reader.get(&owner.path(), Form::Whole).await {
            Ok(body) => body.unwrap_or_default(),
            Err(error) => {
                span.failed("unread");
                debug!(error = %ErrorChain(&error), "an owner could not be read");
                return if error.kind == ApiErrorKind::TooLong { self.gone(&owner) } else { self.postpone(owner) };
            }
        };
        let Some(object) = OwnerView::read(&body) else {
            span.word("result", "gone");
            return self.gone(&owner);
        };
        match object.wants(&owner) {
            Wants::Pods => self.act(owner, &object, span).await,
            Wants::Nothing if self.waiting().has_waited(&owner) => self.settle(owner, &object, span).await,
            Wants::Nothing | Wants::Gone => {
                span.word("result", "gone");
                self.gone(&owner);
            }
        }
    }

    /// For an owner that wants pods.
    async fn act(&self, owner: Owner, object: &OwnerView<'_>, mut span: Span) {
        let turn = self.told().turn(&owner);
        if turn == Turn::Early {
            span.word("result", "told");
            return self.postpone(owner);
        }
        let prospect = self.prospect(&owner, object, &span).await;
        span.word("result", prospect.as_str());
        match prospect {
            Prospect::Awaits(awaits) => {
                if self.waiting().is_too_long(&owner) {
                    return self.give_up(&owner);
                }
                let sentence = awaiting(&awaits);
                self.told().forget(&owner);
                let news = self.waiting().wait(owner.clone(), awaits);
                if news {
                    self.say(&owner, Reason::AwaitingSecrets, &sentence).await;
                }
            }
            Prospect::Ready(secrets) => {
                if self.nudge(&owner, object, &secrets, turn).await {
                    self.waiting().forget(&owner);
                } else {
                    self.postpone(owner);
                }
            }
            Prospect::Hopeless => self.gone(&owner),
            Prospect::Unknown => self.postpone(owner),
        }
    }

    /// For an owner that waited, and has its pods: its controller tried again before it was told. Whoever read that it
    /// waits reads here that it does no longer.
    async fn settle(&self, owner: Owner, object: &OwnerView<'_>, mut span: Span) {
        let prospect = self.prospect(&owner, object, &span).await;
        span.word("result", prospect.as_str());
        match prospect {
            Prospect::Ready(secrets) => {
                self.gone(&owner);
                self.say(&owner, Reason::SecretsArrived, &tried_again(&secrets)).await;
            }
            // It wants fewer pods than it did.
            Prospect::Awaits(_) | Prospect::Hopeless => self.gone(&owner),
            Prospect::Unknown => self.postpone(owner),
        }
    }

    fn gone(&self, owner: &Owner) {
        if self.waiting().forget(owner) {
            self.metrics.nudged(NudgeResult::Gone);
        }
    }

    fn postpone(&self, owner: Owner) {
        let too_long = self.waiting().is_too_long(&owner);
        if too_long {
            self.give_up(&owner);
        } else {
            self.waiting().postpone(owner);
        }
    }

    fn give_up(&self, owner: &Owner) {
        let Owner { kind, namespace, name, .. } = owner;
        info!(kind = kind.as_str(), namespace, name, "gave up waiting for secrets");
        self.waiting().give_up(owner);
        self.metrics.nudged(NudgeResult::GaveUp);
    }

    /// What the webhook would say to a pod of this owner.
    async fn prospect(&self, owner: &Owner, object: &OwnerView<'_>, span: &Span) -> Prospect {
        let Some(template) = object.template() else { return Prospect::Hopeless };
        let Ok(mut pod) = serde_json::from_str::<PodView<'_>>(template.get()) else { return Prospect::Hopeless };
        if !self.selects(template) {
            return Prospect::Hopeless;
        }
        // What a template refers to already is awaited all the same, and a plan is not empty for it.
        for container in [&mut pod.spec.containers, &mut pod.spec.init_containers].into_iter().flatten().flatten() {
            (container.env, container.env_from) = (None, None);
        }
        let arrived = Instant::now();
        let window = Window { arrived, deadline: arrived + PATIENCE, span, discloses: true };
        let surface = match self.defaults.namespace(&owner.namespace, window.arrived, window.deadline).await {
            Ok(Some(source)) if source.enabled => Surface::DefaultsPods,
            Ok(Some(_)) => Surface::Pods,
            Ok(None) => return Prospect::Hopeless,
            Err(_) => return Prospect::Unknown,
        };
        match self.asks_for_too_many(surface, &owner.namespace, &pod, window).await {
            Ok(false) => prospect(Box::pin(self.mutator.inject(surface, &owner.namespace, &pod, window)).await),
            Ok(true) => Prospect::Hopeless,
            Err(_) => Prospect::Unknown,
        }
    }

    /// Whether pods of this template are sent to the webhook, by their labels.
    fn selects(&self, template: &RawValue) -> bool {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Template {
            metadata: Labelled,
        }
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Labelled {
            labels: Option<std::collections::BTreeMap<String, String>>,
        }
        self.rules.objects.is_empty()
            || serde_json::from_str::<Template>(template.get())
                .is_ok_and(|template| self.rules.objects.matches(&template.metadata.labels.unwrap_or_default()))
    }

    /// Whether the pod asks for more secrets than planning reads, by its own annotations and by the defaults.
    async fn asks_for_too_many(
        &self,
        surface: Surface,
        namespace: &str,
        pod: &PodView<'_>,
        window: Window<'_>,
    ) -> Result<bool, BackendError> {
        let (account, Window { arrived, deadline, .. }) = (pod.service_account(), window);
        let governing = match surface {
            Surface::DefaultsPods => self.defaults.governing(namespace, account, arrived, deadline).await?,
            _ => crate::defaults::Governing::default(),
        };
        let sources = Sources {
            object: pod.annotations(),
            service_account: governing.service_account.as_deref().map(|source| (account, &source.annotations)),
            namespace: governing.namespace.as_deref().map(|source| (namespace, &source.annotations)),
        };
        let parsed = injection::parse(&sources);
        Ok(matches!(parsed, Ok(Decision::Inject(request)) if request.needs().len() > SECRETS))
    }

    /// Tells the owner's controller, unless it has been told the same before. `false` when it has to be tried again.
    async fn nudge(&self, owner: &Owner, object: &OwnerView<'_>, secrets: &BTreeSet<SecretId>, turn: Turn) -> bool {
        let repeat = match turn {
            Turn::Again => Repeat::Always,
            _ if self.waiting().has_waited(owner) => Repeat::NewVersion,
            _ => Repeat::Never,
        };
        let mut heads = Vec::new();
        for secret in secrets {
            let seen = self.waiting().seen(&(owner.namespace.clone(), secret.clone())).cloned();
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
        let value = (turn != Turn::Enough).then(|| mark(object.mark(), &heads, repeat)).flatten();
        let Some(value) = value else {
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
                self.told().told(owner);
                info!(kind, namespace, name, again = turn == Turn::Again, "told an owner that its secrets exist");
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

#[derive(Deserialize)]
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

fn tried_again(secrets: &BTreeSet<SecretId>) -> String {
    format!("{} can be injected now; its controller has tried again by itself", listed(secrets))
}

#[cfg(test)]
mod tests;
