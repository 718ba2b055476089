//! Accepted inputs: folders, byte order marks, UTF-16, JSON objects back to back, deep nesting.

use super::*;

/// Runs `inject` on bytes of standard input.
fn inject_bytes(stdin: &[u8], args: &[&str]) -> CommandOutput {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("s.yaml"), SECRETS).unwrap();
    let program = Command::new(env!("CARGO_BIN_EXE_floe-secrets-webhook"));
    run(
        program,
        folder.path(),
        stdin,
        &[&["inject", "-f", "-", "--secrets", "s.yaml"], args].concat(),
    )
}

fn json_pod(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": name, "annotations": { "secrets.floe.dev/refs": "token" } },
        "spec": { "containers": [{ "name": "main" }] },
    })
}

/// Names of the printed objects, and whether each was injected, as kubectl reads them.
fn injected_pods(stdout: &str) -> Vec<(String, bool)> {
    let name = |object: &Value| object["metadata"]["name"].as_str().unwrap().to_owned();
    as_kubectl_reads(stdout)
        .iter()
        .map(|pod| (name(pod), env_of(pod).is_array()))
        .collect()
}

#[rstest]
#[case::by_lines("\n")]
#[case::without_anything("")]
#[case::by_blank_lines("\n\n\n")]
#[case::by_separators("\n---\n")]
#[case::by_a_byte_order_mark("\n\u{feff}")]
#[case::by_nothing_but_a_byte_order_mark("\u{feff} \n")]
fn json_objects_back_to_back_are_documents(#[case] between: &str) {
    let compact = ["a", "b", "c"]
        .map(|name| json_pod(name).to_string())
        .join(between);
    let pretty = ["a", "b", "c"]
        .map(|name| serde_json::to_string_pretty(&json_pod(name)).unwrap())
        .join(between);
    for stream in [compact, pretty] {
        let output = inject_bytes(stream.as_bytes(), &[]);
        assert_eq!((output.code, output.stderr.as_str()), (0, ""));
        let expected = ["a", "b", "c"].map(|name| (name.to_owned(), true));
        assert_eq!(injected_pods(&output.stdout), expected, "{}", output.stdout);
        let again = inject_bytes(output.stdout.as_bytes(), &[]);
        assert_eq!(
            (again.code, again.stdout.as_str()),
            (0, output.stdout.as_str())
        );
    }
}

#[test]
fn concatenated_json_rewrites_only_patched_object() {
    let other = |name: &str| {
        format!(
            "{{\"apiVersion\": \"v1\",   \"kind\": \"ConfigMap\", \"metadata\": {{\"name\":\"{name}\"}}}}"
        )
    };
    let stream = format!("{}\n{}\n\n{}", other("a"), json_pod("b"), other("c"));
    let output = inject_bytes(stream.as_bytes(), &[]);
    assert_eq!((output.code, output.stderr.as_str()), (0, ""));
    let lines: Vec<&str> = output.stdout.lines().collect();
    assert_eq!(
        (lines[0], lines[2]),
        (other("a").as_str(), other("c").as_str())
    );
    assert!(lines[1].contains("FLOE_SECRET_TOKEN"), "{}", lines[1]);
}

#[test]
fn broken_json_after_valid_json_is_reported_by_line() {
    let stream = format!("{}\n{{\"kind\": canary, \"a\": [\n", json_pod("a"));
    let output = inject_bytes(stream.as_bytes(), &[]);
    assert_eq!((output.code, output.stdout.as_str()), (2, ""));
    assert!(
        output.stderr.starts_with("error: standard input:2:")
            || output.stderr.starts_with("error: standard input:3:"),
        "{}",
        output.stderr
    );
    assert!(!output.stderr.contains("canary"), "{}", output.stderr);
}

#[rstest]
#[case::of_the_stream("\u{feff}", "")]
#[case::of_a_document("", "\u{feff}")]
#[case::of_both("\u{feff}", "\u{feff}")]
fn byte_order_mark_may_begin_any_document(#[case] first: &str, #[case] second: &str) {
    let (a, b) = (
        pod("secrets.floe.dev/refs: token"),
        pod("secrets.floe.dev/refs: token").replace("name: p", "name: q"),
    );
    for joint in ["---\n", "--- # next\n\n"] {
        for json in [false, true] {
            let last = if json {
                json_pod("q").to_string()
            } else {
                b.clone()
            };
            let output = inject_bytes(format!("{first}{a}{joint}{second}{last}").as_bytes(), &[]);
            assert_eq!(
                (output.code, output.stderr.as_str()),
                (0, ""),
                "{json} {joint:?}"
            );
            assert!(!output.stdout.contains('\u{feff}'), "{}", output.stdout);
            assert_eq!(
                injected_pods(&output.stdout),
                [("p".to_owned(), true), ("q".to_owned(), true)]
            );
        }
    }
    // Concatenated as several files are.
    let output = inject_bytes(
        format!("{first}{a}\u{feff}---\n{second}{b}").as_bytes(),
        &[],
    );
    assert_eq!(
        (output.code, injected_pods(&output.stdout).len()),
        (0, 2),
        "{}",
        output.stderr
    );
}

#[test]
fn byte_order_mark_of_later_file_is_not_printed() {
    let marked = "\u{feff}apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\n";
    let output = inject(
        &[("a.yaml", marked), ("b.yaml", marked)],
        "",
        &["-f", "a.yaml", "-f", "b.yaml"],
    );
    assert_eq!((output.code, output.stderr.as_str()), (0, ""));
    assert_eq!(
        output.stdout,
        format!("{marked}---\n{}", marked.trim_start_matches('\u{feff}'))
    );
    assert_eq!(as_kubectl_reads(&output.stdout).len(), 2);
}

#[rstest]
#[case::little_endian(u16::to_le_bytes)]
#[case::big_endian(u16::to_be_bytes)]
fn utf16_with_its_mark_is_read(#[case] bytes: fn(u16) -> [u8; 2]) {
    let manifest = format!(
        "# é 😀\n{}---\n{}\n",
        pod("secrets.floe.dev/refs: token"),
        json_pod("q")
    );
    let encoded: Vec<u8> = std::iter::once(0xfeff)
        .chain(manifest.encode_utf16())
        .flat_map(bytes)
        .collect();
    let output = inject_bytes(&encoded, &[]);
    assert_eq!((output.code, output.stderr.as_str()), (0, ""));
    assert!(output.stdout.starts_with("# é 😀\n"), "{}", output.stdout);
    assert_eq!(
        injected_pods(&output.stdout),
        [("p".to_owned(), true), ("q".to_owned(), true)]
    );
    let cut = inject_bytes(&encoded[..encoded.len() - 1], &[]);
    assert_eq!(cut.code, 2);
    assert!(
        cut.stderr
            .contains("is not UTF-16 text, as its byte order mark says"),
        "{}",
        cut.stderr
    );
}

#[test]
fn folder_is_read_as_kubectl_reads_it() {
    let folder = TempDir::new().unwrap();
    std::fs::create_dir_all(folder.path().join("m/deep")).unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    let named = |name: &str| {
        pod("secrets.floe.dev/refs: token").replace("name: p", &format!("name: {name}"))
    };
    write("m/b.yaml", &named("b"));
    write("m/a.json", &json_pod("a").to_string());
    write("m/c.yml", &named("c"));
    write("m/notes.txt", "not: a manifest");
    write("m/deep/d.yaml", &named("d"));
    write("e.manifest", &named("e"));
    write("s.yaml", SECRETS);
    let printed_by_inject = |args: &[&str]| {
        let program = Command::new(env!("CARGO_BIN_EXE_floe-secrets-webhook"));
        let output = run(
            program,
            folder.path(),
            b"",
            &[&["inject", "--secrets", "s.yaml"], args].concat(),
        );
        assert_eq!((output.code, output.stderr.as_str()), (0, ""));
        injected_pods(&output.stdout)
            .into_iter()
            .map(|(name, injected)| {
                assert!(injected, "{name}");
                name
            })
            .collect::<Vec<_>>()
    };
    let printed_by_kubectl = |args: &[&str]| {
        let args = [&["label", "--local", "-o", "name", "seen=yes"], args].concat();
        let output = run(Command::new(kubectl()), folder.path(), b"", &args);
        assert_eq!(output.code, 0, "{}", output.stderr);
        output
            .stdout
            .lines()
            .map(|line| line.trim_start_matches("pod/").to_owned())
            .collect::<Vec<_>>()
    };
    for (args, expected) in [
        (&["-f", "m"][..], &["a", "b", "c"][..]),
        (&["-R", "-f", "m"], &["a", "b", "c", "d"]),
        (
            &["-f", "m/deep", "-f", "e.manifest", "-f", "m/b.yaml"],
            &["d", "e", "b"],
        ),
    ] {
        assert_eq!(
            (printed_by_inject(args), printed_by_kubectl(args)),
            (names(expected), names(expected)),
            "{args:?}"
        );
    }
    // A folder of Secrets counts too.
    write("m/s.yaml", SECRETS);
    let program = Command::new(env!("CARGO_BIN_EXE_floe-secrets-webhook"));
    let output = run(
        program,
        folder.path(),
        b"",
        &["inject", "-f", "e.manifest", "--secrets", "m"],
    );
    assert_eq!(
        env_of(&printed(&output, "")),
        json!([variable("FLOE_SECRET_TOKEN", "token", "value")])
    );
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// Object with this many levels of nested maps, or lists.
fn nested(levels: usize, json: bool, list: bool) -> String {
    let inner = levels - 1;
    let deep = match (json, list) {
        (_, true) => format!("{}1{}", "[".repeat(inner), "]".repeat(inner)),
        (true, false) => format!("{}1{}", "{\"a\":".repeat(inner), "}".repeat(inner)),
        (false, false) => {
            let lines: Vec<String> = (0..inner)
                .map(|level| format!("\n{}a:", " ".repeat(level + 1)))
                .collect();
            format!("{} 1", lines.concat())
        }
    };
    if json {
        format!("{{\"apiVersion\": \"x.io/v1\", \"kind\": \"X\", \"metadata\": {{\"name\": \"x\"}}, \"deep\": {deep}, \"spec\": SPEC}}")
    } else {
        format!("apiVersion: x.io/v1\nkind: X\nmetadata: {{name: x}}\nspec: SPEC\ndeep: {deep}\n")
    }
    .replace("SPEC", &json!({ "template": json_pod("x") }).to_string())
}

#[rstest]
fn two_hundred_levels_are_read_and_more_than_the_bound_are_refused(
    #[values(true, false)] json: bool,
    #[values(true, false)] list: bool,
) {
    for levels in [200, 256] {
        let output = inject_bytes(nested(levels, json, list).as_bytes(), &[]);
        assert_eq!((output.code, output.stderr.as_str()), (0, ""), "{levels}");
        assert!(output.stdout.contains("FLOE_SECRET_TOKEN"), "{levels}");
        let args = ["label", "--local", "-f", "-", "-o", "name", "seen=yes"];
        let read = run(
            Command::new(kubectl()),
            Path::new("/"),
            output.stdout.as_bytes(),
            &args,
        );
        assert_eq!(
            (read.code, read.stdout.as_str()),
            (0, "x.x.io/x\n"),
            "{levels} {}",
            read.stderr
        );
        let again = inject_bytes(output.stdout.as_bytes(), &[]);
        assert_eq!(
            (again.code, again.stdout.as_str()),
            (0, output.stdout.as_str()),
            "{levels} {}",
            again.stderr
        );
    }
    for levels in [257, 5_000, 100_000] {
        // The size of nested block maps grows by the square of their levels.
        let levels = if json || list {
            levels
        } else {
            levels.min(5_000)
        };
        let output = inject_bytes(nested(levels, json, list).as_bytes(), &[]);
        assert_eq!((output.code, output.stdout.as_str()), (2, ""), "{levels}");
        assert!(
            output.stderr.starts_with("error: standard input:"),
            "{}",
            output.stderr
        );
        assert!(
            output.stderr.ends_with(
                ": the document has more than 256 levels of maps and lists in each other\n"
            ),
            "{}",
            output.stderr
        );
    }
}

#[test]
fn too_long_input_is_rejected() {
    let folder = TempDir::new().unwrap();
    let file = std::fs::File::create(folder.path().join("m.yaml")).unwrap();
    // Sparse file: it takes no disk space.
    file.set_len((256 << 20) + 1).unwrap();
    let program = Command::new(env!("CARGO_BIN_EXE_floe-secrets-webhook"));
    let output = run(program, folder.path(), b"", &["inject", "-f", "m.yaml"]);
    assert_eq!(
        (output.code, output.stderr.as_str()),
        (
            2,
            "error: m.yaml: is longer than 268435456 bytes; split it\n"
        )
    );
}
