//! Hostile and broken inputs: one clear sentence each, in bounded time.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use super::*;

/// Time in which a refusal has to be there, on a busy machine and without optimization.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(30);

fn refuse(manifest: &[u8]) -> Compiled {
    let folder = TempDir::new().unwrap();
    let started = Instant::now();
    let run = compile_in(folder.path(), manifest, &["-"]);
    assert!(
        started.elapsed() < REFUSAL_TIMEOUT,
        "{:?}",
        started.elapsed()
    );
    assert_eq!(run.stdout, "");
    assert!(run.stderr.len() < 64 * 1024, "{} bytes", run.stderr.len());
    assert!(!run.stderr.contains("panicked"), "{}", run.stderr);
    run
}

#[test]
fn file_of_50_mib_is_refused_by_its_size() {
    let run = refuse("a: b # c\n".repeat(50 * 1024 * 1024 / 9).as_bytes());
    assert_eq!(run.code, 2);
    assert!(
        run.stderr.contains("larger than 1048576 bytes"),
        "{}",
        run.stderr
    );
}

#[test]
fn alias_bombs_are_refused() {
    let mut billion = format!("{HEAD}a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
    for level in 1..9 {
        let items = vec![format!("*a{}", level - 1); 10].join(",");
        let _ = writeln!(billion, "a{level}: &a{level} [{items}]");
    }
    let run = refuse(billion.as_bytes());
    assert_eq!(run.code, 2);
    assert!(run.stderr.contains("too many values"), "{}", run.stderr);
    // One large text, referred to as often as aliases are allowed.
    let large = "x".repeat(500_000);
    let aliases = vec!["*t"; 900].join(",");
    let run = refuse(format!("{HEAD}t: &t {large}\nl: [{aliases}]\n").as_bytes());
    assert_eq!(run.code, 2, "{}", run.stderr);
}

#[test]
fn broken_text_is_refused() {
    for (text, problem) in [
        (&b"a: \xff\n"[..], "standard input:1:1: is not UTF-8 text"),
        (b"\xff\xfea\0:\0", "is not UTF-8 text"),
        (b"a: b\0", "not valid YAML"),
        (b"", "the manifest is null"),
        (b"a: [", "standard input:1:"),
        (b"a: b\n---\na: b\n", "a second document begins"),
        (b"a: 1\na: 2\n", "a key stands twice"),
        (b"a: *b\n", "an alias refers to no anchor"),
    ] {
        let run = refuse(text);
        assert!(run.code == 2 || text.is_empty(), "{}", run.stderr);
        assert!(run.stderr.contains(problem), "{text:?}: {}", run.stderr);
    }
}

#[test]
fn deep_documents_are_refused() {
    let run = refuse(format!("{HEAD}a: {}{}\n", "[".repeat(10_000), "]".repeat(10_000)).as_bytes());
    assert!(run.stderr.contains("more than 64 levels"), "{}", run.stderr);
}

#[test]
fn many_problems_are_counted() {
    let mut manifest = format!("{HEAD}plugins:\n  compute:\n    type: duckdb\n    config:\n");
    for number in 0..3_000 {
        let _ = writeln!(manifest, "      a{number}: '{{{{ x }}}}'");
    }
    let run = refuse(manifest.as_bytes());
    assert_eq!(run.code, 1);
    assert_eq!(run.stderr.matches("[template]").count(), 100);
    assert!(run.stderr.contains("error: 2900 more are not shown"));
}

#[test]
fn many_values_of_one_line_are_refused() {
    for (items, problem) in [
        ("abc, ".repeat(20_000), "[literal-secret]"),
        (
            "{secretRef: {source: vault, name: a}}, ".repeat(10_000),
            "vault",
        ),
    ] {
        let manifest = format!(
            "{HEAD}plugins: {{compute: {{type: postgres, config: {{password: [{items}]}}}}}}\n"
        );
        let run = refuse(manifest.as_bytes());
        assert_eq!(run.code, 1);
        assert!(run.stderr.contains(problem), "{}", run.stderr);
    }
}

#[test]
fn large_manifest_compiles() {
    let mut manifest = format!(
        "{HEAD}plugins:\n  compute:\n    type: duckdb\n    config: {{threads: 4}}\n  catalog:\n    type: polaris\n    config:\n"
    );
    let mut number = 0;
    while manifest.len() < 1000 * 1024 {
        let _ = writeln!(
            manifest,
            "      a{number}: {{b: {number}, c: [words, in, a, list], d: 'a text of some length that is long enough for the whole file to have fewer values than are allowed'}}"
        );
        number += 1;
    }
    let folder = TempDir::new().unwrap();
    let run = compile_in(folder.path(), manifest.as_bytes(), &["-"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
}
