//! `--explain`: what is done to an object, and why, in plain sentences.

use crate::defaults::DefaultsObject;
use injection::{
    AnnotationLayers, Choice, ContainerList, ContainerView, Decision, ENABLED_LABEL, EnvEntry,
    EnvVarName, IdleDefaults, InjectionPlan, InjectionRequest, KeyChoice, PREFIX, PodView, Record,
    SecretName, Selection, Sidecar, Sidecars, SkipReason, Variable, parse,
};

/// Why nothing is done.
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

/// What is done to each container, and why the others get nothing. `is_name_of` tells whether a Secret of that name is
/// injected for a name that an author wrote.
pub(super) fn injected(
    sources: &AnnotationLayers<'_>,
    pod: &PodView<'_>,
    plan: &InjectionPlan,
    sidecars: &[Sidecar],
    is_name_of: &dyn Fn(&str, &SecretName) -> bool,
) -> Vec<String> {
    // It parsed a moment ago.
    let Ok(Decision::Inject(request)) = parse(sources) else {
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
            match planned {
                None => {
                    let why = left_out(list, container, selection.as_ref(), sidecars, pod);
                    lines.push(format!("{list} \"{name}\" gets nothing: {why}"));
                }
                Some(planned) => {
                    let whole = planned
                        .env_from
                        .iter()
                        .map(|(_, secret)| whole(&request, secret, is_name_of));
                    let before = planned.env_before.iter().map(|entry| {
                        format!(
                            "{}, before the variables that refer to it",
                            variable(&request, entry)
                        )
                    });
                    let after = planned
                        .env_after
                        .iter()
                        .map(|entry| variable(&request, entry));
                    lines.extend(
                        whole
                            .chain(before)
                            .chain(after)
                            .map(|what| format!("{list} \"{name}\" {what}")),
                    );
                }
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

/// Why the defaults of a Namespace or ServiceAccount have no effect, or when they will have one; none where they apply.
/// `labelled` is the Namespace, where it is known.
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

fn whole(
    request: &InjectionRequest,
    secret: &str,
    is_name_of: &dyn Fn(&str, &SecretName) -> bool,
) -> String {
    let asked = request
        .bulk
        .iter()
        .find(|bulk| is_name_of(secret, &bulk.secret.name));
    let site = asked
        .map(|bulk| format!(" ({})", bulk.site))
        .unwrap_or_default();
    format!("takes every key of secret \"{secret}\"{site}")
}

fn variable(request: &InjectionRequest, entry: &EnvEntry) -> String {
    let asked = request
        .variables
        .iter()
        .find(|variable| gives(variable, entry));
    let site = asked
        .map(|variable| format!(" ({})", variable.site))
        .unwrap_or_default();
    format!(
        "takes {} from key \"{}\" of secret \"{}\"{site}",
        entry.name, entry.key, entry.secret
    )
}

/// Whether this reference gives that entry.
fn gives(variable: &Variable, entry: &EnvEntry) -> bool {
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

fn left_out(
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
        (None, ContainerList::Containers) if Sidecars::of(sidecars, pod).contain(name) => {
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
