//! Entries that containers have of a request, and reasons for which others have none. Pure.

use injection::{
    ContainerList, ContainerPlan, ContainerView, EnvEntry, EnvVarName, InjectionPlan,
    InjectionRequest, KeyChoice, PodView, Sidecar, Variable,
};

use super::output::ContainerExplanation;
use crate::inject::explain::{container_lines, exclusion_reason};

/// Words for what a plan adds to a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PlannedAs {
    /// A live pod lacks it.
    Missing,
    /// Pods of a template get it when they are created.
    Future,
}

/// Explains each container of a pod or template. `plan` is what it lacks; `None` if there is no plan.
pub(super) fn containers(
    request: &InjectionRequest,
    pod: &PodView<'_>,
    plan: Option<&InjectionPlan>,
    planned_as: PlannedAs,
    sidecars: &[Sidecar],
) -> Vec<ContainerExplanation> {
    let lists = [
        (
            ContainerList::Containers,
            &pod.spec.containers,
            &request.containers,
        ),
        (
            ContainerList::InitContainers,
            &pod.spec.init_containers,
            &request.init_containers,
        ),
    ];
    let mut explained = Vec::new();
    for (list, containers, selection) in lists {
        for container in containers.iter().flatten() {
            let name = container.name.as_str();
            let planned = plan.and_then(|plan| {
                let mut plans = plan.containers.iter();
                plans.find(|planned| planned.list == list && planned.name == name)
            });
            let present = present_entries(request, list, container);
            let mut lines = lines_of(request, &present);
            if let Some(planned) = planned {
                let phrase = |line: String| match planned_as {
                    PlannedAs::Future => line,
                    PlannedAs::Missing => format!("MISSING: {line}"),
                };
                lines.extend(lines_of(request, planned).into_iter().map(phrase));
            }
            if lines.is_empty() {
                let reason = if plan.is_some() {
                    exclusion_reason(list, container, selection.as_ref(), sidecars, pod)
                } else {
                    "the request is refused, see the problems".to_owned()
                };
                lines.push(format!("{list} \"{name}\" gets nothing: {reason}"));
            }
            explained.push(ContainerExplanation {
                name: name.to_owned(),
                init: list == ContainerList::InitContainers,
                lines,
            });
        }
    }
    explained
}

fn lines_of(request: &InjectionRequest, plan: &ContainerPlan) -> Vec<String> {
    container_lines(request, plan, &|secret, name| secret == name.as_str())
}

/// Entries of a container that the request asks for, as a plan.
fn present_entries(
    request: &InjectionRequest,
    list: ContainerList,
    container: &ContainerView<'_>,
) -> ContainerPlan {
    let whole = container.whole_secrets();
    let bulk = request.bulk.iter().map(|bulk| bulk.secret.name.as_str());
    let env_from = bulk
        .filter_map(|name| Some((*whole.get(name)?, name.to_owned())))
        .collect();
    let entries = container.env_by_name().into_iter();
    let entries = entries.filter_map(|(name, entry)| {
        let (secret, key) = entry.secret_key()?;
        let is_requested = request
            .variables
            .iter()
            .any(|variable| produces(variable, (name, secret, key)));
        is_requested.then(|| EnvEntry {
            name: name.to_owned(),
            secret: secret.to_owned(),
            key: key.to_owned(),
        })
    });
    ContainerPlan {
        list,
        index: 0,
        name: container.name.as_str().to_owned(),
        env_from_absent: false,
        env_from,
        env_absent: false,
        env_before: Vec::new(),
        env_after: entries.collect(),
    }
}

/// Whether a reference produces an entry with this name, secret and key.
fn produces(variable: &Variable, (name, secret, key): (&str, &str, &str)) -> bool {
    let reference = &variable.reference;
    if reference.secret.name.as_str() != secret {
        return false;
    }
    let named = |in_name: Option<&str>| {
        EnvVarName::for_reference(&reference.secret.name, in_name).as_str() == name
    };
    match (&variable.alias, &reference.key) {
        (Some(alias), _) => alias.as_str() == name,
        (None, KeyChoice::Default) => key == injection::DEFAULT_KEY && named(None),
        (None, KeyChoice::Key(requested)) => requested.as_str() == key && named(Some(key)),
        (None, KeyChoice::All) => named(Some(key)),
    }
}
