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
fn findings_are_limited_and_counted() {
    let items: Vec<String> = (0..report::MAX_FINDINGS + 7)
        .map(|index| format!("- {{apiVersion: v1, kind: Service, metadata: {{name: s{index}, annotations: {{secrets.floe.dev/refs: a/b}}}}}}\n"))
        .collect();
    let annotations = format!("apiVersion: v1\nkind: List\nitems:\n{}", items.concat());
    let (_, out, err) = run(&annotations, |_| {});
    assert_eq!(
        out.matches("[annotation-ineffective]").count(),
        report::MAX_FINDINGS
    );
    assert!(err.contains("7 more were left out"), "{err}");
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
    ] {
        let row = page
            .lines()
            .find(|line| line.starts_with(&format!("| {bound}")))
            .unwrap();
        let documented = row.rsplit('|').nth(1).unwrap().trim().replace(',', "");
        assert_eq!(documented, number.to_string(), "{bound}");
    }
}
