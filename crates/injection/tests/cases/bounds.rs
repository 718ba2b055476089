//! Each bound of docs/ANNOTATIONS.md, at it and above it.

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
fn a_list_beyond_all_use_is_refused_before_anybody_is_asked_about_it(
    #[case] key: &str,
    #[case] value: &str,
    #[case] most: usize,
) {
    let sentences = Admission::of(pod(&[(key, value)])).refused();
    let expected = format!(
        "annotation {PREFIX}{key}: lists {} items; at most {most} are allowed",
        most + 1
    );
    assert_eq!(sentences, [expected]);
}

#[test]
fn the_longest_lists_are_taken() {
    let same = vec!["a"; 256].join(" ");
    assert_eq!(
        Admission::of(pod(&[("env-from", &same)]))
            .admitted()
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
    let admitted = Admission::of(pod(&[("env-from", "a"), ("containers", &patterns)])).admitted();
    assert_eq!(
        (admitted.env_from("app"), admitted.warnings.len()),
        (vec!["a".to_owned()], 31)
    );
}

#[test]
fn a_pattern_is_at_most_as_long_as_a_name() {
    let long = "a".repeat(64);
    let sentences = Admission::of(pod(&[("env-from", "a"), ("containers", &long)])).refused();
    assert!(
        sentences[0].contains("at most 63 characters"),
        "{sentences:?}"
    );
}

#[test]
fn a_flood_of_annotations_is_refused_with_one_sentence() {
    let keys: Vec<String> = (0..5_000).map(|n| format!("env.V{n:05}")).collect();
    let annotations: Vec<(&str, &str)> = keys.iter().map(|key| (key.as_str(), "a/k")).collect();
    let sentences = Admission::of(pod(&annotations)).refused();
    assert_eq!(
        sentences,
        [format!(
            "annotation {PREFIX}env.V00256: there are 5000 annotations; at most 256 are read"
        )]
    );
}

#[test]
fn a_value_is_read_up_to_its_bound() {
    let padded = |length: usize| format!("db{}", " ".repeat(length - 2));
    let admitted = Admission::of(pod(&[("env-from", &padded(65_536))])).admitted();
    assert_eq!(admitted.env_from("app"), ["db"]);
    let sentences = Admission::of(pod(&[("env-from", &padded(65_537))])).refused();
    assert_eq!(
        sentences,
        [format!(
            "annotation {PREFIX}env-from: is 65537 bytes long; at most 65536 are read"
        )]
    );
}

#[test]
fn values_are_read_up_to_a_total() {
    let part = |length: usize| format!("db/key{}", " ".repeat(length - 6));
    // The two names are ten bytes.
    let within = [("env.A", part(65_536)), ("env.B", part(65_526))];
    let within: Vec<(&str, &str)> = within
        .iter()
        .map(|(key, value)| (*key, value.as_str()))
        .collect();
    assert_eq!(
        Admission::of(pod(&within)).admitted().env("app"),
        ["A=db/key", "B=db/key"]
    );
    let beyond = [("env.A", part(65_536)), ("env.B", part(65_527))];
    let beyond: Vec<(&str, &str)> = beyond
        .iter()
        .map(|(key, value)| (*key, value.as_str()))
        .collect();
    let sentences = Admission::of(pod(&beyond)).refused();
    assert!(
        sentences[0].starts_with(&format!("annotation {PREFIX}env.B: with this one")),
        "{sentences:?}"
    );
}

#[rstest]
#[case::aliases("- &a {name: db, key: k}\n- *a")]
#[case::depth(&"[".repeat(9))]
fn yaml_beyond_its_bounds_is_refused(#[case] value: &str) {
    let sentences = Admission::of(pod(&[("refs", value)])).refused();
    let expected = format!("annotation {PREFIX}refs: is not a list of {{source, name, key}}:");
    assert!(
        sentences.len() == 1 && sentences[0].starts_with(&expected),
        "{sentences:?}"
    );
}

#[test]
fn a_sentence_repeats_only_the_beginning_of_a_huge_name() {
    let key = "x".repeat(1_000_000);
    let sentences = Admission::of(pod(&[(&key, "a")])).refused();
    assert!(
        sentences.len() == 1 && sentences[0].len() < 1_000,
        "{:?}",
        sentences.iter().map(String::len).collect::<Vec<_>>()
    );
}

// === secrets, entries, patch ===

#[test]
fn so_many_secrets_may_be_asked_for() {
    assert_eq!(
        Admission::of(pod(&[("env-from", &names(64))]))
            .admitted()
            .env_from("app")
            .len(),
        64
    );
    let admission =
        Admission::of(pod(&[("env-from", &names(64))])).namespace(&[("env.X", "another/key")]);
    let expected = format!(
        "annotation {PREFIX}env-from: with the other annotations, 65 different secrets are asked for; at most 64 are allowed for one object"
    );
    assert_eq!(admission.refused(), [expected], "defaults count as well");
    let admission = Admission::of(pod(&[
        ("env-from", &names(64)),
        ("env.A", "s1/a"),
        ("env.B", "s1/b"),
    ]));
    assert_eq!(
        admission.admitted().env("app").len(),
        2,
        "the same secret twice is one"
    );
}

#[test]
fn so_many_entries_may_be_added() {
    let asking = |count: usize| {
        let spec = json!({"containers": containers(40, |n| format!("c{n}"))});
        Admission::of(pod_with(&[("env-from", &names(count))], spec))
    };
    assert_eq!(asking(50).admitted().env_from("c39").len(), 50);
    let sentences = asking(51).refused();
    assert!(
        sentences[0].starts_with("more than 2000 entries"),
        "{sentences:?}"
    );
}

#[test]
fn a_secret_of_many_keys_is_never_expanded_beyond_the_bound() {
    let keys = |count: usize| -> Vec<String> { (0..count).map(|n| format!("k{n}")).collect() };
    let asking = |count: usize| {
        let keys = keys(count);
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        Admission::of(pod(&[("refs", "db/*")])).secret("db", &keys)
    };
    assert_eq!(asking(2_000).admitted().env("app").len(), 2_000);
    let sentences = asking(2_001).refused();
    assert!(
        sentences.len() == 1 && sentences[0].starts_with("more than 2000 entries"),
        "{sentences:?}"
    );
}

#[test]
fn a_patch_that_would_be_too_long_is_refused_before_it_is_written() {
    let name = |n: usize| format!("{}{n:03}", "s".repeat(250));
    let asking = |count: usize| {
        let names = (0..60).map(name).collect::<Vec<_>>().join(",");
        let spec = json!({"containers": containers(count, |n| format!("c{n}"))});
        Admission::of(pod_with(&[("refs", &names)], spec))
    };
    let admitted = asking(20).admitted();
    assert!(admitted.patch.len() <= 1 << 20, "{}", admitted.patch.len());
    let sentences = asking(33).refused();
    assert!(
        sentences.len() == 1 && sentences[0].contains("longer than 1048576 bytes"),
        "{sentences:?}"
    );
}

#[test]
fn a_pods_record_is_cut_and_a_second_pass_stays_empty() {
    let spec = json!({"containers": containers(30, |n| format!("c{n:02}"))});
    // `admitted` holds that a second pass adds nothing.
    let names: Vec<String> = (0..60).map(|n| format!("credentials-{n}")).collect();
    let admitted = Admission::of(pod_with(&[("env-from", &names.join(","))], spec)).admitted();
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
        "what was left out of the record was injected all the same"
    );
}

// === names of containers ===

#[test]
fn a_containers_name_is_a_label() {
    let asking = |length: usize| {
        let spec = json!({"containers": containers(1, |_| "c".repeat(length))});
        Admission::of(pod_with(&[("env-from", "a"), ("containers", "*c*")], spec))
    };
    assert_eq!(asking(63).admitted().env_from(&"c".repeat(63)), ["a"]);
    let sentences = asking(100_000).refused();
    assert_eq!(sentences.len(), 1);
    assert!(
        sentences[0].starts_with("the name of a container is 100000 bytes long"),
        "{sentences:?}"
    );
    assert!(sentences[0].len() < 600, "{}", sentences[0].len());
}

#[test]
fn names_that_are_not_there_are_told_in_one_sentence_with_a_few_that_are() {
    let spec = json!({
        "initContainers": [{"name": "setup"}],
        "containers": containers(13, |n| format!("c{n}")),
    });
    let sentences = Admission::of(pod_with(
        &[("env-from", "a"), ("containers", "setup, nobody, c1, none")],
        spec,
    ))
    .refused();
    assert_eq!(
        sentences,
        [format!(
            "the pod has no containers \"setup\", \"nobody\", \"none\" (named by annotation {PREFIX}containers). \"setup\" is an init container: name it in {PREFIX}init-containers. It has: c0, c1, c2, c3, c4, c5, c6, c7, c8, c9 and 3 more."
        )]
    );
}

// === what is told to callers that may be anybody ===

fn request_of(view: &PodView<'_>) -> InjectionRequest {
    match parse(&AnnotationLayers {
        object: view.annotations(),
        ..AnnotationLayers::default()
    }) {
        Ok(Decision::Inject(request)) => *request,
        other => panic!("not asking: {other:?}"),
    }
}

#[test]
fn names_that_the_author_did_not_write_are_not_told_to_anybody() {
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
    let said = |discloses: bool| {
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
        said(true).contains("canary") && said(true).contains("password"),
        "{}",
        said(true)
    );
    assert!(
        !said(false).contains("canary") && !said(false).contains("\"password\""),
        "{}",
        said(false)
    );
}

/// Missing keys are suggested for within a bound over all of them.
#[test]
fn suggestions_end_where_they_would_cost_too_much() {
    let keys: Vec<String> = (0..100).map(|n| format!("key-{n:03}")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let wanted = (0..50)
        .map(|n| format!("db/kye-{n:03}"))
        .collect::<Vec<_>>()
        .join(",");
    let sentences = Admission::of(pod(&[("refs", &wanted)]))
        .secret("db", &keys)
        .refused();
    let suggested = sentences
        .iter()
        .filter(|sentence| sentence.contains("Did you mean"))
        .count();
    assert_eq!((sentences.len(), suggested), (50, 2), "{sentences:?}");
}
