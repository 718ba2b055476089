//! Order of injected entries among the author's, which are not changed.

use rstest::rstest;
use serde_json::{Value, json};

use crate::admission::{Admission, pod_with};

fn app(fields: Value) -> Value {
    let mut container = json!({ "name": "app", "image": "app:1" });
    container
        .as_object_mut()
        .unwrap()
        .extend(fields.as_object().cloned().unwrap());
    json!({ "containers": [container] })
}

#[rstest]
#[case::absent(json!({}))]
#[case::empty(json!({ "env": [], "envFrom": [] }))]
#[case::null(json!({ "env": null, "envFrom": null }))]
fn missing_lists_are_created(#[case] fields: Value) {
    let admitted = Admission::of(pod_with(
        &[("env-from", "b,a"), ("refs", "s/k")],
        app(fields),
    ))
    .injects();
    assert_eq!(
        admitted.container("app")["envFrom"],
        json!([{ "secretRef": { "name": "b" } }, { "secretRef": { "name": "a" } }])
    );
    assert_eq!(
        admitted.container("app")["env"],
        json!([{ "name": "FLOE_SECRET_S_K", "valueFrom": { "secretKeyRef": { "name": "s", "key": "k" } } }])
    );
}

fn config_map(name: &str) -> Value {
    json!({ "configMapRef": { "name": name } })
}

fn secret(name: &str) -> Value {
    json!({ "secretRef": { "name": name } })
}

#[rstest]
#[case::before_the_authors(json!([config_map("cube"), secret("cube")]), "b,a", &["b", "a", "configmap:cube", "cube"])]
#[case::one_is_there_last(json!([config_map("c"), secret("a")]), "b,a", &["b", "configmap:c", "a"])]
#[case::one_is_there_first(json!([secret("a"), config_map("c")]), "a,b", &["a", "b", "configmap:c"])]
#[case::one_is_there_between(json!([secret("b")]), "a,b,d", &["a", "b", "d"])]
#[case::one_is_there_twice(json!([secret("a"), config_map("c"), secret("a")]), "a,b", &["a", "b", "configmap:c", "a"])]
#[case::all_are_there(json!([secret("a"), config_map("c"), secret("b")]), "b,a", &["a", "configmap:c", "b"])]
#[case::with_a_prefix_it_is_another(json!([{ "prefix": "P_", "secretRef": { "name": "a" } }]), "a", &["a", "a"])]
#[case::an_empty_prefix_is_none(json!([{ "prefix": "", "secretRef": { "name": "a" } }]), "a", &["a"])]
#[case::optional_is_there(json!([{ "secretRef": { "name": "a", "optional": true } }]), "a", &["a"])]
#[case::a_config_map_of_that_name_is_another(json!([config_map("a")]), "a", &["a", "configmap:a"])]
fn injected_sources_come_first_so_that_the_authors_win(
    #[case] own: Value,
    #[case] annotation: &str,
    #[case] expected: &[&str],
) {
    let admission = Admission::of(pod_with(
        &[("env-from", annotation)],
        app(json!({ "envFrom": own })),
    ));
    assert_eq!(admission.injects().env_from("app"), expected);
}

fn literal(name: &str, value: &str) -> Value {
    json!({ "name": name, "value": value })
}

#[rstest]
#[case::appended(json!([literal("A", "1")]), &["A='1'", "FLOE_SECRET_S_K=s/k", "FLOE_SECRET_S_L=s/l"])]
#[case::before_an_entry_that_refers_to_it(
    json!([literal("A", "1"), literal("URL", "pg://u:$(FLOE_SECRET_S_L)@h")]),
    &["FLOE_SECRET_S_L=s/l", "A='1'", "URL='pg://u:$(FLOE_SECRET_S_L)@h'", "FLOE_SECRET_S_K=s/k"],
)]
#[case::both_before_in_the_annotations_order(
    json!([literal("URL", "$(FLOE_SECRET_S_L)$(FLOE_SECRET_S_K)")]),
    &["FLOE_SECRET_S_K=s/k", "FLOE_SECRET_S_L=s/l", "URL='$(FLOE_SECRET_S_L)$(FLOE_SECRET_S_K)'"],
)]
#[case::an_escape_is_not_a_reference(
    json!([literal("URL", "$$(FLOE_SECRET_S_L)")]),
    &["URL='$$(FLOE_SECRET_S_L)'", "FLOE_SECRET_S_K=s/k", "FLOE_SECRET_S_L=s/l"],
)]
fn injected_variables_come_last_unless_the_author_refers_to_them(
    #[case] own: Value,
    #[case] expected: &[&str],
) {
    let admission = Admission::of(pod_with(&[("refs", "s/k,s/l")], app(json!({ "env": own }))));
    assert_eq!(admission.injects().env("app"), expected);
}

#[rstest]
#[case::literal(literal("PGPASSWORD", "x"), true)]
#[case::other_key(json!({ "name": "PGPASSWORD", "valueFrom": { "secretKeyRef": { "name": "pg", "key": "other" } } }), true)]
#[case::other_secret(json!({ "name": "PGPASSWORD", "valueFrom": { "secretKeyRef": { "name": "other", "key": "password" } } }), true)]
#[case::field(json!({ "name": "PGPASSWORD", "valueFrom": { "fieldRef": { "fieldPath": "metadata.name" } } }), true)]
#[case::no_value(json!({ "name": "PGPASSWORD" }), true)]
#[case::the_same(json!({ "name": "PGPASSWORD", "valueFrom": { "secretKeyRef": { "name": "pg", "key": "password" } } }), false)]
fn variable_of_the_author_is_not_overridden(#[case] own: Value, #[case] warned: bool) {
    let spec = app(json!({ "env": [own] }));
    let admitted =
        Admission::of(pod_with(&[("env.PGPASSWORD", "pg/password")], spec.clone())).injects();
    assert_eq!(admitted.pod["spec"], spec);
    assert_eq!(admitted.patch, "[]");
    let expected: &[&str] = if warned {
        &["container \"app\" already sets PGPASSWORD; it was left as it is"]
    } else {
        &[]
    };
    assert_eq!(admitted.warnings, expected);
}

#[test]
fn last_entry_of_a_variable_counts_as_in_the_kubelet() {
    let injected =
        json!({ "name": "X", "valueFrom": { "secretKeyRef": { "name": "s", "key": "k" } } });
    let spec = app(json!({ "env": [injected, literal("X", "override")] }));
    let admitted = Admission::of(pod_with(&[("env.X", "s/k")], spec)).injects();
    assert_eq!(
        admitted.warnings,
        ["container \"app\" already sets X; it was left as it is"]
    );
}

#[test]
fn unknown_fields_and_foreign_annotations_survive() {
    let mut pod = pod_with(
        &[("env-from", "a"), ("refs", "s/k")],
        app(json!({
            "env": [{ "name": "A", "value": "1", "fieldOfTomorrow": [1, { "x": null }] }],
            "envFrom": [{ "configMapRef": { "name": "c" }, "fieldOfTomorrow": true }],
            "fieldOfTomorrow": { "deep": [[]] },
        })),
    );
    pod["fieldOfTomorrow"] = json!(0.1);
    pod["spec"]["fieldOfTomorrow"] = json!("é\u{0000}");
    let annotations = pod["metadata"]["annotations"].as_object_mut().unwrap();
    for hostile in [
        "a~b/c",
        "~0/~1",
        "secrets.floe.dev~1injected",
        "/",
        "~",
        "",
        "x/y~/z",
        "Secrets.floe.dev/refs",
    ] {
        annotations.insert(hostile.to_owned(), json!(hostile));
    }
    // `admitted` compares the whole pod with the pod before.
    let admitted = Admission::of(pod).injects();
    assert_eq!(admitted.env_from("app"), ["a", "configmap:c"]);
    assert_eq!(admitted.pod["metadata"]["annotations"]["~0/~1"], "~0/~1");
}
