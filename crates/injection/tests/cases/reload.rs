//! Reload list of a pod. No program reads it there, so it must never get in the way.

use injection::PlanTarget;
use rstest::rstest;
use serde_json::{Value, json};

use crate::admission::{Admission, Admitted, pod, pod_with};

const LIST: &str = "secret.reloader.stakater.com/reload";
const AUTO: &str = "reloader.stakater.com/auto";

fn reload_list(admitted: &Admitted) -> &Value {
    &admitted.pod["metadata"]["annotations"][LIST]
}

/// A pod that requests `db` and `api.token`, with more annotations.
fn requesting(more: &[(&str, &str)]) -> Value {
    let mut pod = pod(&[("env-from", "db"), ("refs", "api.token")]);
    for (key, value) in more {
        pod["metadata"]["annotations"][*key] = json!(value);
    }
    pod
}

fn owned(mut pod: Value, kind: &str) -> Value {
    pod["metadata"]["ownerReferences"] =
        json!([{ "apiVersion": "x/v1", "kind": kind, "name": "o", "uid": "u" }]);
    pod
}

#[test]
fn pod_lists_the_secrets_that_its_workload_would() {
    let admitted = Admission::of(requesting(&[])).injects();
    assert_eq!(reload_list(&admitted), r"api\.token,db");
    assert_eq!(
        admitted.record()["restart"],
        json!({ "list": [r"api\.token", "db"] })
    );
}

#[rstest]
#[case::auto("auto", true)]
#[case::reloader("reloader", true)]
#[case::infisical("infisical", false)]
#[case::off("off", false)]
fn pod_list_depends_on_the_mode(#[case] mode: &str, #[case] listed: bool) {
    let admitted = Admission::of(requesting(&[("secrets.floe.dev/reload", mode)])).injects();
    assert_eq!(reload_list(&admitted).is_string(), listed);
    assert_eq!(admitted.record()["restart"].is_object(), listed);
    let by_default = Admission::of(requesting(&[]))
        .namespace(&[("reload", mode)])
        .injects();
    assert_eq!(reload_list(&by_default).is_string(), listed);
}

/// A Job is never restarted: its next run reads the new value.
#[rstest]
#[case("ReplicaSet", true)]
#[case("StatefulSet", true)]
#[case("DaemonSet", true)]
#[case("Workflow", true)]
#[case("Job", false)]
fn pod_list_depends_on_the_owner(#[case] owner: &str, #[case] listed: bool) {
    for mode in ["auto", "reloader"] {
        let pod = owned(requesting(&[("secrets.floe.dev/reload", mode)]), owner);
        assert_eq!(
            reload_list(&Admission::of(pod).injects()).is_string(),
            listed,
            "{mode}"
        );
    }
}

#[rstest]
#[case::a_list(LIST, "mine")]
#[case::a_list_that_names_it(LIST, "db, x.*")]
#[case::an_empty_list(LIST, "")]
#[case::no(AUTO, "false")]
#[case::no_about_secrets("secret.reloader.stakater.com/auto", "0")]
#[case::ignored("reloader.stakater.com/ignore", "true")]
#[case::all_are_excluded("secrets.exclude.reloader.stakater.com/reload", "db,api.token")]
#[case::what_is_used(AUTO, "true")]
#[case::what_is_found("reloader.stakater.com/search", "true")]
#[case::another_mechanism("secrets.infisical.com/auto-reload", "true")]
fn reload_annotations_of_the_author_are_not_changed(#[case] key: &str, #[case] value: &str) {
    let admitted = Admission::of(requesting(&[(key, value)])).injects();
    let annotations = &admitted.pod["metadata"]["annotations"];
    assert_eq!(
        (&annotations[key], reload_list(&admitted).is_string()),
        (&json!(value), key == LIST)
    );
    assert_eq!(
        admitted.record()["restart"],
        Value::Null,
        "the record has no entry for it"
    );
    assert_eq!(
        admitted.env_from("app"),
        ["db"],
        "the secret is injected anyway"
    );
}

#[test]
fn excluded_secrets_are_not_listed() {
    let exclude = [("secrets.exclude.reloader.stakater.com/reload", "db")];
    assert_eq!(
        reload_list(&Admission::of(requesting(&exclude)).injects()),
        r"api\.token"
    );
    let beside_auto = [(AUTO, "true"), ("secrets.floe.dev/reload", "reloader")];
    assert_eq!(
        reload_list(&Admission::of(requesting(&beside_auto)).injects()),
        r"api\.token,db",
        "requested explicitly"
    );
}

/// Reloader reads templates: a list there would have an effect, and a finished Job would run again.
#[rstest]
#[case(PlanTarget::Manifest)]
#[case(PlanTarget::Template)]
fn template_gets_no_list(#[case] target: PlanTarget) {
    let admitted = Admission::of(requesting(&[])).target(target).injects();
    assert_eq!(admitted.env_from("app"), ["db"]);
    assert_eq!(
        (reload_list(&admitted), &admitted.record()["restart"]),
        (&Value::Null, &Value::Null)
    );
}

#[test]
fn pod_without_additions_gets_no_list() {
    let spec = json!({ "containers": [{ "name": "app", "envFrom": [{ "secretRef": { "name": "db" } }] }] });
    assert_eq!(
        Admission::of(pod_with(&[("env-from", "db")], spec))
            .injects()
            .patch,
        "[]"
    );
}

#[test]
fn pod_list_is_written_to_a_pod_without_annotations() {
    let mut bare = pod(&[]);
    bare["metadata"] = json!({ "generateName": "run-" });
    let admitted = Admission::of(bare)
        .namespace(&[("env-from", "db")])
        .injects();
    assert_eq!(reload_list(&admitted), "db");
    let annotations = admitted.pod["metadata"]["annotations"].as_object().unwrap();
    assert_eq!(
        annotations.len(),
        2,
        "the list and the record: {annotations:?}"
    );
}

/// A container that is added late and selected: the list is kept, in the record too.
#[test]
fn pod_list_is_kept_by_a_later_pass() {
    let choice = [("secrets.floe.dev/containers", "*")];
    let mut pod = Admission::of(requesting(&choice)).injects().pod;
    pod["spec"]["containers"]
        .as_array_mut()
        .unwrap()
        .push(json!({ "name": "late" }));
    let second = Admission::of(pod).injects();
    assert_eq!(second.env_from("late"), ["db"]);
    assert_eq!(reload_list(&second), r"api\.token,db");
    assert_eq!(
        second.record()["restart"],
        json!({ "list": [r"api\.token", "db"] })
    );
}

/// The annotations of an object are limited in total, and this list is only information.
#[test]
fn pod_list_is_limited() {
    for (secrets, listed) in [(16, true), (17, false)] {
        let names: Vec<String> = (0..secrets)
            .map(|n| format!("{}{n:03}", "s".repeat(250)))
            .collect();
        let admitted = Admission::of(pod(&[("env-from", &names.join(","))])).injects();
        assert_eq!(reload_list(&admitted).is_string(), listed, "{secrets}");
        assert_eq!(admitted.env_from("app").len(), secrets);
    }
}
