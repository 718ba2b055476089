//! Record of an admission in the audit trail.

use super::{AdmissionEvent, AuditFields, Decision};
use crate::admission::error::{AdmissionError, AdmissionErrorKind};
use crate::admission::outcome::Outcome;
use crate::admission::requested::{RequestedSecret, SecretOrigin};
use crate::admission::review::Operation;
use crate::admission::status::status;
use crate::admission::surface::Surface;
use crate::audit::emitter::Emitter;
use crate::audit::record::{
    Action, Actor, Class, ObjectFields, OwnerFields, Record, RecordOutcome, RequestFields,
    SourceFields,
};
use crate::audit::target::TargetSecret;
use crate::audit::text::Text;
use injection::OwnerView;

/// Whether an admission leaves a record: it requests a secret, whatever the decision is, or changes defaults. Dry runs
/// leave none, because the webhook has no side effects on them.
#[must_use]
pub fn is_recorded(event: &AdmissionEvent<'_>) -> bool {
    if event.fields.dry_run {
        return false;
    }
    match event.outcome {
        Err(AdmissionError::Unreadable(_)) => false,
        // Annotations that cannot be parsed, and defaults that cannot be read, request something unknown.
        Err(_) | Ok(Outcome::Degraded(_)) => true,
        Ok(_) => event.fields.audit.requested.is_some(),
    }
}

/// Record of an admission that leaves one ([`is_recorded`]).
#[must_use]
pub fn record(event: &AdmissionEvent<'_>, emitter: Emitter) -> Record {
    let (class, action) = match event.surface {
        Surface::Pods | Surface::DefaultsPods => (Class::Injection, Action::AdmitPod),
        Surface::Workloads | Surface::DefaultsWorkloads => {
            (Class::Injection, Action::AdmitWorkload)
        }
        Surface::Sources => (Class::Policy, Action::AdmitDefaults),
    };
    let fields = &event.fields;
    let error = event.outcome.as_ref().err();
    let mut record = emitter.into_record(class, action, outcome(event.outcome));
    record.actor = Some(Actor {
        credential_id: Text::new(fields.audit.credential_id),
        kind: "kubernetes",
        uid: Text::new(fields.audit.user_uid),
        username: Text::new(fields.user),
        ..Actor::default()
    });
    record.decision = event.decision.as_str();
    record.duration_us = Some(u64::try_from(event.duration.as_micros()).unwrap_or(u64::MAX));
    record.object = Some(object(event));
    record.reason = event.reason.as_str();
    record.request = Some(RequestFields {
        admission_uid: Text::new(fields.uid),
        found_event: Text::new(fields.audit.found_event),
        method: method(event.operation),
        route: event.surface.as_str(),
        ..RequestFields::default()
    });
    record.source = Some(source(event));
    record.status = error.map(|error| status(error).code);
    record.targets = targets(event);
    record.trace_id = Text::new(fields.trace_id.unwrap_or_default());
    record
}

/// Whether the pod of an event was admitted with the secrets that it requests, so that it is a use of them.
#[must_use]
pub fn is_use(event: &AdmissionEvent<'_>) -> bool {
    let is_pod = matches!(event.surface, Surface::Pods | Surface::DefaultsPods);
    is_pod && is_recorded(event) && matches!(event.decision, Decision::Injected | Decision::Skipped)
}

fn outcome(outcome: &Result<Outcome, AdmissionError>) -> RecordOutcome {
    match outcome {
        // The pod has none of its secrets.
        Ok(Outcome::Degraded(_)) => RecordOutcome::Failure,
        Ok(_) => RecordOutcome::Success,
        Err(error) => match error.kind() {
            AdmissionErrorKind::Invalid
            | AdmissionErrorKind::Conflict
            | AdmissionErrorKind::NotFound
            | AdmissionErrorKind::PermissionDenied => RecordOutcome::Denied,
            AdmissionErrorKind::Unauthenticated
            | AdmissionErrorKind::Protocol
            | AdmissionErrorKind::Unavailable
            | AdmissionErrorKind::Timeout
            | AdmissionErrorKind::NotRecorded
            | AdmissionErrorKind::Unreadable => RecordOutcome::Error,
        },
    }
}

fn object(event: &AdmissionEvent<'_>) -> ObjectFields {
    let fields = &event.fields;
    let owner = |owner: &OwnerView<'_>| OwnerFields {
        kind: Text::new(owner.kind.as_str()),
        name: Text::new(owner.name.as_str()),
        uid: Text::new(owner.uid.as_str()),
    };
    ObjectFields {
        generate_name: Text::new(fields.generate_name),
        kind: Text::new(kind(fields.resource)),
        name: Text::new(fields.name),
        namespace: Text::new(fields.namespace),
        owner: fields.audit.controller.map(owner),
        service_account: Text::new(service_account(fields.audit)),
    }
}

/// `ServiceAccount` whose defaults ask for a secret.
fn service_account(fields: AuditFields<'_>) -> &str {
    let requested = fields.requested.unwrap_or_default();
    let names = requested
        .iter()
        .find_map(|requested| match &requested.origin {
            SecretOrigin::ServiceAccount(name) => Some(&**name),
            SecretOrigin::Object | SecretOrigin::Workload | SecretOrigin::Namespace => None,
        });
    names.unwrap_or_default()
}

/// Kind of a resource that the webhook admits; the resource itself if it is another one.
fn kind(resource: &str) -> &str {
    match resource {
        "pods" => "Pod",
        "deployments" => "Deployment",
        "statefulsets" => "StatefulSet",
        "daemonsets" => "DaemonSet",
        "jobs" => "Job",
        "cronjobs" => "CronJob",
        "rollouts" => "Rollout",
        "namespaces" => "Namespace",
        "serviceaccounts" => "ServiceAccount",
        resource => resource,
    }
}

/// The requester's address is not known: the API server has sent the review.
fn source(event: &AdmissionEvent<'_>) -> SourceFields {
    let caller = event.fields.caller;
    let ip = caller
        .and_then(|caller| caller.address)
        .map(|address| address.ip().to_string());
    SourceFields {
        channel: caller.map_or("", |caller| caller.channel.as_str()),
        ip: Text::new(&ip.unwrap_or_default()),
        kind: "apiserver",
        ..SourceFields::default()
    }
}

fn method(operation: Operation) -> &'static str {
    match operation {
        Operation::Create => "CREATE",
        Operation::Update => "UPDATE",
        Operation::Delete => "DELETE",
        Operation::Connect => "CONNECT",
        Operation::Other => "OTHER",
    }
}

fn targets(event: &AdmissionEvent<'_>) -> Vec<TargetSecret> {
    let AuditFields {
        requested,
        controller,
        ..
    } = event.fields.audit;
    let is_template = match event.surface {
        // A controller copies the annotations of the template.
        Surface::Pods | Surface::DefaultsPods => controller.is_some(),
        Surface::Workloads | Surface::DefaultsWorkloads | Surface::Sources => true,
    };
    let is_namespace = event.fields.resource == "namespaces";
    let origin = |origin: &SecretOrigin| match origin {
        SecretOrigin::Object if event.surface == Surface::Sources && is_namespace => "namespace",
        SecretOrigin::Object if event.surface == Surface::Sources => "serviceaccount",
        SecretOrigin::Object if !is_template => "pod",
        SecretOrigin::Object | SecretOrigin::Workload => "template",
        SecretOrigin::ServiceAccount(_) => "serviceaccount",
        SecretOrigin::Namespace => "namespace",
    };
    // A Namespace is in itself.
    let namespace = if event.fields.namespace.is_empty() {
        event.fields.name
    } else {
        event.fields.namespace
    };
    let target = |requested: &RequestedSecret| TargetSecret {
        backend: Text::new(requested.secret.source.as_str()),
        name: Text::new(requested.secret.name.as_str()),
        namespace: Text::new(namespace),
        origin: origin(&requested.origin),
    };
    requested.unwrap_or_default().iter().map(target).collect()
}
