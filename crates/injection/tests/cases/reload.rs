//! What a pod tells of its restarts. Nothing reads it there, so that it may never be in anybody's way.

use injection::PlanTarget;
use rstest::rstest;
use serde_json::{Value, json};

use crate::admission::{Admission, Admitted, pod, pod_with};

const LIST: &str = "secret.reloader.stakater.com/reload";
const AUTO: &str = "reloader.stakater.com/auto";

fn told(admitted: &Admitted) -> &Value {
    &admitted.pod["metadata"]["annotations"][LIST]
}

/// A pod that asks for `db` and `api.token`, with more annotations of its own.
fn asking(more: &[(&str, &str)]) -> Value {
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
fn a_pod_tells_what_its_workload_would_tell_reloader() {
    let admitted = Admission::of(asking(&[])).admitted();
    assert_eq!(told(&admitted), r"api\.token,db");
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
fn it_tells_by_its_mode(#[case] mode: &str, #[case] tells: bool) {
    let admitted = Admission::of(asking(&[("secrets.floe.dev/reload", mode)])).admitted();
    assert_eq!(told(&admitted).is_string(), tells);
    assert_eq!(admitted.record()["restart"].is_object(), tells);
    let by_default = Admission::of(asking(&[]))
        .namespace(&[("reload", mode)])
        .admitted();
    assert_eq!(told(&by_default).is_string(), tells);
}

/// The next run of a Job reads the new value; nothing of it is ever restarted.
#[rstest]
#[case("ReplicaSet", true)]
#[case("StatefulSet", true)]
#[case("DaemonSet", true)]
#[case("Workflow", true)]
#[case("Job", false)]
fn it_tells_by_its_owner(#[case] owner: &str, #[case] tells: bool) {
    for mode in ["auto", "reloader"] {
        let pod = owned(asking(&[("secrets.floe.dev/reload", mode)]), owner);
        assert_eq!(
            told(&Admission::of(pod).admitted()).is_string(),
            tells,
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
fn what_its_author_says_stands_alone(#[case] key: &str, #[case] value: &str) {
    let admitted = Admission::of(asking(&[(key, value)])).admitted();
    let annotations = &admitted.pod["metadata"]["annotations"];
    assert_eq!(
        (&annotations[key], told(&admitted).is_string()),
        (&json!(value), key == LIST)
    );
    assert_eq!(
        admitted.record()["restart"],
        Value::Null,
        "nothing of it is ours"
    );
    assert_eq!(
        admitted.env_from("app"),
        ["db"],
        "it is injected all the same"
    );
}

#[test]
fn what_is_excluded_is_left_out() {
    let exclude = [("secrets.exclude.reloader.stakater.com/reload", "db")];
    assert_eq!(
        told(&Admission::of(asking(&exclude)).admitted()),
        r"api\.token"
    );
    let beside_auto = [(AUTO, "true"), ("secrets.floe.dev/reload", "reloader")];
    assert_eq!(
        told(&Admission::of(asking(&beside_auto)).admitted()),
        r"api\.token,db",
        "asked for by name"
    );
}

/// Reloader reads templates: there it would be no telling, and a finished Job would run again.
#[rstest]
#[case(PlanTarget::Manifest)]
#[case(PlanTarget::Template)]
fn a_template_is_told_nothing(#[case] target: PlanTarget) {
    let admitted = Admission::of(asking(&[])).target(target).admitted();
    assert_eq!(admitted.env_from("app"), ["db"]);
    assert_eq!(
        (told(&admitted), &admitted.record()["restart"]),
        (&Value::Null, &Value::Null)
    );
}

#[test]
fn a_pod_that_gets_nothing_tells_nothing() {
    let spec = json!({ "containers": [{ "name": "app", "envFrom": [{ "secretRef": { "name": "db" } }] }] });
    assert_eq!(
        Admission::of(pod_with(&[("env-from", "db")], spec))
            .admitted()
            .patch,
        "[]"
    );
}

#[test]
fn it_is_written_where_there_are_no_annotations_yet() {
    let mut bare = pod(&[]);
    bare["metadata"] = json!({ "generateName": "run-" });
    let admitted = Admission::of(bare)
        .namespace(&[("env-from", "db")])
        .admitted();
    assert_eq!(told(&admitted), "db");
    let annotations = admitted.pod["metadata"]["annotations"].as_object().unwrap();
    assert_eq!(annotations.len(), 2, "and our record: {annotations:?}");
}

/// A container that comes later and is chosen: what the pod told stands, in the record too.
#[test]
fn a_later_pass_lets_it_stand() {
    let choice = [("secrets.floe.dev/containers", "*")];
    let mut pod = Admission::of(asking(&choice)).admitted().pod;
    pod["spec"]["containers"]
        .as_array_mut()
        .unwrap()
        .push(json!({ "name": "late" }));
    let second = Admission::of(pod).admitted();
    assert_eq!(second.env_from("late"), ["db"]);
    assert_eq!(told(&second), r"api\.token,db");
    assert_eq!(
        second.record()["restart"],
        json!({ "list": [r"api\.token", "db"] })
    );
}

/// The annotations of an object are limited in sum: what only tells is never what is too much.
#[test]
fn a_very_long_list_is_not_written() {
    for (secrets, tells) in [(16, true), (17, false)] {
        let names: Vec<String> = (0..secrets)
            .map(|n| format!("{}{n:03}", "s".repeat(250)))
            .collect();
        let admitted = Admission::of(pod(&[("env-from", &names.join(","))])).admitted();
        assert_eq!(told(&admitted).is_string(), tells, "{secrets}");
        assert_eq!(admitted.env_from("app").len(), secrets);
    }
}
