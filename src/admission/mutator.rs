//! What an admission decides: gate, defaults, parse, bind, plan, in that order.
//!
//! All IO of the path is in `govern` and `bind`; everything between is pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::future::join_all;
use tokio::time::{Instant, timeout_at};

use super::error::{AdmissionError, Unbound};
use super::near::NearNames;
use super::review::{Operation, Request};
use crate::backend::cached::RecentNames;
use crate::backend::{BackendError, BackendKind, BindQuery, ErrorKind, KeysWanted, SecretBinder};
use crate::defaults::{Defaults, Governing};
use crate::injection::{
    self, Annotations, Bound, Decision, InjectionPlan, InjectionRequest, InvalidAnnotation, KeyChoice, Need, PlanError,
    PlanInput, PodView, SecretId, SecretSource, Sidecar, SkipReason, Sources, Subject, WorkloadPlan,
};
use crate::metrics::BackendResult;
use crate::traces::Span;

/// Which of the webhook's entries called. The path tells it, so that no rule has to be guessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Surface {
    /// Pods in namespaces without the label: their own annotations decide.
    Pods,
    /// Pods in labelled namespaces: defaults of the service account and the namespace apply too.
    DefaultsPods,
    /// Objects with a pod template, in namespaces without the label.
    Workloads,
    /// The same in labelled namespaces.
    DefaultsWorkloads,
    /// Namespaces and service accounts, whose annotations are such defaults.
    Sources,
}

impl Surface {
    /// As labels and logs write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pods => "pods",
            Self::DefaultsPods => "defaults.pods",
            Self::Workloads => "workloads",
            Self::DefaultsWorkloads => "defaults.workloads",
            Self::Sources => "sources",
        }
    }
}

/// A source that annotations may name: who answers for it, and who remembers names there.
#[derive(Clone, Debug)]
pub struct Answering {
    /// Answers.
    pub binder: Arc<dyn SecretBinder>,
    /// Remembers, for "did you mean".
    pub names: Option<Arc<dyn RecentNames>>,
}

/// The sources that this process was configured with.
pub type Binders = BTreeMap<SecretSource, Answering>;

/// Namespaces of the cluster itself: a webhook that could refuse their pods could stop the cluster.
pub const CLUSTER_NAMESPACES: [&str; 2] = ["kube-system", "kube-node-lease"];

/// What the operator decides.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// Containers that the unset selection leaves out.
    pub sidecars: Vec<Sidecar>,
    /// Namespaces whose pods are never touched: the webhook's own, and `kube-system`.
    pub exempt_namespaces: BTreeSet<String>,
    /// What to answer while a backend gives no verdict.
    pub on_unavailable: OnUnavailable,
    /// Inject into the templates of workloads, and not only into their pods.
    pub inject_template: bool,
}

/// What to answer while a backend gives no verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum OnUnavailable {
    /// Refuse; the pod's controller tries again.
    #[default]
    Deny,
    /// Admit the pod as it is, without its secrets, with a warning.
    Admit,
}

/// How an admission ended well.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// Nothing to do, and why.
    Skipped(SkipReason),
    /// This.
    Injected(Injection),
    /// A workload's.
    Prepared(Preparation),
    /// The annotations of a Namespace or ServiceAccount are well formed.
    Validated {
        /// Warnings beside the plan's own.
        notes: Vec<String>,
    },
    /// No verdict, and the operator admits all the same.
    Degraded(AdmissionError),
}

/// A plan, and what it rests on.
#[derive(Clone, Debug)]
pub struct Injection {
    /// What to add; may be empty and still have warnings.
    pub plan: InjectionPlan,
    /// The secrets asked for, for the log and the audit annotations.
    pub secrets: Vec<SecretId>,
    /// Warnings beside the plan's own.
    pub notes: Vec<String>,
}

/// What is done to a workload, and what it rests on.
#[derive(Clone, Debug)]
pub struct Preparation {
    /// What to change; may be empty and still have warnings.
    pub plan: WorkloadPlan,
    /// The secrets asked for, for the log and the audit annotations.
    pub secrets: Vec<SecretId>,
    /// Warnings beside the plan's own.
    pub notes: Vec<String>,
}

/// When a review came, when its answer is due, and what its calls are a part of.
#[derive(Clone, Copy, Debug)]
pub struct Window<'s> {
    /// Arrival.
    pub arrived: Instant,
    /// The last moment for an answer.
    pub deadline: Instant,
    /// The review's span.
    pub span: &'s Span,
    /// Whether the answer may tell names that the author did not write ([`super::caller::Channel::discloses`]).
    pub discloses: bool,
}

impl Window<'_> {
    /// For those who are not traced.
    #[must_use]
    pub fn untraced(arrived: Instant, deadline: Instant) -> Self {
        static OFF: Span = Span::off();
        Self { arrived, deadline, span: &OFF, discloses: true }
    }
}

/// Decides admissions.
#[derive(Clone, Debug)]
pub struct Mutator {
    binders: Binders,
    pub(super) defaults: Arc<Defaults>,
    pub(super) policy: Policy,
}

impl Mutator {
    /// A mutator over these backends.
    #[must_use]
    pub fn new(binders: Binders, defaults: Arc<Defaults>, policy: Policy) -> Self {
        Self { binders, defaults, policy }
    }

    /// Decides about a pod.
    ///
    /// # Errors
    /// [`AdmissionError`]; when the operator admits while backends are unavailable, that one is an
    /// [`Outcome::Degraded`] instead.
    pub async fn admit_pod(
        &self,
        surface: Surface,
        request: &Request<'_, PodView<'_>>,
        window: Window<'_>,
    ) -> Result<Outcome, AdmissionError> {
        let pod = match self.gate(request) {
            Ok(pod) => pod,
            Err(reason) => return Ok(Outcome::Skipped(reason)),
        };
        match self.inject_pod(surface, request.namespace(), pod, window).await {
            Err(error) if error.is_unavailable() && self.policy.on_unavailable == OnUnavailable::Admit => {
                Ok(Outcome::Degraded(error))
            }
            decided => decided,
        }
    }

    /// What is never touched, whatever it asks for.
    fn gate<'r, 'a>(&self, request: &'r Request<'a, PodView<'a>>) -> Result<&'r PodView<'a>, SkipReason> {
        if !request.is_resource("", "pods") {
            return Err(SkipReason::NotThisKind);
        }
        let pod = request.object.as_ref().filter(|_| request.operation == Operation::Create);
        let pod = pod.ok_or(SkipReason::NotThisOperation)?;
        if self.policy.exempt_namespaces.contains(request.namespace()) {
            return Err(SkipReason::ExemptNamespace);
        }
        if pod.annotations().is_some_and(|annotations| annotations.mirror) {
            return Err(SkipReason::MirrorPod);
        }
        Ok(pod)
    }

    /// Decides about a pod that passed the gate.
    ///
    /// # Errors
    /// [`AdmissionError`].
    pub async fn inject_pod(
        &self,
        surface: Surface,
        namespace: &str,
        pod: &PodView<'_>,
        window: Window<'_>,
    ) -> Result<Outcome, AdmissionError> {
        self.decide(surface, Subject::Pod, namespace, pod, window).await
    }

    /// Decides about the template of a workload as it would about a pod of it.
    ///
    /// # Errors
    /// [`AdmissionError`].
    pub async fn inject(
        &self,
        surface: Surface,
        namespace: &str,
        template: &PodView<'_>,
        window: Window<'_>,
    ) -> Result<Outcome, AdmissionError> {
        self.decide(surface, Subject::Manifest, namespace, template, window).await
    }

    async fn decide(
        &self,
        surface: Surface,
        subject: Subject,
        namespace: &str,
        pod: &PodView<'_>,
        window: Window<'_>,
    ) -> Result<Outcome, AdmissionError> {
        // Whatever the defaults say, they say nothing about a pod that opts out itself.
        let opted_out = pod.annotations().is_some_and(Annotations::opts_out);
        let governing = match surface {
            Surface::DefaultsPods | Surface::DefaultsWorkloads if !opted_out => {
                self.govern(namespace, pod, window).await?
            }
            Surface::Pods
            | Surface::DefaultsPods
            | Surface::Workloads
            | Surface::DefaultsWorkloads
            | Surface::Sources => Governing::default(),
        };
        let sources = Sources {
            object: pod.annotations(),
            service_account: governing.service_account.as_deref().map(|a| (pod.service_account(), &a.annotations)),
            namespace: governing.namespace.as_deref().map(|a| (namespace, &a.annotations)),
        };
        let request = match self.request(&governing, &sources)? {
            Decision::Skip(reason) => return Ok(Outcome::Skipped(reason)),
            Decision::Inject(request) => request,
        };
        check_disclosure(&request, window)?;
        let (bindings, unbound) = self.bind(namespace, &request, window).await;
        let input = PlanInput {
            subject,
            pod,
            namespace,
            request: &request,
            bindings: &bindings,
            sidecars: &self.policy.sidecars,
            discloses: window.discloses,
        };
        let plan = plan(&input, unbound)?;
        if plan.is_empty() && plan.warnings.is_empty() {
            return Ok(Outcome::Skipped(SkipReason::AlreadyInjected));
        }
        let notes = mountable_note(&governing, pod, &plan);
        Ok(Outcome::Injected(Injection { plan, secrets: bindings.into_keys().collect(), notes }))
    }

    /// The defaults that apply to the pod.
    pub(super) async fn govern(
        &self,
        namespace: &str,
        pod: &PodView<'_>,
        window: Window<'_>,
    ) -> Result<Governing, AdmissionError> {
        let read = self.defaults.governing(namespace, pod.service_account(), window.arrived, window.deadline);
        let late = || BackendError::new(ErrorKind::Deadline, BackendKind::Kubernetes, namespace, None);
        let mut span = window.span.call("defaults.read");
        let read = timeout_at(window.deadline, read).await.unwrap_or_else(|_| Err(late()));
        tell(&mut span, BackendKind::Kubernetes, read.as_ref().err());
        read.map_err(|error| AdmissionError::Backend(vec![Unbound { error, site: None }]))
    }

    /// The request of an object and of the defaults that govern it.
    ///
    /// # Errors
    /// As [`Self::parse`]; and [`AdmissionError::Backend`] when nothing is asked for, but only as far as older
    /// defaults say: the API server gave no verdict about them.
    pub(super) fn request(&self, governing: &Governing, sources: &Sources<'_>) -> Result<Decision, AdmissionError> {
        let decision = self.parse(sources)?;
        if matches!(decision, Decision::Skip(SkipReason::OptedOut)) {
            return Ok(decision);
        }
        if !governing.mistakes().is_empty() {
            return Err(AdmissionError::Annotations(governing.mistakes().to_vec()));
        }
        if matches!(decision, Decision::Skip(_))
            && let Err(error) = governing.confirmed()
        {
            return Err(AdmissionError::Backend(vec![Unbound { error, site: None }]));
        }
        Ok(decision)
    }

    /// Annotations to a request, or every mistake in them, unknown backends among them.
    pub(super) fn parse(&self, sources: &Sources<'_>) -> Result<Decision, AdmissionError> {
        let decision = injection::parse(sources).map_err(AdmissionError::Annotations)?;
        let Decision::Inject(request) = &decision else { return Ok(decision) };
        let unknown: Vec<InvalidAnnotation> = request
            .needs()
            .into_keys()
            .filter(|secret| !self.binders.contains_key(&secret.source))
            .filter_map(|secret| self.unknown_backend(request, secret))
            .collect();
        if unknown.is_empty() { Ok(decision) } else { Err(AdmissionError::Annotations(unknown)) }
    }

    fn unknown_backend(&self, request: &InjectionRequest, secret: &SecretId) -> Option<InvalidAnnotation> {
        let known: Vec<&str> = self.binders.keys().map(|source| source.as_str()).collect();
        request.site_of(secret).map(|site| InvalidAnnotation {
            site: site.clone(),
            problem: format!(
                "source \"{}\" of \"{}\" is not configured here; configured: {}",
                secret.source,
                secret.name,
                known.join(", ")
            ),
            unsupported: true,
        })
    }

    /// Asks the backends about every secret at once.
    pub(super) async fn bind(
        &self,
        namespace: &str,
        request: &InjectionRequest,
        window: Window<'_>,
    ) -> (BTreeMap<SecretId, Bound>, Vec<Unbound>) {
        let queries = request.needs().into_iter().filter_map(|(secret, need)| {
            let binder = self.binders.get(&secret.source)?;
            Some(ask(binder, namespace, secret, need, window))
        });
        let mut bindings = BTreeMap::new();
        let mut unbound = Vec::new();
        let mut near = NearNames::new(&self.binders, namespace);
        for (secret, answer) in join_all(queries).await {
            let bound = match answer {
                Ok(binding) => Bound::Found(binding),
                Err(error) if error.kind == ErrorKind::NotFound => Bound::Missing {
                    backend: error.backend.as_str(),
                    near: if window.discloses { near.of(&secret) } else { None },
                },
                Err(error) => {
                    unbound.push(Unbound { error, site: request.site_of(&secret).cloned() });
                    Bound::Unchecked
                }
            };
            bindings.insert(secret, bound);
        }
        (bindings, unbound)
    }
}

/// The plan; where a backend gave no verdict about some secret, what is certain about the others comes
/// first, because no waiting will mend that.
fn plan(input: &PlanInput<'_>, unbound: Vec<Unbound>) -> Result<InjectionPlan, AdmissionError> {
    let planned = injection::plan(input);
    if unbound.is_empty() {
        return planned.map_err(AdmissionError::Plan);
    }
    let certain: Vec<PlanError> =
        planned.err().into_iter().flatten().filter(|error| !matches!(error, PlanError::UnknownKeys { .. })).collect();
    Err(if certain.is_empty() { AdmissionError::Backend(unbound) } else { AdmissionError::Plan(certain) })
}

/// Refuses `name/*` for a caller who may be anybody: its expansion tells the names of all keys.
///
/// # Errors
/// [`AdmissionError::Annotations`], with the settings by which an operator closes the port.
pub(super) fn check_disclosure(request: &InjectionRequest, window: Window<'_>) -> Result<(), AdmissionError> {
    if window.discloses {
        return Ok(());
    }
    let all_keys = request.variables.iter().filter(|variable| variable.reference.key == KeyChoice::All);
    let mistakes: Vec<InvalidAnnotation> = all_keys
        .map(|variable| InvalidAnnotation {
            site: variable.site.clone(),
            problem: format!(
                "\"{}\" takes every key of the secret, and this installation tells key names to nobody because it cannot tell the API server from other callers; name the keys, or let the platform operator set tls.clientCA, networkPolicy.podCIDRs or networkPolicy.admission.from",
                variable.reference
            ),
            unsupported: true,
        })
        .collect();
    if mistakes.is_empty() { Ok(()) } else { Err(AdmissionError::Annotations(mistakes)) }
}

type Answer = Result<injection::SecretBinding, BackendError>;

/// One question to one backend, answered before the deadline.
async fn ask(
    Answering { binder, .. }: &Answering,
    namespace: &str,
    secret: &SecretId,
    need: Need,
    window: Window<'_>,
) -> (SecretId, Answer) {
    let query = BindQuery {
        namespace: namespace.to_owned(),
        secret: secret.clone(),
        keys: if need.all_keys {
            KeysWanted::All
        } else if need.keys.is_empty() {
            KeysWanted::Existence
        } else {
            KeysWanted::These(need.keys)
        },
        arrived: window.arrived,
        deadline: window.deadline,
    };
    let late = || BackendError::new(ErrorKind::Deadline, binder.kind(), namespace, Some(&secret.name));
    let mut span = window.span.call("backend.bind");
    span.text("secret", secret.name.as_str());
    let answer = timeout_at(window.deadline, binder.bind(&query)).await.unwrap_or_else(|_| Err(late()));
    tell(&mut span, binder.kind(), answer.as_ref().err());
    (secret.clone(), answer)
}

/// How a call to a backend ended, by the same words as the metric's.
fn tell(span: &mut Span, backend: BackendKind, error: Option<&BackendError>) {
    let result = error.map_or(BackendResult::Ok, |error| error.kind.into());
    span.word("backend", backend.as_str());
    span.word("result", result.as_str());
    if !matches!(result, BackendResult::Ok | BackendResult::NotFound) {
        span.failed(result.as_str());
    }
}

/// The API server refuses what we inject when the service account lists its mountable Secrets and enforces the
/// list (annotation `kubernetes.io/enforce-mountable-secrets`); its own message does not say where the
/// reference came from.
fn mountable_note(governing: &Governing, pod: &PodView<'_>, plan: &InjectionPlan) -> Vec<String> {
    let enforced = governing.service_account.as_deref().is_some_and(|account| account.enforces_mountable_secrets);
    let note = || {
        format!(
            "service account \"{}\" enforces its list of mountable secrets: a pod that uses another one is refused by the API server",
            pod.service_account()
        )
    };
    if enforced && !plan.is_empty() { vec![note()] } else { Vec::new() }
}
