//! Tests of the table and of names that it does not have.

mod packages;

use std::collections::BTreeSet;

use super::*;

#[rstest::rstest]
#[case("snowflake", "password", true)]
#[case("snowflake", "user", false)]
#[case("snowflake", "private_key_path", false)]
#[case("snowflake", "oauth_client_id", false)]
#[case("postgres", "pass", true)]
#[case("postgres", "sslkey", false)]
#[case("postgres", "host", false)]
#[case("redshift", "user", false)]
#[case("redshift", "access_key_id", true)]
#[case("bigquery", "keyfile_json", true)]
#[case("bigquery", "keyfile_json.private_key", true)]
#[case("bigquery", "keyfile_json.token_uri", false)]
#[case("bigquery", "keyfile_json.client_email", false)]
#[case("databricks", "client_id", true)]
#[case("trino", "client_private_key", false)]
#[case("duckdb", "secrets[0].secret", true)]
#[case("duckdb", "secrets[12].key_id", true)]
#[case("duckdb", "secrets[0].anything", true)]
#[case("duckdb", "secrets[0].extra_http_headers.Authorization", true)]
#[case("duckdb", "secrets[0].type", false)]
#[case("duckdb", "secrets[0].region", false)]
#[case("duckdb", "attach[0].secret", false)]
#[case("duckdb", "attach[0].path", false)]
#[case("duckdb", "settings.s3_secret_access_key", true)]
#[case("duckdb", "settings.threads", false)]
#[case("duckdb", "plugins[0].config.token", true)]
#[case("sqlserver", "PWD", true)]
#[case("starrocks", "password", true)]
#[case("starrocks", "apiToken", true)]
#[case("starrocks", "oauth.client_secret", true)]
#[case("starrocks", "token_uri", false)]
#[case("starrocks", "keep_alive", false)]
fn secret_fields_are_known_by_table_and_name(
    #[case] kind: &str,
    #[case] path: &str,
    #[case] is_secret: bool,
) {
    assert_eq!(is_secret_field(kind, path), is_secret);
}

#[rstest::rstest]
#[case("postgres", "port", FieldType::Number)]
#[case("other", "threads", FieldType::Number)]
#[case("other", "port", FieldType::Text)]
#[case("snowflake", "reuse_connections", FieldType::Boolean)]
#[case("sqlserver", "TrustServerCertificate", FieldType::Boolean)]
#[case("bigquery", "keyfile_json", FieldType::Native)]
#[case("trino", "cert", FieldType::Text)]
fn types_of_fields_are_those_of_the_table(
    #[case] kind: &str,
    #[case] path: &str,
    #[case] expected: FieldType,
) {
    assert_eq!(field_type(kind, path), expected);
}

#[test]
fn kinds_are_unique_and_every_method_demands_fields_of_the_table() {
    let kinds: BTreeSet<_> = ADAPTERS.iter().map(|adapter| adapter.kind).collect();
    assert_eq!(kinds.len(), ADAPTERS.len());
    for adapter in ADAPTERS {
        for field in adapter.methods.iter().flat_map(|method| method.secret) {
            assert!(adapter.secret.contains(field), "{} {field}", adapter.kind);
        }
        for field in adapter.secret {
            let plain = [adapter.numbers, adapter.booleans, adapter.plain].concat();
            assert!(!plain.contains(field), "{} {field}", adapter.kind);
        }
        assert!(
            adapter
                .numbers
                .iter()
                .all(|field| !adapter.booleans.contains(field))
        );
        let is_last_resort = adapter
            .methods
            .iter()
            .any(|method| method.conditions.is_empty());
        assert!(is_last_resort, "{}", adapter.kind);
    }
}

#[test]
fn printed_fields_include_what_is_below_them() {
    assert!(is_printed("duckdb", "settings.a"));
    assert!(is_printed("duckdb", "attach[3].path"));
    assert!(!is_printed("duckdb", "settingsx"));
    assert!(!is_printed("duckdb", "secrets[0].secret"));
    assert!(is_printed("redshift", "access_key_id"));
}

#[test]
fn only_names_of_the_table_are_shown_in_excerpts() {
    assert!(
        is_field_name("password") && is_field_name("keyfile_json") && is_field_name("private_key")
    );
    assert!(!is_field_name("hunter2") && !is_field_name(""));
}

/// Cases of one adapter in hack/adapters/cases.py, with the fields that they share.
fn cases_of(kind: &str) -> String {
    let file = include_str!("../../../hack/adapters/cases.py");
    let shared = format!("\n{} = ", kind.to_uppercase());
    let shared = file.split_once(&shared).map_or("", |(_, rest)| rest);
    let shared = shared.lines().next().unwrap_or_default();
    let begin = format!("Case(\"{kind}\"");
    let cases = file.split("Case(").skip(1);
    let own = cases.filter(|case| format!("Case({case}").starts_with(&begin));
    own.chain([shared]).collect::<String>().to_lowercase()
}

/// `make test-adapters` loads each method of the table by the real adapter.
#[test]
fn every_method_has_a_case_for_the_real_adapter() {
    for adapter in ADAPTERS {
        let cases = cases_of(adapter.kind);
        let conditions = adapter.methods.iter().flat_map(|method| method.conditions);
        for condition in conditions {
            let needed = match condition {
                // Without the ODBC library of the system, dbt does not load this method's credentials.
                Condition::Is("method", ["http", "odbc"]) => {
                    vec!["\"method\": \"http\"".to_owned()]
                }
                Condition::Is(field, values) => values
                    .iter()
                    .map(|value| format!("\"{field}\": \"{value}\""))
                    .collect(),
                Condition::Begins(field, values) => {
                    // The values are forms of one method.
                    let value = values.first().expect("a value");
                    vec![format!("\"{field}\": \"{value}")]
                }
                Condition::Has(field) => vec![format!("\"{field}\": ")],
                Condition::Lacks(_) => Vec::new(),
            };
            for text in needed {
                let text = text.replace("\"true\"", "true");
                assert!(
                    cases.contains(&text),
                    "{}: no case with {text}",
                    adapter.kind
                );
            }
        }
        for (_, replacement) in adapter.replaced {
            let name = replacement.rsplit('.').next().unwrap_or_default();
            assert!(
                cases.contains(name),
                "{}: no case with {name}",
                adapter.kind
            );
        }
    }
}
