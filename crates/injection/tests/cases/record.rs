//! The record of added entries: its content, and forged records, which have no effect.

use injection::PlanTarget;
use rstest::rstest;
use serde_json::{Value, json};

use crate::admission::{Admission, Admitted, PREFIX, pod_with};

fn two_containers() -> Value {
    json!({ "initContainers": [{ "name": "init" }], "containers": [{ "name": "app" }, { "name": "web" }] })
}

#[test]
fn record_lists_only_added_entries() {
    let spec = json!({
        "initContainers": [{ "name": "init" }],
        "containers": [
            { "name": "app", "envFrom": [{ "secretRef": { "name": "a" } }], "env": [{ "name": "X", "value": "1" }] },
            { "name": "web", "env": [{ "name": "Y", "value": "$(FLOE_SECRET_S_K)" }] },
            { "name": "has-all",
              "envFrom": [{ "secretRef": { "name": "a" } }, { "secretRef": { "name": "b" } }],
              "env": [{ "name": "X", "value": "" }, { "name": "FLOE_SECRET_S_K", "value": "" }] },
        ],
    });
    let annotations = [
        ("env-from", "a,b"),
        ("refs", "s/k"),
        ("env.X", "s/x"),
        ("init-containers", "*"),
    ];
    let admitted = Admission::of(pod_with(&annotations, spec)).injects();
    assert_eq!(
        admitted.record(),
        json!({
            "containers": {
                "app": { "envFrom": ["b"], "env": ["FLOE_SECRET_S_K"] },
                "web": { "envFrom": ["a", "b"], "env": ["FLOE_SECRET_S_K", "X"] },
            },
            "initContainers": { "init": { "envFrom": ["a", "b"], "env": ["FLOE_SECRET_S_K", "X"] } },
            "restart": { "list": ["a", "b", "s"] },
        })
    );
    assert_eq!(
        admitted.pod["metadata"]["labels"][format!("{PREFIX}injected")],
        "true"
    );
}

#[test]
fn pod_with_all_entries_gets_no_record_and_no_label() {
    let spec =
        json!({ "containers": [{ "name": "app", "envFrom": [{ "secretRef": { "name": "a" } }] }] });
    let admitted = Admission::of(pod_with(&[("env-from", "a")], spec)).injects();
    assert_eq!(admitted.patch, "[]");
}

const REQUEST: [(&str, &str); 2] = [("env-from", "a"), ("refs", "s/k")];

fn with_record(mut pod: Value, record: &str) -> Value {
    pod["metadata"]["annotations"][format!("{PREFIX}injected")] = json!(record);
    pod
}

#[rstest]
#[case::empty("")]
#[case::not_json("true")]
#[case::a_list("[]")]
#[case::an_empty_object("{}")]
#[case::unknown_fields(r#"{"done":true,"version":9}"#)]
#[case::null("null")]
#[case::wrong_types(r#"{"containers":["app"]}"#)]
#[case::no_container(r#"{"containers":{},"initContainers":{}}"#)]
#[case::nothing_added(r#"{"containers":{"app":{},"web":{}}}"#)]
#[case::one_without_the_entries(
    r#"{"containers":{"app":{"envFrom":["a"],"env":["FLOE_SECRET_S_K"]}}}"#
)]
#[case::all_without_the_entries(
    r#"{"containers":{"app":{"envFrom":["a"]},"web":{"envFrom":["a"]}}}"#
)]
#[case::one_that_is_not_there(
    r#"{"containers":{"ghost":{"envFrom":["a"],"env":["FLOE_SECRET_S_K"]}}}"#
)]
#[case::an_init_container_without_the_entries(r#"{"initContainers":{"init":{"envFrom":["a"]}}}"#)]
#[case::the_wrong_list(r#"{"initContainers":{"app":{"envFrom":["a"]}}}"#)]
fn forged_record_has_no_effect(#[case] forged: &str) {
    let honest = Admission::of(pod_with(&REQUEST, two_containers())).injects();
    let admitted =
        Admission::of(with_record(pod_with(&REQUEST, two_containers()), forged)).injects();
    assert_eq!(
        admitted,
        Admitted {
            patch: admitted.patch.clone(),
            ..honest
        }
    );
}

/// Record and entries that are forged for one container, with the right names.
#[rstest]
#[case::literals_claimed_as_ours(json!({ "name": "FLOE_SECRET_S_K", "value": "x" }), r#"{"containers":{"app":{"envFrom":["a"],"env":["FLOE_SECRET_S_K"]}}}"#)]
#[case::another_secret_claimed_as_ours(
    json!({ "name": "FLOE_SECRET_S_K", "valueFrom": { "secretKeyRef": { "name": "mine", "key": "k" } } }),
    r#"{"containers":{"app":{"envFrom":["a"],"env":["FLOE_SECRET_S_K"]}}}"#,
)]
#[case::nothing_claimed(json!({ "name": "FLOE_SECRET_S_K", "value": "x" }), r#"{"containers":{"app":{}}}"#)]
#[case::a_literal_of_another_name(json!({ "name": "FLOE_SECRET_S_K", "value": "x" }), r#"{"containers":{"app":{"env":["OTHER"]}}}"#)]
#[case::what_was_never_added(json!({ "name": "FLOE_SECRET_S_K", "value": "x" }), r#"{"containers":{"app":{"envFrom":["zzz"]}}}"#)]
fn record_is_checked_by_references_not_by_names(#[case] env: Value, #[case] forged: &str) {
    let mut spec = two_containers();
    spec["containers"][0]["env"] = json!([env, { "name": "OTHER", "value": "x" }]);
    spec["containers"][0]["envFrom"] = json!([{ "secretRef": { "name": "a" } }]);
    let admitted = Admission::of(with_record(pod_with(&REQUEST, spec), forged)).injects();
    assert_eq!(
        admitted.env_from("web"),
        ["a"],
        "the other container is injected anyway"
    );
    assert_eq!(
        admitted.record()["containers"].as_object().unwrap().len(),
        1,
        "{}",
        admitted.record()
    );
}

// === containers that are added late ===

fn late(annotations: &[(&str, &str)]) -> Admission {
    late_by(annotations, "late")
}

/// A pod that was admitted, and to which another webhook then added a container.
fn late_by(annotations: &[(&str, &str)], name: &str) -> Admission {
    let mut pod = Admission::of(pod_with(annotations, two_containers()))
        .injects()
        .pod;
    pod["spec"]["containers"]
        .as_array_mut()
        .unwrap()
        .push(json!({ "name": name }));
    Admission::of(pod)
}

#[rstest]
#[case::not_selected(&[], &[])]
#[case::star(&[("containers", "*")], &["a"])]
#[case::by_name_of_others(&[("containers", "app")], &[])]
#[case::glob(&[("containers", "app,*ate")], &["a"])]
#[case::with_init_containers(&[("init-containers", "*")], &[])]
fn late_container_is_injected_only_if_selected(
    #[case] choice: &[(&str, &str)],
    #[case] expected: &[&str],
) {
    let annotations: Vec<(&str, &str)> = choice.iter().copied().chain(REQUEST).collect();
    let admitted = late(&annotations).injects();
    assert_eq!(admitted.env_from("late"), expected);
    let recorded = admitted.record()["containers"]["late"] != Value::Null;
    assert_eq!(recorded, !expected.is_empty());
    assert_ne!(
        admitted.record()["containers"]["app"],
        Value::Null,
        "the first pass stays in the record"
    );
}

#[test]
fn late_container_of_a_template_is_injected() {
    let admitted = late(&REQUEST).target(PlanTarget::Template).injects();
    assert_eq!(
        admitted.env_from("late"),
        ["a"],
        "its author added it: the rule is for pods only"
    );
}

#[test]
fn record_is_valid_beside_an_entry_of_the_author() {
    let mut spec = two_containers();
    spec["containers"][0]["env"] = json!([{ "name": "FLOE_SECRET_S_K", "value": "mine" }]);
    let mut pod = Admission::of(pod_with(&REQUEST, spec)).injects().pod;
    pod["spec"]["containers"]
        .as_array_mut()
        .unwrap()
        .push(json!({ "name": "late" }));
    assert!(Admission::of(pod).injects().env_from("late").is_empty());
}

#[test]
fn removed_entries_are_injected_again() {
    let mut pod = Admission::of(pod_with(&REQUEST, two_containers()))
        .injects()
        .pod;
    pod["spec"]["containers"][0]
        .as_object_mut()
        .unwrap()
        .remove("env");
    let admitted = Admission::of(pod).injects();
    assert_eq!(admitted.env("app"), ["FLOE_SECRET_S_K=s/k"]);
}
