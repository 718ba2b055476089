//! Results of the backends: bindings, missing secrets and keys, references with the same variable.

use injection::{BindOutcome, PlanTarget, SecretBinding};
use rstest::rstest;

use crate::admission::{Admission, pod};

fn found(secret_name: &str, keys: &[&str]) -> BindOutcome {
    let keys = keys.iter().map(ToString::to_string).collect();
    BindOutcome::Found(SecretBinding {
        secret_name: secret_name.to_owned(),
        keys: Some(keys),
    })
}

#[test]
fn bound_secret_is_referenced_and_the_variable_keeps_its_name() {
    let admitted = Admission::of(pod(&[
        ("env-from", "infisical:snow"),
        ("refs", "infisical:snow/user"),
    ]))
    .bound("infisical:snow", found("infisical-snow-5f2", &["user"]))
    .injects();
    assert_eq!(admitted.env_from("app"), ["infisical-snow-5f2"]);
    assert_eq!(
        admitted.env("app"),
        ["FLOE_SECRET_SNOW_USER=infisical-snow-5f2/user"]
    );
}

#[test]
fn references_bound_to_one_secret_are_injected_once() {
    let admitted = Admission::of(pod(&[
        ("env-from", "snow,infisical:snow"),
        ("refs", "snow/k,infisical:snow/k"),
    ]))
    .secret("snow", &["k"])
    .bound("infisical:snow", found("snow", &["k"]))
    .injects();
    assert_eq!(admitted.env_from("app"), ["snow"]);
    assert_eq!(admitted.env("app"), ["FLOE_SECRET_SNOW_K=snow/k"]);
    assert!(admitted.warnings.is_empty(), "{:?}", admitted.warnings);
}

#[test]
fn keys_of_one_secret_become_one_variable_each() {
    let admitted = Admission::of(pod(&[(
        "refs",
        "db/username,db/password,db/host,db/password",
    )]))
    .secret("db", &["host", "password", "username"])
    .injects();
    let expected = [
        "FLOE_SECRET_DB_USERNAME=db/username",
        "FLOE_SECRET_DB_PASSWORD=db/password",
        "FLOE_SECRET_DB_HOST=db/host",
    ];
    assert_eq!(admitted.env("app"), expected);
}

// === missing ===

#[test]
fn named_secret_is_injected_and_missing_one_is_rejected() {
    let pod = pod(&[("env-from", "snowflake-credentials")]);
    let injected = Admission::of(pod.clone()).injects();
    assert_eq!(injected.env_from("app"), ["snowflake-credentials"]);

    let sentences = Admission::of(pod)
        .missing("snowflake-credentials")
        .rejects();
    assert!(sentences[0].starts_with("secret \"snowflake-credentials\" not found"));
}

#[test]
fn missing_secret_is_rejected_with_a_sentence_to_fix_it() {
    let sentences = Admission::of(pod(&[
        ("env-from", "snowflake-credentials"),
        ("env.X", "gone/k"),
    ]))
    .bound(
        "snowflake-credentials",
        BindOutcome::Missing {
            backend: "kubernetes",
            near: Some("snowflake-creds".to_owned()),
        },
    )
    .missing("gone")
    .rejects();
    assert_eq!(
        sentences,
        [
            "secret \"gone\" not found in namespace \"floe-jobs\" (backend kubernetes; asked for by annotation \
             secrets.floe.dev/env.X). Create it or correct the annotation.",
            "secret \"snowflake-credentials\" not found in namespace \"floe-jobs\" (backend kubernetes; asked for by \
             annotation secrets.floe.dev/env-from). Create it or correct the annotation. Did you mean \"snowflake-creds\"?",
        ]
    );
}

#[test]
fn missing_key_is_rejected_and_a_similar_one_suggested() {
    let sentences = Admission::of(pod(&[
        ("refs", "db/pasword,db"),
        ("env.U", "db/nothing-like-it"),
    ]))
    .secret("db", &["password", "user"])
    .rejects();
    assert_eq!(
        sentences,
        [
            "secret \"db\" in namespace \"floe-jobs\" has no key \"nothing-like-it\" (asked for by annotation \
             secrets.floe.dev/env.U). Add the key or correct the annotation.",
            "secret \"db\" in namespace \"floe-jobs\" has no key \"pasword\" (asked for by annotation \
             secrets.floe.dev/refs). Add the key or correct the annotation. Did you mean \"password\"?",
            "secret \"db\" in namespace \"floe-jobs\" has no key \"value\", which a reference without a key means \
             (asked for by annotation secrets.floe.dev/refs). Add the key or correct the annotation.",
        ]
    );
}

#[test]
fn all_errors_are_reported_at_once() {
    let annotations = [
        ("env-from", "gone"),
        ("refs", "db/none,secret-a/b,secret-a-b"),
        ("containers", "web"),
    ];
    let sentences = Admission::of(pod(&annotations))
        .missing("gone")
        .secret("db", &[])
        .rejects();
    let about = [
        "no key \"none\"",
        "secret \"gone\"",
        "FLOE_SECRET_SECRET_A_B",
        "no container \"web\"",
    ];
    assert_eq!(sentences.len(), about.len(), "{sentences:?}");
    for (sentence, about) in sentences.iter().zip(about) {
        assert!(sentence.contains(about), "{sentence}");
    }
}

#[test]
fn on_missing_warn_admits_and_the_kubelet_waits() {
    let annotations = [
        ("env-from", "gone"),
        ("refs", "gone/k,db/none"),
        ("on-missing", "warn"),
    ];
    let admitted = Admission::of(pod(&annotations))
        .missing("gone")
        .secret("db", &["k"])
        .injects();
    assert_eq!(admitted.env_from("app"), ["gone"]);
    assert_eq!(
        admitted.env("app"),
        ["FLOE_SECRET_GONE_K=gone/k", "FLOE_SECRET_DB_NONE=db/none"]
    );
    assert_eq!(
        admitted.warnings,
        [
            "secret \"gone\" not found in namespace \"floe-jobs\"; the pod waits until it exists",
            "secret \"db\" in namespace \"floe-jobs\" has no key \"none\"; the pod waits until it has",
        ]
    );
}

#[test]
fn on_missing_warn_of_all_keys_injects_none_and_warns() {
    let admitted = Admission::of(pod(&[("refs", "gone/*,a/k"), ("on-missing", "warn")]))
        .missing("gone")
        .injects();
    assert_eq!(admitted.env("app"), ["FLOE_SECRET_A_K=a/k"]);
    assert_eq!(admitted.warnings.len(), 1, "{:?}", admitted.warnings);
}

#[rstest]
#[case::pod_is_rejected(PlanTarget::Pod, &[], true)]
#[case::workload_gets_a_warning(PlanTarget::Template, &[], false)]
#[case::workload_with_deny_is_rejected(PlanTarget::Template, &[("on-missing", "deny")], true)]
#[case::pod_with_warn_gets_a_warning(PlanTarget::Pod, &[("on-missing", "warn")], false)]
fn on_missing_defaults_by_target(
    #[case] target: PlanTarget,
    #[case] own: &[(&str, &str)],
    #[case] refused: bool,
) {
    let annotations: Vec<(&str, &str)> =
        own.iter().copied().chain([("env-from", "gone")]).collect();
    let admission = Admission::of(pod(&annotations))
        .missing("gone")
        .target(target);
    if refused {
        assert_eq!(admission.rejects().len(), 1);
    } else {
        assert_eq!(admission.injects().warnings.len(), 1);
    }
}

#[test]
fn unchecked_secret_is_referenced_by_its_name() {
    let admission = Admission::of(pod(&[("env-from", "a"), ("refs", "a/k")]))
        .bound("a", BindOutcome::Unchecked);
    assert_eq!(admission.injects().env("app"), ["FLOE_SECRET_A_K=a/k"]);
}

// === name/* ===

#[test]
fn star_injects_all_keys_in_order() {
    let admitted = Admission::of(pod(&[("refs", "z/k,db/*,db/user")]))
        .secret("db", &["user", "Pass.word", "host"])
        .injects();
    assert_eq!(
        admitted.env("app"),
        [
            "FLOE_SECRET_Z_K=z/k",
            "FLOE_SECRET_DB_PASS_WORD=db/Pass.word",
            "FLOE_SECRET_DB_HOST=db/host",
            "FLOE_SECRET_DB_USER=db/user",
        ]
    );
}

#[test]
fn star_of_a_secret_without_keys_is_a_warning() {
    let admitted = Admission::of(pod(&[("refs", "db/*")]))
        .secret("db", &[])
        .injects();
    assert_eq!(
        admitted.warnings,
        ["\"db/*\" (annotation secrets.floe.dev/refs) brings in nothing: the secret has no keys"]
    );
}

#[rstest]
#[case::unchecked(BindOutcome::Unchecked)]
#[case::keys_not_queried(BindOutcome::Found(SecretBinding { secret_name: "db".to_owned(), keys: None }))]
fn star_with_unknown_keys_is_rejected(#[case] bound: BindOutcome) {
    let sentences = Admission::of(pod(&[("refs", "db/*")]))
        .bound("db", bound)
        .rejects();
    assert_eq!(sentences.len(), 1, "{sentences:?}");
    assert!(
        sentences[0]
            .starts_with("\"db/*\" stands for all keys of the secret, which are not known here")
    );
}

#[test]
fn star_of_a_secret_with_too_many_keys_is_rejected() {
    let keys: Vec<String> = (0..20_000).map(|n| format!("k{n}")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let sentences = Admission::of(pod(&[("refs", "db/*")]))
        .secret("db", &keys)
        .rejects();
    assert!(
        sentences[0].starts_with("more than 2000 entries would be added"),
        "{sentences:?}"
    );
}

// === references with the same variable ===

const REFS: &str = "annotation secrets.floe.dev/refs";

#[rstest]
#[case::name_and_key("secret-a/b,secret-a-b", &[], "secret-a/b", "secret-a-b", "FLOE_SECRET_SECRET_A_B")]
#[case::name_and_key_otherwise("secret/a-b,secret-a/b", &[], "secret/a-b", "secret-a/b", "FLOE_SECRET_SECRET_A_B")]
#[case::dot_and_hyphen("a.b/k,a-b/k", &[], "a.b/k", "a-b/k", "FLOE_SECRET_A_B_K")]
#[case::case_of_a_key("s/k,s/K", &[], "s/k", "s/K", "FLOE_SECRET_S_K")]
#[case::source("a/k,infisical:a/k", &[], "a/k", "infisical:a/k", "FLOE_SECRET_A_K")]
#[case::within_a_star("s/*", &["a.b", "a_b"], "s/a.b of s/*", "s/a_b of s/*", "FLOE_SECRET_S_A_B")]
#[case::star_and_key("s-a/b,s/*", &["a_b", "c"], "s-a/b", "s/a_b of s/*", "FLOE_SECRET_S_A_B")]
fn references_with_the_same_variable_are_rejected_naming_both(
    #[case] refs: &str,
    #[case] keys: &[&str],
    #[case] one: &str,
    #[case] other: &str,
    #[case] variable: &str,
) {
    let admission =
        Admission::of(pod(&[("refs", refs)])).bound("infisical:a", found("infisical-a", &["k"]));
    let admission = if keys.is_empty() {
        admission
    } else {
        admission.secret("s", keys)
    };
    assert_eq!(
        admission.rejects(),
        [format!(
            "{one} ({REFS}) and {other} ({REFS}) would both set the variable {variable}. \
             Ask for one of them by secrets.floe.dev/env.<VAR> instead, under a name of its own."
        )]
    );
}

#[test]
fn alias_with_the_variable_of_a_reference_is_rejected_naming_both() {
    let sentences =
        Admission::of(pod(&[("refs", "a/k"), ("env.FLOE_SECRET_A_K", "b/k")])).rejects();
    assert_eq!(
        sentences,
        [
            "a/k (annotation secrets.floe.dev/refs) and b/k (annotation secrets.floe.dev/env.FLOE_SECRET_A_K) would both \
          set the variable FLOE_SECRET_A_K. Ask for one of them by secrets.floe.dev/env.<VAR> instead, under a name \
          of its own."
        ]
    );
}

#[test]
fn alias_that_repeats_a_reference_is_accepted() {
    let admitted = Admission::of(pod(&[("refs", "a/k"), ("env.FLOE_SECRET_A_K", "a/k")])).injects();
    assert_eq!(admitted.env("app"), ["FLOE_SECRET_A_K=a/k"]);
}

#[test]
fn shared_keys_are_one_warning_per_pair_of_secrets() {
    let admitted = Admission::of(pod(&[("env-from", "a,b,c")]))
        .secret("a", &["one", "three", "two", "x"])
        .secret("b", &["one", "three", "two"])
        .secret("c", &["x"])
        .injects();
    assert_eq!(
        admitted.warnings,
        [
            "secrets \"a\" and \"b\" both have the key one and 2 more; the value of \"b\" counts",
            "secrets \"a\" and \"c\" both have the key x; the value of \"c\" counts",
        ]
    );
}
