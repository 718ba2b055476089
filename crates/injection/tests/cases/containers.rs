//! Selection of containers.

use injection::PlanTarget;
use rstest::rstest;
use serde_json::{Value, json};

use crate::admission::{Admission, Admitted, pod_with};

/// Two app containers and a mesh sidecar among them, an init container and a native sidecar.
fn spec() -> Value {
    json!({
        "initContainers": [
            { "name": "migrate", "image": "m" },
            { "name": "proxy", "image": "p", "restartPolicy": "Always" },
        ],
        "containers": [
            { "name": "app", "image": "a" },
            { "name": "app-metrics", "image": "x" },
            { "name": "istio-proxy", "image": "i" },
        ],
    })
}

fn injected(admitted: &Admitted) -> Vec<&'static str> {
    let all = ["migrate", "proxy", "app", "app-metrics", "istio-proxy"];
    all.into_iter()
        .filter(|name| !admitted.env_from(name).is_empty())
        .collect()
}

#[rstest]
#[case::unset_leaves_out_sidecars_and_init_containers(&[], &["app", "app-metrics"])]
#[case::star_is_all(&[("containers", "*")], &["app", "app-metrics", "istio-proxy"])]
#[case::exact(&[("containers", "app")], &["app"])]
#[case::a_sidecar_by_name(&[("containers", "istio-proxy")], &["istio-proxy"])]
#[case::glob(&[("containers", "app*")], &["app", "app-metrics"])]
#[case::question_mark(&[("containers", "ap?")], &["app"])]
#[case::list(&[("containers", "app-metrics, istio-*")], &["app-metrics", "istio-proxy"])]
#[case::init_none(&[("init-containers", "none")], &["app", "app-metrics"])]
#[case::init_all(&[("init-containers", "*")], &["migrate", "proxy", "app", "app-metrics"])]
#[case::init_by_name(&[("init-containers", "migrate")], &["migrate", "app", "app-metrics"])]
#[case::native_sidecar_counts_as_init(&[("init-containers", "proxy"), ("containers", "app")], &["proxy", "app"])]
fn selection_selects_containers(#[case] choice: &[(&str, &str)], #[case] expected: &[&str]) {
    let annotations: Vec<(&str, &str)> =
        choice.iter().copied().chain([("env-from", "a")]).collect();
    let admitted = Admission::of(pod_with(&annotations, spec())).injects();
    assert_eq!(injected(&admitted), expected);
    assert!(admitted.warnings.is_empty(), "{:?}", admitted.warnings);
    assert_eq!(admitted.container("proxy")["restartPolicy"], "Always");
}

#[test]
fn selection_of_a_default_may_include_sidecars() {
    let admitted = Admission::of(pod_with(&[("env-from", "a")], spec()))
        .namespace(&[("containers", "*")])
        .injects();
    assert_eq!(injected(&admitted), ["app", "app-metrics", "istio-proxy"]);
}

#[rstest]
#[case(
    "containers",
    "web",
    "the pod has no container \"web\" (named by annotation secrets.floe.dev/containers). It has: app, app-metrics, istio-proxy."
)]
#[case(
    "containers",
    "migrate",
    "the pod has no container \"migrate\" (named by annotation secrets.floe.dev/containers). It is an init container: name it in secrets.floe.dev/init-containers."
)]
#[case(
    "containers",
    "none",
    "the pod has no container \"none\" (named by annotation secrets.floe.dev/containers). It has: app, app-metrics, istio-proxy."
)]
#[case(
    "init-containers",
    "app",
    "the pod has no init container \"app\" (named by annotation secrets.floe.dev/init-containers). It is not an init container: name it in secrets.floe.dev/containers."
)]
#[case(
    "init-containers",
    "web",
    "the pod has no init container \"web\" (named by annotation secrets.floe.dev/init-containers). It has: migrate, proxy."
)]
fn unknown_container_is_rejected(#[case] key: &str, #[case] name: &str, #[case] sentence: &str) {
    let admission = Admission::of(pod_with(&[("env-from", "a"), (key, name)], spec()));
    assert_eq!(admission.rejects(), [sentence]);
    // Another webhook may still add the container to a template.
    let template = admission.target(PlanTarget::Template).injects();
    assert!(
        template.warnings.contains(&sentence.to_owned()),
        "{:?}",
        template.warnings
    );
}

#[test]
fn init_container_of_a_pod_without_any_is_rejected() {
    let spec = json!({ "containers": [{ "name": "app" }] });
    let sentences = Admission::of(pod_with(
        &[("env-from", "a"), ("init-containers", "migrate")],
        spec,
    ))
    .rejects();
    assert_eq!(
        sentences,
        [
            "the pod has no init container \"migrate\" (named by annotation secrets.floe.dev/init-containers). \
          It has no init container at all."
        ]
    );
}

#[test]
fn unknown_container_of_a_default_is_a_warning() {
    let admitted = Admission::of(pod_with(&[("env-from", "a")], spec()))
        .service_account("floe-dagster", &[("containers", "dagster,app")])
        .injects();
    assert_eq!(injected(&admitted), ["app"]);
    assert_eq!(
        admitted.warnings,
        [
            "the pod has no container \"dagster\" (named by annotation secrets.floe.dev/containers of service account \
          \"floe-dagster\"). It has: app, app-metrics, istio-proxy."
        ]
    );
}

#[test]
fn glob_without_a_match_is_a_warning() {
    let admitted = Admission::of(pod_with(
        &[("env-from", "a"), ("containers", "app,web-*")],
        spec(),
    ))
    .injects();
    assert_eq!(injected(&admitted), ["app"]);
    assert_eq!(
        admitted.warnings,
        ["\"web-*\" (annotation secrets.floe.dev/containers) matches no container"]
    );
}

#[test]
fn star_accepts_a_pod_without_init_containers() {
    let spec = json!({ "containers": [{ "name": "app" }] });
    let admitted = Admission::of(pod_with(
        &[("env-from", "a"), ("init-containers", "*")],
        spec,
    ))
    .injects();
    assert!(admitted.warnings.is_empty(), "{:?}", admitted.warnings);
}

#[rstest]
#[case::globs(&[("containers", "web-*")], spec())]
#[case::null(&[], json!({ "containers": null }))]
fn pod_without_a_selected_container_gets_a_warning(
    #[case] choice: &[(&str, &str)],
    #[case] spec: Value,
) {
    let annotations: Vec<(&str, &str)> =
        choice.iter().copied().chain([("env-from", "a")]).collect();
    let admitted = Admission::of(pod_with(&annotations, spec)).injects();
    assert_eq!(admitted.patch, "[]");
    assert_eq!(
        admitted.warnings[0],
        "no container is selected, so no secret was injected"
    );
}

/// Sentence about a pod whose containers `names` are all sidecars.
fn only_sidecars(names: &str) -> String {
    format!(
        "the secrets that annotation secrets.floe.dev/env-from asks for would reach no container: all containers of the \
         pod are on the operator's list of sidecars. Choose among them by secrets.floe.dev/containers: {names}."
    )
}

#[test]
fn pod_of_sidecars_with_own_annotations_is_rejected_with_their_names() {
    let spec = json!({ "containers": [{ "name": "istio-proxy" }, { "name": "linkerd-proxy" }] });
    let requests = [("env-from", "a")];
    let mut admission = Admission::of(pod_with(&requests, spec.clone()));
    assert_eq!(
        admission.rejects(),
        [only_sidecars("istio-proxy, linkerd-proxy")]
    );
    admission.target = PlanTarget::Manifest;
    assert_eq!(
        admission.rejects(),
        [only_sidecars("istio-proxy, linkerd-proxy")]
    );
    // Another webhook may still add a container that is not a sidecar.
    admission.target = PlanTarget::Template;
    let admitted = admission.injects();
    assert_eq!(
        (admitted.patch.as_str(), admitted.warnings),
        ("[]", vec![only_sidecars("istio-proxy, linkerd-proxy")])
    );
    let chosen = [("env-from", "a"), ("containers", "istio-proxy")];
    let chosen = Admission::of(pod_with(&chosen, spec.clone())).injects();
    assert_eq!(chosen.env_from("istio-proxy"), ["a"]);
    // A default is written for many pods, some of which have only sidecars.
    let by_default = Admission::of(pod_with(&[], spec))
        .namespace(&requests)
        .injects();
    assert_eq!(
        by_default.warnings,
        ["no container is selected, so no secret was injected"]
    );
}

#[test]
fn pod_of_many_sidecars_is_rejected_with_their_first_names() {
    let containers: Vec<Value> = (10..22)
        .map(|n| json!({ "name": format!("linkerd-{n}") }))
        .collect();
    let refused = Admission::of(pod_with(
        &[("env-from", "a")],
        json!({ "containers": containers }),
    ))
    .rejects();
    let names: Vec<String> = (10..20).map(|n| format!("linkerd-{n}")).collect();
    assert_eq!(
        refused,
        [only_sidecars(&format!("{} and 2 more", names.join(", ")))]
    );
}

#[rstest]
#[case::in_a_pod_of_its_tool(json!({ "workflows.argoproj.io/workflow": "etl" }), &["main"])]
#[case::in_any_other_pod(json!({ "app": "etl" }), &["main", "wait"])]
#[case::without_labels(Value::Null, &["main", "wait"])]
fn sidecar_with_a_label_counts_only_in_pods_of_its_tool(
    #[case] labels: Value,
    #[case] expected: &[&str],
) {
    let mut pod = pod_with(
        &[("env-from", "a")],
        json!({ "containers": [{ "name": "main" }, { "name": "wait" }] }),
    );
    pod["metadata"]["labels"] = labels;
    let admitted = Admission::of(pod).injects();
    let injected: Vec<&str> = ["main", "wait"]
        .into_iter()
        .filter(|name| !admitted.env_from(name).is_empty())
        .collect();
    assert_eq!(injected, expected);
}

#[test]
fn ephemeral_containers_are_not_changed() {
    let mut spec = spec();
    spec["ephemeralContainers"] = json!([{ "name": "debug", "image": "d" }]);
    let annotations = [
        ("env-from", "a"),
        ("containers", "*"),
        ("init-containers", "*"),
    ];
    let admitted = Admission::of(pod_with(&annotations, spec.clone())).injects();
    assert_eq!(
        admitted.pod["spec"]["ephemeralContainers"],
        spec["ephemeralContainers"]
    );
}

#[test]
fn pod_with_too_many_containers_is_rejected() {
    let containers: Vec<Value> = (0..10_000)
        .map(|n| json!({ "name": format!("c{n}") }))
        .collect();
    let sentences = Admission::of(pod_with(
        &[("env-from", "a,b")],
        json!({ "containers": containers }),
    ))
    .rejects();
    assert_eq!(
        sentences,
        [
            "more than 2000 entries would be added to the pod's containers (asked for by annotation \
          secrets.floe.dev/env-from). Bring secrets in whole with secrets.floe.dev/env-from, or select fewer containers."
        ]
    );
}
