//! Sentences of `--explain` about what each object gets, and why.

use crate::defaults::DefaultsObject;
use injection::{
    AnnotationLayers, Choice, ContainerList, ContainerPlan, ContainerView, Decision, ENABLED_LABEL,
    EnvEntry, EnvVarName, IdleDefaults, InjectionPlan, InjectionRequest, KeyChoice, PREFIX,
    PodView, Record, SecretName, Selection, Sidecar, Sidecars, SkipReason, Variable, parse,
};

/// Sentence about a pod that is not changed.
pub(super) fn skipped(reason: SkipReason) -> &'static str {
    match reason {
        SkipReason::NotRequested => "nothing to do: no annotation asks for a secret",
        SkipReason::OptedOut => "nothing to do: secrets.floe.dev/inject is \"false\"",
        SkipReason::AlreadyInjected => {
            "nothing to do: everything that is asked for is there already"
        }
        SkipReason::NotThisOperation | SkipReason::NotThisKind => {
            "nothing to do: it is no pod and has no pod template"
        }
        SkipReason::ExemptNamespace => "nothing to do: pods of this namespace are never touched",
        SkipReason::MirrorPod => {
            "nothing to do: it stands for a static pod, which may not refer to Secrets"
        }
        SkipReason::Unchanged => "nothing to do: its annotations are as they were",
        SkipReason::BeingDeleted => "nothing to do: it is being deleted",
    }
}

/// Sentences about what each container gets, or why it gets nothing. `is_name_of` is whether a Secret of that name is
/// injected for a name in an annotation.
pub(super) fn injected(
    layers: &AnnotationLayers<'_>,
    pod: &PodView<'_>,
    plan: &InjectionPlan,
    sidecars: &[Sidecar],
    is_name_of: &dyn Fn(&str, &SecretName) -> bool,
) -> Vec<String> {
    // The annotations were parsed for the plan already.
    let Ok(Decision::Inject(request)) = parse(layers) else {
        return Vec::new();
    };
    let mut lines = Vec::new();
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
    for (list, containers, selection) in lists {
        for container in containers.iter().flatten() {
            let name = container.name.as_str();
            let planned = plan
                .containers
                .iter()
                .find(|planned| planned.list == list && planned.name == name);
            if let Some(planned) = planned {
                lines.extend(container_lines(&request, planned, is_name_of));
            } else {
                let reason = exclusion_reason(list, container, selection.as_ref(), sidecars, pod);
                lines.push(format!("{list} \"{name}\" gets nothing: {reason}"));
            }
        }
    }
    if !plan.reload.is_empty() {
        let list = plan.reload.join(",");
        lines.push(format!(
            "annotation secret.reloader.stakater.com/reload tells \"{list}\": a record, which restarts nothing"
        ));
    }
    lines
}

/// Sentences about what one container gets.
pub(crate) fn container_lines(
    request: &InjectionRequest,
    planned: &ContainerPlan,
    is_name_of: &dyn Fn(&str, &SecretName) -> bool,
) -> Vec<String> {
    let bulk = planned
        .env_from
        .iter()
        .map(|(_, secret)| bulk_phrase(request, secret, is_name_of));
    let before = planned.env_before.iter().map(|entry| {
        format!(
            "{}, before the variables that refer to it",
            variable_phrase(request, entry)
        )
    });
    let after = planned
        .env_after
        .iter()
        .map(|entry| variable_phrase(request, entry));
    bulk.chain(before)
        .chain(after)
        .map(|phrase| format!("{} \"{}\" {phrase}", planned.list, planned.name))
        .collect()
}

/// Sentence about defaults of a Namespace or ServiceAccount that have no effect, or only under a condition; `None` if
/// they apply. `labelled` is the Namespace, if it is known.
pub(super) fn defaults(
    namespace: &str,
    service_account: Option<&str>,
    labelled: Option<&DefaultsObject>,
) -> Option<String> {
    let idle = match (labelled, service_account) {
        (Some(labelled), Some(account)) => {
            IdleDefaults::of_service_account(account, namespace, labelled.label())
        }
        (Some(labelled), None) => IdleDefaults::of_namespace(namespace, labelled.label()),
        (None, _) => {
            let (key, value) = ENABLED_LABEL;
            return Some(format!(
                "its {PREFIX} annotations have an effect only if namespace \"{namespace}\" carries the label {key}={value}; it is not known here"
            ));
        }
    };
    idle.map(|idle| idle.to_string())
}

fn bulk_phrase(
    request: &InjectionRequest,
    secret: &str,
    is_name_of: &dyn Fn(&str, &SecretName) -> bool,
) -> String {
    let requested = request
        .bulk
        .iter()
        .find(|bulk| is_name_of(secret, &bulk.secret.name));
    let site = requested
        .map(|bulk| format!(" ({})", bulk.site))
        .unwrap_or_default();
    format!("takes every key of secret \"{secret}\"{site}")
}

fn variable_phrase(request: &InjectionRequest, entry: &EnvEntry) -> String {
    let requested = request
        .variables
        .iter()
        .find(|variable| produces(variable, entry));
    let site = requested
        .map(|variable| format!(" ({})", variable.site))
        .unwrap_or_default();
    format!(
        "takes {} from key \"{}\" of secret \"{}\"{site}",
        entry.name, entry.key, entry.secret
    )
}

/// Whether the reference produces the entry.
fn produces(variable: &Variable, entry: &EnvEntry) -> bool {
    if let Some(alias) = &variable.alias {
        return alias.as_str() == entry.name;
    }
    let key = match &variable.reference.key {
        KeyChoice::Default => None,
        KeyChoice::Key(key) => Some(key.as_str()),
        KeyChoice::All => Some(entry.key.as_str()),
    };
    EnvVarName::for_reference(&variable.reference.secret.name, key).as_str() == entry.name
}

/// Reason for which a container gets nothing.
pub(crate) fn exclusion_reason(
    list: ContainerList,
    container: &ContainerView<'_>,
    selection: Option<&Selection>,
    sidecars: &[Sidecar],
    pod: &PodView<'_>,
) -> String {
    let name = container.name.as_str();
    match (selection, list) {
        (Some(Selection { choice: Choice::None, site }), _) => format!("{site} selects none"),
        (Some(Selection { choice: Choice::Patterns(patterns), site }), _)
            if !patterns.iter().any(|pattern| pattern.matches(name)) =>
        {
            format!("{site} does not select it")
        }
        (None, ContainerList::InitContainers) => {
            "init containers get nothing unless secrets.floe.dev/init-containers selects them".to_owned()
        }
        (None, ContainerList::Containers) if Sidecars::of(sidecars, pod).contains_container(name) => {
            "it is on the list of sidecar containers; to include it, select it in secrets.floe.dev/containers"
                .to_owned()
        }
        (Some(_), _) => "it has everything already".to_owned(),
        (None, ContainerList::Containers) => {
            let record = pod.annotations().and_then(|annotations| annotations.get("injected")).and_then(Record::read);
            match record {
                Some(record) if !record.is_empty() && !record.list(list).contains_key(name) => {
                    "it came after the secrets had been injected, and no annotation selects it".to_owned()
                }
                _ => "it has everything already".to_owned(),
            }
        }
    }
}
