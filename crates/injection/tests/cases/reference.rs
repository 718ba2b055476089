//! The floe spec's `SecretReference`, as a document and as text.

use injection::{EnvVarName, KeyChoice, SecretName, SecretReference};
use rstest::rstest;

#[rstest]
#[case::minimal(r#"{"source":"kubernetes","name":"db-creds","key":null}"#, "db-creds")]
#[case::kubernetes(
    r#"{"source":"kubernetes","name":"db-creds","key":"password"}"#,
    "db-creds/password"
)]
#[case::vault(
    r#"{"source":"vault","name":"api-keys","key":"stripe"}"#,
    "vault:api-keys/stripe"
)]
#[case::external(
    r#"{"source":"external-secrets","name":"api-keys","key":"stripe"}"#,
    "external-secrets:api-keys/stripe"
)]
#[case::infisical(r#"{"source":"infisical","name":"a","key":null}"#, "infisical:a")]
#[case::env(r#"{"source":"env","name":"a","key":null}"#, "env:a")]
#[case::all(r#"{"source":"kubernetes","name":"a","key":"*"}"#, "a/*")]
fn reference_document_round_trips(#[case] document: &str, #[case] text: &str) {
    let reference: SecretReference = document.parse().unwrap();
    assert_eq!(serde_json::to_string(&reference).unwrap(), document);
    assert_eq!(reference.to_string(), text);
    assert_eq!(text.parse::<SecretReference>().unwrap(), reference);
}

#[rstest]
#[case(r#"{"name":"db-creds"}"#)]
#[case(r#" { "name" : "db-creds" , "key" : "" } "#)]
#[case(r#"{"key":null,"source":null,"name":"db-creds"}"#)]
fn absent_fields_of_a_document_have_defaults(#[case] document: &str) {
    let reference: SecretReference = document.parse().unwrap();
    assert_eq!(
        serde_json::to_string(&reference).unwrap(),
        r#"{"source":"kubernetes","name":"db-creds","key":null}"#
    );
}

#[rstest]
#[case(r#"{"name":"a","namespace":"b"}"#, "namespace")]
#[case(r#"{"key":"a"}"#, "name")]
#[case(r#"{"name":"a","source":"file"}"#, "unknown source \"file\"")]
#[case(
    r#"{"name":"a","source":"KUBERNETES"}"#,
    "unknown source \"KUBERNETES\""
)]
#[case(r#"{"name":"A"}"#, "\"A\" is not a Secret name")]
#[case(r#"{"name":5}"#, "is no reference")]
#[case("{", "is no reference")]
#[case("", "\"\" is not a Secret name")]
fn invalid_document_is_rejected(#[case] document: &str, #[case] sentence: &str) {
    let error = document.parse::<SecretReference>().unwrap_err();
    assert!(error.contains(sentence), "{error}");
}

#[rstest]
#[case("a", true)]
#[case("1-secret", true)]
#[case("a--b", true)]
#[case("has.dot", true)]
#[case(&"x".repeat(253), true)]
#[case(&"x".repeat(254), false)]
#[case("-x", false)]
#[case("x-", false)]
#[case("a.-b", false)]
#[case("", false)]
fn secret_name_follows_the_rules_of_kubernetes(#[case] name: &str, #[case] valid: bool) {
    assert_eq!(name.parse::<SecretName>().is_ok(), valid);
}

#[rstest]
#[case("my-secret", Some("api-key"), "FLOE_SECRET_MY_SECRET_API_KEY")]
#[case("db1-creds", Some("value"), "FLOE_SECRET_DB1_CREDS_VALUE")]
#[case("a", None, "FLOE_SECRET_A")]
#[case("a", Some("k"), "FLOE_SECRET_A_K")]
#[case("a--b", None, "FLOE_SECRET_A__B")]
#[case("1-secret", None, "FLOE_SECRET_1_SECRET")]
#[case(
    "has.dot",
    Some(".dockerconfigjson"),
    "FLOE_SECRET_HAS_DOT__DOCKERCONFIGJSON"
)]
#[case("x", Some("camelCase"), "FLOE_SECRET_X_CAMELCASE")]
#[case("x", Some("é b\n'"), "FLOE_SECRET_X___B__")]
fn variable_of_a_reference_is_named_by_the_spec(
    #[case] name: &str,
    #[case] key: Option<&str>,
    #[case] expected: &str,
) {
    let variable = EnvVarName::for_reference(&name.parse().unwrap(), key);
    assert_eq!(variable.as_str(), expected);
    assert!(variable.as_str().parse::<EnvVarName>().is_ok());
}

#[rstest]
#[case(
    "db-creds/password",
    Some("{{ env_var('FLOE_SECRET_DB_CREDS_PASSWORD') }}")
)]
#[case("db-password", Some("{{ env_var('FLOE_SECRET_DB_PASSWORD') }}"))]
#[case(
    r#"{"source": "infisical", "name": "db-password", "key": ""}"#,
    Some("{{ env_var('FLOE_SECRET_DB_PASSWORD') }}")
)]
#[case("a--b", Some("{{ env_var('FLOE_SECRET_A__B') }}"))]
#[case("1-secret", Some("{{ env_var('FLOE_SECRET_1_SECRET') }}"))]
#[case("x/tls.crt", Some("{{ env_var('FLOE_SECRET_X_TLS_CRT') }}"))]
#[case("x/camelCase", Some("{{ env_var('FLOE_SECRET_X_CAMELCASE') }}"))]
#[case("x/*", None)]
fn expression_of_a_reference_is_that_of_the_spec(
    #[case] reference: &str,
    #[case] expected: Option<&str>,
) {
    let reference: SecretReference = reference.parse().unwrap();
    assert_eq!(reference.to_env_var_syntax().as_deref(), expected);
    assert_eq!(reference.to_env_var_name().is_some(), expected.is_some());
    assert_eq!(reference.data_key().is_some(), expected.is_some());
}

#[test]
fn data_key_of_a_reference_without_a_key_is_the_default() {
    let reference: SecretReference = "db-password".parse().unwrap();
    assert_eq!(reference.data_key().unwrap().as_str(), "value");
}

#[test]
fn source_does_not_affect_the_variable() {
    for source in [
        "kubernetes",
        "infisical",
        "external-secrets",
        "env",
        "vault",
    ] {
        let reference: SecretReference = format!("{source}:db-creds/password").parse().unwrap();
        let KeyChoice::Key(key) = &reference.key else {
            panic!("{reference:?}")
        };
        let variable = EnvVarName::for_reference(&reference.secret.name, Some(key.as_str()));
        assert_eq!(variable.as_str(), "FLOE_SECRET_DB_CREDS_PASSWORD");
    }
}
