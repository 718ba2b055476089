//! Image: every file that the Containerfile copies exists and is sent to the builder.

use std::path::Path;

use testbed::tools::project_root;

/// Whether `.dockerignore` excludes a path: the last pattern that matches it, or a folder above it, decides; `!`
/// includes it again.
fn ignored(patterns: &str, path: &str) -> bool {
    let mut ignored = false;
    for line in patterns
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        let (pattern, takes_in) = line
            .strip_prefix('!')
            .map_or((line, false), |pattern| (pattern, true));
        let pattern: Vec<&str> = pattern
            .trim()
            .split('/')
            .filter(|part| !part.is_empty() && *part != ".")
            .collect();
        let parts: Vec<&str> = path.split('/').collect();
        let above = (1..=parts.len()).any(|length| {
            parts
                .get(..length)
                .is_some_and(|parts| matches(&pattern, parts))
        });
        if above {
            ignored = !takes_in;
        }
    }
    ignored
}

/// Matches part by part; `**` matches any number of parts.
fn matches(pattern: &[&str], parts: &[&str]) -> bool {
    match (pattern, parts) {
        ([], []) => true,
        (["**", rest @ ..], _) => (0..=parts.len()).any(|skipped| matches(rest, &parts[skipped..])),
        ([first, pattern @ ..], [part, parts @ ..]) => {
            glob(first.as_bytes(), part.as_bytes()) && matches(pattern, parts)
        }
        _ => false,
    }
}

/// Matches one part of a path: `*` for any characters, `?` for one. Other characters of Go's patterns do not occur.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern, text) {
        ([], []) => true,
        ([b'*', rest @ ..], _) => (0..=text.len()).any(|skipped| glob(rest, &text[skipped..])),
        ([b'?', rest @ ..], [_, text @ ..]) => glob(rest, text),
        ([b'[' | b'\\', ..], _) => panic!("a pattern that this test does not know"),
        ([first, rest @ ..], [byte, text @ ..]) => first == byte && glob(rest, text),
        _ => false,
    }
}

/// Sources of `COPY` in the checkout.
fn copied() -> Vec<String> {
    let text =
        std::fs::read_to_string(project_root().join("Containerfile")).expect("the Containerfile");
    let mut sources = Vec::new();
    for line in text.replace("\\\n", " ").lines() {
        let mut words = line.split_whitespace();
        if !matches!(words.next(), Some("COPY" | "ADD")) {
            continue;
        }
        let words: Vec<&str> = words.collect();
        if words.iter().any(|word| word.starts_with("--from=")) {
            continue;
        }
        let files: Vec<&str> = words
            .into_iter()
            .filter(|word| !word.starts_with("--"))
            .collect();
        let (_, from) = files.split_last().expect("a target folder");
        sources.extend(from.iter().map(|source| {
            source
                .trim_start_matches("./")
                .trim_end_matches('/')
                .to_owned()
        }));
    }
    sources
}

/// Files of a folder, or the file itself, by path below the project.
fn files(path: &Path, found: &mut Vec<String>) {
    if path.is_dir() {
        for entry in std::fs::read_dir(path).expect("a folder") {
            files(&entry.expect("an entry").path(), found);
        }
    } else {
        found.push(
            path.strip_prefix(project_root())
                .expect("below the project")
                .display()
                .to_string(),
        );
    }
}

#[test]
fn copied_files_are_sent_to_builder() {
    let patterns =
        std::fs::read_to_string(project_root().join(".dockerignore")).expect(".dockerignore");
    let sources = copied();
    assert!(sources.len() >= 6, "{sources:?}");
    for source in sources {
        let path = project_root().join(&source);
        assert!(path.exists(), "{source} is copied and not there");
        let mut all = Vec::new();
        files(&path, &mut all);
        assert!(!all.is_empty(), "{source} is empty");
        for file in all {
            assert!(
                !ignored(&patterns, &file),
                "{file} is copied, and .dockerignore keeps it from the builder"
            );
        }
    }
    // Keys, caches and build output must not be sent to the builder.
    for file in [
        ".git/config",
        "target/release/floe-secrets-webhook",
        "docs/STYLE.md",
        "tls.key",
    ] {
        assert!(ignored(&patterns, file), "{file} is sent to the builder");
    }
}

#[test]
fn included_files_are_copied_to_build() {
    let sources = copied();
    let mut all = Vec::new();
    files(&project_root().join("src"), &mut all);
    for file in all
        .into_iter()
        .filter(|file| Path::new(file).extension().is_some_and(|end| end == "rs"))
    {
        let text = std::fs::read_to_string(project_root().join(&file)).expect("a source file");
        // Unit tests are not built in the image.
        let text = text
            .split("#[cfg(test)]\nmod tests")
            .next()
            .unwrap_or_default();
        if file.ends_with("test_support.rs")
            || file.ends_with("/tests.rs")
            || file.contains("/tests/")
        {
            continue;
        }
        for included in text
            .split("include_str!(\"")
            .skip(1)
            .filter_map(|rest| rest.split('"').next())
        {
            let folder = project_root().join(&file);
            let path = folder
                .parent()
                .expect("a folder")
                .join(included)
                .canonicalize()
                .expect("an included file exists");
            let path = path
                .strip_prefix(project_root().canonicalize().expect("the project"))
                .expect("below the project");
            let copied = sources.iter().any(|source| path.starts_with(source));
            assert!(
                copied,
                "{file} includes {}, which the Containerfile does not copy",
                path.display()
            );
        }
    }
}

#[test]
fn dockerignore_rules_are_evaluated() {
    let patterns = "*\n!src\nsrc/secret\n!a/b\n**/*.key\ndocs/?.md\n# a comment\n";
    for (path, is) in [
        ("Cargo.toml", true),
        ("src/main.rs", false),
        ("src/deep/er.rs", false),
        ("src/secret/x.rs", true),
        ("src/deep/tls.key", true),
        ("a/c", true),
        ("a/b/c", false),
        ("docs/a.md", true),
    ] {
        assert_eq!(ignored(patterns, path), is, "{path}");
    }
}
