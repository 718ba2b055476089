//! Precedence of annotations by name: pod, then service account, then namespace.

use injection::SkipReason;
use rstest::rstest;
use serde_json::json;

use crate::admission::{Admission, Outcome, pod, pod_with};

type Pairs = &'static [(&'static str, &'static str)];

#[rstest]
#[case::namespace_alone(&[], &[], &[("env-from", "ns")], &["ns"])]
#[case::service_account_over_namespace(&[], &[("env-from", "sa")], &[("env-from", "ns")], &["sa"])]
#[case::pod_over_both(&[("env-from", "pod")], &[("env-from", "sa")], &[("env-from", "ns")], &["pod"])]
#[case::pod_over_namespace(&[("env-from", "pod")], &[], &[("env-from", "ns")], &["pod"])]
#[case::defaults_do_not_add_up(&[], &[("env-from", "sa")], &[("env-from", "ns1,ns2")], &["sa"])]
#[case::a_hidden_error_is_not_reported(&[("env-from", "pod")], &[("env-from", "SA!")], &[("env-from", "")], &["pod"])]
#[case::another_key_does_not_hide(&[("refs", "p/k")], &[], &[("env-from", "ns")], &["ns"])]
fn nearest_annotation_counts(
    #[case] own: Pairs,
    #[case] service_account: Pairs,
    #[case] namespace: Pairs,
    #[case] expected: &[&str],
) {
    let admission = Admission::of(pod(own))
        .service_account("floe-dagster", service_account)
        .namespace(namespace);
    assert_eq!(admission.injects().env_from("app"), expected);
}

#[test]
fn annotations_of_all_layers_are_merged() {
    let admission = Admission::of(pod(&[("env.A", "pod/a")]))
        .service_account("floe-dagster", &[("env.A", "sa/a"), ("env.B", "sa/b")])
        .namespace(&[("env.A", "ns/a"), ("env.B", "ns/b"), ("env.C", "ns/c")]);
    assert_eq!(
        admission.injects().env("app"),
        ["A=pod/a", "B=sa/b", "C=ns/c"]
    );
}

#[rstest]
#[case::pod(&[("inject", "false")], &[], &[("env-from", "ns")], true)]
#[case::service_account(&[], &[("inject", "false")], &[("env-from", "ns")], true)]
#[case::pod_opts_in_again(&[("inject", "true")], &[("inject", "false")], &[("env-from", "ns")], false)]
#[case::errors_in_defaults_do_not_count_after_opting_out(&[("inject", "false")], &[("reload", "?")], &[("env-from", "")], true)]
fn inject_false_opts_out_of_defaults(
    #[case] own: Pairs,
    #[case] service_account: Pairs,
    #[case] namespace: Pairs,
    #[case] opted_out: bool,
) {
    let outcome = Admission::of(pod(own))
        .service_account("floe-dagster", service_account)
        .namespace(namespace)
        .admit();
    assert_eq!(
        outcome == Outcome::Skipped(SkipReason::OptedOut),
        opted_out,
        "{outcome:?}"
    );
}

#[test]
fn error_in_a_default_names_its_owner() {
    let sentences = Admission::of(pod(&[]))
        .service_account("floe-dagster", &[("reload", "sometimes")])
        .namespace(&[
            ("env-from", "UPPER"),
            ("reload", "never"),
            ("inject", "maybe"),
        ])
        .rejects();
    let starts = [
        "annotation secrets.floe.dev/env-from of namespace \"floe-jobs\": \"UPPER\" is not a Secret name",
        "annotation secrets.floe.dev/inject of namespace \"floe-jobs\": \"maybe\" is not one of",
        "annotation secrets.floe.dev/reload of service account \"floe-dagster\": \"sometimes\" is not one of",
    ];
    assert_eq!(sentences.len(), starts.len(), "{sentences:?}");
    for (sentence, start) in sentences.iter().zip(starts) {
        assert!(sentence.starts_with(start), "{sentence}");
    }
}

#[test]
fn missing_secret_of_a_default_names_the_default() {
    let admission = Admission::of(pod(&[]))
        .namespace(&[("env-from", "gone")])
        .missing("gone");
    assert_eq!(
        admission.rejects(),
        [
            "secret \"gone\" not found in namespace \"floe-jobs\" (backend kubernetes; asked for by annotation \
          secrets.floe.dev/env-from of namespace \"floe-jobs\"). Create it or correct the annotation."
        ]
    );
}

#[rstest]
#[case::no_annotations(json!({ "name": "p" }))]
#[case::null_annotations(json!({ "name": "p", "annotations": null, "labels": null }))]
#[case::foreign_annotations(json!({ "annotations": { "a/b": "c" }, "labels": { "l": "m" } }))]
#[case::null_metadata(json!(null))]
fn default_applies_to_a_pod_without_annotations(#[case] metadata: serde_json::Value) {
    let bare = json!({ "metadata": metadata, "spec": { "containers": [{ "name": "app" }] } });
    let admitted = Admission::of(bare)
        .namespace(&[("env-from", "ns")])
        .injects();
    assert_eq!(admitted.env_from("app"), ["ns"]);
    assert_eq!(
        admitted.pod["metadata"]["labels"]["secrets.floe.dev/injected"],
        "true"
    );
    assert_eq!(
        admitted.record()["containers"],
        json!({ "app": { "envFrom": ["ns"] } })
    );
}

#[test]
fn default_applies_to_a_template_without_metadata() {
    let template = json!({ "spec": { "containers": [{ "name": "app" }] } });
    let admitted = Admission::of(template)
        .namespace(&[("refs", "a/k")])
        .injects();
    assert_eq!(admitted.env("app"), ["FLOE_SECRET_A_K=a/k"]);
}

/// An `env` entry overrides every key of `envFrom` in the kubelet, so a default may hide keys of the author's sources.
#[test]
fn default_that_may_override_the_authors_sources_is_a_warning() {
    let spec = json!({"containers": [
        {"name": "app", "envFrom": [{"configMapRef": {"name": "settings"}}]},
        {"name": "plain"},
    ]});
    let admission = Admission::of(pod_with(&[("env.OWN", "db/key")], spec))
        .namespace(&[("env.REGION", "aws/region"), ("env.ZONE", "aws/zone")]);
    assert_eq!(
        admission.injects().warnings,
        [
            "container \"app\" gets REGION and 1 more from a default; a key of that name in its own envFrom is overridden"
        ]
    );
}
