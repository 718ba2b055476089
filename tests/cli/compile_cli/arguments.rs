//! Arguments, exit codes and the summary.

use super::*;

#[test]
fn profile_is_printed_and_the_summary_is_a_message() {
    let run = compile(&[("m.yaml", &postgres(REFERENCE))], &["m.yaml"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(
        run.stdout.contains("env_var('FLOE_SECRET_DB_PASSWORD')"),
        "{}",
        run.stdout
    );
    assert!(
        run.stderr.contains("profile \"acme\" (the manifest's name"),
        "{}",
        run.stderr
    );
    assert!(
        run.stderr
            .contains("FLOE_SECRET_DB_PASSWORD (secret db/password)"),
        "{}",
        run.stderr
    );
    assert!(
        run.stderr.contains("secrets.floe.dev/refs"),
        "{}",
        run.stderr
    );
}

#[test]
fn manifest_is_read_from_standard_input() {
    let folder = folder_of(&[]);
    let run = compile_in(folder.path(), postgres(REFERENCE).as_bytes(), &["-"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    let run = compile_in(folder.path(), postgres("'{{ x }}'").as_bytes(), &["-"]);
    assert_eq!(run.code, 1);
    assert!(
        run.stderr.starts_with("error: standard input:"),
        "{}",
        run.stderr
    );
    let run = compile_in(folder.path(), b"", &["-", "--spec", "-"]);
    assert_eq!(run.code, 2);
    assert!(
        run.stderr.contains("can be read only once"),
        "{}",
        run.stderr
    );
}

#[test]
fn variables_from_elsewhere_are_listed() {
    let manifest = postgres("\"{{ env_var('PW') }}\"");
    let run = compile(&[("m.yaml", &manifest)], &["m.yaml"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(
        run.stderr.contains("variables that must come from elsewhere: 1\n  PW (m.yaml:11:17: plugins.compute.config.password)"),
        "{}",
        run.stderr
    );
}

#[test]
fn profile_name_comes_from_the_flag_the_project_or_the_product() {
    let manifest = postgres(REFERENCE);
    let spec = "apiVersion: floe.dev/v1\nkind: FloeSpec\nmetadata: {name: orders}\n";
    let files = [
        ("m.yaml", manifest.as_str()),
        ("floe.yaml", spec),
        ("dbt_project.yml", "name: x\nprofile: from_project\n"),
    ];
    let all = compile(&files, &["m.yaml", "--profile", "from_flag"]);
    assert!(all.stdout.contains("from_flag"), "{}", all.stdout);
    let project = compile(&files, &["m.yaml"]);
    assert!(
        project.stdout.contains("from_project"),
        "{}{}",
        project.stdout,
        project.stderr
    );
    let product = compile(&files[..2], &["m.yaml"]);
    assert!(product.stdout.contains("orders"), "{}", product.stdout);
    let manifest = compile(&files[..1], &["m.yaml"]);
    assert!(manifest.stdout.contains("acme"), "{}", manifest.stdout);
}

#[test]
fn targets_are_those_of_the_flag() {
    let manifest = postgres(REFERENCE);
    let run = compile(
        &[("m.yaml", &manifest)],
        &["m.yaml", "--targets", "ci,prod", "--target", "prod"],
    );
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(
        run.stdout.contains("prod") && run.stdout.contains("ci") && !run.stdout.contains("dev"),
        "{}",
        run.stdout
    );
}

#[rstest::rstest]
#[case(&["m.yaml", "--targets", "a,b", "--target", "c"], "--target c")]
#[case(&["m.yaml", "--profile", "a{{b}}"], "--profile")]
#[case(&["m.yaml", "--check"], "--out")]
#[case(&["m.yaml", "--plugin", "catalog", "-o", "profile"], "only the compute plugin")]
#[case(&["m.yaml", "--plugin", "catalog"], "selects no such plugin")]
#[case(&["m.yaml", "--plugin", "catalog", "--out", "out"], "annotations-catalog.yaml has the annotations")]
#[case(&["m.yaml", "--env-from", "--connection-keys", "field"], "remove --connection-keys field")]
#[case(&["m.yaml", "-o", "infisical"], "infisical")]
#[case(&["m.yaml", "--parent", "m.yaml"], "has no parent")]
#[case(&["missing.yaml"], "missing.yaml: cannot be read")]
#[case(&["."], ".: cannot be read")]
#[case(&["m.yaml", "--spec", "missing.yaml"], "missing.yaml: cannot be read")]
#[case(&["m.yaml", "--secrets", "missing.yaml"], "missing.yaml: cannot be read")]
#[case(&[], "MANIFEST")]
fn unusable_arguments_are_refused_in_a_sentence(#[case] args: &[&str], #[case] problem: &str) {
    let run = compile(&[("m.yaml", &postgres(REFERENCE))], args);
    let expected = if args.contains(&"--parent") { 1 } else { 2 };
    assert_eq!(
        (run.code, run.stdout.as_str()),
        (expected, ""),
        "{}",
        run.stderr
    );
    assert!(run.stderr.contains(problem), "{}", run.stderr);
}

#[test]
fn all_problems_are_reported_at_once_and_nothing_is_printed() {
    let manifest = format!(
        "{}prod: {{}}\n",
        postgres("'{{ x }}'").replace("port: 5432", "port: {secretRef: {source: vault, name: A}}")
    );
    let run = compile(&[("m.yaml", &manifest)], &["m.yaml", "--out", "out"]);
    assert_eq!((run.code, run.stdout.as_str()), (1, ""), "{}", run.stderr);
    for place in [
        "m.yaml:9:34: ",
        "m.yaml:9:47: ",
        "m.yaml:11:17: ",
        "m.yaml:14:1: prod: ",
    ] {
        assert!(run.stderr.contains(place), "{place}: {}", run.stderr);
    }
    assert!(
        run.stderr.contains("\n  11 |       password: …\n"),
        "{}",
        run.stderr
    );
}

#[test]
fn secrets_in_files_are_checked_by_name_and_key() {
    let manifest = postgres(REFERENCE);
    let secret = |name: &str, key: &str| {
        format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}}}\nstringData: {{{key}: CaNaRy}}\n"
        )
    };
    for (name, key, code, problem) in [
        ("db", "password", 0, ""),
        ("db", "user", 1, "has no key \"password\""),
        ("other", "password", 1, "secret \"db\" is not in the files"),
    ] {
        let secret = secret(name, key);
        let run = compile(
            &[("m.yaml", &manifest), ("s.yaml", &secret)],
            &["m.yaml", "--secrets", "s.yaml"],
        );
        assert_eq!(run.code, code, "{}", run.stderr);
        assert!(
            run.stderr.contains(problem) && !run.stderr.contains("CaNaRy"),
            "{}",
            run.stderr
        );
        assert_eq!(run.stdout.is_empty(), code != 0);
    }
}

#[test]
fn secrets_of_every_plugin_are_listed_and_checked() {
    let manifest = postgres(REFERENCE)
        + "  catalog:\n    type: polaris\n    connection_secret_ref: root\n    config: {id: {secretRef: {name: polaris, key: id}}, x: {secretRef: {name: other, source: env}}}\n";
    let secret = |name: &str| {
        format!(
            "---\nkind: Secret\nmetadata: {{name: {name}}}\ndata: {{id: YQ==, password: YQ==}}\n"
        )
    };
    let run = |names: &[&str], more: &[&str]| {
        let secrets: String = names.iter().map(|name| secret(name)).collect();
        let args = [&["m.yaml", "--secrets", "s.yaml"], more].concat();
        compile(&[("m.yaml", &manifest), ("s.yaml", &secrets)], &args)
    };
    let all = run(&["db", "polaris", "root"], &[]);
    assert_eq!(all.code, 0, "{}", all.stderr);
    for line in [
        "variables of catalog: 2\n  FLOE_SECRET_POLARIS_ID (secret polaris/id)\n  all keys of secret root\n",
        "variables that must come from elsewhere: 1\n  FLOE_SECRET_OTHER (",
    ] {
        assert!(all.stderr.contains(line), "{}", all.stderr);
    }
    let some = run(&["db"], &[]);
    assert_eq!(
        (some.code, some.stdout.as_str()),
        (1, ""),
        "{}",
        some.stderr
    );
    for name in ["polaris", "root"] {
        let message = format!("secret \"{name}\" is not in the files");
        assert!(some.stderr.contains(&message), "{}", some.stderr);
    }
    let pattern = ["--secret-name-pattern", "db"];
    let named = run(&["db", "polaris", "root"], &pattern);
    assert_eq!(named.code, 1, "{}", named.stderr);
    assert!(
        named.stderr.contains("the name of secret \"root\""),
        "{}",
        named.stderr
    );
}

#[test]
fn schema_that_cannot_be_written_is_an_error() {
    let full = std::fs::File::options()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let output = program()
        .args(["compile", "--print-schema"])
        .stdout(full)
        .output()
        .unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(
        stderr.starts_with("error: standard output cannot be written"),
        "{stderr}"
    );
}

#[test]
fn closed_standard_output_is_success() {
    let folder = folder_of(&[("m.yaml", &postgres(REFERENCE))]);
    let mut child = program()
        .args(["compile", "m.yaml"])
        .current_dir(folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut stderr = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut stderr)
        .unwrap();
    let status = child.wait().unwrap();
    assert!(status.success(), "{status}: {stderr}");
    assert!(!stderr.contains("error"), "{stderr}");
}

#[test]
fn printed_schema_is_the_shipped_one() {
    let run = compile(&[], &["--print-schema"]);
    let shipped = std::fs::read_to_string(checkout().join("schemas/manifest.json")).unwrap();
    assert_eq!((run.code, run.stdout), (0, shipped));
}
