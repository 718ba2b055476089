//! Limits of docs/ANNOTATIONS.md, at and beyond each of them.

use std::collections::BTreeSet;

use injection::{
    AnnotationLayers, BindOutcome, Decision, InjectionRequest, PlanInput, PlanTarget, PodView,
    SecretBinding, parse, plan,
};
use rstest::rstest;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::admission::{Admission, PREFIX, id, pod, pod_with};

fn names(count: usize) -> String {
    (0..count)
        .map(|n| format!("s{n}"))
        .collect::<Vec<_>>()
        .join(",")
}

fn containers(count: usize, name: impl Fn(usize) -> String) -> Value {
    (0..count).map(|n| json!({"name": name(n)})).collect()
}

// === lists and values ===

#[rstest]
#[case::list("env-from", &names(257), 256)]
#[case::references("refs", &names(257), 256)]
#[case::documents("refs", &format!("[{}]", vec![r#"{"name":"a"}"#; 257].join(",")), 256)]
#[case::patterns("containers", &names(33), 32)]
#[case::init_patterns("init-containers", &names(33), 32)]
fn list_with_too_many_items_is_rejected_without_lookups(
    #[case] key: &str,
    #[case] value: &str,
    #[case] most: usize,
) {
    let sentences = Admission::of(pod(&[(key, value)])).rejects();
    let expected = format!(
        "annotation {PREFIX}{key}: lists {} items; at most {most} are allowed",
        most + 1
    );
    assert_eq!(sentences, [expected]);
}

#[test]
fn longest_lists_are_accepted() {
    let same = vec!["a"; 256].join(" ");
    assert_eq!(
        Admission::of(pod(&[("env-from", &same)]))
            .injects()
            .env_from("app"),
        ["a"]
    );
    let patterns = format!(
        "app,{}",
        (0..31)
            .map(|n| format!("x{n}*"))
            .collect::<Vec<_>>()
            .join(",")
    );
    let admitted = Admission::of(pod(&[("env-from", "a"), ("containers", &patterns)])).injects();
    assert_eq!(
        (admitted.env_from("app"), admitted.warnings.len()),
        (vec!["a".to_owned()], 31)
    );
}

#[test]
fn pattern_is_limited_to_the_length_of_a_name() {
    let long = "a".repeat(64);
    let sentences = Admission::of(pod(&[("env-from", "a"), ("containers", &long)])).rejects();
    assert!(
        sentences[0].contains("at most 63 characters"),
        "{sentences:?}"
    );
}

#[test]
fn too_many_annotations_are_rejected_with_one_sentence() {
    let keys: Vec<String> = (0..5_000).map(|n| format!("env.V{n:05}")).collect();
    let annotations: Vec<(&str, &str)> = keys.iter().map(|key| (key.as_str(), "a/k")).collect();
    let sentences = Admission::of(pod(&annotations)).rejects();
    assert_eq!(
        sentences,
        [format!(
            "annotation {PREFIX}env.V00256: there are 5000 annotations; at most 256 are read"
        )]
    );
}

#[test]
fn value_is_limited() {
    let padded = |length: usize| format!("db{}", " ".repeat(length - 2));
    let admitted = Admission::of(pod(&[("env-from", &padded(65_536))])).injects();
    assert_eq!(admitted.env_from("app"), ["db"]);
    let sentences = Admission::of(pod(&[("env-from", &padded(65_537))])).rejects();
    assert_eq!(
        sentences,
        [format!(
            "annotation {PREFIX}env-from: is 65537 bytes long; at most 65536 are read"
        )]
    );
}

#[test]
fn values_are_limited_in_total() {
    let part = |length: usize| format!("db/key{}", " ".repeat(length - 6));
    // The two names are ten bytes.
    let within = [("env.A", part(65_536)), ("env.B", part(65_526))];
    let within: Vec<(&str, &str)> = within
        .iter()
        .map(|(key, value)| (*key, value.as_str()))
        .collect();
    assert_eq!(
        Admission::of(pod(&within)).injects().env("app"),
        ["A=db/key", "B=db/key"]
    );
    let beyond = [("env.A", part(65_536)), ("env.B", part(65_527))];
    let beyond: Vec<(&str, &str)> = beyond
        .iter()
        .map(|(key, value)| (*key, value.as_str()))
        .collect();
    let sentences = Admission::of(pod(&beyond)).rejects();
    assert!(
        sentences[0].starts_with(&format!("annotation {PREFIX}env.B: with this one")),
        "{sentences:?}"
    );
}

#[rstest]
#[case::aliases("- &a {name: db, key: k}\n- *a")]
#[case::depth(&"[".repeat(9))]
fn yaml_beyond_its_limits_is_rejected(#[case] value: &str) {
    let sentences = Admission::of(pod(&[("refs", value)])).rejects();
    let expected = format!("annotation {PREFIX}refs: is not a list of {{source, name, key}}:");
    assert!(
        sentences.len() == 1 && sentences[0].starts_with(&expected),
        "{sentences:?}"
    );
}

#[test]
fn sentence_has_only_the_beginning_of_a_long_name() {
    let key = "x".repeat(1_000_000);
    let sentences = Admission::of(pod(&[(&key, "a")])).rejects();
    assert!(
        sentences.len() == 1 && sentences[0].len() < 1_000,
        "{:?}",
        sentences.iter().map(String::len).collect::<Vec<_>>()
    );
}

// === secrets, entries, patch ===

#[test]
fn secrets_of_one_object_are_limited() {
    assert_eq!(
        Admission::of(pod(&[("env-from", &names(64))]))
            .injects()
            .env_from("app")
            .len(),
        64
    );
    let admission =
        Admission::of(pod(&[("env-from", &names(64))])).namespace(&[("env.X", "another/key")]);
    let expected = format!(
        "annotation {PREFIX}env-from: with the other annotations, 65 different secrets are asked for; at most 64 are allowed for one object"
    );
    assert_eq!(admission.rejects(), [expected], "defaults count as well");
    let admission = Admission::of(pod(&[
        ("env-from", &names(64)),
        ("env.A", "s1/a"),
        ("env.B", "s1/b"),
    ]));
    assert_eq!(
        admission.injects().env("app").len(),
        2,
        "the same secret twice is one"
    );
}

#[test]
fn entries_of_one_object_are_limited() {
    let admission = |count: usize| {
        let spec = json!({"containers": containers(40, |n| format!("c{n}"))});
        Admission::of(pod_with(&[("env-from", &names(count))], spec))
    };
    assert_eq!(admission(50).injects().env_from("c39").len(), 50);
    let sentences = admission(51).rejects();
    assert!(
        sentences[0].starts_with("more than 2000 entries"),
        "{sentences:?}"
    );
}

#[test]
fn keys_of_one_secret_are_limited() {
    let keys = |count: usize| -> Vec<String> { (0..count).map(|n| format!("k{n}")).collect() };
    let admission = |count: usize| {
        let keys = keys(count);
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        Admission::of(pod(&[("refs", "db/*")])).secret("db", &keys)
    };
    assert_eq!(admission(2_000).injects().env("app").len(), 2_000);
    let sentences = admission(2_001).rejects();
    assert!(
        sentences.len() == 1 && sentences[0].starts_with("more than 2000 entries"),
        "{sentences:?}"
    );
}

#[test]
fn patch_is_limited_before_it_is_rendered() {
    let name = |n: usize| format!("{}{n:03}", "s".repeat(250));
    let admission = |count: usize| {
        let names = (0..60).map(name).collect::<Vec<_>>().join(",");
        let spec = json!({"containers": containers(count, |n| format!("c{n}"))});
        Admission::of(pod_with(&[("refs", &names)], spec))
    };
    let admitted = admission(20).injects();
    assert!(admitted.patch.len() <= 1 << 20, "{}", admitted.patch.len());
    let sentences = admission(33).rejects();
    assert!(
        sentences.len() == 1 && sentences[0].contains("longer than 1048576 bytes"),
        "{sentences:?}"
    );
}

#[test]
fn record_of_a_pod_is_shortened_and_a_second_pass_adds_nothing() {
    let spec = json!({"containers": containers(30, |n| format!("c{n:02}"))});
    // `admitted` checks that a second pass adds nothing.
    let names: Vec<String> = (0..60).map(|n| format!("credentials-{n}")).collect();
    let admitted = Admission::of(pod_with(&[("env-from", &names.join(","))], spec)).injects();
    let record = admitted.pod["metadata"]["annotations"]["secrets.floe.dev/injected"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(
        record.len() <= 16 << 10 && record.len() > 8 << 10,
        "{}",
        record.len()
    );
    let record = admitted.record();
    let recorded = record["containers"].as_object().unwrap();
    assert!(
        recorded.contains_key("c00") && !recorded.contains_key("c29"),
        "{:?}",
        recorded.keys()
    );
    assert_eq!(
        admitted.env_from("c29").len(),
        60,
        "entries that are not in the record were injected anyway"
    );
}

// === names of containers ===

#[test]
fn container_name_is_limited() {
    let admission = |length: usize| {
        let spec = json!({"containers": containers(1, |_| "c".repeat(length))});
        Admission::of(pod_with(&[("env-from", "a"), ("containers", "*c*")], spec))
    };
    assert_eq!(admission(63).injects().env_from(&"c".repeat(63)), ["a"]);
    let sentences = admission(100_000).rejects();
    assert_eq!(sentences.len(), 1);
    assert!(
        sentences[0].starts_with("the name of a container is 100000 bytes long"),
        "{sentences:?}"
    );
    assert!(sentences[0].len() < 600, "{}", sentences[0].len());
}

#[test]
fn unknown_names_are_reported_in_one_sentence_with_some_known_ones() {
    let spec = json!({
        "initContainers": [{"name": "setup"}],
        "containers": containers(13, |n| format!("c{n}")),
    });
    let sentences = Admission::of(pod_with(
        &[("env-from", "a"), ("containers", "setup, nobody, c1, none")],
        spec,
    ))
    .rejects();
    assert_eq!(
        sentences,
        [format!(
            "the pod has no containers \"setup\", \"nobody\", \"none\" (named by annotation {PREFIX}containers). \"setup\" is an init container: name it in {PREFIX}init-containers. It has: c0, c1, c2, c3, c4, c5, c6, c7, c8, c9 and 3 more."
        )]
    );
}

// === names that are not disclosed to unknown callers ===

fn request_of(view: &PodView<'_>) -> InjectionRequest {
    match parse(&AnnotationLayers {
        object: view.annotations(),
        ..AnnotationLayers::default()
    }) {
        Ok(Decision::Inject(request)) => *request,
        other => panic!("not a request: {other:?}"),
    }
}

#[test]
fn names_by_others_are_disclosed_only_if_allowed() {
    let pod = pod(&[
        ("refs", "db/pasword"),
        ("env-from", "one, two"),
        ("on-missing", "warn"),
    ]);
    let view = PodView::deserialize(&pod).unwrap();
    let request = request_of(&view);
    let found = |name: &str, keys: &[&str]| {
        let keys: BTreeSet<String> = keys.iter().map(ToString::to_string).collect();
        (
            id(name),
            BindOutcome::Found(SecretBinding {
                secret_name: name.to_owned(),
                keys: Some(keys),
            }),
        )
    };
    let bindings = [
        found("db", &["password"]),
        found("one", &["canary"]),
        found("two", &["canary"]),
    ]
    .into_iter()
    .collect();
    let warnings = |discloses: bool| {
        let input = PlanInput {
            target: PlanTarget::Pod,
            pod: &view,
            namespace: "jobs",
            request: &request,
            bindings: &bindings,
            sidecars: &[],
            discloses,
        };
        format!("{:?}", plan(&input).unwrap().warnings)
    };
    assert!(
        warnings(true).contains("canary") && warnings(true).contains("password"),
        "{}",
        warnings(true)
    );
    assert!(
        !warnings(false).contains("canary") && !warnings(false).contains("\"password\""),
        "{}",
        warnings(false)
    );
}

/// Suggestions have one limit for all missing keys.
#[test]
fn suggestions_are_limited_over_all_missing_keys() {
    let keys: Vec<String> = (0..100).map(|n| format!("key-{n:03}")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let wanted = (0..50)
        .map(|n| format!("db/kye-{n:03}"))
        .collect::<Vec<_>>()
        .join(",");
    let sentences = Admission::of(pod(&[("refs", &wanted)]))
        .secret("db", &keys)
        .rejects();
    let suggested = sentences
        .iter()
        .filter(|sentence| sentence.contains("Did you mean"))
        .count();
    assert_eq!((sentences.len(), suggested), (50, 2), "{sentences:?}");
}
