//! Pipeline of an admission: gate, defaults, parse, authorize, bind; then the plan.
//!
//! The steps `read_defaults`, `authorize` and `bind` do IO. The gate ([`super::gate`]), `parse` and the plan
//! ([`injection`]) are pure. Pods, workloads, retries, `inject` and `scan` use the same steps.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::join_all;
use tokio::time::{Instant, timeout_at};

use super::authorize::{AllowAll, Authorizer, SecretUse, check_disclosure};
use super::error::{AdmissionError, BindFailure};
use super::near::NearNames;
use super::policy::{Policy, SharedPolicy};
use super::requested::SecretRequests;
use super::sources::{Source, Sources};
use super::surface::Surface;
use crate::backend::metrics::BackendResult;
use crate::backend::{BackendError, BackendKind, BindQuery, ErrorKind, SecretBinder};
use crate::defaults::{AppliedDefaults, Defaults};
use crate::telemetry::span::Span;
use injection::{
    self, AnnotationLayers, AnnotationRef, Annotations, BindOutcome, Decision, InjectionRequest,
    InvalidAnnotation, KeyQuery, PodView, SecretId, SkipReason,
};

/// Bindings of the requested secrets, and the backends' failures.
pub(super) type Bindings = (BTreeMap<SecretId, BindOutcome>, Vec<BindFailure>);

/// Times, tracing and disclosure of one review.
#[derive(Clone, Copy, Debug)]
pub struct RequestContext<'s> {
    /// Arrival of the review's first byte.
    pub arrived: Instant,
    /// Time by which the response is due.
    pub deadline: Instant,
    /// Span of the review.
    pub span: &'s Span,
    /// Whether the response may contain names that the author did not write ([`super::caller::Channel::discloses`]).
    pub discloses: bool,
    /// Receives the secrets that the review requests, for its record.
    pub requested: Option<&'s SecretRequests>,
}

impl RequestContext<'_> {
    /// Context without tracing, for a trusted caller.
    #[must_use]
    pub fn untraced(arrived: Instant, deadline: Instant) -> Self {
        static OFF: Span = Span::off();
        Self {
            arrived,
            deadline,
            span: &OFF,
            discloses: true,
            requested: None,
        }
    }

    /// Keeps that the review leaves a record without known secrets, unless some are kept already.
    pub(super) fn keep_none_known(&self) {
        if let Some(requested) = self.requested {
            requested.set_none_known();
        }
    }

    /// Keeps the secrets of a request for the record of its review.
    pub(super) fn keep_requested(&self, request: &InjectionRequest) {
        if let Some(requested) = self.requested {
            requested.set(request);
        }
    }
}

/// Decides admissions.
#[derive(Clone, Debug)]
pub struct Pipeline {
    sources: Sources,
    authorizer: Arc<dyn Authorizer>,
    pub(super) defaults: Arc<Defaults>,
    policy: SharedPolicy,
}

impl Pipeline {
    /// Creates a pipeline that authorizes everything ([`AllowAll`]).
    #[must_use]
    pub fn new(sources: Sources, defaults: Arc<Defaults>, policy: Policy) -> Self {
        Self {
            sources,
            authorizer: Arc::new(AllowAll),
            defaults,
            policy: SharedPolicy::new(policy),
        }
    }

    /// Replaces the authorizer.
    #[must_use]
    pub fn authorized_by(self, authorizer: Arc<dyn Authorizer>) -> Self {
        Self { authorizer, ..self }
    }

    /// Settings of the operator.
    #[must_use]
    pub fn policy(&self) -> Arc<Policy> {
        self.policy.current()
    }

    /// Handle that replaces the settings of the operator.
    #[must_use]
    pub fn shared_policy(&self) -> SharedPolicy {
        self.policy.clone()
    }

    /// Reads the defaults that apply to the pod and parses all layers of annotations; `object` are the nearest ones.
    ///
    /// # Errors
    /// [`AdmissionError::Annotations`], and [`AdmissionError::Backend`] if the defaults could not be read.
    pub async fn request(
        &self,
        surface: Surface,
        namespace: &str,
        object: Option<&Annotations<'_>>,
        pod: &PodView<'_>,
        context: RequestContext<'_>,
    ) -> Result<(Decision, AppliedDefaults), AdmissionError> {
        // Defaults do not apply to an object that opts out itself.
        let opted_out = object.is_some_and(Annotations::opts_out);
        let defaults = if surface.applies_defaults() && !opted_out {
            self.read_defaults(namespace, pod, context).await?
        } else {
            AppliedDefaults::default()
        };
        let decision = self.parse(
            &defaults.layers(object, namespace, pod.service_account()),
            &defaults,
        )?;
        Ok((decision, defaults))
    }

    /// Reads the defaults that apply to the pod.
    async fn read_defaults(
        &self,
        namespace: &str,
        pod: &PodView<'_>,
        context: RequestContext<'_>,
    ) -> Result<AppliedDefaults, AdmissionError> {
        let read = self.defaults.applied(
            namespace,
            pod.service_account(),
            context.arrived,
            context.deadline,
        );
        let late = || {
            BackendError::new(
                ErrorKind::Deadline,
                BackendKind::Kubernetes,
                namespace,
                None,
            )
        };
        let mut span = context.span.client_span("defaults.read");
        let read = timeout_at(context.deadline, read)
            .await
            .unwrap_or_else(|_| Err(late()));
        record(&mut span, BackendKind::Kubernetes, read.as_ref().err());
        read.map_err(|error| AdmissionError::Backend(vec![BindFailure { error, site: None }]))
    }

    /// Parses the layers of annotations of an object.
    ///
    /// # Errors
    /// Errors of [`Self::parse_layers`]; [`AdmissionError::Annotations`] for defaults that are too large to be read;
    /// and [`AdmissionError::Backend`] if nothing is requested, but the defaults are stale because the API server could
    /// not be read.
    fn parse(
        &self,
        layers: &AnnotationLayers<'_>,
        defaults: &AppliedDefaults,
    ) -> Result<Decision, AdmissionError> {
        let decision = self.parse_layers(layers)?;
        if matches!(decision, Decision::Skip(SkipReason::OptedOut)) {
            return Ok(decision);
        }
        if !defaults.mistakes().is_empty() {
            return Err(AdmissionError::Annotations(defaults.mistakes().to_vec()));
        }
        if matches!(decision, Decision::Skip(_))
            && let Err(error) = defaults.confirmed()
        {
            return Err(AdmissionError::Backend(vec![BindFailure {
                error,
                site: None,
            }]));
        }
        Ok(decision)
    }

    /// Parses annotations, and checks that the sources which they name are configured.
    ///
    /// # Errors
    /// [`AdmissionError::Annotations`] with every mistake.
    pub(super) fn parse_layers(
        &self,
        layers: &AnnotationLayers<'_>,
    ) -> Result<Decision, AdmissionError> {
        let decision = injection::parse(layers).map_err(AdmissionError::Annotations)?;
        let Decision::Inject(request) = &decision else {
            return Ok(decision);
        };
        let unknown: Vec<InvalidAnnotation> = request
            .secret_sites()
            .into_iter()
            .filter(|(secret, _)| !self.sources.contains_key(&secret.source))
            .map(|(secret, site)| self.unknown_source(secret, site))
            .collect();
        if unknown.is_empty() {
            Ok(decision)
        } else {
            Err(AdmissionError::Annotations(unknown))
        }
    }

    fn unknown_source(&self, secret: &SecretId, site: &AnnotationRef) -> InvalidAnnotation {
        let known: Vec<&str> = self.sources.keys().map(|source| source.as_str()).collect();
        InvalidAnnotation {
            site: site.clone(),
            problem: format!(
                "source \"{}\" of \"{}\" is not configured here; configured: {}",
                secret.source,
                secret.name,
                known.join(", ")
            ),
            unsupported: true,
        }
    }

    /// Checks that the pod may use the requested secrets, and that the response may contain their key names. This
    /// precedes `bind`, so that a refusal is the same whether or not the secret exists.
    ///
    /// # Errors
    /// [`AdmissionError::Annotations`], [`AdmissionError::Forbidden`], and [`AdmissionError::Backend`] if the
    /// authorizer could not decide.
    pub(super) async fn authorize(
        &self,
        namespace: &str,
        service_account: &str,
        request: &InjectionRequest,
        context: RequestContext<'_>,
    ) -> Result<(), AdmissionError> {
        check_disclosure(request, context.discloses)?;
        let secrets = SecretUse {
            namespace,
            service_account,
            request,
            deadline: context.deadline,
        };
        let late = || {
            let error = BackendError::new(
                ErrorKind::Deadline,
                BackendKind::Kubernetes,
                namespace,
                None,
            );
            AdmissionError::Backend(vec![BindFailure {
                error,
                site: request.first_site().cloned(),
            }])
        };
        let decided = timeout_at(context.deadline, self.authorizer.forbidden(&secrets)).await;
        let forbidden = decided.unwrap_or_else(|_| Err(late()))?;
        if forbidden.is_empty() {
            Ok(())
        } else {
            Err(AdmissionError::Forbidden(forbidden))
        }
    }

    /// Binds all requested secrets concurrently.
    pub(super) async fn bind(
        &self,
        namespace: &str,
        request: &InjectionRequest,
        context: RequestContext<'_>,
    ) -> Bindings {
        let queries = request
            .key_queries()
            .into_iter()
            .filter_map(|(secret, query)| {
                let source = self.sources.get(&secret.source)?;
                Some(bind_one(source, namespace, secret, query, context))
            });
        let mut bindings = BTreeMap::new();
        let mut failures = Vec::new();
        let mut near = NearNames::new(&self.sources, namespace);
        for (secret, result) in join_all(queries).await {
            let bound = match result {
                Ok(binding) => BindOutcome::Found(binding),
                Err(error) if error.kind == ErrorKind::NotFound => BindOutcome::Missing {
                    backend: error.backend.as_str(),
                    near: if context.discloses {
                        near.suggest(&secret)
                    } else {
                        None
                    },
                },
                Err(error) => {
                    failures.push(BindFailure {
                        error,
                        site: request.site_of(&secret).cloned(),
                    });
                    BindOutcome::Unchecked
                }
            };
            bindings.insert(secret, bound);
        }
        (bindings, failures)
    }
}

/// Binds one secret before the deadline.
async fn bind_one(
    Source { binder, .. }: &Source,
    namespace: &str,
    secret: &SecretId,
    keys: KeyQuery,
    context: RequestContext<'_>,
) -> (SecretId, Result<injection::SecretBinding, BackendError>) {
    let query = BindQuery {
        namespace: namespace.to_owned(),
        secret: secret.clone(),
        keys,
        arrived: context.arrived,
        deadline: context.deadline,
    };
    let late = || {
        BackendError::new(
            ErrorKind::Deadline,
            binder.kind(),
            namespace,
            Some(&secret.name),
        )
    };
    let mut span = context.span.client_span("backend.bind");
    span.set_str("secret", secret.name.as_str());
    let result = timeout_at(context.deadline, binder.bind(&query))
        .await
        .unwrap_or_else(|_| Err(late()));
    record(&mut span, binder.kind(), result.as_ref().err());
    (secret.clone(), result)
}

/// Records the result of a backend call, with the values of the metric's label.
fn record(span: &mut Span, backend: BackendKind, error: Option<&BackendError>) {
    let result = error.map_or(BackendResult::Ok, |error| error.kind.into());
    span.set_static("backend", backend.as_str());
    span.set_static("result", result.as_str());
    if !matches!(result, BackendResult::Ok | BackendResult::NotFound) {
        span.set_error(result.as_str());
    }
}
