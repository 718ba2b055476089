//! Inputs that are broken, hostile or absent, and streams that are closed: one sentence each, and the exit code.

use std::fmt::Write as _;
use std::process::{Command, Stdio};

use rstest::rstest;

use crate::{CANARY, folder, lint, repository};

/// A document with a canary, and a mistake of each kind around it.
#[rstest]
#[case(format!("kind: Pod\na: [{CANARY}\n"))]
#[case(format!("kind: Pod\n{CANARY}: 1\n{CANARY}: 2\n"))]
#[case(format!("kind: Pod\na: *{CANARY}\n"))]
#[case(format!("kind: Pod\na: \"{CANARY}\n"))]
#[case(format!("kind: Pod\n\ta: {CANARY}\n"))]
#[case(format!("kind: Pod\na: !<{CANARY} {{}}\n"))]
#[case(format!("{{\"kind\": \"Pod\", \"a\": \"{CANARY}\n}}\n"))]
#[case(format!("kind: Pod\n{}{CANARY}\n", "- ".repeat(300)))]
fn broken_document_is_one_sentence_without_its_text(#[case] text: String) {
    let output = lint(folder(&[("a.yaml", text)]).path(), &["-f", "a.yaml"], "");
    assert_eq!(output.code, 2, "{}", output.text());
    let lines: Vec<&str> = output.stdout.lines().collect();
    let one = lines
        .iter()
        .filter(|line| line.ends_with("[unreadable]"))
        .count();
    assert!(
        one == 1 && lines[0].starts_with("a.yaml:"),
        "{}",
        output.text()
    );
}

#[test]
fn unreadable_inputs_are_named() {
    let pod = b"apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: m}]}\n";
    let folder = folder(&[
        ("latin1.yaml", &b"a: \xe4\n"[..]),
        ("empty/readme.md", &b"x"[..]),
        ("good.yaml", &pod[..]),
    ]);
    for (path, sentence) in [
        ("latin1.yaml", "UTF-8"),
        ("absent.yaml", "cannot be read"),
        ("empty", "has no file that ends in .json, .yaml or .yml"),
    ] {
        let output = lint(folder.path(), &["-f", path, "-f", "good.yaml"], "");
        assert_eq!(output.code, 2, "{}", output.text());
        assert!(
            output.stdout.starts_with(path) && output.stdout.contains(sentence),
            "{}",
            output.text()
        );
    }
}

#[test]
fn alias_bomb_ends_with_a_sentence() {
    let mut bomb = format!("kind: Pod\na0: &a0 [{CANARY}]\n");
    for level in 1..12 {
        let items = vec![format!("*a{}", level - 1); 10].join(",");
        let _ = writeln!(bomb, "a{level}: &a{level} [{items}]");
    }
    let output = lint(folder(&[("a.yaml", bomb)]).path(), &["-f", "a.yaml"], "");
    assert_eq!(output.code, 2, "{}", output.text());
    assert!(output.stdout.contains("[unreadable]"), "{}", output.text());
}

#[test]
fn arguments_without_files_are_refused() {
    let output = lint(folder::<&str>(&[]).path(), &[], "");
    assert_eq!((output.code, output.stdout.as_str()), (2, ""));
    assert!(output.stderr.contains("--filename"), "{}", output.stderr);
    let output = lint(
        folder::<&str>(&[]).path(),
        &["-f", "-", "--secret-name-pattern", "A"],
        "",
    );
    assert_eq!(output.code, 2);
    assert!(
        output
            .stderr
            .contains("is not a pattern for names of Secrets"),
        "{}",
        output.stderr
    );
}

#[test]
fn closed_standard_output_is_no_error() {
    let repository = folder(&repository());
    let mut child = Command::new(env!("CARGO_BIN_EXE_floe-secrets-webhook"))
        .args(["lint", "-R", "-f", "manifests"])
        .current_dir(repository.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(!stderr.contains("standard output"), "{stderr}");
}

#[test]
fn warnings_alone_fail_only_with_strict() {
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: a, labels: {secrets.floe.dev/refs: a}}\nspec: {containers: [{name: m}]}\n";
    let folder = folder::<&str>(&[]);
    let output = lint(folder.path(), &["-f", "-"], pod);
    assert_eq!(output.code, 0, "{}", output.text());
    assert!(output.stdout.contains(": warning: ") && output.stderr.contains("0 errors, 1 warning"));
    assert_eq!(lint(folder.path(), &["-f", "-", "--strict"], pod).code, 1);
}
