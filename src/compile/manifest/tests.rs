//! Manifests in, models and findings out.

use std::sync::Arc;

use injection::{KeyChoice, SecretSource};

use super::*;
use crate::compile::model::{ConfigField, ConfigValue};
use crate::finding::{FileFinding, FindingSeverity};

const HEAD: &str = "apiVersion: floe.dev/v1\nkind: Manifest\nmetadata: {name: acme}\n";

fn file(name: &str, text: &str) -> SourceFile {
    SourceFile::new(Arc::from(name), text.to_owned())
}

fn read_all(
    manifest: &str,
    parent: Option<&str>,
    product: Option<&str>,
) -> (Option<Manifest>, Vec<FileFinding>) {
    let files = ManifestFiles {
        manifest: file("m.yaml", manifest),
        parent: parent.map(|parent| file("p.yaml", parent)),
    };
    let mut diagnostics = Diagnostics::default();
    let manifest = read(&files, product, &mut diagnostics);
    let findings = diagnostics.sorted().into_iter().cloned().collect();
    (manifest, findings)
}

/// Reads a manifest without problems, below the usual head.
fn accepts(body: &str) -> Manifest {
    let (manifest, findings) = read_all(&format!("{HEAD}{body}"), None, Some("customer-360"));
    assert_eq!(findings, [], "{body}");
    manifest.unwrap()
}

/// Messages about a manifest that is refused, below the usual head.
fn rejects(body: &str) -> Vec<String> {
    let (_, findings) = read_all(&format!("{HEAD}{body}"), None, None);
    let errors = findings
        .iter()
        .filter(|found| found.severity == FindingSeverity::Error);
    let messages: Vec<String> = errors.map(ToString::to_string).collect();
    assert_ne!(messages, [""; 0], "{body}");
    messages
}

fn field<'f>(fields: &'f [ConfigField], name: &str) -> &'f ConfigField {
    fields.iter().find(|field| field.name == name).unwrap()
}

fn compute(config: &str) -> String {
    format!("plugins:\n  compute:\n    type: postgres\n    config: {config}\n")
}

#[test]
fn values_keep_their_types_and_places() {
    let manifest = accepts(&compute("{a: '007', b: 7, c: [x, {d: yes}], e: ~, f: 1.5}"));
    let config = &manifest.plugins["compute"].config;
    assert!(field(config, "a").value == ConfigValue::Text("007".to_owned()));
    assert!(field(config, "b").value == ConfigValue::Integer(7));
    assert!(field(config, "e").value == ConfigValue::Null);
    assert!(field(config, "f").value == ConfigValue::Float(1.5));
    let ConfigValue::List(items) = &field(config, "c").value else {
        panic!("a list")
    };
    let ConfigValue::Map(inner) = &items[1].value else {
        panic!("a map")
    };
    let d = field(inner, "d");
    assert!(d.value == ConfigValue::Bool(true));
    assert_eq!(
        d.place.to_string(),
        "m.yaml:7:41: plugins.compute.config.c[1].d"
    );
}

#[test]
fn references_are_read_at_any_depth() {
    let manifest = accepts(&compute(
        "{a: [[{b: {secretRef: {name: db, key: k.e-y}}}]], c: {secretRef: {name: x, source: external-secrets}}}",
    ));
    let config = &manifest.plugins["compute"].config;
    let ConfigValue::Reference(c) = &field(config, "c").value else {
        panic!("a reference")
    };
    assert_eq!(
        (c.to_string().as_str(), &c.key),
        ("external-secrets:x", &KeyChoice::Default)
    );
    let text = format!("{:?}", field(config, "a").value);
    assert!(text.contains("k.e-y"), "{text}");
}

#[rstest::rstest]
#[case("k8s", SecretSource::Kubernetes)]
#[case("k8s-secrets", SecretSource::Kubernetes)]
#[case("eso", SecretSource::ExternalSecrets)]
#[case("infisical", SecretSource::Infisical)]
fn secrets_plugin_selects_the_default_source(#[case] kind: &str, #[case] source: SecretSource) {
    let body =
        compute("{a: {secretRef: {name: db}}, b: {secretRef: {name: db, source: kubernetes}}}")
            + &format!("  secrets: {{type: {kind}}}\n");
    let manifest = accepts(&body);
    assert_eq!(manifest.default_source, source);
    let config = &manifest.plugins["compute"].config;
    let source_of = |name| match &field(config, name).value {
        ConfigValue::Reference(reference) => reference.secret.source,
        _ => panic!("a reference"),
    };
    assert_eq!(
        (source_of("a"), source_of("b")),
        (source, SecretSource::Kubernetes)
    );
}

#[test]
fn infisical_path_is_read() {
    let body = compute("{}")
        + "  secrets: {type: infisical, config: {environment: prod, secret_path: /a b}}\n";
    let path = accepts(&body).infisical.unwrap();
    assert_eq!(
        (path.environment.as_str(), path.path.as_str()),
        ("prod", "/a b")
    );
    let body = compute("{}") + "  secrets: {type: infisical, config: {environment: prod}}\n";
    assert_eq!(accepts(&body).infisical.unwrap().path, "/");
    for folder in ["/a/../b", "/./a", "a", "/a\\tb", "/a "] {
        let body = compute("{}")
            + &format!(
                "  secrets: {{type: infisical, config: {{environment: prod, secret_path: \"{folder}\"}}}}\n"
            );
        assert!(
            rejects(&body)[0].contains("secret_path: is not the path"),
            "{folder}"
        );
    }
}

#[test]
fn placeholders_are_expanded_around_expressions() {
    let manifest = accepts(&compute(
        "{a: '/tmp/{product_slug}-{product_name}', b: \"{product_name}{{ env_var('X') }}\"}",
    ));
    assert_eq!(manifest.product, "customer-360");
    let config = &manifest.plugins["compute"].config;
    assert!(
        field(config, "a").value == ConfigValue::Text("/tmp/customer_360-customer-360".to_owned())
    );
    let ConfigValue::Template(parts) = &field(config, "b").value else {
        panic!("a template")
    };
    assert!(parts[0] == crate::compile::model::TemplatePart::Text("customer-360".to_owned()));
}

#[test]
fn jinja_of_other_plugins_is_left_alone() {
    let body = compute("{}") + "  orchestrator: {type: airflow, config: {date: '{{ ds }}'}}\n";
    let manifest = accepts(&body);
    let config = &manifest.plugins["orchestrator"].config;
    assert!(field(config, "date").value == ConfigValue::Text("{{ ds }}".to_owned()));
}

#[test]
fn text_reference_is_a_warning_that_shows_the_other_form() {
    let body = compute("{password_secret_ref: db-credentials}");
    let (_, findings) = read_all(&format!("{HEAD}{body}"), None, None);
    let messages: Vec<String> = findings.iter().map(ToString::to_string).collect();
    assert_eq!(
        messages,
        [
            "m.yaml:7:35: plugins.compute.config.password_secret_ref: is text, and not read as a reference; write password: {secretRef: {name: …, key: …}} in its place"
        ]
    );
    assert_eq!(findings[0].severity, FindingSeverity::Warning);
}

#[test]
fn unknown_field_is_a_warning_at_the_root_and_an_error_below_plugins() {
    let (manifest, findings) = read_all(
        &format!("{HEAD}{}extensions: 1\n", compute("{}")),
        None,
        None,
    );
    assert!(manifest.is_some());
    assert_eq!(
        (findings.len(), findings[0].severity, findings[0].rule),
        (1, FindingSeverity::Warning, Rule::ManifestUnknownField)
    );
    let messages = rejects("plugins: {compute: {type: duckdb, thread: 4}}");
    assert!(
        messages[0].starts_with("m.yaml:4:35: plugins.compute: the field thread is not known"),
        "{messages:?}"
    );
}

#[test]
fn problems_are_reported_together_and_in_order() {
    let messages = rejects(
        "prod: {}\nplugins:\n  compute:\n    type: 4\n    config:\n      a: '{{ x }}'\n      b: {secretRef: {source: vault, name: A}}\n  other: {}\n",
    );
    let places: Vec<&str> = messages
        .iter()
        .map(|message| message.splitn(4, ':').nth(3).unwrap().trim())
        .map(|rest| rest.split(": ").next().unwrap())
        .collect();
    assert_eq!(
        places,
        [
            "prod",
            "plugins.compute.type",
            "plugins.compute.config.a",
            "plugins.compute.config.b.secretRef.source",
            "plugins.compute.config.b.secretRef.name",
            "plugins.other",
        ]
    );
}

#[test]
fn excerpt_has_the_line_without_its_values() {
    let body =
        "plugins:\n  compute:\n    type: hunter 2\n    config:\n      password: '{{ hunter2 }}'\n";
    let (_, findings) = read_all(&format!("{HEAD}{body}"), None, None);
    let excerpts: Vec<_> = findings
        .iter()
        .filter_map(|found| found.excerpt.as_deref())
        .collect();
    assert_eq!(excerpts, ["    type: …", "      password: …"]);
}

#[test]
fn selection_of_the_manifest_wins_over_that_of_its_parent() {
    let parent = format!(
        "{HEAD}scope: enterprise\nplugins:\n  compute: {{type: duckdb}}\n  catalog: {{type: polaris}}\n  storage: {{type: s3, config: {{bucket: a}}}}\n"
    );
    let own = format!(
        "{HEAD}scope: domain\nplugins:\n  compute: {{type: postgres}}\n  catalog: null\n  storage: {{type: gcs}}\n"
    );
    let (manifest, findings) = read_all(&own, Some(&parent), None);
    assert_eq!(findings, []);
    let plugins = manifest.unwrap().plugins;
    let kinds: Vec<_> = plugins
        .values()
        .map(|plugin| plugin.kind.as_str())
        .collect();
    assert_eq!(kinds, ["polaris", "postgres", "gcs"]);
    assert!(plugins["storage"].config.is_empty());
    assert_eq!(&*plugins["catalog"].place.file, "p.yaml");
}

#[test]
fn parent_belongs_to_a_domain_alone() {
    let enterprise = format!("{HEAD}scope: enterprise\n{}", compute("{}"));
    let domain = format!("{HEAD}scope: domain\n{}", compute("{}"));
    for (own, parent, problem) in [
        (&domain, None, "give it by --parent FILE"),
        (&enterprise, Some(&enterprise), "remove --parent"),
        (&domain, Some(&domain), "cannot be the parent of another"),
    ] {
        let (_, findings) = read_all(own, parent.map(String::as_str), None);
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert!(findings[0].message.contains(problem), "{findings:?}");
    }
}

#[test]
fn anchors_and_merge_keys_are_followed() {
    let manifest = accepts(
        "defaults: {threads: &n 4}\nobservability: &base {host: h, port: 1}\nplugins:\n  compute:\n    type: postgres\n    config: {<<: *base, threads: *n}\n",
    );
    let config = &manifest.plugins["compute"].config;
    assert!(field(config, "host").value == ConfigValue::Text("h".to_owned()));
    assert!(field(config, "threads").value == ConfigValue::Integer(4));
}

#[test]
fn custom_patterns_are_limited() {
    let body = |count: usize| {
        let one = "{name: acme, pattern: 'ZZZ[0-9]{20}'}";
        let list = vec![one; count].join(", ");
        format!(
            "{}governance: {{secret_scanning: {{custom_patterns: [{list}]}}}}\n",
            compute("{}")
        )
    };
    accepts(&body(root::MAX_CUSTOM_PATTERNS));
    assert!(rejects(&body(root::MAX_CUSTOM_PATTERNS + 1))[0].contains("more than 32 patterns"));
}

#[test]
fn literal_secrets_are_found_unless_their_line_is_marked() {
    let body = |mark: &str| {
        compute("{}")
            + &format!(
                "  catalog:\n    type: polaris\n    config:\n      client_secret: demo-secret{mark}\n"
            )
    };
    accepts(&body("  # pragma: allowlist secret"));
    accepts(&body("  # gitleaks:allow"));
    let messages = rejects(&body(""));
    assert!(
        messages[0]
            .starts_with("m.yaml:11:22: plugins.catalog.config.client_secret: looks like a secret"),
        "{messages:?}"
    );
    assert!(!messages[0].contains("demo-secret"), "{messages:?}");
}

#[test]
fn numbers_are_searched_too() {
    let body = |value: &str| {
        compute("{port: 5432}")
            + &format!(
                "  catalog: {{type: polaris, config: {{password: [{value}], size: 83746501928}}}}\n"
            )
    };
    for value in [
        "83746501928",
        "-83746501928",
        "18446744073709551615",
        "8374.5",
    ] {
        let messages = rejects(&body(value));
        assert_eq!(messages.len(), 1, "{messages:?}");
        assert!(
            messages[0].contains("catalog.config.password[0]: looks like a secret")
                && !messages[0].contains("8374"),
            "{messages:?}"
        );
    }
}

#[test]
fn secrets_in_the_names_of_references_are_found_and_end_the_run() {
    let token = "glpat-ab1cd2ef3gh4ij5kl6mn";
    for (config, field) in [
        (
            format!("{{a: {{secretRef: {{name: {token}}}}}}}"),
            "a.secretRef.name",
        ),
        (
            "{a: {secretRef: {name: db, key: AKIAZ7QK4NXW2MPLVTRB}}}".to_owned(),
            "a.secretRef.key",
        ),
        (format!("{{a_secret_ref: {token}}}"), "a_secret_ref"),
    ] {
        let body = format!("{HEAD}{}", compute(&config));
        let (manifest, findings) = read_all(&body, None, None);
        assert!(manifest.is_none());
        let literals = findings
            .iter()
            .filter(|found| found.rule == Rule::LiteralSecret);
        let places: Vec<&str> = literals.map(|found| &*found.place.field).collect();
        assert_eq!(places, [format!("plugins.compute.config.{field}")]);
        let text = format!("{findings:?}");
        assert!(!text.contains(token) && !text.contains("AKIA"), "{text}");
        let marked = body.trim_end().to_owned() + " # pragma: allowlist secret\n";
        assert!(read_all(&marked, None, None).0.is_some(), "{marked}");
    }
}

#[test]
fn text_references_are_no_fields_of_the_profile() {
    let config = "{a_secret_ref: db, b: {c_secret_ref: db}, d_secret_ref: {secretRef: {name: db}}}";
    let body = compute(config) + &format!("  catalog: {{type: polaris, config: {config}}}\n");
    let (manifest, _) = read_all(&format!("{HEAD}{body}"), None, None);
    let plugins = manifest.unwrap().plugins;
    let names = |category: &str| -> Vec<String> {
        let fields = &plugins[category].config;
        fields.iter().map(|field| field.name.clone()).collect()
    };
    assert_eq!(names("compute"), ["b", "d_secret_ref"]);
    assert_eq!(names("catalog"), ["a_secret_ref", "b", "d_secret_ref"]);
    assert!(field(&plugins["compute"].config, "b").value == ConfigValue::Map(Vec::new()));
}

#[test]
fn custom_patterns_of_the_parent_hold_for_the_manifest() {
    let patterns = |prefix: &str, severity: &str| {
        format!(
            "governance: {{secret_scanning: {{custom_patterns: [{{name: {prefix}, pattern: '{prefix}-[0-9]+', severity: {severity}}}]}}}}\n"
        )
    };
    let parent = format!(
        "{HEAD}scope: enterprise\n{}{}",
        compute("{application_name: OWN-77}"),
        patterns("ACME", "error")
    );
    let own = |severity: &str| {
        format!(
            "{HEAD}scope: domain\n{}{}",
            compute("{application_name: ACME-77, role: OWN-77}"),
            patterns("(OWN|ACME)", severity).replace("name: (OWN|ACME)", "name: OWN")
        )
    };
    let (_, findings) = read_all(&own("warning"), Some(&parent), None);
    let found: Vec<_> = findings
        .iter()
        .map(|found| (&*found.place.file, found.severity, &*found.place.field))
        .collect();
    assert_eq!(
        found,
        [
            (
                "m.yaml",
                FindingSeverity::Error,
                "plugins.compute.config.application_name"
            ),
            (
                "m.yaml",
                FindingSeverity::Warning,
                "plugins.compute.config.role"
            ),
        ]
    );
}

#[test]
fn custom_patterns_find_with_their_severity() {
    let body = |severity: &str| {
        format!(
            "{HEAD}{}governance: {{secret_scanning: {{custom_patterns: [{{name: acme, pattern: 'ACME-[0-9]+', severity: {severity}}}]}}}}\n",
            compute("{application_name: ACME-77}")
        )
    };
    for (severity, expected) in [
        ("error", FindingSeverity::Error),
        ("warning", FindingSeverity::Warning),
    ] {
        let (_, findings) = read_all(&body(severity), None, None);
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert_eq!(
            (findings[0].severity, findings[0].rule),
            (expected, Rule::LiteralSecret)
        );
        assert!(findings[0].message.contains("rule acme"), "{findings:?}");
    }
    let (_, findings) = read_all(&body("error").replace("[0-9]+", "["), None, None);
    assert!(
        findings[0]
            .to_string()
            .contains("governance.secret_scanning.custom_patterns[0]: the pattern is not"),
        "{findings:?}"
    );
}

#[test]
fn fixtures_are_accepted_and_refused_as_their_folders_say() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/testdata/compile");
    for (name, is_valid) in [("valid", true), ("invalid", false), ("refused", false)] {
        let mut count = 0;
        for entry in std::fs::read_dir(format!("{folder}/{name}")).unwrap() {
            let path = entry.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            let product = is_valid.then_some("customer-360");
            let (_, findings) = read_all(&text, None, product);
            let errors: Vec<String> = findings
                .iter()
                .filter(|found| found.severity == FindingSeverity::Error)
                .map(ToString::to_string)
                .collect();
            assert_eq!(
                errors.is_empty(),
                is_valid,
                "{}: {errors:?}",
                path.display()
            );
            count += 1;
        }
        assert!(count > 5, "{name}");
    }
}
