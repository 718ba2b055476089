//! Requests that are never mutated: exempt namespaces, mirror pods, other resources and operations, objects that are
//! being deleted.

use std::collections::BTreeSet;

use super::review::{AdmissionRequest, Operation};
use injection::{Annotations, PodView, SkipReason, WorkloadKind, WorkloadView};

/// Checks a pod, wherever it comes from: a review, a manifest, a list of running pods.
///
/// # Errors
/// The reason to leave it alone.
pub fn check_pod(
    namespace: &str,
    annotations: Option<&Annotations<'_>>,
    exempt: &BTreeSet<String>,
) -> Result<(), SkipReason> {
    if exempt.contains(namespace) {
        Err(SkipReason::ExemptNamespace)
    } else if annotations.is_some_and(|annotations| annotations.mirror) {
        Err(SkipReason::MirrorPod)
    } else {
        Ok(())
    }
}

/// Checks the review of a pod: only CREATE of pods themselves is acted on.
pub(super) fn pod<'r, 'a>(
    request: &'r AdmissionRequest<'a, PodView<'a>>,
    exempt: &BTreeSet<String>,
) -> Result<&'r PodView<'a>, SkipReason> {
    if !request.is_resource("", "pods") {
        return Err(SkipReason::NotThisKind);
    }
    let pod = request
        .object
        .as_ref()
        .filter(|_| request.operation == Operation::Create);
    let pod = pod.ok_or(SkipReason::NotThisOperation)?;
    check_pod(request.namespace(), pod.annotations(), exempt)?;
    Ok(pod)
}

/// Checks the review of a workload: CREATE and UPDATE of the kinds with a pod template.
pub(super) fn workload<'r, 'a>(
    request: &'r AdmissionRequest<'a, WorkloadView<'a>>,
    exempt: &BTreeSet<String>,
) -> Result<(WorkloadKind, &'r WorkloadView<'a>), SkipReason> {
    let kind = WorkloadKind::resources()
        .find_map(|(kind, group, resource)| request.is_resource(group, resource).then_some(kind))
        .ok_or(SkipReason::NotThisKind)?;
    let acted_on = match request.operation {
        Operation::Create => true,
        // The template of a Job is immutable.
        Operation::Update => kind != WorkloadKind::Job,
        Operation::Delete | Operation::Connect | Operation::Other => false,
    };
    let object = request
        .object
        .as_ref()
        .filter(|_| acted_on)
        .ok_or(SkipReason::NotThisOperation)?;
    if exempt.contains(request.namespace()) {
        Err(SkipReason::ExemptNamespace)
    } else if object.is_being_deleted() {
        Err(SkipReason::BeingDeleted)
    } else {
        Ok((kind, object))
    }
}
