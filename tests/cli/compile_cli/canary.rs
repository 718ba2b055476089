//! SC-004: values of a manifest are in no output, message, excerpt, diff or file.

use std::fs;

use super::*;

/// A text that no rule knows for a secret, so that only the masking keeps it out of messages.
const CANARY: &str = "CaNaRy0x7";

/// Literal secrets in the forms that the detector knows, made up.
const SECRETS: [&str; 4] = [
    "AKIAZ7QK4NXW2MPLVTRB",
    "ghp_1a2B3c4D5e6F7g8H9i0JkLmNoPqRsTuVwXyZ",
    "postgres://dbt:CaNaRy0x7@db.example/x",
    "-----BEGIN PRIVATE KEY-----CaNaRy0x7",
];

/// Runs with a manifest by file and by standard input, printing, writing and checking; everything that comes out.
fn everything(manifest: &[u8], more: &[(&str, &[u8])]) -> String {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("m.yaml"), manifest).unwrap();
    for (name, text) in more {
        fs::write(folder.path().join(name), text).unwrap();
    }
    let mut seen = String::new();
    for args in [
        &["m.yaml"][..],
        &["-"],
        &["m.yaml", "-o", "annotations"],
        &["m.yaml", "-o", "kustomize", "--env-from"],
        &["m.yaml", "--mask", "-o", "profile"],
        &["m.yaml", "--plugin", "catalog"],
        &["m.yaml", "--out", "out"],
        &["m.yaml", "--out", "out", "--check", "--mask"],
        &["m.yaml", "--parent", "m.yaml"],
        &["m.yaml", "--spec", "m.yaml"],
        &["m.yaml", "--secrets", "m.yaml"],
    ] {
        let mut run = compile_in(folder.path(), manifest, args);
        assert!((0..=2).contains(&run.code), "{args:?}: {}", run.stderr);
        assert!(!run.stderr.contains("panicked"), "{}", run.stderr);
        run.stdout.push_str(&run.stderr);
        seen.push_str(&run.stdout);
    }
    if let Ok(entries) = fs::read_dir(folder.path().join("out")) {
        for entry in entries {
            seen.push_str(&fs::read_to_string(entry.unwrap().path()).unwrap());
        }
    }
    seen
}

fn assert_no_canary(manifest: &str) {
    let seen = everything(manifest.as_bytes(), &[]);
    for secret in SECRETS.iter().chain([&CANARY]) {
        assert!(!seen.contains(secret), "{manifest}\n{seen}");
    }
}

#[test]
fn comments_anchors_and_marked_values_stay_inside() {
    let manifest = format!(
        "# {CANARY}\n{HEAD}defaults: &{CANARY} {{a: 1}} # {CANARY}\nplugins:\n  compute: # {CANARY}\n    type: postgres\n    config:\n      host: db.example\n      port: 5432\n      user: dbt\n      password: {REFERENCE}\n      dbname: analytics\n      schema: public\n  catalog:\n    type: polaris\n    config:\n      map: *{CANARY}\n      client_secret: {CANARY}  # pragma: allowlist secret\n      other: {CANARY}\n  storage: {{type: s3, config: {{secret_key: {CANARY}}}}} # gitleaks:allow\n"
    );
    let run = compile(&[("m.yaml", &manifest)], &["m.yaml"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert_no_canary(&manifest);
}

#[test]
fn literal_secrets_stay_inside() {
    for secret in SECRETS {
        let places = [
            format!(
                "{HEAD}plugins: {{compute: {{type: duckdb, config: {{path: \"{secret}\"}}}}}}\n"
            ),
            format!("{HEAD}plugins: {{compute: {{type: duckdb, config: {{\"{secret}\": 1}}}}}}\n"),
            format!(
                "{HEAD}plugins: {{compute: {{type: duckdb, config: {{attach: [{{path: \"{secret}\"}}]}}}}}}\n"
            ),
            format!("{HEAD}\"{secret}\": x\nplugins: {{compute: {{type: duckdb}}}}\n"),
            format!("{HEAD}extra: [\"{secret}\"]\nplugins: {{compute: {{type: duckdb}}}}\n"),
            format!(
                "{HEAD}plugins: {{compute: {{type: duckdb, config: {{a: \"{{{{ env_var('A', '{secret}') }}}}\"}}}}}}\n"
            ),
            postgres(&format!("\"{secret}\"")),
            postgres(&format!("|\n        {secret}\n        {CANARY}")),
            postgres(&format!("\"{secret}\" # {CANARY}")),
        ];
        for manifest in places {
            let run = compile(&[("m.yaml", &manifest)], &["m.yaml"]);
            assert_eq!(
                (run.code, run.stdout.as_str()),
                (1, ""),
                "{manifest}\n{}",
                run.stderr
            );
            assert!(
                run.stderr.contains("[literal-secret]") || run.stderr.contains("[adapter-field]"),
                "{}",
                run.stderr
            );
            assert_no_canary(&manifest);
        }
    }
}

#[test]
fn secrets_in_the_names_of_references_stay_inside() {
    for field in [
        "{secretRef: {name: db, key: SECRET}}",
        "{secretRef: {name: db, key: SECRET}}\n      pass_secret_ref: db",
    ] {
        for secret in &SECRETS[..2] {
            let manifest = postgres(&field.replace("SECRET", secret));
            let run = compile(&[("m.yaml", &manifest)], &["m.yaml"]);
            assert_eq!((run.code, run.stdout.as_str()), (1, ""), "{}", run.stderr);
            assert!(run.stderr.contains("[literal-secret]"), "{}", run.stderr);
            assert_no_canary(&manifest);
        }
    }
}

#[test]
fn literals_beside_expressions_stay_inside() {
    let bigquery = |key: &str| {
        format!(
            "{HEAD}plugins: {{compute: {{type: bigquery, config: {{method: service-account-json, project: p, dataset: d, keyfile_json: {key}}}}}}}\n"
        )
    };
    for manifest in [
        postgres(&format!("\"{CANARY}{{{{ env_var('SUFFIX') }}}}\"")),
        bigquery(&format!("\"{{{{ env_var('K', '{CANARY}') }}}}\"")),
        bigquery(&format!("[{CANARY}]")),
    ] {
        let run = compile(&[("m.yaml", &manifest)], &["m.yaml"]);
        assert_eq!((run.code, run.stdout.as_str()), (1, ""), "{}", run.stderr);
        assert!(run.stderr.contains("[literal-secret]"), "{}", run.stderr);
        assert_no_canary(&manifest);
    }
}

#[test]
fn refused_values_stay_inside() {
    let fields = [
        format!("{CANARY}: x"),
        format!("plugins: {{\"{CANARY} x\": {{type: duckdb}}}}"),
        format!("plugins: {{compute: {{type: \"{CANARY} x\"}}}}"),
        format!("plugins: {{compute: {{type: duckdb, version: {CANARY}}}}}"),
        format!("plugins: {{compute: {{type: duckdb, config: {CANARY}}}}}"),
        format!("plugins: {{compute: {{type: duckdb, \"{CANARY} x\": 1}}}}"),
        format!("plugins: {{compute: {{type: duckdb, connection_secret_ref: {CANARY}}}}}"),
        format!("plugins: {{compute: {{type: duckdb, config: {{a: {{secretRef: {CANARY}}}}}}}}}"),
        format!(
            "plugins: {{compute: {{type: duckdb, config: {{a: {{secretRef: {{name: {CANARY}}}}}}}}}}}"
        ),
        format!(
            "plugins: {{compute: {{type: duckdb, config: {{a: {{secretRef: {{name: a, key: \"{CANARY} x\"}}}}}}}}}}"
        ),
        format!(
            "plugins: {{compute: {{type: duckdb, config: {{a: {{secretRef: {{name: a, source: {CANARY}}}}}}}}}}}"
        ),
        format!(
            "plugins: {{compute: {{type: duckdb, config: {{a: {{secretRef: {{name: a, \"{CANARY} x\": 1}}}}}}}}}}"
        ),
        format!("plugins: {{compute: {{type: duckdb, config: {{a: \"{{{{ {CANARY} }}}}\"}}}}}}"),
        format!(
            "plugins: {{compute: {{type: duckdb, config: {{a: \"{{{{ env_var('{CANARY} x') }}}}\"}}}}}}"
        ),
        format!("plugins: {{compute: {{type: duckdb, config: {{\"{{{{ {CANARY} }}}}\": 1}}}}}}"),
        format!("plugins: {{compute: {{type: duckdb}}, secrets: {{type: {CANARY}}}}}"),
        format!(
            "plugins: {{compute: {{type: duckdb}}, secrets: {{type: infisical, config: {{environment: {CANARY}}}}}}}"
        ),
        format!(
            "plugins: {{compute: {{type: duckdb}}, secrets: {{type: infisical, config: {{environment: a, secret_path: {CANARY}}}}}}}"
        ),
        format!("scope: {CANARY}\nplugins: {{compute: {{type: duckdb}}}}"),
        format!("parent_manifest: {CANARY}\nplugins: {{compute: {{type: duckdb}}}}"),
        format!("dev: {CANARY}\nplugins: {{compute: {{type: duckdb}}}}"),
        format!(
            "plugins: {{compute: {{type: duckdb}}}}\ngovernance: {{secret_scanning: {{custom_patterns: [{{name: a, pattern: \"{CANARY}(\"}}]}}}}"
        ),
        format!(
            "plugins: {{compute: {{type: duckdb}}}}\ngovernance: {{secret_scanning: {{custom_patterns: [{CANARY}]}}}}"
        ),
        format!("plugins: {CANARY}"),
    ];
    for (index, body) in fields.iter().enumerate() {
        let manifest = format!("{HEAD}{body}\n");
        let run = compile(&[("m.yaml", &manifest)], &["m.yaml"]);
        // An unknown field at the root is named, and shown for what it is: not a value.
        if index == 0 {
            assert!(
                run.stderr
                    .contains(&format!("m.yaml:4:1: {CANARY}: is not a field")),
                "{}",
                run.stderr
            );
            continue;
        }
        assert_eq!(run.code, 1, "{manifest}\n{}", run.stderr);
        assert_no_canary(&manifest);
    }
    for head in [
        "apiVersion: CaNaRy0x7\nkind: Manifest\nmetadata: {name: a}\n",
        "apiVersion: floe.dev/v1\nkind: CaNaRy0x7\nmetadata: {name: a}\n",
        "apiVersion: floe.dev/v1\nkind: Manifest\nmetadata: {name: CaNaRy0x7}\n",
        "CaNaRy0x7\n",
        "- CaNaRy0x7\n",
    ] {
        assert_no_canary(&format!("{head}plugins: {{compute: {{type: duckdb}}}}\n"));
    }
}

#[test]
fn syntax_errors_around_a_secret_stay_inside() {
    let good = postgres(CANARY);
    let breaks = [
        good.replace("password: ", "password:\t- "),
        good.replace("password: ", "\tpassword: "),
        good.replace("password: ", "password: \""),
        good.replace("password: ", "password: '"),
        good.replace("password: ", "password: ["),
        good.replace("password: ", "password: {"),
        good.replace("password: ", "password: {a: "),
        good.replace("password: ", "password: *"),
        good.replace("password: ", "password: &"),
        good.replace("password: ", "password: & "),
        good.replace("password: ", "password: !!int "),
        good.replace("password: ", "password: !!binary "),
        good.replace("password: ", "password: !<"),
        good.replace("password: ", "password: |x "),
        good.replace("password: ", "password: >99 "),
        good.replace("password: ", "password: @"),
        good.replace("password: ", "password: `"),
        good.replace("password: ", "password: %"),
        good.replace("password: ", "password: \"\\q"),
        good.replace("password: ", "password: \"\\u12"),
        good.replace("password: ", "password: a: "),
        good.replace("password: ", "password: - "),
        good.replace("password: ", "password "),
        good.replace("password: ", "? [password: "),
        good.replace("password: ", "password: x\n      password: "),
        good.replace("password: ", "  password: "),
        good.replace("password: ", "password: x\n     y: "),
        good.replace("password: ", "password: x\n---\n"),
        good.replace("password: ", "password: x\n...\n"),
        good.replace("password: ", "password: <<: "),
        good.replace("password: ", "<<: "),
        good.replace("password: ", "password: \u{0}"),
        good.replace("password: ", "password: \u{7f}\u{85}\u{2028}"),
        good.replace("password: ", "password: \u{feff}"),
        good.replace("password: ", "password: ["[..].repeat(70).as_str()),
        format!("%{CANARY}\n{good}"),
        format!("%YAML {CANARY}\n---\n{good}"),
        format!("{good}{CANARY}"),
        format!("{good} {CANARY}"),
        format!("{good}{CANARY}: {CANARY}\n{CANARY}: {CANARY}\n"),
        good.replace('\n', "\r"),
        good.replace(": ", ":"),
        good.get(..good.find(CANARY).unwrap() + 5)
            .unwrap()
            .to_owned(),
    ];
    for manifest in &breaks {
        let seen = everything(manifest.as_bytes(), &[]);
        // Keys of a root that is valid are named.
        let allowed = manifest.starts_with(&format!("{good}{CANARY}: "));
        assert!(allowed || !seen.contains("CaNaRy"), "{manifest}\n{seen}");
    }
    for bytes in [&b"\xff\xfe"[..], b"\x80", b"\xc3"] {
        let at = good.find(CANARY).unwrap();
        let (before, after) = good.as_bytes().split_at(at);
        let manifest = [before, bytes, after].concat();
        let seen = everything(&manifest, &[]);
        assert!(!seen.contains(CANARY), "{seen}");
    }
}

#[test]
fn project_files_stay_inside() {
    let good = postgres(REFERENCE);
    for (name, text) in [
        (
            "dbt_project.yml",
            format!("profile: \"{CANARY} {{{{ x }}}}\"\n"),
        ),
        ("dbt_project.yml", format!("profile: [{CANARY}\n")),
        (
            "dbt_project.yml",
            format!("# {CANARY}\nvars: {{a: {CANARY}}}\nprofile: p\n"),
        ),
        (
            "floe.yaml",
            format!("apiVersion: {CANARY}\nkind: {CANARY}\nmetadata: {{name: {CANARY}}}\n"),
        ),
        ("floe.yaml", format!("a: \"{CANARY}\n")),
    ] {
        let seen = everything(good.as_bytes(), &[(name, text.as_bytes())]);
        assert!(!seen.contains(CANARY), "{name}: {text}\n{seen}");
    }
}
