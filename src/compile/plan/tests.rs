//! Tests of the planner: what is written for a manifest, and what is refused.

mod fixture;
mod properties;

use injection::{SecretReference, SecretSource};
use serde_json::json;

use self::fixture::{compiled, manifest, options, refused, template};
use super::*;
use crate::compile::adapter::ADAPTERS;
use crate::compile::model::{ConfigValue, TemplatePart};
use crate::dbt::MAX_TEMPLATE;

/// Lines of the profile from `type:` on, without the indent.
fn output(compiled: &Compiled) -> Vec<&str> {
    let lines = compiled
        .profile
        .lines()
        .skip_while(|line| !line.contains("type:"));
    lines
        .map(|line| line.strip_prefix("      ").unwrap_or(line))
        .collect()
}

fn annotation(compiled: &Compiled, name: &str) -> Option<String> {
    compiled
        .annotations
        .get(&format!("secrets.floe.dev/{name}"))
        .cloned()
}

#[test]
fn schema_page_gets_its_missing_fields_from_the_secret() {
    let manifest = manifest(
        "snowflake",
        json!({"warehouse": "COMPUTE_WH", "database": "RAW"}),
        Some("snowflake-credentials"),
    );
    let compiled = compiled(&manifest, &options());
    assert_eq!(
        output(&compiled),
        [
            "type: \"snowflake\"",
            "warehouse: \"COMPUTE_WH\"",
            "database: \"RAW\"",
            "account: \"{{ env_var('SNOWFLAKE_ACCOUNT') }}\"",
            "schema: \"{{ env_var('SNOWFLAKE_SCHEMA') }}\"",
            "user: \"{{ env_var('SNOWFLAKE_USER') }}\"",
            "password: \"{{ env_var('SNOWFLAKE_PASSWORD') }}\"",
        ]
    );
    let names: Vec<_> = compiled
        .annotations
        .iter()
        .map(|(k, v)| format!("{k}={v}"))
        .collect();
    assert_eq!(
        names,
        [
            "secrets.floe.dev/env.SNOWFLAKE_ACCOUNT=snowflake-credentials/SNOWFLAKE_ACCOUNT",
            "secrets.floe.dev/env.SNOWFLAKE_PASSWORD=snowflake-credentials/SNOWFLAKE_PASSWORD",
            "secrets.floe.dev/env.SNOWFLAKE_SCHEMA=snowflake-credentials/SNOWFLAKE_SCHEMA",
            "secrets.floe.dev/env.SNOWFLAKE_USER=snowflake-credentials/SNOWFLAKE_USER",
        ]
    );
}

#[test]
fn keys_of_the_connection_are_fields_if_wanted() {
    let manifest = manifest(
        "snowflake",
        json!({"warehouse": "W", "database": "D"}),
        Some("creds"),
    );
    let options = PlanOptions {
        connection_keys: ConnectionKeys::Field,
        ..options()
    };
    let compiled = compiled(&manifest, &options);
    assert_eq!(
        annotation(&compiled, "env.SNOWFLAKE_USER").unwrap(),
        "creds/user"
    );
}

#[test]
fn env_from_names_the_secret_alone() {
    let manifest = manifest("snowflake", json!({"database": "D"}), Some("creds"));
    let compiled = compiled(
        &manifest,
        &PlanOptions {
            env_from: true,
            ..options()
        },
    );
    assert_eq!(compiled.annotations.len(), 1);
    assert_eq!(annotation(&compiled, "env-from").unwrap(), "creds");
    let keys: Vec<_> = compiled
        .demands
        .iter()
        .map(|d| d.reference.to_string())
        .collect();
    assert!(
        keys.contains(&"creds/SNOWFLAKE_PASSWORD".to_owned()),
        "{keys:?}"
    );
}

#[test]
fn references_are_named_by_the_spec_and_converted_to_the_type_of_the_field() {
    let config = json!({
        "host": {"secretRef": "db/host"}, "port": {"secretRef": "db/port"}, "user": "u", "dbname": "d", "schema": "s",
        "password": {"secretRef": "db"}, "autocommit": {"secretRef": "infisical:flags/on"},
    });
    let compiled = compiled(&manifest("postgres", config, None), &options());
    let lines = output(&compiled);
    for line in [
        "host: \"{{ env_var('FLOE_SECRET_DB_HOST') }}\"",
        "port: \"{{ env_var('FLOE_SECRET_DB_PORT') | as_number }}\"",
        "password: \"{{ env_var('FLOE_SECRET_DB') }}\"",
        "autocommit: \"{{ env_var('FLOE_SECRET_FLAGS_ON') | lower == 'true' }}\"",
    ] {
        assert!(lines.contains(&line), "{line}\n{}", compiled.profile);
    }
    assert_eq!(
        annotation(&compiled, "refs").unwrap(),
        "db/host, db/port, db, infisical:flags/on"
    );
}

#[test]
fn duckdb_settings_are_moved_as_floe_does() {
    let config = json!({"path": "/tmp/floe/customer_360.duckdb", "memory_limit": "2GB"});
    let compiled = compiled(&manifest("duckdb", config, None), &options());
    assert_eq!(
        output(&compiled),
        [
            "type: \"duckdb\"",
            "path: \"/tmp/floe/customer_360.duckdb\"",
            "threads: 4",
            "settings:",
            "  memory_limit: \"2GB\"",
        ]
    );
    assert!(compiled.annotations.is_empty());
}

#[test]
fn masked_secrets_have_the_prefix_of_dbt_and_names_do_not() {
    let config = json!({
        "host": {"secretRef": "db/host"}, "port": {"secretRef": "db/port"}, "user": {"secretRef": "db/user"},
        "dbname": "d", "schema": {"secretRef": "db/schema"}, "password": {"secretRef": "db/password"},
    });
    let compiled = compiled(
        &manifest("postgres", config, None),
        &PlanOptions {
            mask: true,
            ..options()
        },
    );
    assert_eq!(
        annotation(&compiled, "env.DBT_ENV_SECRET_DB_PASSWORD").unwrap(),
        "db/password"
    );
    assert_eq!(
        annotation(&compiled, "refs").unwrap(),
        "db/host, db/port, db/user, db/schema"
    );
    assert!(
        output(&compiled).contains(&"password: \"{{ env_var('DBT_ENV_SECRET_DB_PASSWORD') }}\"")
    );
}

#[test]
fn masked_connection_keeps_the_keys_of_the_secret() {
    let manifest = manifest("snowflake", json!({"database": "D"}), Some("creds"));
    let compiled = compiled(
        &manifest,
        &PlanOptions {
            mask: true,
            ..options()
        },
    );
    assert_eq!(
        annotation(&compiled, "env.DBT_ENV_SECRET_SNOWFLAKE_PASSWORD").unwrap(),
        "creds/SNOWFLAKE_PASSWORD"
    );
    assert!(annotation(&compiled, "env.SNOWFLAKE_USER").is_some());
}

#[test]
fn long_masked_names_are_shortened_and_reported() {
    let reference = format!("{}/key", "long-name-".repeat(6).trim_end_matches('-'));
    let config = json!({"secrets": [{"type": "s3", "secret": {"secretRef": reference}}]});
    let compiled = compiled(
        &manifest("duckdb", config, None),
        &PlanOptions {
            mask: true,
            ..options()
        },
    );
    let variable = compiled.demands[0].variable.as_str();
    assert_eq!(variable.len(), 59);
    assert!(
        compiled
            .warnings
            .iter()
            .any(|w| w.message.contains(variable)),
        "{:?}",
        compiled.warnings
    );
}

#[rstest::rstest]
#[case("duckdb", json!({"settings": {"s3_secret_access_key": {"secretRef": "s3/key"}}}), false, true)]
#[case("duckdb", json!({"settings": {"s3_secret_access_key": {"secretRef": "s3/key"}}}), true, false)]
#[case("duckdb", json!({"attach": [{"path": {"secretRef": "pg/url"}}]}), true, false)]
#[case("duckdb", json!({"settings": {"s3_region": {"secretRef": "s3/region"}}}), true, true)]
#[case("duckdb", json!({"secrets": [{"secret": {"secretRef": "s3/key"}}]}), false, false)]
fn secrets_that_dbt_prints_are_warned_of(
    #[case] kind: &str,
    #[case] config: serde_json::Value,
    #[case] mask: bool,
    #[case] is_warned: bool,
) {
    let compiled = compiled(
        &manifest(kind, config, None),
        &PlanOptions { mask, ..options() },
    );
    let is_printed = |warning: &FileFinding| warning.rule == Rule::SecretPrinted;
    assert_eq!(
        compiled.warnings.iter().any(is_printed),
        is_warned,
        "{:?}",
        compiled.warnings
    );
}

#[test]
fn key_file_of_bigquery_is_written_field_by_field() {
    let config = json!({
        "method": "service-account-json", "project": "p", "dataset": "d",
        "keyfile_json": {"client_email": "robot@example.com"},
    });
    let compiled = compiled(&manifest("bigquery", config, Some("key")), &options());
    let lines = output(&compiled).join("\n");
    let expected = "keyfile_json:\n  client_email: \"robot@example.com\"\n  private_key: \"{{ env_var('BIGQUERY_KEYFILE_JSON_PRIVATE_KEY') }}\"\n  private_key_id: \"{{ env_var('BIGQUERY_KEYFILE_JSON_PRIVATE_KEY_ID') }}\"\n  type: \"service_account\"";
    assert!(lines.contains(expected), "{lines}");
}

#[test]
fn whole_key_file_is_native_and_never_masked() {
    let config = json!({
        "method": "service-account-json", "project": "p", "dataset": "d", "keyfile_json": {"secretRef": "key/file"},
    });
    let compiled = compiled(
        &manifest("bigquery", config, None),
        &PlanOptions {
            mask: true,
            ..options()
        },
    );
    assert!(
        output(&compiled)
            .contains(&"keyfile_json: \"{{ env_var('FLOE_SECRET_KEY_FILE') | as_native }}\"")
    );
    assert!(
        compiled
            .warnings
            .iter()
            .any(|w| w.message.contains("as_native"))
    );
}

#[test]
fn variables_of_the_author_stay_and_come_from_elsewhere() {
    let config = json!({
        "path": template("md:{{HOME}}/x"), "threads": template("{{THREADS=8}}"), "motherduck_token": {"secretRef": "env:md/token"},
    });
    let compiled = compiled(&manifest("duckdb", config, None), &options());
    let lines = output(&compiled);
    assert!(
        lines.contains(&"path: \"md:{{ env_var('HOME') }}/x\""),
        "{lines:?}"
    );
    assert!(
        lines.contains(&"threads: \"{{ env_var('THREADS', '8') | as_number }}\""),
        "{lines:?}"
    );
    let names: Vec<_> = compiled
        .elsewhere
        .iter()
        .map(|e| (e.variable.as_str(), e.default))
        .collect();
    assert_eq!(
        names,
        [
            ("HOME", false),
            ("THREADS", true),
            ("FLOE_SECRET_MD_TOKEN", false)
        ]
    );
    assert!(compiled.annotations.is_empty());
}

#[test]
fn references_of_other_plugins_are_sets_of_their_own() {
    let mut manifest = manifest("duckdb", json!({}), None);
    let config = json!({"oauth2": {"client_secret": {"secretRef": "polaris/secret"}}, "list": [{"secretRef": "polaris/id"}, {"secretRef": "env:other"}]});
    let catalog = fixture::plugin("catalog", "polaris", config, Some("polaris-root"));
    manifest.plugins.insert("catalog".to_owned(), catalog);
    let compiled = compiled(&manifest, &options());
    let output = &compiled.plugins["catalog"];
    let set = &output.annotations;
    assert_eq!(set["secrets.floe.dev/refs"], "polaris/secret, polaris/id");
    assert_eq!(set["secrets.floe.dev/env-from"], "polaris-root");
    assert!(compiled.annotations.is_empty() && !compiled.profile.contains("polaris"));
    let demands: Vec<String> = compiled
        .all_demands()
        .iter()
        .map(|demand| demand.reference.secret.to_string())
        .collect();
    assert_eq!(demands, ["polaris", "polaris", "polaris-root"]);
    assert_eq!(output.elsewhere[0].variable.as_str(), "FLOE_SECRET_OTHER");
}

#[test]
fn infisical_secrets_have_their_path() {
    let mut manifest = manifest("snowflake", json!({"database": "D"}), Some("creds"));
    manifest.default_source = SecretSource::Infisical;
    manifest.infisical = Some(injection::InfisicalPath {
        environment: "prod".into(),
        path: "/snowflake".into(),
    });
    let compiled = compiled(&manifest, &options());
    assert_eq!(
        annotation(&compiled, "infisical.creds").unwrap(),
        "prod:/snowflake"
    );
    assert_eq!(
        annotation(&compiled, "env.SNOWFLAKE_USER").unwrap(),
        "infisical:creds/SNOWFLAKE_USER"
    );
}

#[rstest::rstest]
#[case::literal("postgres", json!({"password": "canary-7f3a"}), Rule::LiteralSecret, "written out")]
#[case::literal_number("postgres", json!({"password": 5_555_501}), Rule::LiteralSecret, "written out")]
#[case::literal_alias("postgres", json!({"pass": "canary-7f3a"}), Rule::LiteralSecret, "written out")]
#[case::literal_below("postgres", json!({"password": {"a": ["canary-7f3a"]}}), Rule::LiteralSecret, "written out")]
#[case::literal_default("postgres", json!({"password": template("{{X=canary-7f3a}}")}), Rule::LiteralSecret, "default")]
#[case::literal_beside("postgres", json!({"password": template("canary-7f3a{{SUFFIX}}")}), Rule::LiteralSecret, "beside env_var")]
#[case::literal_behind("postgres", json!({"password": [template("{{PREFIX}} canary-7f3a")]}), Rule::LiteralSecret, "beside env_var")]
#[case::number_in_text("postgres", json!({"dbname": 5_555_501}), Rule::AdapterField, "in quotes")]
#[case::boolean_in_text("postgres", json!({"schema": true}), Rule::AdapterField, "in quotes")]
#[case::number_in_plain_text("redshift", json!({"serverless_acct_id": 5_555_501}), Rule::AdapterField, "in quotes")]
#[case::number_by_another_name("postgres", json!({"database": 5_555_501.5}), Rule::AdapterField, "in quotes")]
#[case::field_twice("postgres", json!({"pass": {"secretRef": "a/b"}, "password": {"secretRef": "a/b"}}), Rule::AdapterField, "get it twice")]
#[case::missing("postgres", json!({}), Rule::AdapterField, "without this field")]
#[case::quoted_number("postgres", json!({"port": "5432"}), Rule::AdapterField, "Remove the quotes")]
#[case::quoted_boolean("postgres", json!({"autocommit": "yes"}), Rule::AdapterField, "Remove the quotes")]
#[case::number_with_text("postgres", json!({"port": template("1{{X}}")}), Rule::AdapterField, "nothing around it")]
#[case::hidden_number("postgres", json!({"port": template("{{DBT_ENV_SECRET_X}}")}), Rule::AdapterField, "cannot convert")]
#[case::two_hidden("postgres", json!({"host": template("{{DBT_ENV_SECRET_X}}{{DBT_ENV_SECRET_Y}}")}), Rule::AdapterField, "KeyError")]
#[case::key_file_as_text("bigquery", json!({"method": "service-account-json", "keyfile_json": "canary-7f3a"}), Rule::LiteralSecret, "only as a map")]
#[case::key_file_as_default("bigquery", json!({"method": "service-account-json", "keyfile_json": template("{{K=canary-7f3a}}")}), Rule::LiteralSecret, "only as a map")]
#[case::key_file_in_a_list("bigquery", json!({"method": "service-account-json", "keyfile_json": ["canary-7f3a"]}), Rule::LiteralSecret, "only as a map")]
#[case::key_file_in_parts("bigquery", json!({"method": "service-account-json", "keyfile_json": template("canary-7f3a{{K}}")}), Rule::LiteralSecret, "only as a map")]
#[case::no_method("bigquery", json!({}), Rule::AdapterField, "selects which fields")]
#[case::jinja("duckdb", json!({"path": "{% canary-7f3a %}"}), Rule::Template, "would run the Jinja")]
#[case::type_twice("duckdb", json!({"type": "x"}), Rule::AdapterField, "own type")]
#[case::all_keys("duckdb", json!({"path": {"secretRef": "db/*"}}), Rule::Reference, "one key")]
#[case::vault("duckdb", json!({"path": {"secretRef": "vault:db/a"}}), Rule::Reference, "vault")]
#[case::conflict("duckdb", json!({"path": {"secretRef": "secret-a/b"}, "schema": {"secretRef": "secret-a-b"}}), Rule::VariableConflict, "FLOE_SECRET_SECRET_A_B")]
#[case::conflict_of_sources("duckdb", json!({"path": {"secretRef": "a/b"}, "schema": {"secretRef": "infisical:a/b"}}), Rule::VariableConflict, "FLOE_SECRET_A_B")]
#[case::conflict_with_the_author("duckdb", json!({"path": {"secretRef": "a/b"}, "schema": template("{{FLOE_SECRET_A_B}}")}), Rule::VariableConflict, "elsewhere")]
#[case::two_types("duckdb", json!({"threads": {"secretRef": "a/b"}, "keep_open": {"secretRef": "a/b"}}), Rule::VariableConflict, "two types")]
#[case::settings_twice("duckdb", json!({"memory_limit": "1GB", "settings": {"memory_limit": "2GB"}}), Rule::AdapterField, "settings has it too")]
fn wrong_configs_are_refused_without_their_values(
    #[case] kind: &str,
    #[case] config: serde_json::Value,
    #[case] rule: Rule,
    #[case] words: &str,
) {
    let findings = refused(&manifest(kind, config, None), &options());
    let found = findings
        .iter()
        .any(|f| f.rule == rule && f.message.contains(words));
    assert!(found, "{findings:#?}");
    let text = format!("{findings:?}");
    assert!(
        !text.contains("canary") && !text.contains("5555501"),
        "{text}"
    );
}

#[test]
fn null_leaves_an_optional_secret_out() {
    let config =
        json!({"authenticator": "snowflake_jwt", "database": "D", "private_key_passphrase": null});
    let compiled = compiled(&manifest("snowflake", config, Some("creds")), &options());
    assert!(annotation(&compiled, "env.SNOWFLAKE_PRIVATE_KEY").is_some());
    assert!(annotation(&compiled, "env.SNOWFLAKE_PRIVATE_KEY_PASSPHRASE").is_none());
    assert!(!compiled.profile.contains("passphrase"));
}

#[test]
fn path_of_a_key_file_stands_in_for_the_key() {
    let config = json!({"private_key_path": "/keys/rsa.p8", "database": "D"});
    let compiled = compiled(&manifest("snowflake", config, Some("creds")), &options());
    assert!(annotation(&compiled, "env.SNOWFLAKE_PRIVATE_KEY").is_none());
    assert!(annotation(&compiled, "env.SNOWFLAKE_PRIVATE_KEY_PASSPHRASE").is_some());
    assert!(annotation(&compiled, "env.SNOWFLAKE_PASSWORD").is_none());
}

#[test]
fn unknown_types_pass_through() {
    let config = json!({"host": "h", "api_token": {"secretRef": "other/token"}, "nested": {"a": [1, true, null, 1.5]}});
    let compiled = compiled(
        &manifest("starrocks", config, None),
        &PlanOptions {
            mask: true,
            ..options()
        },
    );
    assert!(annotation(&compiled, "env.DBT_ENV_SECRET_OTHER_TOKEN").is_some());
    let findings = refused(
        &manifest("starrocks", json!({"api_token": "x"}), None),
        &options(),
    );
    assert_eq!(findings[0].rule, Rule::LiteralSecret);
    let findings = refused(&manifest("starrocks", json!({}), Some("creds")), &options());
    assert!(
        findings[0].message.contains("not known here"),
        "{findings:?}"
    );
}

#[test]
fn every_type_of_the_table_compiles_from_a_connection_alone() {
    for adapter in ADAPTERS {
        let method = match adapter.kind {
            "bigquery" => json!({"method": "service-account-json"}),
            "trino" => json!({"method": "ldap"}),
            "spark" => json!({"method": "http"}),
            "fabric" => json!({"authentication": "ServicePrincipal"}),
            _ => json!({}),
        };
        for mask in [false, true] {
            let options = PlanOptions { mask, ..options() };
            let compiled = compiled(
                &manifest(adapter.kind, method.clone(), Some("creds")),
                &options,
            );
            assert_eq!(
                compiled.demands.is_empty(),
                adapter.kind == "duckdb",
                "{}",
                adapter.kind
            );
            let masked = compiled
                .demands
                .iter()
                .filter(|d| d.variable.as_str().starts_with("DBT_"))
                .count();
            assert_eq!(
                masked > 0,
                mask && adapter.kind != "duckdb",
                "{}",
                adapter.kind
            );
        }
    }
}

#[test]
fn targets_have_the_same_output() {
    let options = PlanOptions {
        targets: vec!["dev".into(), "prod".into()],
        default_target: "prod".into(),
        ..options()
    };
    let compiled = compiled(&manifest("duckdb", json!({"path": "x"}), None), &options);
    assert_eq!(compiled.profile.matches("path: \"x\"").count(), 2);
    assert!(compiled.profile.contains("target: \"prod\"\n"));
}

#[rstest::rstest]
#[case(&[], "dev")]
#[case(&["dev", "dev"], "dev")]
#[case(&["dev"], "prod")]
#[case(&["{{ x }}"], "{{ x }}")]
fn wrong_targets_are_refused(#[case] targets: &[&str], #[case] default_target: &str) {
    let targets = targets.iter().map(|target| (*target).to_owned()).collect();
    let options = PlanOptions {
        targets,
        default_target: default_target.into(),
        ..options()
    };
    assert!(!refused(&manifest("duckdb", json!({}), None), &options).is_empty());
}

#[test]
fn texts_that_jinja_would_read_in_another_way_are_refused() {
    let variable = TemplatePart::EnvVar {
        name: "X".parse().unwrap(),
        default: None,
    };
    let mut manifest = manifest("duckdb", json!({"path": "x"}), None);
    let mut refusals = |text: String| {
        let field = &mut manifest.plugins.get_mut("compute").unwrap().config[0];
        field.value = ConfigValue::Template(vec![TemplatePart::Text(text), variable.clone()]);
        match plan(&manifest, &options()) {
            Err(PlanFailure::Refused(findings)) => findings[0].message.clone(),
            other => format!("{}", other.is_ok()),
        }
    };
    assert!(refusals("a{".to_owned()).contains("brace"));
    assert_eq!(refusals("a{ ".to_owned()), "true");
    let expression = "{{ env_var('X') }}".len();
    assert_eq!(refusals("a".repeat(MAX_TEMPLATE - expression)), "true");
    assert!(refusals("a".repeat(MAX_TEMPLATE - expression + 1)).contains("at most 4096 bytes"));
}

#[test]
fn blanks_beside_an_expression_are_not_a_literal() {
    let config = json!({
        "host": "h", "port": 5432, "user": "u", "dbname": "d", "schema": "s", "password": template(" {{PW}} "),
    });
    let compiled = compiled(&manifest("postgres", config, None), &options());
    assert!(output(&compiled).contains(&"password: \" {{ env_var('PW') }} \""));
}

#[test]
fn env_from_needs_the_secret_of_a_connection() {
    let options = PlanOptions {
        env_from: true,
        ..options()
    };
    let findings = refused(&manifest("duckdb", json!({}), None), &options);
    assert!(
        findings[0].message.contains("connection_secret_ref"),
        "{findings:?}"
    );
}

#[test]
fn paths_of_fields_are_limited() {
    let below = |length: usize| {
        // Forty levels, each with a dot.
        let reference = json!({"secretRef": "db/x"});
        let name = "a".repeat(99);
        let last = "b".repeat(length - 40 * 100);
        let config = (0..40).fold(
            json!({ last: reference }),
            |below, _| json!({ &name: below }),
        );
        let mut manifest = manifest("duckdb", config.clone(), None);
        let other = fixture::plugin("catalog", "polaris", config, None);
        manifest.plugins.insert("catalog".to_owned(), other);
        plan(&manifest, &options())
    };
    let longest = below(MAX_PATH);
    assert!(longest.is_ok(), "{:?}", longest.err());
    let Err(PlanFailure::Refused(findings)) = below(MAX_PATH + 1) else {
        panic!("accepted")
    };
    let is_about_length = |finding: &&FileFinding| finding.message.contains("more than 4096 bytes");
    assert_eq!(findings.iter().filter(is_about_length).count(), 2);
}

#[test]
fn names_of_fields_are_limited() {
    let config =
        |length: usize| json!({"settings": {"\u{1}".repeat(length): 1}, "\u{2}".repeat(length): 1});
    assert!(plan(&manifest("duckdb", config(MAX_NAME), None), &options()).is_ok());
    let findings = refused(&manifest("duckdb", config(MAX_NAME + 1), None), &options());
    let is_about_length = |finding: &&FileFinding| finding.message.contains("more than 160 bytes");
    assert_eq!(findings.iter().filter(is_about_length).count(), 2);
}

#[test]
fn size_of_the_profile_is_limited() {
    let options = PlanOptions {
        targets: vec!["dev".into(), "prod".into()],
        ..options()
    };
    let text = |length: usize| manifest("duckdb", json!({"path": "x".repeat(length)}), None);
    let empty = compiled(&text(0), &options).profile.len();
    let most = (MAX_PROFILE_BYTES - empty) / 2;
    assert!(compiled(&text(most), &options).profile.len() >= MAX_PROFILE_BYTES - 1);
    let findings = refused(&text(most + 1), &options);
    assert!(
        findings[0].message.contains("more than 1048576 bytes"),
        "{findings:?}"
    );
    // Writing ends at the limit.
    let items = vec![json!(1); 50_000];
    let nested = (0..40).fold(json!(items), |below, _| json!([below]));
    let findings = refused(&manifest("duckdb", json!({ "a": nested }), None), &options);
    assert_eq!(findings.len(), 1);
}

#[test]
fn many_references_are_refused_before_anything_is_made_of_them() {
    let items: Vec<_> = (0..10_000)
        .map(|at| json!({"secretRef": format!("s/k{at}")}))
        .collect();
    let mut manifest = manifest("duckdb", json!({"extensions": items}), None);
    let other = fixture::plugin("catalog", "polaris", json!({"a": items}), None);
    manifest.plugins.insert("catalog".to_owned(), other);
    let messages: Vec<String> = refused(&manifest, &options())
        .into_iter()
        .map(|finding| finding.message)
        .collect();
    let expected = "the config needs 10000 references; a pod may have at most 256. Use fewer references, or shorter names.";
    assert_eq!(messages, [expected, expected]);
}

#[test]
fn one_reference_may_stand_in_many_fields() {
    let reference = json!({"secretRef": "s/k"});
    let variables = (0..2_000).map(|at| template(&format!("{{{{V{at}}}}}")));
    let items: Vec<_> = variables.chain(vec![reference; 2_000]).collect();
    let compiled = compiled(
        &manifest("duckdb", json!({"extensions": items}), None),
        &options(),
    );
    assert_eq!(annotation(&compiled, "refs").unwrap(), "s/k");
    assert_eq!(
        (compiled.demands.len(), compiled.elsewhere.len()),
        (2_000, 2_000)
    );
}

#[test]
fn limits_of_annotations_are_findings() {
    let references = |count: usize, name: &dyn Fn(usize) -> String| {
        let items: Vec<_> = (0..count)
            .map(|at| json!({"secretRef": name(at)}))
            .collect();
        manifest("duckdb", json!({"extensions": items}), None)
    };
    let keys = |at: usize| format!("s/k{at}");
    assert!(plan(&references(256, &keys), &options()).is_ok());
    assert!(
        refused(&references(257, &keys), &options())[0]
            .message
            .contains("at most 256")
    );
    let secrets = |at: usize| format!("s{at}/k");
    assert!(plan(&references(64, &secrets), &options()).is_ok());
    assert!(
        refused(&references(65, &secrets), &options())[0]
            .message
            .contains("at most 64")
    );
}

#[test]
fn docs_contain_the_bounds() {
    let page = include_str!("../../../docs/DBT.md");
    let kib = MAX_TEMPLATE / 1024;
    for bound in [
        format!("At most {} targets", checks::MAX_TARGETS),
        format!(
            "{} references and {} secrets",
            injection::MAX_ITEMS,
            injection::MAX_SECRETS
        ),
        format!(
            "{} characters for a variable",
            crate::compile::mask::MAX_ALIAS
        ),
        format!("more than {kib} KiB"),
    ] {
        assert!(page.contains(&bound), "{bound}");
    }
}

#[test]
fn docs_list_every_type_and_its_secrets() {
    let page = include_str!("../../../docs/ADAPTERS.md");
    for adapter in ADAPTERS {
        let row = page.lines().find(|line| {
            let kinds = line
                .trim_start_matches("| ")
                .split(" |")
                .next()
                .unwrap_or_default();
            kinds.split(", ").any(|kind| kind == adapter.kind)
        });
        let row = row.unwrap_or_else(|| panic!("{} has no row", adapter.kind));
        for field in adapter
            .required
            .iter()
            .chain(adapter.secret)
            .chain(adapter.printed)
        {
            assert!(row.contains(field), "{}: {field}", adapter.kind);
        }
    }
}

#[test]
fn too_many_targets_are_refused() {
    let named = |count: usize| PlanOptions {
        targets: (0..count).map(|at| format!("t{at}")).collect(),
        default_target: "t0".into(),
        ..options()
    };
    let manifest = manifest("duckdb", json!({}), None);
    assert!(plan(&manifest, &named(checks::MAX_TARGETS)).is_ok());
    assert!(!refused(&manifest, &named(checks::MAX_TARGETS + 1)).is_empty());
}

#[test]
fn reference_syntax_of_the_core_writes_the_profile() {
    let reference: SecretReference = "db/password".parse().unwrap();
    let config = json!({"schema": {"secretRef": "db/password"}});
    let compiled = compiled(&manifest("duckdb", config, None), &options());
    assert!(
        compiled
            .profile
            .contains(&reference.to_env_var_syntax().unwrap())
    );
    assert!(
        matches!(fixture::value(&json!({"secretRef": "db/password"}), ""), ConfigValue::Reference(r) if r == reference)
    );
}
