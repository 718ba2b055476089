//! Path from a pod's view to its patched document, and its invariants.

use std::collections::{BTreeMap, BTreeSet};

use injection::{
    AnnotationLayers, BindOutcome, Decision, EnvVarName, InjectionRequest, MAX_PATCH_BYTES,
    PlanInput, PlanTarget, PodView, SecretBinding, SecretId, parse, plan, render,
};
use serde::Deserialize;
use serde_json::Value;

/// Backend in which every secret exists, with the requested keys and two more.
fn bindings(request: &InjectionRequest) -> BTreeMap<SecretId, BindOutcome> {
    let found = |(id, query): (&SecretId, injection::KeyQuery)| {
        let more = ["password".to_owned(), "pass.word".to_owned()];
        let keys: BTreeSet<String> = query
            .keys
            .iter()
            .map(ToString::to_string)
            .chain(more)
            .collect();
        (
            id.clone(),
            BindOutcome::Found(SecretBinding {
                secret_name: id.name.to_string(),
                keys: Some(keys),
            }),
        )
    };
    request.key_queries().into_iter().map(found).collect()
}

/// Admits the pod that `view` shows of `document`: the patch applies, and a second pass adds nothing.
pub fn admit(view: &PodView<'_>, document: &Value) {
    let Some(patch) = patch(view) else { return };
    let mut patched = document.clone();
    json_patch::patch(&mut patched, &patch).expect("the patch applies to its own pod");
    if !patch.0.is_empty() {
        let again = PodView::deserialize(&patched).expect("a patched pod is a pod");
        let second = self::patch(&again).expect("an admitted pod is admitted again");
        assert!(second.0.is_empty(), "a second pass adds {second}");
    }
}

fn patch(view: &PodView<'_>) -> Option<json_patch::Patch> {
    let request = match parse(&AnnotationLayers {
        object: view.annotations(),
        ..AnnotationLayers::default()
    }) {
        Ok(Decision::Inject(request)) => request,
        Ok(Decision::Skip(_)) => return None,
        Err(mistakes) => {
            for mistake in mistakes {
                assert!(
                    mistake.to_string().len() < 4096,
                    "a mistake is one sentence"
                );
            }
            return None;
        }
    };
    let bindings = bindings(&request);
    let input = PlanInput {
        target: PlanTarget::Pod,
        pod: view,
        namespace: "floe-jobs",
        request: &request,
        bindings: &bindings,
        sidecars: &["istio-proxy".parse().expect("a pattern")],
        discloses: true,
    };
    let plan = match plan(&input) {
        Ok(plan) => plan,
        Err(errors) => {
            assert!(errors.len() <= 1000, "{} mistakes", errors.len());
            assert!(
                errors.iter().all(|error| error.to_string().len() < 4096),
                "each is one sentence"
            );
            return None;
        }
    };
    assert!(
        plan.warnings
            .iter()
            .all(|warning| warning.to_string().len() < 4096),
        "each is one sentence"
    );
    for entry in plan
        .containers
        .iter()
        .flat_map(|container| container.env_before.iter().chain(&container.env_after))
    {
        entry
            .name
            .parse::<EnvVarName>()
            .expect("every variable that is added is a C identifier");
    }
    let patch = render(&plan, &[]);
    let bytes = serde_json::to_vec(&patch).expect("a patch is JSON").len();
    assert!(
        bytes <= MAX_PATCH_BYTES,
        "a plan is refused before its patch is too long: {bytes}"
    );
    Some(patch.into())
}
