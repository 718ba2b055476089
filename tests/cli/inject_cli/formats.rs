//! Output format of documents, and comments.

use super::*;

const POD: &str = "\
# head
apiVersion: v1
kind: Pod
metadata:
  name: p # inside
  annotations: {secrets.floe.dev/refs: token}
spec:
  containers:
  - name: main
";

const OTHER: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c} # kept\n";

fn args<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&["-f", "-", "--secrets", "s.yaml"], more].concat()
}

fn json_pod() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": "p", "annotations": { "secrets.floe.dev/refs": "token" } },
        "spec": { "containers": [{ "name": "main", "args": ["\u{1}<>&\u{2028}"] }] },
    })
}

#[test]
fn lost_comments_are_reported_by_document() {
    let manifest = format!(
        "{OTHER}---\n{POD}---\n{}",
        pod("secrets.floe.dev/refs: token")
    );
    let output = inject(&[("s.yaml", SECRETS)], &manifest, &args(&[]));
    assert_eq!(output.code, 0);
    assert_eq!(
        output.stderr,
        "note: standard input: document 2: the document was written anew, and comments inside it are not in the output\n"
    );
    assert!(
        output
            .stdout
            .starts_with(&format!("{OTHER}---\n# head\napiVersion: v1\n")),
        "{}",
        output.stdout
    );
    assert!(!output.stdout.contains("# inside"), "{}", output.stdout);
}

#[rstest]
#[case::at_the_end("spec: {containers: [{name: main}]}\n# the end\n", true)]
#[case::between("spec:\n  # the containers\n  containers: [{name: main}]\n", true)]
#[case::in_a_list("spec:\n  containers:\n  - name: main # it\n", true)]
#[case::in_a_flow("spec: {containers: [ # all\n  {name: main}]}\n", true)]
#[case::in_an_indented_document("spec: {containers: [{name: main}]} # all\n", true)]
#[case::a_quoted_sign(
    "spec: {containers: [{name: main, args: ['a # b', \"c # d\"]}]}\n",
    false
)]
#[case::a_sign_in_a_word("spec: {containers: [{name: main, args: [a#b]}]}\n", false)]
#[case::a_script(
    "spec:\n  containers:\n  - name: main\n    args:\n    - |\n      #!/bin/sh\n      # runs\n      true # always\n",
    false
)]
#[case::in_quotes_of_many_lines(
    "spec:\n  containers:\n  - name: main\n    args:\n    - \"a\n      # b\n      c\"\n",
    false
)]
fn only_comments_count_as_comments(#[case] spec: &str, #[case] noted: bool) {
    let head = "# head\napiVersion: v1\nkind: Pod\nmetadata: {name: p, annotations: {secrets.floe.dev/refs: token}}\n";
    let manifest = format!("{head}{spec}");
    let indented = if spec.contains("# all") {
        manifest.replace('\n', "\n  ")
    } else {
        manifest
    };
    let output = inject(&[("s.yaml", SECRETS)], &indented, &args(&[]));
    assert_eq!(
        (output.code, output.stderr.starts_with("note: ")),
        (0, noted),
        "{}",
        output.stderr
    );
    assert!(
        output.stdout.starts_with("# head\n") && output.stdout.contains("FLOE_SECRET_TOKEN"),
        "{}",
        output.stdout
    );
}

#[rstest]
#[case::one_line(json_pod().to_string(), "{\"apiVersion\":\"v1\",\"kind\"")]
#[case::two_spaces(serde_json::to_string_pretty(&json_pod()).unwrap(), "{\n  \"apiVersion\": \"v1\",\n")]
#[case::four_spaces(serde_json::to_string_pretty(&json_pod()).unwrap().replace("  ", "    "), "{\n    \"apiVersion\": \"v1\",\n")]
#[case::tabs(serde_json::to_string_pretty(&json_pod()).unwrap().replace("  ", "\t"), "{\n\t\"apiVersion\": \"v1\",\n")]
#[case::after_a_separator(format!("# head\n---\n{}", json_pod()), "# head\n---\n{\"apiVersion\":\"v1\",")]
fn json_stays_json_with_its_indentation(#[case] manifest: String, #[case] start: &str) {
    let output = inject(&[("s.yaml", SECRETS)], &manifest, &args(&[]));
    assert_eq!((output.code, output.stderr.as_str()), (0, ""));
    assert!(output.stdout.starts_with(start), "{}", output.stdout);
    let at = output.stdout.find('{').unwrap();
    let read: Value = serde_json::from_str(&output.stdout[at..]).unwrap();
    assert_eq!(
        read["spec"]["containers"][0]["args"],
        json_pod()["spec"]["containers"][0]["args"]
    );
    assert_eq!(
        env_of(&printed(&output, "")),
        json!([variable("FLOE_SECRET_TOKEN", "token", "value")])
    );
    let again = inject(&[("s.yaml", SECRETS)], &output.stdout, &args(&[]));
    assert_eq!(
        (again.code, again.stdout.as_str()),
        (0, output.stdout.as_str())
    );
}

/// YAML, JSON, JSON, empty, a Secret, YAML.
fn mixed() -> String {
    let other =
        "{\"apiVersion\": \"v1\", \"kind\": \"ConfigMap\", \"metadata\": {\"name\": \"j\"}}";
    let secret =
        "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {a: 'yes', n: \"0644\"}\n";
    format!(
        "{POD}---\n{}\n{other}\n---\n# nothing\n---\nnull\n---\n{secret}---\n{OTHER}",
        json_pod()
    )
}

#[test]
fn output_is_json_if_requested() {
    let output = inject(&[("s.yaml", SECRETS)], &mixed(), &args(&["-o", "json"]));
    assert_eq!(output.code, 0, "{}", output.stderr);
    let objects: Vec<Value> = serde_json::Deserializer::from_str(&output.stdout)
        .into_iter()
        .map(Result::unwrap)
        .collect();
    let kinds: Vec<&str> = objects
        .iter()
        .map(|object| object["kind"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["Pod", "Pod", "ConfigMap", "Secret", "ConfigMap"]);
    assert_eq!(objects[3]["stringData"], json!({ "a": "yes", "n": "0644" }));
    assert_eq!(as_kubectl_reads(&output.stdout).len(), 5);
    assert!(
        output
            .stdout
            .starts_with("{\n    \"apiVersion\": \"v1\",\n"),
        "{}",
        output.stdout
    );
    let noted = |document: usize| {
        format!(
            "note: standard input: document {document}: its comments are not in the output, because JSON has none\n"
        )
    };
    assert_eq!(output.stderr, [1, 6].map(noted).concat());
}

#[test]
fn output_is_yaml_if_requested() {
    let output = inject(&[("s.yaml", SECRETS)], &mixed(), &args(&["-o", "yaml"]));
    assert_eq!(output.code, 0, "{}", output.stderr);
    assert!(
        !output.stdout.contains('{') || output.stdout.contains("metadata: {name: s}"),
        "{}",
        output.stdout
    );
    assert!(
        output.stdout.ends_with(&format!("---\n{OTHER}")),
        "what is YAML and unpatched stays: {}",
        output.stdout
    );
    let objects = as_kubectl_reads(&output.stdout);
    let kinds: Vec<&str> = objects
        .iter()
        .map(|object| object["kind"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["Pod", "Pod", "ConfigMap", "Secret", "ConfigMap"]);
    assert_eq!(env_of(&objects[0]), env_of(&objects[1]));
    assert_eq!(output.stderr.lines().count(), 1, "{}", output.stderr);
}

#[test]
fn json_before_yaml_is_read_by_kubectl() {
    let manifest = format!("{}\n---\n{POD}", json_pod());
    let output = inject(&[("s.yaml", SECRETS)], &manifest, &args(&[]));
    assert_eq!(output.code, 0);
    assert_eq!(
        as_kubectl_reads(&output.stdout).len(),
        2,
        "{}",
        output.stdout
    );
}

#[test]
fn unreadable_secret_is_rejected_without_its_values() {
    let secret =
        "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {a: canary, a: canary}\n";
    let output = inject(
        &[("s.yaml", SECRETS)],
        &format!("{POD}---\n{secret}"),
        &args(&["-o", "json"]),
    );
    assert_eq!((output.code, output.stdout.as_str()), (2, ""));
    assert!(!output.stderr.contains("canary"), "{}", output.stderr);
}
