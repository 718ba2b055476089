//! Profiles of dbt against the pods that are to run with them.

use crate::{CANARY, folder, lint};

fn profile(password: &str) -> String {
    format!(
        "# {CANARY}\nshop:\n  target: dev\n  outputs:\n    dev:\n      type: duckdb\n      path: /tmp/dev.duckdb\n    prod:\n      type: postgres\n      \
         host: \"{{{{ env_var('PGHOST', 'db') }}}}\"\n      user: \"{{{{ env_var('PGUSER') }}}}\"\n      password: {password}\n      \
         port: \"{{{{ env_var('PGPORT') | as_number }}}}\"\n      keepalive: \"{{{{ env_var('PGKEEP') | as_bool }}}}\"\n      dbname: shop\n      schema: shop\n"
    )
}

const PASSWORD: &str = "\"{{ env_var('PGPASSWORD') }}\"";

fn job(annotations: &str, container: &str) -> String {
    format!(
        "apiVersion: batch/v1\nkind: Job\nmetadata: {{name: dbt}}\nspec:\n  template:\n    metadata:\n      annotations:\n        a: b\n{annotations}    \
         spec:\n      containers:\n      - name: proxy\n      - name: dbt\n{container}---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: settings}}\ndata: {{PORT: \"5432\", KEEP: \"True\"}}\n"
    )
}

const ARGS: [&str; 4] = ["-f", "job.yaml", "--profiles", "profiles.yml"];
const PROD: [&str; 6] = [
    "-f",
    "job.yaml",
    "--profiles",
    "profiles.yml",
    "--target",
    "prod",
];
const PASSWORD_AND_USER: &str = "        secrets.floe.dev/env.PGPASSWORD: db/password\n        secrets.floe.dev/env.PGUSER: db/user\n";
const SETTINGS: &str = "        envFrom:\n        - {prefix: PG, configMapRef: {name: settings}}\n";

#[test]
fn variables_come_from_annotations_env_and_config_maps() {
    let files = [
        ("job.yaml", job(PASSWORD_AND_USER, SETTINGS)),
        ("profiles.yml", profile(PASSWORD)),
    ];
    let output = lint(folder(&files).path(), &PROD, "");
    assert_eq!(
        (output.code, output.stdout.as_str()),
        (0, ""),
        "{}",
        output.stderr
    );
}

#[test]
fn missing_variables_are_errors_of_the_container_that_lacks_the_fewest() {
    let files = [
        (
            "job.yaml",
            job("        secrets.floe.dev/env.PGUSER: db/user\n", SETTINGS),
        ),
        ("profiles.yml", profile(PASSWORD)),
    ];
    let output = lint(folder(&files).path(), &PROD, "");
    assert_eq!(output.code, 1, "{}", output.text());
    let findings: Vec<&str> = output
        .stdout
        .lines()
        .filter(|l| l.contains("[profile-variable]"))
        .collect();
    assert_eq!(findings.len(), 1, "{}", output.stdout);
    assert!(
        findings[0].starts_with("job.yaml:13:9: error: Job \"dbt\"")
            && findings[0].contains("container \"dbt\" does not get variable \"PGPASSWORD\", which target \"prod\" of the profile reads (profiles.yml, outputs.prod.password)"),
        "{}",
        findings[0]
    );
    // Only the target is rendered.
    assert_eq!(lint(folder(&files).path(), &ARGS, "").code, 0);
}

#[test]
fn keys_of_unknown_secrets_are_a_warning_until_they_are_given() {
    let whole = "        secrets.floe.dev/env-from: db\n";
    let secret = |keys: &str| {
        format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: db}}\nstringData: {{{keys}}}\n")
    };
    let files = [
        ("job.yaml", job(whole, SETTINGS)),
        ("profiles.yml", profile(PASSWORD)),
        ("all.yaml", secret("PGUSER: a, PGPASSWORD: b")),
        ("some.yaml", secret("PGUSER: a")),
    ];
    let folder = folder(&files);
    let run = |secrets: &[&str]| lint(folder.path(), &[&PROD[..], secrets].concat(), "");
    let output = run(&[]);
    assert_eq!(output.code, 0, "{}", output.text());
    assert!(
        output.stdout.contains("may not get variable \"PGUSER\"")
            && output
                .stdout
                .contains("the keys of Secret \"db\" are not known")
    );
    assert_eq!(run(&["--secrets", "all.yaml"]).stdout, "");
    let output = run(&["--secrets", "some.yaml"]);
    assert_eq!(output.code, 1);
    assert!(
        output
            .stdout
            .contains("does not get variable \"PGPASSWORD\""),
        "{}",
        output.stdout
    );
}

#[test]
fn literal_in_a_secret_field_is_always_an_error() {
    let literal = format!("{CANARY} # pragma: allowlist secret");
    let files = [
        ("job.yaml", job(PASSWORD_AND_USER, SETTINGS)),
        ("profiles.yml", profile(&literal)),
    ];
    let output = lint(folder(&files).path(), &PROD, "");
    assert_eq!(output.code, 1, "{}", output.text());
    assert!(
        output.stdout.contains("profiles.yml:12:17: error: ")
            && output.stdout.contains("[literal-secret]"),
        "{}",
        output.stdout
    );
    assert!(
        output.stdout.contains("    12 |       password: …"),
        "{}",
        output.stdout
    );
}

#[test]
fn profile_that_dbt_would_refuse_is_an_error() {
    for (profile, args, sentence) in [
        (
            profile(PASSWORD),
            &["--target", "absent"][..],
            "no output of the target's name",
        ),
        (
            profile(PASSWORD),
            &["--profile", "absent"],
            "the file has no profile \"absent\"",
        ),
        ("a: {}\nb: {}\n".to_owned(), &[], "Name one by --profile"),
        ("[]\n".to_owned(), &[], "the file has no profile"),
        (
            "shop:\n  outputs:\n    prod: {type: postgres, host: \"{{ env_var(\"}\n".to_owned(),
            &["--target", "prod"],
            "dbt cannot render the Jinja here",
        ),
    ] {
        let files = [("job.yaml", job("", "")), ("profiles.yml", profile)];
        let output = lint(folder(&files).path(), &[&ARGS[..], args].concat(), "");
        assert_eq!(output.code, 1, "{}", output.text());
        assert!(
            output.stdout.starts_with("profiles.yml:") && output.stdout.contains(sentence),
            "{sentence}: {}",
            output.text()
        );
    }
}
