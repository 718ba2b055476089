//! The detector against its corpus, hostile values, and the files of this repository.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use testbed::cpu_time::thread_time;

use super::custom::{
    MAX_COMPILED_BYTES, MAX_NAME_BYTES, MAX_PATTERN_BYTES, MAX_PATTERNS, PatternLimit,
};
use super::*;
use crate::yaml::{Node, NodeValue, YamlLimits, parse};

/// A value of the corpus.
struct Sample {
    class: String,
    field: String,
    value: String,
}

fn secrets() -> Vec<Sample> {
    samples(include_str!("../../tests/testdata/literals/secrets.yaml"))
}

fn harmless() -> Vec<Sample> {
    samples(include_str!("../../tests/testdata/literals/harmless.yaml"))
}

fn samples(text: &str) -> Vec<Sample> {
    let corpus = parse(text, YamlLimits::HAND_WRITTEN).unwrap();
    let sample = |node: &Node| {
        let [class, field, value] = node.items().unwrap() else {
            panic!("line {}: not class, field, value", node.position.line);
        };
        let text = |node: &Node| node.text().expect("text").to_owned();
        Sample {
            class: text(class),
            field: text(field),
            value: expand(&text(value)),
        }
    };
    corpus.items().unwrap().iter().map(sample).collect()
}

/// Expands `@{alphabet:length}` and `@{}`. The characters follow from the whole value, so they never change.
fn expand(value: &str) -> String {
    let mut state = value.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    // An own generator, because a library's may give other numbers in its next version.
    let mut random = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) >> 33).unwrap()
    };
    let mut expanded = String::new();
    let mut rest = value;
    while let Some((before, after)) = rest.split_once("@{") {
        let (run, left) = after.split_once('}').expect("an end of the run");
        expanded.push_str(before);
        if let Some((name, length)) = run.split_once(':') {
            let alphabet = alphabet(name).into_bytes();
            let length: usize = length.parse().expect("a length");
            let letters = (0..length).map(|_| char::from(alphabet[random() % alphabet.len()]));
            expanded.extend(letters);
        }
        rest = left;
    }
    expanded + rest
}

fn alphabet(name: &str) -> String {
    let (small, capital, digits) = (
        "abcdefghijklmnopqrstuvwxyz",
        "ABCDEFGHIJKLMNOPQRSTUVWXYZ",
        "0123456789",
    );
    match name {
        "lower" => small.to_owned(),
        "upper" => capital.to_owned(),
        "digit" => digits.to_owned(),
        "hex" => "0123456789abcdef".to_owned(),
        "HEX" => "0123456789ABCDEF".to_owned(),
        "alnum" => format!("{small}{capital}{digits}"),
        "ALNUM" => format!("{capital}{digits}"),
        "lnum" => format!("{small}{digits}"),
        "b64" => format!("{small}{capital}{digits}+/"),
        "b64url" => format!("{small}{capital}{digits}-_"),
        "base32" => format!("{capital}234567"),
        _ => panic!("unknown alphabet {name}"),
    }
}

fn detect(field: &str, value: &str) -> Option<String> {
    Detector::default()
        .detect(field, value)
        .map(|found| found.rule)
}

#[test]
fn corpus_has_two_hundred_of_each() {
    assert_eq!(secrets().len(), 200);
    assert_eq!(harmless().len(), 200);
}

#[test]
fn detector_finds_every_literal() {
    let missed: Vec<_> = secrets()
        .into_iter()
        .filter(|sample| detect(&sample.field, &sample.value).is_none())
        .map(|sample| format!("{} {}: {}", sample.class, sample.field, sample.value))
        .collect();
    assert!(
        missed.is_empty(),
        "{} missed:\n{}",
        missed.len(),
        missed.join("\n")
    );
}

#[test]
fn detector_finds_the_class_of_each_literal() {
    // The other classes are found by several rules, of which the most specific counts.
    for sample in secrets() {
        let found = detect(&sample.field, &sample.value);
        let expected = match sample.class.as_str() {
            "private-key" => "private-key",
            "jwt" => "jwt",
            "field" => "field-name",
            "entropy" => "random-text",
            _ => continue,
        };
        assert_eq!(
            found.as_deref(),
            Some(expected),
            "{}: {}",
            sample.field,
            sample.value
        );
    }
}

#[test]
fn detector_finds_nothing_harmless() {
    let wrong: Vec<_> = harmless()
        .into_iter()
        .filter_map(|sample| {
            let rule = detect(&sample.field, &sample.value)?;
            Some(format!(
                "{rule} {} {}: {}",
                sample.class, sample.field, sample.value
            ))
        })
        .collect();
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[test]
fn vendor_keys_are_found_without_a_name_and_amid_text() {
    for sample in secrets().iter().filter(|sample| sample.class == "vendor") {
        if sample.field == "aws_secret_access_key" {
            continue;
        }
        for value in [
            sample.value.clone(),
            format!("see '{}', please", sample.value),
        ] {
            assert!(detect("value", &value).is_some(), "{value}");
        }
    }
}

#[test]
fn detected_has_neither_value_nor_field() {
    for sample in secrets() {
        let found = Detector::default().detect(&sample.field, &sample.value);
        let debug = format!("{found:?}");
        assert!(!debug.contains(&sample.value), "{}", sample.class);
    }
    let debug = format!("{:?}", Detector::default());
    assert!(!debug.contains("hunter2"));
}

#[test]
fn built_in_rules_are_errors() {
    let found = Detector::default().detect("password", "hunter2").unwrap();
    assert_eq!(found.severity, FindingSeverity::Error);
}

fn custom(pattern: &str) -> CustomPattern {
    CustomPattern {
        name: "Internal Token".to_owned(),
        pattern: pattern.to_owned(),
        severity: FindingSeverity::Warning,
    }
}

fn limit_of(pattern: CustomPattern) -> PatternLimit {
    let errors = Detector::default()
        .with_custom_patterns(&[pattern])
        .unwrap_err();
    assert_eq!(errors.len(), 1);
    errors[0].limit
}

#[test]
fn custom_pattern_is_found_with_its_name_and_severity() {
    let detector = Detector::default()
        .with_custom_patterns(&[custom("MYCO-[a-z]{8}")])
        .unwrap();
    let found = detector.detect("value", "x MYCO-abcdefgh").unwrap();
    assert_eq!(found.rule, "Internal Token");
    assert_eq!(found.severity, FindingSeverity::Warning);
    // A built-in rule counts first: its severity may be higher.
    assert_eq!(
        detector.detect("password", "MYCO-abcdefgh").unwrap().rule,
        "field-name"
    );
    assert_eq!(detector.detect("value", "MYCO-abc"), None);
    // An expression is searched, too: a pattern may be about names.
    assert!(
        detector
            .detect("value", "{{ x('MYCO-abcdefgh') }}")
            .is_some()
    );
}

#[test]
fn custom_patterns_have_limits() {
    assert_eq!(limit_of(custom("")), PatternLimit::Length);
    assert_eq!(
        limit_of(custom(&"a".repeat(MAX_PATTERN_BYTES + 1))),
        PatternLimit::Length
    );
    assert!(
        Detector::default()
            .with_custom_patterns(&[custom(&"a".repeat(MAX_PATTERN_BYTES))])
            .is_ok()
    );
    assert_eq!(limit_of(custom("(?<=x)y")), PatternLimit::Syntax);
    assert_eq!(limit_of(custom("(a)\\1")), PatternLimit::Syntax);
    assert_eq!(limit_of(custom("a*")), PatternLimit::Empty);
    assert_eq!(
        limit_of(custom("((a{99}){99}){99}")),
        PatternLimit::Compiled
    );
    assert_eq!(
        limit_of(custom(&format!("{}a{}", "(".repeat(400), ")".repeat(400)))),
        PatternLimit::Syntax
    );
    assert!(
        Detector::default()
            .with_custom_patterns(&[custom("[a-z]{1000}")])
            .is_ok()
    );
    let named = |name: String| CustomPattern {
        name,
        ..custom("x")
    };
    assert_eq!(limit_of(named(" ".to_owned())), PatternLimit::Name);
    assert_eq!(limit_of(named("a\nb".to_owned())), PatternLimit::Name);
    assert_eq!(
        limit_of(named("a".repeat(MAX_NAME_BYTES + 1))),
        PatternLimit::Name
    );
    assert!(
        Detector::default()
            .with_custom_patterns(&vec![custom("x"); MAX_PATTERNS])
            .is_ok()
    );
    let errors = Detector::default()
        .with_custom_patterns(&vec![custom("x"); MAX_PATTERNS + 1])
        .unwrap_err();
    assert_eq!(errors[0].limit, PatternLimit::TooMany);
}

#[test]
fn custom_pattern_errors_are_reported_at_once_and_quote_nothing() {
    let errors = Detector::default()
        .with_custom_patterns(&[custom("hunter2("), custom("x"), custom("hunter2*")])
        .unwrap_err();
    let indices: Vec<_> = errors.iter().map(|error| error.index).collect();
    assert_eq!(indices, [0]);
    let errors = Detector::default()
        .with_custom_patterns(&[custom("hunter2("), custom("x"), custom("(hunter2)?")])
        .unwrap_err();
    let indices: Vec<_> = errors.iter().map(|error| error.index).collect();
    assert_eq!(indices, [0, 2]);
    for error in errors {
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}

#[test]
fn random_text_is_searched_up_to_its_limit() {
    let random = expand("@{b64:44}");
    let filler = |length: usize| "word ".repeat(length.div_ceil(5))[..length].to_owned();
    let before = filler(MAX_SEARCHED_BYTES - random.len() - 1);
    assert_eq!(
        detect("value", &format!("{before} {random}")).as_deref(),
        Some("random-text")
    );
    assert_eq!(
        detect("value", &format!("{} {random}", filler(MAX_SEARCHED_BYTES))),
        None
    );
    // All other rules read the whole value.
    let key = expand("ghp_@{alnum:36}");
    let value = format!("{} {key}", filler(4 * MAX_SEARCHED_BYTES));
    assert_eq!(detect("value", &value).as_deref(), Some("github-token"));
}

/// Time of the threads' clock that a comparison does not count.
const NOISE: Duration = Duration::from_millis(40);

/// CPU time of all rules on a value, as a value, a field name and a line.
fn work(part: &str, size: usize) -> Duration {
    let value = part.repeat(size / part.len());
    let started = thread_time();
    for field in ["value", "password", "id"] {
        let _ = Detector::default().detect(field, &value);
    }
    let _ = Detector::default().detect(&value, "x");
    let _ = is_allowed(&value);
    thread_time().saturating_sub(started)
}

#[test]
fn work_grows_with_the_length_of_a_value_alone() {
    for part in [
        "{{",
        "${",
        "$(",
        "%(",
        "$A",
        "{% ",
        "a://",
        "a://b:",
        "a://b:@",
        "://@",
        "eyJ.",
        "eyJhbGciOiJub25lIn0.eyJ.",
        "token=https://",
        "token=",
        "token='/",
        "\"token\":\"/",
        "--token /x ",
        "token=<",
        "password: /x\n",
        "-----BEGIN ",
        "-----BEGIN CERTIFICATE-----",
        "LS0tLS1CRUdJ",
        "MII",
        "M ",
        "ghp_",
        "sk-proj-",
        "xoxb-1",
        "pat.",
        "Bearer /1/",
        "Basic ",
        "a",
        "aB1",
        "A1-",
        "ä",
        "\u{fffc}",
        " ",
        "=",
        ":",
        "\"",
        "'",
        "<",
        "(",
        "-",
        "\n",
        "#",
        "x.atlasv1.",
        "aaaa8Q~",
    ] {
        // Work that grows with the square of the length is 64 times as much for eight times the length.
        let (short, long) = (work(part, 16 * 1024), work(part, 128 * 1024));
        assert!(
            long < 20 * short + NOISE,
            "{part:?}: {short:?}, then {long:?}"
        );
    }
}

#[test]
fn custom_patterns_search_a_bounded_text() {
    // Thirty-two patterns that remember as much as they may, on text that keeps every state alive.
    let patterns: Vec<_> = (0..MAX_PATTERNS)
        .map(|index| custom(&format!("(a|b)*a(a|b){{{}}}c", 200 + index)))
        .collect();
    let detector = Detector::default().with_custom_patterns(&patterns).unwrap();
    let time = |value: &str| {
        let started = thread_time();
        assert_eq!(detector.detect("value", value), None);
        thread_time().saturating_sub(started)
    };
    // The second text is longer only beyond the limit.
    let short = time(&"ab".repeat(MAX_SEARCHED_BYTES / 2));
    let long = time(&"ab".repeat(8 * MAX_SEARCHED_BYTES));
    assert!(long < 3 * short + NOISE, "{short:?}, then {long:?}");
}

/// Root of the checkout.
fn root() -> PathBuf {
    let root = Path::new(file!()).ancestors().nth(3).unwrap();
    if root.as_os_str().is_empty() {
        PathBuf::from(".")
    } else {
        root.to_owned()
    }
}

fn yaml_files(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            yaml_files(&path, files);
        } else if path
            .extension()
            .is_some_and(|ending| ending == "yaml" || ending == "yml")
        {
            files.push(path);
        }
    }
}

/// Scalars of a node with the path of their field.
fn scalars(path: &str, node: &Node, found: &mut Vec<(String, String)>) {
    match &node.value {
        NodeValue::Text(text) => found.push((path.to_owned(), text.clone())),
        NodeValue::List(items) => {
            for (index, item) in items.iter().enumerate() {
                scalars(&format!("{path}[{index}]"), item, found);
            }
        }
        NodeValue::Map(entries) => {
            for entry in entries {
                scalars(&format!("{path}.{}", entry.key), &entry.node, found);
            }
        }
        _ => {}
    }
}

/// Texts of a file's documents. Templates of Helm are not YAML: their lines are read as `name: value`.
fn texts(path: &Path) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(path).unwrap();
    let mut found = Vec::new();
    for document in text.split("\n---") {
        if let Ok(node) = parse(document, YamlLimits::HAND_WRITTEN) {
            scalars("", &node, &mut found);
            continue;
        }
        for line in document.lines() {
            let (name, value) = line
                .trim_start_matches([' ', '-'])
                .split_once(": ")
                .unwrap_or(("", line));
            found.push((name.to_owned(), value.trim_matches('"').to_owned()));
        }
    }
    found
}

#[test]
fn detector_finds_nothing_in_our_files() {
    let mut files = Vec::new();
    for folder in ["examples", "charts", "manifests", "docs", "hack", ".github"] {
        let folder = root().join(folder);
        if folder.is_dir() {
            yaml_files(&folder, &mut files);
        }
    }
    assert!(files.len() > 30, "{} files", files.len());
    let mut wrong = Vec::new();
    for file in files {
        for (field, value) in texts(&file) {
            // Secrets of the demo are literals.
            if field.starts_with(".stringData.") {
                continue;
            }
            if let Some(rule) = detect(&field, &value) {
                wrong.push(format!("{}: {field}: {rule}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn docs_contain_the_bounds() {
    let page = include_str!("../../docs/LITERALS.md");
    for (bound, number) in [
        (
            "Bytes of a value that are searched for random text and custom patterns",
            MAX_SEARCHED_BYTES,
        ),
        ("Custom patterns", MAX_PATTERNS),
        ("Bytes of one pattern", MAX_PATTERN_BYTES),
        ("Bytes of one pattern's name", MAX_NAME_BYTES),
        ("Bytes of one compiled pattern", MAX_COMPILED_BYTES),
    ] {
        assert!(page.contains(&format!("| {bound} | {number} |")), "{bound}");
    }
}

/// Writes the corpus for other detectors, and counts what this one finds in it. hack/literal-tools.sh runs it.
#[test]
#[ignore = "writes files for hack/literal-tools.sh"]
#[expect(clippy::disallowed_methods, reason = "a setting of the test run")]
fn corpus_is_written_for_other_detectors() {
    let folder = PathBuf::from(std::env::var("LITERALS_OUT").expect("LITERALS_OUT has the folder"));
    for (name, samples) in [("secrets", secrets()), ("harmless", harmless())] {
        let mut rendered = String::new();
        let mut found = 0;
        for sample in &samples {
            let value = serde_json::to_string(&sample.value).unwrap();
            writeln!(rendered, "{}: {value}", sample.field).unwrap();
            found += usize::from(detect(&sample.field, &sample.value).is_some());
        }
        std::fs::write(folder.join(format!("{name}.yaml")), rendered).unwrap();
        std::fs::write(folder.join(format!("{name}.found")), format!("{found}\n")).unwrap();
    }
}
