//! Annotations of the contract: valid values, and the sentences about invalid ones.

use injection::{
    AnnotationLayers, Annotations, Choice, Decision, InjectionRequest, OnMissing, ReloadMode,
    SkipReason, parse,
};
use rstest::rstest;

use crate::admission::{Admission, PREFIX, pod};

/// # Panics
/// If the annotations request nothing, or are invalid.
fn request(annotations: &[(&str, &str)]) -> InjectionRequest {
    let annotations = Annotations::from_pairs(
        annotations
            .iter()
            .map(|(key, value)| (format!("{PREFIX}{key}"), *value)),
    );
    match parse(&AnnotationLayers {
        object: Some(&annotations),
        ..AnnotationLayers::default()
    }) {
        Ok(Decision::Inject(request)) => *request,
        other => panic!("{other:?}"),
    }
}

#[rstest]
#[case::one("db-creds", &["db-creds"])]
#[case::comma("db-creds,api-keys", &["db-creds", "api-keys"])]
#[case::space("db-creds api-keys", &["db-creds", "api-keys"])]
#[case::newline("db-creds\napi-keys\n", &["db-creds", "api-keys"])]
#[case::mixed_and_trailing(" db-creds ,\n\tapi-keys , ", &["db-creds", "api-keys"])]
#[case::order_is_the_annotations("z,a,m", &["z", "a", "m"])]
#[case::twice_is_once("db-creds,api-keys,db-creds,kubernetes:db-creds", &["db-creds", "api-keys"])]
#[case::sources("kubernetes:a,infisical:b,external-secrets:c", &["a", "b", "c"])]
#[case::dotted("tls.example.com", &["tls.example.com"])]
#[case::dashes("- db-creds\r\n- infisical:api-keys\r\n", &["db-creds", "api-keys"])]
fn env_from_injects_whole_secrets(#[case] value: &str, #[case] expected: &[&str]) {
    let admitted = Admission::of(pod(&[("env-from", value)])).injects();
    assert_eq!(admitted.env_from("app"), expected);
    assert!(admitted.env("app").is_empty());
}

#[rstest]
#[case::key("db-creds/password", &["FLOE_SECRET_DB_CREDS_PASSWORD=db-creds/password"])]
#[case::source("infisical:db-creds/password", &["FLOE_SECRET_DB_CREDS_PASSWORD=db-creds/password"])]
#[case::no_key("simple-secret", &["FLOE_SECRET_SIMPLE_SECRET=simple-secret/value"])]
#[case::list("b/k, a/k", &["FLOE_SECRET_B_K=b/k", "FLOE_SECRET_A_K=a/k"])]
#[case::twice_is_once("a/k,a/k kubernetes:a/k", &["FLOE_SECRET_A_K=a/k"])]
#[case::same_key_twice_by_default("a,a", &["FLOE_SECRET_A=a/value"])]
#[case::dots_and_case("x/tls.crt,x/camelCase,x/_u", &[
    "FLOE_SECRET_X_TLS_CRT=x/tls.crt", "FLOE_SECRET_X_CAMELCASE=x/camelCase", "FLOE_SECRET_X__U=x/_u",
])]
#[case::json(r#"[{"source":"kubernetes","name":"db-creds","key":"password"},{"name":"a"}]"#, &[
    "FLOE_SECRET_DB_CREDS_PASSWORD=db-creds/password", "FLOE_SECRET_A=a/value",
])]
#[case::json_null_and_empty_key(r#"[{"name":"a","key":null},{"name":"b","key":""}]"#, &["FLOE_SECRET_A=a/value", "FLOE_SECRET_B=b/value"])]
#[case::json_single(r#"{"name":"a","key":"k"}"#, &["FLOE_SECRET_A_K=a/k"])]
#[case::yaml("- name: db-creds\n  key: password\n- source: external-secrets\n  name: a\n", &[
    "FLOE_SECRET_DB_CREDS_PASSWORD=db-creds/password", "FLOE_SECRET_A=a/value",
])]
#[case::yaml_flow("\n- {name: a, key: k}\n- {name: a}\n", &["FLOE_SECRET_A_K=a/k", "FLOE_SECRET_A=a/value"])]
#[case::yaml_after_a_comment("# the database\n\n  # and more\n- name: a\n  key: k\n", &["FLOE_SECRET_A_K=a/k"])]
#[case::yaml_after_a_marker("---\n- name: a\n  key: k\n", &["FLOE_SECRET_A_K=a/k"])]
#[case::yaml_behind_a_marker("--- [{name: a, key: k}]", &["FLOE_SECRET_A_K=a/k"])]
#[case::yaml_after_a_comment_and_a_marker("# mine\r\n---\r\n- name: a\r\n  key: k\r\n", &["FLOE_SECRET_A_K=a/k"])]
#[case::yaml_crlf("-\r\n  name: a\r\n  key: k\r\n- name: b\r\n  key: k", &["FLOE_SECRET_A_K=a/k", "FLOE_SECRET_B_K=b/k"])]
#[case::yaml_tab_after_the_dash("-\tname: a", &["FLOE_SECRET_A=a/value"])]
#[case::yaml_byte_order_mark("\u{feff}- name: a", &["FLOE_SECRET_A=a/value"])]
#[case::yaml_strings("- a/k\n- 'infisical:b/k' # why\n- name: c\n- d/*\n", &[
    "FLOE_SECRET_A_K=a/k", "FLOE_SECRET_B_K=b/k", "FLOE_SECRET_C=c/value", "FLOE_SECRET_D_VALUE=d/value",
])]
#[case::yaml_strings_crlf("- a/k\r\n- a/l\r\n", &["FLOE_SECRET_A_K=a/k", "FLOE_SECRET_A_L=a/l"])]
#[case::yaml_single("name: a\nkey: k\n", &["FLOE_SECRET_A_K=a/k"])]
#[case::yaml_single_after_a_comment("# a\nkey: k\r\nname: a\r\n", &["FLOE_SECRET_A_K=a/k"])]
#[case::json_strings(r#"["a/k", "b"]"#, &["FLOE_SECRET_A_K=a/k", "FLOE_SECRET_B=b/value"])]
fn refs_become_variables_named_by_the_spec(#[case] value: &str, #[case] expected: &[&str]) {
    let admitted = Admission::of(pod(&[("refs", value)]))
        .secret("d", &["value"])
        .injects();
    assert_eq!(admitted.env("app"), expected);
    assert!(admitted.env_from("app").is_empty());
}

#[rstest]
#[case::plain(
    "AWS_ACCESS_KEY_ID",
    "s3/access-key",
    "AWS_ACCESS_KEY_ID=s3/access-key"
)]
#[case::source(
    "POLARIS_CREDENTIAL",
    "infisical:polaris/credential",
    "POLARIS_CREDENTIAL=polaris/credential"
)]
#[case::spaces_around("X", " s3/k\n", "X=s3/k")]
#[case::lower_case_and_underscore("_x9", "s3/k", "_x9=s3/k")]
#[case::longest(LONGEST_VARIABLE, "s3/k", &format!("{LONGEST_VARIABLE}=s3/k"))]
fn env_sets_the_name_of_a_variable(
    #[case] variable: &str,
    #[case] value: &str,
    #[case] expected: &str,
) {
    let admitted = Admission::of(pod(&[(&format!("env.{variable}"), value)])).injects();
    assert_eq!(admitted.env("app"), [expected]);
}

/// 59 characters: the longest name, with 63 characters after the prefix.
const LONGEST_VARIABLE: &str = "V23456789_123456789_123456789_123456789_123456789_123456789";

#[test]
fn aliases_follow_references_in_the_order_of_their_names() {
    let admitted = Admission::of(pod(&[
        ("env.B", "s/b"),
        ("env.A", "s/a"),
        ("refs", "s/z,s/y"),
    ]))
    .injects();
    assert_eq!(
        admitted.env("app"),
        [
            "FLOE_SECRET_S_Z=s/z",
            "FLOE_SECRET_S_Y=s/y",
            "A=s/a",
            "B=s/b"
        ]
    );
}

#[test]
fn alias_and_reference_may_name_the_same_key() {
    let admitted = Admission::of(pod(&[
        ("env.PGPASSWORD", "db/password"),
        ("refs", "db/password"),
    ]))
    .injects();
    assert_eq!(
        admitted.env("app"),
        [
            "FLOE_SECRET_DB_PASSWORD=db/password",
            "PGPASSWORD=db/password"
        ]
    );
}

#[test]
fn source_env_needs_no_injection() {
    let outcome = Admission::of(pod(&[
        ("refs", "env:present, env:too/key"),
        ("env.X", "env:present/key"),
    ]))
    .accepts();
    assert_eq!(outcome, SkipReason::NotRequested);
    let admitted = Admission::of(pod(&[("refs", "env:present,a/k")])).injects();
    assert_eq!(admitted.env("app"), ["FLOE_SECRET_A_K=a/k"]);
}

#[rstest]
#[case("deny", Some(OnMissing::Deny))]
#[case("warn", Some(OnMissing::Warn))]
#[case(" warn\r\n", Some(OnMissing::Warn))]
fn on_missing_is_read(#[case] value: &str, #[case] expected: Option<OnMissing>) {
    assert_eq!(
        request(&[("env-from", "a"), ("on-missing", value)]).on_missing,
        expected
    );
    assert_eq!(
        request(&[("env-from", "a")]).on_missing,
        None,
        "unset means the default of the surface"
    );
}

#[rstest]
#[case("auto", ReloadMode::Auto)]
#[case("reloader", ReloadMode::Reloader)]
#[case("infisical", ReloadMode::Infisical)]
#[case("off", ReloadMode::Off)]
#[case("\toff\n", ReloadMode::Off)]
fn reload_has_four_values(#[case] value: &str, #[case] expected: ReloadMode) {
    assert_eq!(
        request(&[("env-from", "a"), ("reload", value)]).reload,
        expected
    );
}

#[test]
fn infisical_sets_the_location_of_a_secret() {
    let name = "n".repeat(53);
    let request = request(&[
        ("env-from", "infisical:a"),
        ("infisical.a", "prod:/snowflake/loader"),
        ("infisical.b.c", "dev-2:/"),
        (&format!("infisical.{name}"), "dev:/x"),
    ]);
    let paths: Vec<String> = request
        .infisical
        .iter()
        .map(|(name, at)| format!("{name}={}:{}", at.environment, at.path))
        .collect();
    assert_eq!(
        paths,
        [
            "a=prod:/snowflake/loader",
            "b.c=dev-2:/",
            &format!("{name}=dev:/x")
        ]
    );
}

#[test]
fn init_containers_none_differs_from_unset() {
    let explicit = request(&[("env-from", "a"), ("init-containers", "none")]);
    assert_eq!(explicit.init_containers.unwrap().choice, Choice::None);
    assert!(request(&[("env-from", "a")]).init_containers.is_none());
}

#[rstest]
#[case::nothing(&[], SkipReason::NotRequested)]
#[case::only_a_choice(&[("containers", "app"), ("reload", "auto")], SkipReason::NotRequested)]
#[case::only_inject(&[("inject", "true")], SkipReason::NotRequested)]
#[case::opted_out(&[("inject", "false"), ("env-from", "a")], SkipReason::OptedOut)]
#[case::a_record_alone(&[("injected", "{}")], SkipReason::NotRequested)]
fn pod_without_requests_is_skipped(
    #[case] annotations: &[(&str, &str)],
    #[case] reason: SkipReason,
) {
    assert_eq!(Admission::of(pod(annotations)).accepts(), reason);
}

#[rstest]
// env-from
#[case(
    "env-from",
    "",
    "is empty; name at least one, or remove the annotation"
)]
#[case("env-from", " ,\n", "is empty")]
#[case("env-from", "-x", "\"-x\" is not a Secret name")]
#[case("env-from", "x-", "\"x-\" is not a Secret name")]
#[case("env-from", "UPPER", "\"UPPER\" is not a Secret name")]
#[case(
    "env-from",
    "has_underscore",
    "\"has_underscore\" is not a Secret name"
)]
#[case("env-from", "a..b", "\"a..b\" is not a Secret name")]
#[case("env-from", ".a", "\".a\" is not a Secret name")]
#[case("env-from", "kubernetes:", "\"\" is not a Secret name")]
#[case("env-from", "café", "\"café\" is not a Secret name")]
#[case(
    "env-from",
    "db-creds/password",
    "for a single key use secrets.floe.dev/refs"
)]
#[case(
    "env-from",
    "KUBERNETES:a",
    "unknown source \"KUBERNETES\"; the sources are kubernetes, infisical, external-secrets and env, in lower case"
)]
#[case("env-from", "file:a", "unknown source \"file\"")]
#[case("env-from", ":a", "unknown source \"\"")]
#[case(
    "env-from",
    "vault:a",
    "source \"vault\" of \"vault:a\" is not supported; use kubernetes, infisical or external-secrets"
)]
#[case(
    "env-from",
    "env:a",
    "source \"env\" names single variables that are already set"
)]
// refs
#[case("refs", "", "is empty")]
#[case("refs", "[]", "is empty; name at least one, or remove the annotation")]
#[case("refs", "a/", "\"\" is not a key of a Secret")]
#[case("refs", "/k", "\"\" is not a Secret name")]
#[case("refs", "a/b/c", "\"b/c\" is not a key of a Secret")]
#[case("refs", "a/..", "\"..\" is not a key of a Secret")]
#[case("refs", "a/p=q", "\"p=q\" is not a key of a Secret")]
#[case("refs", "a/p')", "\"p')\" is not a key of a Secret")]
#[case(
    "refs",
    "vault:a/k",
    "source \"vault\" of \"vault:a\" is not supported"
)]
#[case("refs", "Infisical:a", "unknown source \"Infisical\"")]
#[case("refs", "[{", "is not a list of {source, name, key}")]
#[case("refs", "- 5", "is not a list of {source, name, key}")]
#[case(
    "refs",
    "- 5",
    "expected a reference such as \"db/password\", in quotes where it looks like a number"
)]
#[case("refs", "# one\n- a/b/c", "\"b/c\" is not a key of a Secret")]
#[case("refs", "- a, b", "\"a, b\" is not a Secret name")]
#[case("refs", "---\n", "\"---\" is not a Secret name")]
#[case("env-from", "a,-,b", "\"-\" is not a Secret name")]
#[case("refs", r#"[{"key":"k"}]"#, "is not a list of {source, name, key}")]
#[case("refs", r#"[{"name":"a","namespace":"other"}]"#, "namespace")]
#[case(
    "refs",
    r#"[{"name":"a","source":"VAULT"}]"#,
    "unknown source \"VAULT\""
)]
#[case(
    "refs",
    r#"[{"name":"a","source":"vault"}]"#,
    "source \"vault\" of \"vault:a\" is not supported"
)]
#[case(
    "refs",
    r#"[{"name":"a","key":"a b"}]"#,
    "\"a b\" is not a key of a Secret"
)]
#[case(
    "refs",
    r#"[{"name":"a","key":"a\nb"}]"#,
    r#""a\nb" is not a key of a Secret"#
)]
#[case(
    "refs",
    r#"[{"name":"has space"}]"#,
    "\"has space\" is not a Secret name"
)]
#[case("refs", r#"[{"name":""}]"#, "\"\" is not a Secret name")]
// env.<VAR>
#[case("env.9X", "a/k", "\"9X\" is not a variable name")]
#[case("env.", "a/k", "\"\" is not a variable name")]
#[case("env.A-B", "a/k", "\"A-B\" is not a variable name")]
#[case("env.A.B", "a/k", "\"A.B\" is not a variable name")]
#[case("env.X", "a", "\"a\" does not say which key; write name/key")]
#[case("env.X", "a/*", "\"a/*\" does not say which key; write name/key")]
#[case("env.X", "", "\"\" is not a Secret name")]
#[case("env.X", "a/k,b/k", "is not a key of a Secret")]
#[case("env.X", "vault:a/k", "is not supported")]
#[case(
    "env.V23456789_123456789_123456789_123456789_123456789_1234567890",
    "a/k",
    "longer than 63 characters after the prefix"
)]
// containers, init-containers
#[case("containers", "", "is empty")]
#[case(
    "containers",
    "App",
    "\"App\" is neither a container's name nor a glob"
)]
#[case("containers", "app;rm", "is neither a container's name nor a glob")]
#[case("containers", "[a-z]", "is neither a container's name nor a glob")]
#[case("init-containers", " ", "is empty")]
#[case("init-containers", "in/it", "is neither a container's name nor a glob")]
// single words
#[case("on-missing", "Warn", "\"Warn\" is not one of deny, warn")]
#[case("on-missing", "", "\"\" is not one of deny, warn")]
#[case(
    "reload",
    "always",
    "\"always\" is not one of auto, reloader, infisical, off"
)]
#[case("inject", "yes", "\"yes\" is not one of true, false")]
#[case("inject", "False", "\"False\" is not one of true, false")]
#[case(
    "inject",
    "enabled",
    "\"enabled\" is not one of true, false; defaults are let in by the label secrets.floe.dev/inject=enabled of the Namespace"
)]
#[case(
    "inject",
    " Enable",
    "\"Enable\" is not one of true, false; defaults are let in by the label"
)]
// infisical.<name>
#[case(
    "infisical.a",
    "",
    "is not <environment>:/<path>, as in \"prod:/snowflake\""
)]
#[case("infisical.a", "prod", "is not <environment>:/<path>")]
#[case("infisical.a", "/snowflake", "is not <environment>:/<path>")]
#[case("infisical.a", "prod:snowflake", "is not <environment>:/<path>")]
#[case("infisical.a", ":/snowflake", "is not <environment>:/<path>")]
#[case("infisical.a", "Prod:/snowflake", "is not <environment>:/<path>")]
#[case("infisical.a", "prod:/../other", "is not <environment>:/<path>")]
#[case("infisical.a", "prod:/a/./b", "is not <environment>:/<path>")]
#[case("infisical.a", "prod:/a\nb", "is not <environment>:/<path>")]
#[case("infisical.A", "prod:/a", "\"A\" is not a Secret name")]
#[case("infisical.", "prod:/a", "\"\" is not a Secret name")]
#[case(
    "infisical.n23456789-123456789-123456789-123456789-123456789-1234",
    "prod:/a",
    "longer than 63 characters after the prefix"
)]
// unknown
#[case(
    "envfrom",
    "a",
    "unknown annotation; did you mean secrets.floe.dev/env-from?"
)]
#[case(
    "ref",
    "a/k",
    "unknown annotation; did you mean secrets.floe.dev/refs?"
)]
#[case(
    "init-container",
    "x",
    "did you mean secrets.floe.dev/init-containers?"
)]
#[case("env", "a", "unknown annotation")]
#[case("", "x", "unknown annotation")]
#[case(
    "volume-mounts",
    "x",
    "unknown annotation; the annotations are env-from, refs, env.<VAR>, containers"
)]
fn invalid_annotation_is_rejected_by_name(
    #[case] key: &str,
    #[case] value: &str,
    #[case] sentence: &str,
) {
    // A valid annotation is beside it, so that the invalid one is the only reason.
    let valid = if key == "env-from" {
        ("refs", "a/k")
    } else {
        ("env-from", "a")
    };
    let sentences = Admission::of(pod(&[valid, (key, value)])).rejects();
    let start = format!("annotation {PREFIX}{key}: ");
    assert!(
        sentences.iter().all(|error| error.starts_with(&start)),
        "{sentences:?}"
    );
    assert!(
        sentences.iter().any(|error| error.contains(sentence)),
        "{sentences:?}"
    );
}

#[test]
fn all_invalid_annotations_are_reported_in_order() {
    let sentences = Admission::of(pod(&[
        ("env-from", "UPPER, fine, vault:x"),
        ("refs", "a/b/c,-x"),
        ("env.9X", "no-key-and_bad"),
        ("containers", "App"),
        ("on-missing", "maybe"),
        ("reload", "maybe"),
        ("inject", "maybe"),
        ("infisical.x", "nowhere"),
        ("unheard-of", "x"),
    ]))
    .rejects();
    let named: Vec<&str> = sentences
        .iter()
        .map(|sentence| {
            sentence
                .trim_start_matches("annotation secrets.floe.dev/")
                .split(':')
                .next()
                .unwrap()
        })
        .collect();
    assert_eq!(
        named,
        [
            "containers",
            "env-from",
            "env-from",
            "env.9X",
            "env.9X",
            "infisical.x",
            "inject",
            "on-missing",
            "refs",
            "refs",
            "reload",
            "unheard-of"
        ]
    );
}

#[test]
fn unsupported_source_differs_from_an_invalid_one() {
    let annotations =
        Annotations::from_pairs([(format!("{PREFIX}refs"), "vault:a/k, nonsense:a/k")]);
    let mistakes = parse(&AnnotationLayers {
        object: Some(&annotations),
        ..AnnotationLayers::default()
    })
    .unwrap_err();
    assert_eq!(
        mistakes
            .iter()
            .map(|mistake| mistake.unsupported)
            .collect::<Vec<_>>(),
        [true, false]
    );
}

#[test]
fn errors_of_an_opted_out_pod_are_reported() {
    let sentences = Admission::of(pod(&[("inject", "false"), ("env-from", "UPPER")])).rejects();
    assert_eq!(sentences.len(), 1, "{sentences:?}");
}

#[rstest]
#[case("env-from")]
#[case("refs")]
#[case("containers")]
#[case("inject")]
#[case("on-missing")]
#[case("env.X")]
#[case("infisical.x")]
fn sentence_has_only_the_beginning_of_a_long_value(#[case] key: &str) {
    let sentences = Admission::of(pod(&[(key, &"Ü".repeat(1_000_000))])).rejects();
    assert!(
        sentences.iter().all(|sentence| sentence.len() < 1_000),
        "{:?}",
        sentences.iter().map(String::len).collect::<Vec<_>>()
    );
}
