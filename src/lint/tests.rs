//! `lint` as a function: files of a folder in, findings and exit status out.

use std::path::PathBuf;

use super::*;
use crate::finding::FindingFormat;

const POD: &str = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\n  annotations:\n";
const SPEC: &str = "spec: {containers: [{name: main}]}\n";

/// Runs `lint` on one text.
fn run(text: &str, change: impl FnOnce(&mut LintRequest)) -> (LintExitStatus, String, String) {
    let mut request = LintRequest {
        filename: vec![PathBuf::from("-")],
        recursive: false,
        secrets: Vec::new(),
        cluster: None,
        profile: None,
        namespace: None,
        sidecars: Vec::new(),
        secret_names: None,
        allow_unknown: false,
        strict: false,
        format: FindingFormat::Text,
    };
    change(&mut request);
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let status = lint(&request, text.as_bytes(), &mut out, &mut err);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status, text(out), text(err))
}

fn findings(text: &str) -> String {
    run(text, |_| {}).1
}

fn pod(annotation: &str) -> String {
    format!("{POD}    secrets.floe.dev/{annotation}\n{SPEC}")
}

#[test]
fn clean_pod_has_no_findings_and_a_note() {
    let (status, out, err) = run(&pod("env-from: db"), |_| {});
    assert_eq!((status, out.as_str()), (LintExitStatus::Clean, ""));
    assert!(
        err.contains("note: secrets that are not in the files were not looked for"),
        "{err}"
    );
}

#[rstest::rstest]
#[case("envfrom: db", "6:5", "annotation", "unknown annotation")]
#[case(
    "containers: mian\n    secrets.floe.dev/env-from: db",
    "6:5",
    "unknown-container",
    "the pod has no container \"mian\""
)]
#[case(
    "refs: a/b-c a/b_c",
    "6:5",
    "collision",
    "would both set the variable FLOE_SECRET_A_B_C"
)]
fn annotation_is_found_at_its_line(
    #[case] annotation: &str,
    #[case] at: &str,
    #[case] rule: &str,
    #[case] sentence: &str,
) {
    let (status, out, err) = run(&pod(annotation), |_| {});
    assert_eq!(status, LintExitStatus::Findings, "{err}");
    let line = out.lines().next().unwrap();
    assert!(
        line.starts_with(&format!(
            "standard input:{at}: error: Pod \"a\" in namespace \"default\": "
        )),
        "{out}"
    );
    assert!(
        line.contains(sentence) && line.ends_with(&format!(" [{rule}]")),
        "{out}"
    );
}

#[test]
fn secret_of_the_files_is_checked_with_its_keys() {
    let secret =
        "apiVersion: v1\nkind: Secret\nmetadata: {name: db}\nstringData: {user: hunter2}\n---\n";
    let out = findings(&format!("{secret}{}", pod("refs: db/user db/password")));
    assert!(
        out.contains("has no key \"password\"") && out.contains("[secret-missing]"),
        "{out}"
    );
    assert!(!out.contains("hunter2"));
    assert_eq!(
        findings(&format!("{secret}{}", pod("refs: db/user other/password"))),
        ""
    );
}

#[test]
fn workload_annotation_is_found_in_its_own_metadata() {
    let text = "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: d\n  annotations:\n    secrets.floe.dev/refs: A/b\nspec:\n  template:\n    spec: {containers: [{name: main}]}\n";
    let out = findings(text);
    assert!(
        out.starts_with("standard input:6:5: error: Deployment \"d\""),
        "{out}"
    );
}

#[test]
fn ineffective_annotation_is_an_error_unless_it_is_allowed() {
    let text = "apiVersion: v1\nkind: Service\nmetadata:\n  name: s\n  annotations:\n    secrets.floe.dev/refs: a/b\n";
    let (status, out, _) = run(text, |_| {});
    assert_eq!(status, LintExitStatus::Findings);
    assert!(
        out.starts_with(
            "standard input:6:5: error: Service \"s\": annotation secrets.floe.dev/refs"
        ),
        "{out}"
    );
    let (status, out, _) = run(text, |request| request.allow_unknown = true);
    assert_eq!(status, LintExitStatus::Clean);
    assert!(
        out.contains(": warning: ") && out.contains("[annotation-ineffective]"),
        "{out}"
    );
    let (status, ..) = run(text, |request| {
        request.allow_unknown = true;
        request.strict = true;
    });
    assert_eq!(status, LintExitStatus::Findings);
}

#[test]
fn convention_is_checked_for_references_and_secrets() {
    let text = format!(
        "apiVersion: v1\nkind: Secret\nmetadata:\n  name: db\n---\n{}---\n{}",
        pod("env-from: db db-prod-credentials"),
        "apiVersion: v1\nkind: ServiceAccount\nmetadata:\n  name: s\n  annotations:\n    secrets.floe.dev/env-from: other\n"
    );
    assert_eq!(findings(&text), "");
    let (status, out, _) = run(&text, |request| {
        request.secret_names = Some("floe".parse().unwrap());
    });
    assert_eq!(status, LintExitStatus::Findings);
    let lines: Vec<&str> = out
        .lines()
        .filter(|line| line.contains("[secret-name-convention]"))
        .collect();
    assert_eq!(lines.len(), 3, "{out}");
    assert!(lines[0].contains(":4:3: error: Secret \"db\""), "{out}");
    assert!(
        lines[1].contains("{service}-{environment}-credentials"),
        "{out}"
    );
    assert!(
        lines[2].contains("ServiceAccount \"s\": the name of secret \"other\""),
        "{out}"
    );
}

#[test]
fn unreadable_document_does_not_hide_the_others() {
    let text = format!("a: [\n---\n{}---\nx: 1\n", pod("envfrom: db"));
    let (status, out, err) = run(&text, |_| {});
    assert_eq!(status, LintExitStatus::Unreadable);
    assert!(
        out.contains("[unreadable]") && out.contains("[annotation]"),
        "{out}"
    );
    assert!(err.contains("were not checked: 1"), "{err}");
}

#[test]
fn literal_secrets_are_found_in_env_and_config_maps_unless_marked() {
    let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  containers:\n  - name: m\n    env:\n    - name: DB_PASSWORD\n      value: Zk3w9Qe7rT5yU1\n    - name: OLD_PASSWORD\n      value: Zk3w9Qe7rT5yU2 # pragma: allowlist secret\n    - {name: REGION, value: eu-central-1}\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata:\n  password: Zk3w9Qe7rT5yU3\n  settings: |\n    password: Zk3w9Qe7rT5yU4\n    b: c\n";
    let (status, out, _) = run(text, |_| {});
    assert_eq!(status, LintExitStatus::Findings);
    let lines: Vec<&str> = out
        .lines()
        .filter(|line| line.contains("[literal-secret]"))
        .collect();
    assert_eq!(lines.len(), 2, "{out}");
    assert!(
        lines[0].contains(":9:7: error: Pod \"a\": variable \"DB_PASSWORD\""),
        "{out}"
    );
    assert!(
        lines[1].contains(":18:3: error: ConfigMap \"c\": entry \"password\""),
        "{out}"
    );
    assert!(!out.contains("Zk3w9"), "{out}");
}

#[test]
fn manifest_of_floe_is_left_to_compile() {
    let (status, out, err) = run(
        "apiVersion: floe.dev/v1\nkind: Manifest\nenv: [{name: password, value: Zk3w9Qe7rT5yU1}]\n",
        |_| {},
    );
    assert_eq!((status, out.as_str()), (LintExitStatus::Clean, ""));
    assert!(err.contains("compile checks it"), "{err}");
}

#[test]
fn findings_are_limited_and_errors_replace_warnings() {
    let item = |field: &str, index: usize| {
        format!(
            "- {{apiVersion: v1, kind: Service, metadata: {{name: s{index}, {field}: {{secrets.floe.dev/refs: a/b}}}}}}\n"
        )
    };
    let mut items: Vec<String> = (0..report::MAX_FINDINGS + 7)
        .map(|index| item("labels", index))
        .collect();
    items.push(item("annotations", 9_999));
    let text = format!("apiVersion: v1\nkind: List\nitems:\n{}", items.concat());
    let (status, out, err) = run(&text, |_| {});
    assert_eq!(status, LintExitStatus::Findings, "{err}");
    let listed = out.matches("[annotation-ineffective]").count();
    assert_eq!(listed, report::MAX_FINDINGS);
    assert_eq!(out.matches(": error: ").count(), 1);
    assert!(err.contains("8 more were left out"), "{err}");
    assert!(err.contains("1 error, 5007 warnings"), "{err}");
    let (_, json, _) = run(&text, |request| request.format = FindingFormat::Json);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let counts = serde_json::json!({"errors": 1, "warnings": 5007});
    assert_eq!(json.get("summary"), Some(&counts));
}

#[test]
fn many_errors_and_unknown_keys_hide_no_error() {
    let refs: Vec<String> = (0..60).map(|index| format!("a{index:03}/*")).collect();
    let text = pod(&format!(
        "refs: {}\n    secrets.floe.dev/containers: mian",
        refs.join(" ")
    ));
    let (status, out, err) = run(&text, |_| {});
    assert_eq!(status, LintExitStatus::Findings, "{out}{err}");
    assert_eq!(out.matches("[unknown-container]").count(), 1, "{out}");
    assert_eq!(out.matches(": error: ").count(), 1, "{out}");
    assert!(err.contains("\"a000/*\" stands for all keys"), "{err}");

    let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: db}\n---\n";
    let more = annotations::MAX_PROBLEMS + 1;
    let refs: Vec<String> = (0..more).map(|index| format!("db/k{index}")).collect();
    let text = format!("{secret}{}", pod(&format!("refs: {}", refs.join(" "))));
    let out = findings(&text);
    assert_eq!(
        out.matches("[secret-missing]").count(),
        annotations::MAX_PROBLEMS,
        "{out}"
    );
    assert!(
        out.contains("that are not listed: 1. [annotation]"),
        "{out}"
    );
}

#[test]
fn missing_secret_of_another_namespace_has_a_hint() {
    let secrets = tempfile::TempDir::new().unwrap();
    let file = secrets.path().join("secrets.yaml");
    let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: db, namespace: other}\n";
    std::fs::write(&file, secret).unwrap();
    let (status, out, _) = run(&pod("refs: db/user"), |request| {
        request.secrets = vec![file];
    });
    assert_eq!(status, LintExitStatus::Findings);
    assert!(
        out.contains("A Secret of that name is known in namespace \"other\""),
        "{out}"
    );
}

#[test]
fn control_characters_of_names_are_escaped() {
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder
        .path()
        .join("a\n::warning file=x::forged\u{1b}[31m.yaml");
    let hostile = r"x\n::error file=x::forged\e[31m";
    let text = format!(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: \"s{hostile}\"\n  annotations:\n    secrets.floe.dev/refs: a/* b/c\nspec: {{containers: [{{name: \"m{hostile}\", env: [{{name: \"P{hostile}_PASSWORD\", value: Zk3w9Qe7rT5yU1}}]}}]}}\n---\n- x\n"
    );
    std::fs::write(&file, text).unwrap();
    let profile = folder.path().join("profiles.yml");
    std::fs::write(&profile, PROFILE).unwrap();
    for (format, end) in [(FindingFormat::Text, "\\n"), (FindingFormat::Github, "%0A")] {
        let (_, out, err) = run("", |request| {
            request.filename = vec![file.clone()];
            request.profile = Some(of_profile(&profile));
            request.format = format;
        });
        let printed = format!("{out}{err}");
        assert!(
            printed.contains(&format!("container \"mx{end}::error")),
            "{printed}"
        );
        assert!(
            printed.contains(&format!("Pod \"sx{end}::error")),
            "{printed}"
        );
        assert!(!printed.contains('\u{1b}'), "{printed}");
        let forged =
            |line: &str| line.starts_with("::error file=x") || line.starts_with("::warning file=x");
        assert!(!printed.lines().any(forged), "{printed}");
    }
}

#[test]
fn list_with_a_broken_item_is_unreadable() {
    let list = |items: &str| {
        let good = pod("envfrom: db").replace('\n', "\n  ");
        format!("apiVersion: v1\nkind: List\nitems:\n- {good}\n{items}")
    };
    assert_eq!(run(&list(""), |_| {}).0, LintExitStatus::Findings);
    for (items, problem) in [
        (
            "- {metadata: {name: a}}\n",
            "items.1 is no Kubernetes object",
        ),
        ("- null\n", "items[1] is not a Kubernetes object"),
    ] {
        let (status, out, err) = run(&list(items), |_| {});
        assert_eq!(status, LintExitStatus::Unreadable, "{out}{err}");
        assert!(
            out.contains(problem) && out.contains("[unreadable]"),
            "{out}"
        );
    }
    let (status, out, err) = run("kind: [a]\n---\nitems: [1]\n", |_| {});
    assert_eq!((status, out.as_str()), (LintExitStatus::Clean, ""));
    assert!(err.contains("were not checked: 2"), "{err}");
}

#[test]
fn long_annotation_keys_keep_positions_and_marks() {
    let key = format!("{}/{}", "k".repeat(253), "n".repeat(63));
    let text = format!(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\n  annotations:\n    {key}: x\n    secrets.floe.dev/envfrom: db\nspec:\n  containers:\n  - name: m\n    env:\n    - name: OLD_PASSWORD\n      value: Zk3w9Qe7rT5yU2 # pragma: allowlist secret\n"
    );
    let out = findings(&text);
    assert!(out.starts_with("standard input:7:5: error: "), "{out}");
    assert!(!out.contains("[literal-secret]"), "{out}");
}

#[test]
fn annotations_in_an_exempt_namespace_are_found_at_their_place() {
    let text = "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: d\n  namespace: kube-system\n  annotations:\n    secrets.floe.dev/refs: a/b\nspec:\n  template:\n    spec: {containers: [{name: main}]}\n";
    let (status, out, _) = run(text, |_| {});
    assert_eq!(status, LintExitStatus::Clean);
    assert!(
        out.starts_with("standard input:6:3: warning: ")
            && out.contains("[annotation-ineffective]"),
        "{out}"
    );
}

#[test]
fn generated_names_and_defaults_without_an_annotation_are_named_well() {
    let floe = |request: &mut LintRequest| request.secret_names = Some("floe".parse().unwrap());
    let secret = "apiVersion: v1\nkind: Secret\nmetadata:\n  generateName: db-\n  annotations: {secrets.floe.dev/refs: a/b}\n";
    let (_, out, _) = run(secret, floe);
    assert!(out.contains("Secret without a name: "), "{out}");
    assert!(!out.contains("[secret-name-convention]"), "{out}");
    let account = "apiVersion: v1\nkind: ServiceAccount\nmetadata:\n  name: s\n  annotations: {secrets.floe.dev/env-from: db}\n";
    let (_, out, _) = run(account, |request| {
        floe(request);
        request.format = FindingFormat::Json;
    });
    assert!(
        out.contains("\"field\": \"metadata.annotations\"")
            || out.contains("\"field\":\"metadata.annotations\""),
        "{out}"
    );
}

/// A profile that reads a variable.
const PROFILE: &str = "shop:\n  target: prod\n  outputs:\n    prod:\n      type: postgres\n      user: \"{{ env_var('PGUSER') }}\"\n      password: \"{{ env_var('PGPASSWORD') }}\"\n";

fn of_profile(file: &std::path::Path) -> ProfileRequest {
    ProfileRequest {
        file: file.to_owned(),
        profile: None,
        target: None,
    }
}

/// Runs `lint` on a pod with a profile.
fn run_profile(pod: &str, profile: &str) -> (LintExitStatus, String, String) {
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("pod.yaml");
    std::fs::write(&file, pod).unwrap();
    run(profile, |request| {
        request.filename = vec![file];
        request.profile = Some(of_profile(std::path::Path::new("-")));
    })
}

#[test]
fn literals_next_to_expressions_are_found_in_profiles() {
    let literal = "Zk3w9Qe7rT5yU1";
    for (field, expected) in [
        (
            format!("password: \"{{{{ env_var('PGPASSWORD', '{literal}') }}}}\""),
            1,
        ),
        (format!("password: \"{literal}{{{{ '' }}}}\""), 1),
        (
            format!("keepalives: \"{{{{ env_var('API_TOKEN', '{literal}') }}}}\""),
            0,
        ),
        (
            format!("api_token: \"{{{{ env_var('API_TOKEN', '{literal}') }}}}\""),
            1,
        ),
        ("password: \"{{ env_var('PGPASSWORD') }}\"".to_owned(), 0),
        // A profile that cannot be rendered hides nothing.
        (
            format!("password: {literal}\n      host: \"{{{{ env_var( }}}}\""),
            1,
        ),
    ] {
        let profile = format!(
            "shop:\n  target: prod\n  outputs:\n    dev: {{type: postgres, password: {literal}}}\n    prod:\n      type: postgres\n      {field}\n"
        );
        let (status, out, err) = run_profile(&pod("env.PGPASSWORD: db/password"), &profile);
        assert_eq!(
            out.matches("[literal-secret]").count(),
            expected,
            "{field}: {out}{err}"
        );
        assert_eq!(
            status != LintExitStatus::Clean,
            expected == 1,
            "{field}: {out}{err}"
        );
        assert!(!format!("{out}{err}").contains(literal), "{out}{err}");
    }
    // All outputs are checked if the target is not known.
    let unknown = format!(
        "shop:\n  target: \"{{{{ env_var( }}}}\"\n  outputs:\n    dev: {{type: postgres, password: {literal}}}\n    prod: {{type: postgres, password: {literal}}}\n"
    );
    let (_, out, _) = run_profile(&pod("env-from: db"), &unknown);
    assert_eq!(out.matches("[literal-secret]").count(), 2, "{out}");
}

#[test]
fn profile_is_checked_for_pods_with_unknown_keys() {
    let text = pod("refs: db/*\n    secrets.floe.dev/env.PGUSER: db/user");
    let (status, out, err) = run_profile(&text, PROFILE);
    assert_eq!(status, LintExitStatus::Clean, "{out}{err}");
    assert_eq!(out.matches("[profile-variable]").count(), 1, "{out}");
    assert!(
        out.contains("warning: ")
            && out.contains("may not get variable \"PGPASSWORD\", which target \"prod\" of the profile reads (standard input, outputs.prod.password): the keys of Secret \"db\" are not known"),
        "{out}"
    );
}

#[test]
fn fingerprints_survive_moved_lines_of_the_profile() {
    let fingerprints = |profile: &str| {
        let folder = tempfile::TempDir::new().unwrap();
        let file = folder.path().join("profiles.yml");
        std::fs::write(&file, profile).unwrap();
        let (_, out, _) = run(&pod("refs: db/user"), |request| {
            // The path of the folder is another one each time.
            request.profile = Some(of_profile(&file));
            request.format = FindingFormat::Json;
        });
        let path = folder.path().display().to_string();
        assert!(
            out.contains("[profile") || out.contains("profile-variable"),
            "{out}"
        );
        let report: serde_json::Value = serde_json::from_str(&out.replace(&path, "")).unwrap();
        let messages = report["findings"].as_array().unwrap().iter();
        messages
            .map(|finding| finding["message"].to_string())
            .collect::<Vec<_>>()
    };
    let moved = format!("# a comment\n\n{PROFILE}");
    assert_eq!(fingerprints(PROFILE), fingerprints(&moved));
}

#[test]
fn profile_with_many_booleans_is_rendered() {
    let fields = |count: usize| -> String {
        let field =
            |index| format!("      f{index}: \"{{{{ env_var('B{index}') | as_bool }}}}\"\n");
        (0..count).map(field).collect()
    };
    let profile = |count| {
        format!(
            "shop:\n  target: prod\n  outputs:\n    prod:\n      type: postgres\n{}",
            fields(count)
        )
    };
    let (_, out, err) = run_profile(&pod("env-from: db"), &profile(70));
    assert_eq!(out.matches("[profile-variable]").count(), 70, "{out}{err}");
    assert_eq!(out.matches("[profile]").count(), 0, "{out}{err}");
    let (_, out, err) = run_profile(&pod("env-from: db"), &profile(profile::MAX_ATTEMPTS));
    assert!(out.contains("[profile]"), "{out}{err}");
}

#[test]
fn standard_input_is_read_once() {
    let (status, out, _) = run(&pod("env-from: db"), |request| {
        request.profile = Some(of_profile(std::path::Path::new("-")));
    });
    assert_eq!(status, LintExitStatus::Unreadable);
    assert!(
        out.contains("standard input: error: it can be read only once"),
        "{out}"
    );
}

#[test]
fn docs_contain_the_bounds() {
    let root = env!("CARGO_MANIFEST_DIR");
    let page = std::fs::read_to_string(format!("{root}/docs/LINT.md")).unwrap();
    for (bound, number) in [
        ("Findings of one run", report::MAX_FINDINGS),
        ("Bytes of a document", source::LIMITS.bytes),
        ("Values of a document", source::LIMITS.nodes),
        ("Bytes of a line", source::MAX_LINE_BYTES),
        ("Bytes of a key", source::LIMITS.key_bytes),
        ("Findings of one pod", annotations::MAX_PROBLEMS),
        ("Variables of a profile", profile::MAX_ATTEMPTS - 1),
    ] {
        let row = page
            .lines()
            .find(|line| line.starts_with(&format!("| {bound}")))
            .unwrap();
        let documented = row.rsplit('|').nth(1).unwrap().trim().replace(',', "");
        assert_eq!(documented, number.to_string(), "{bound}");
    }
}
