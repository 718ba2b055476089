//! `inject` as a person calls it: the built program, files and standard input, and real kubectl to read its output.

#![expect(
    clippy::too_many_lines,
    reason = "a test of one sequence, or a table of cases"
)]
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests, which clippy does not recognise"
)]

mod formats;
mod hints;
mod inputs;
mod templates;

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use rstest::rstest;
use serde_json::{Value, json};
use tempfile::TempDir;
use testbed::command_output::CommandOutput;

/// Runs `inject` in a folder of the given files, with this on standard input.
fn inject(files: &[(&str, &str)], stdin: &str, args: &[&str]) -> CommandOutput {
    let folder = TempDir::new().unwrap();
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let program = Command::new(env!("CARGO_BIN_EXE_floe-secrets-webhook"));
    run(
        program,
        folder.path(),
        stdin.as_bytes(),
        &[&["inject"], args].concat(),
    )
}

fn run(mut program: Command, folder: &Path, stdin: &[u8], args: &[&str]) -> CommandOutput {
    let mut child = program
        .args(args)
        .current_dir(folder)
        .env("HOME", folder)
        .env("KUBECONFIG", folder.join("no-kubeconfig"))
        .env_remove("FLOE_SECRETS_SIDECAR_CONTAINERS")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let stdin = stdin.to_vec();
    let writer = std::thread::spawn(move || {
        // A program that does not need its input may have exited already.
        drop(input.write_all(&stdin));
    });
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    CommandOutput {
        code: output.status.code().expect("the program exits"),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

fn kubectl() -> &'static Path {
    static KUBECTL: OnceLock<PathBuf> = OnceLock::new();
    KUBECTL.get_or_init(|| {
        let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("hack/tools/tools.sh");
        let built = Command::new(tools)
            .args(["path", "kubectl"])
            .stderr(Stdio::inherit())
            .output()
            .unwrap();
        assert!(built.status.success(), "kubectl could not be built");
        PathBuf::from(String::from_utf8(built.stdout).unwrap().trim())
    })
}

/// Objects of a manifest, as kubectl reads them without a server.
fn as_kubectl_reads(manifest: &str) -> Vec<Value> {
    let folder = TempDir::new().unwrap();
    let args = ["label", "--local", "-f", "-", "-o", "json", "seen=yes"];
    let output = run(
        Command::new(kubectl()),
        folder.path(),
        manifest.as_bytes(),
        &args,
    );
    assert_eq!(output.code, 0, "{}", output.stderr);
    let objects = serde_json::Deserializer::from_str(&output.stdout).into_iter::<Value>();
    objects.map(Result::unwrap).collect()
}

const SECRETS: &str = r#"
apiVersion: v1
kind: Secret
metadata:
  name: snowflake
  namespace: jobs
  annotations:
    kubectl.kubernetes.io/last-applied-configuration: '{"stringData":{"user":"canary-applied"}}'
data: {user: Y2FuYXJ5LXVzZXI=, password: Y2FuYXJ5LXBhc3N3b3Jk}
stringData: {role: canary-role}
---
apiVersion: v1
kind: Secret
metadata: {name: token}
stringData: {value: canary-token}
"#;

fn pod(annotations: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: p\n  annotations: {{{annotations}}}\nspec:\n  containers:\n  - name: main\n"
    )
}

/// Template of the one printed object, at `path`.
fn printed(output: &CommandOutput, path: &str) -> Value {
    assert_eq!(
        (output.code, output.stderr.contains("error:")),
        (0, false),
        "{}",
        output.stderr
    );
    let objects = as_kubectl_reads(&output.stdout);
    objects[0]
        .pointer(path)
        .unwrap_or_else(|| panic!("no {path} in {}", output.stdout))
        .clone()
}

fn env_of(pod: &Value) -> Value {
    pod["spec"]["containers"][0]["env"].clone()
}

fn variable(name: &str, secret: &str, key: &str) -> Value {
    json!({ "name": name, "valueFrom": { "secretKeyRef": { "name": secret, "key": key } } })
}

// === injected objects and places ===

#[rstest]
#[case::pod("v1", "Pod", "")]
#[case::pod_template("v1", "PodTemplate", "/template")]
#[case::deployment("apps/v1", "Deployment", "/spec/template")]
#[case::replica_set("apps/v1", "ReplicaSet", "/spec/template")]
#[case::replication_controller("v1", "ReplicationController", "/spec/template")]
#[case::stateful_set("apps/v1", "StatefulSet", "/spec/template")]
#[case::daemon_set("apps/v1", "DaemonSet", "/spec/template")]
#[case::job("batch/v1", "Job", "/spec/template")]
#[case::cron_job("batch/v1", "CronJob", "/spec/jobTemplate/spec/template")]
#[case::rollout("argoproj.io/v1alpha1", "Rollout", "/spec/template")]
fn every_kind_that_makes_pods_is_injected_where_its_pod_stands(
    #[case] api_version: &str,
    #[case] kind: &str,
    #[case] at: &str,
) {
    let mut object = json!({
        "metadata": { "annotations": { "secrets.floe.dev/env-from": "snowflake" } },
        "spec": { "containers": [{ "name": "main", "image": "i" }] },
    });
    for field in at.rsplit('/').filter(|field| !field.is_empty()) {
        object = json!({ field: object });
    }
    object["apiVersion"] = api_version.into();
    object["kind"] = kind.into();
    object["metadata"]["name"] = "x".into();
    object["metadata"]["namespace"] = "jobs".into();
    let output = inject(
        &[("s.yaml", SECRETS)],
        &object.to_string(),
        &["-f", "-", "--secrets", "s.yaml"],
    );
    let pod = printed(&output, at);
    assert_eq!(
        pod["spec"]["containers"][0]["envFrom"],
        json!([{ "secretRef": { "name": "snowflake" } }])
    );
    assert_eq!(
        pod["metadata"]["labels"]["secrets.floe.dev/injected"],
        "true"
    );
    // Reloader reads templates: a pod's reload annotation there would run a finished Job again.
    let reload_annotation =
        pod["metadata"]["annotations"]["secret.reloader.stakater.com/reload"].as_str();
    assert_eq!(reload_annotation, (kind == "Pod").then_some("snowflake"));
    assert_eq!(output.stderr, "", "no warnings");
}

#[test]
fn floe_job_gets_bulk_references_and_aliases() {
    let job = r#"
# rendered by the floe-jobs chart
apiVersion: batch/v1
kind: Job
metadata:
  name: dbt-run-20240101
  namespace: jobs
  labels: {app.kubernetes.io/name: floe-jobs}
spec:
  backoffLimit: 0
  ttlSecondsAfterFinished: 0600
  template:
    metadata:
      annotations:
        secrets.floe.dev/env-from: snowflake
        secrets.floe.dev/refs: |
          - {source: kubernetes, name: snowflake, key: role}
        secrets.floe.dev/env.SNOWFLAKE_PASSWORD: snowflake/password
    spec:
      restartPolicy: Never
      initContainers: [{name: fetch, image: git}]
      containers:
      - name: dbt
        image: ghcr.io/floe/dbt:1.9
        args: [run, --profiles-dir, /etc/dbt]
        env:
        - {name: DBT_TARGET, value: "no"}
        - {name: SNOWFLAKE_URL, value: "snowflake://$(SNOWFLAKE_PASSWORD)@acme"}
      - {name: istio-proxy, image: proxy}
"#;
    let output = inject(
        &[("job.yaml", job), ("s.yaml", SECRETS)],
        "",
        &["-f", "job.yaml", "--secrets", "s.yaml"],
    );
    let pod = printed(&output, "/spec/template");
    let expected = json!([
        variable("SNOWFLAKE_PASSWORD", "snowflake", "password"),
        { "name": "DBT_TARGET", "value": "no" },
        { "name": "SNOWFLAKE_URL", "value": "snowflake://$(SNOWFLAKE_PASSWORD)@acme" },
        variable("FLOE_SECRET_SNOWFLAKE_ROLE", "snowflake", "role"),
    ]);
    assert_eq!(env_of(&pod), expected);
    assert_eq!(
        pod["spec"]["containers"][1],
        json!({ "name": "istio-proxy", "image": "proxy" })
    );
    assert_eq!(
        pod["spec"]["initContainers"],
        json!([{ "name": "fetch", "image": "git" }])
    );
    assert!(
        output
            .stdout
            .starts_with("\n# rendered by the floe-jobs chart\n"),
        "its head is kept: {}",
        output.stdout
    );
    assert!(
        output.stdout.contains("ttlSecondsAfterFinished: 384\n"),
        "octal, as kubectl reads it: {}",
        output.stdout
    );

    let files = [("again.yaml", output.stdout.as_str()), ("s.yaml", SECRETS)];
    let again = inject(&files, "", &["-f", "again.yaml", "--secrets", "s.yaml"]);
    assert_eq!(
        (again.code, again.stdout.as_str()),
        (0, output.stdout.as_str()),
        "a second pass changes nothing"
    );
}

#[test]
fn documents_keep_their_order_and_plain_ones_their_bytes() {
    let first = "\
# a comment, and odd spacing
apiVersion:   v1
kind: ConfigMap
metadata: {name: c}
data: {a: 'b'} # kept
---
---
apiVersion: v1
kind: Secret
metadata: {name: token}
stringData: {value: !!str 12}
";
    let second = format!(
        "# of the pod\n{}--- # another\napiVersion: v1\nkind: Service\nmetadata: {{name: s}}",
        pod("secrets.floe.dev/refs: token")
    );
    let args = [
        "-f",
        "first.yaml",
        "-f",
        "-",
        "-f",
        "third.json",
        "--secrets",
        "first.yaml",
    ];
    let third =
        r#"{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "\ud83d\ude00\/"}}"#;
    let output = inject(
        &[("first.yaml", first), ("third.json", third)],
        &second,
        &args,
    );
    assert_eq!((output.code, output.stderr.as_str()), (0, ""));
    let expected = format!(
        "{first}---
# of the pod
apiVersion: v1
kind: Pod
metadata:
  name: p
  annotations:
    secrets.floe.dev/refs: token
    secrets.floe.dev/injected: \"{{\\\"containers\\\":{{\\\"main\\\":{{\\\"env\\\":[\\\"FLOE_SECRET_TOKEN\\\"]}}}},\\\"restart\\\":{{\\\"list\\\":[\\\"token\\\"]}}}}\"
    secret.reloader.stakater.com/reload: token
  labels:
    secrets.floe.dev/injected: \"true\"
spec:
  containers:
  - name: main
    env:
    - name: FLOE_SECRET_TOKEN
      valueFrom:
        secretKeyRef:
          name: token
          key: value
--- # another
apiVersion: v1
kind: Service
metadata: {{name: s}}
---
{third}"
    );
    assert_eq!(output.stdout, expected);
}

#[rstest]
#[case::nothing("")]
#[case::a_comment("# nothing here\n")]
#[case::separators("---\n---\n# x\n---")]
#[case::carriage_returns("apiVersion: v1\r\nkind: ConfigMap\r\nmetadata: {name: x}\r\n---\r\n")]
#[case::a_byte_order_mark("\u{feff}apiVersion: v1\nkind: ConfigMap\n")]
#[case::an_end_marker(
    "apiVersion: v1\nkind: ConfigMap\n...\n---\napiVersion: v1\nkind: ConfigMap\n"
)]
#[case::a_null("---\nnull\n--- ~\n")]
#[case::separators_in_a_block(
    "apiVersion: v1\nkind: ConfigMap\ndata:\n  a: |\n    x\n    ---\n    y"
)]
#[case::tabs_in_json("{\n\t\"apiVersion\": \"v1\",\n\t\"kind\": \"ConfigMap\"\n}\n")]
#[case::json_after_a_separator("--- {\"apiVersion\": \"v1\", \"kind\": \"ConfigMap\"}\n")]
#[case::an_empty_list("apiVersion: v1\nkind: List\nitems: []\n")]
#[case::a_kind_that_only_sounds_like_a_list("apiVersion: x/v1\nkind: DenyList\nitems: [a, b]\n")]
#[case::a_template_without_containers(
    "apiVersion: argoproj.io/v1alpha1\nkind: Rollout\nspec: {workloadRef: {name: x}}\n"
)]
#[case::an_opted_out_pod(
    "apiVersion: v1\nkind: Pod\nmetadata: {annotations: {secrets.floe.dev/inject: 'false', secrets.floe.dev/refs: a/b}}\nspec: {containers: [{name: c}]}\n"
)]
fn input_without_work_comes_out_byte_for_byte(#[case] input: &str) {
    let output = inject(&[], input, &["-f", "-"]);
    assert_eq!(
        (output.code, output.stdout.as_str(), output.stderr.as_str()),
        (0, input, "")
    );
}

#[test]
fn lists_are_injected_item_by_item() {
    let list = json!({
        "apiVersion": "v1", "kind": "List", "items": [
            { "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "c" }, "data": { "a": "no" } },
            { "apiVersion": "apps/v1", "kind": "DeploymentList", "items": [
                { "metadata": { "name": "d", "namespace": "jobs" }, "spec": { "template": {
                    "metadata": { "annotations": { "secrets.floe.dev/refs": "snowflake/user" } },
                    "spec": { "containers": [{ "name": "main" }] } } } },
            ] },
        ],
    });
    let output = inject(
        &[("s.yaml", SECRETS)],
        &list.to_string(),
        &["-f", "-", "--secrets", "s.yaml"],
    );
    assert_eq!((output.code, output.stderr.as_str()), (0, ""));
    let printed: Value = serde_saphyr::from_str(&output.stdout).unwrap();
    let template = printed.pointer("/items/1/items/0/spec/template").unwrap();
    assert_eq!(
        env_of(template),
        json!([variable("FLOE_SECRET_SNOWFLAKE_USER", "snowflake", "user")])
    );
    assert_eq!(printed["items"][0], list["items"][0]);
}

// === defaults ===

const DEFAULTS: &str = "
apiVersion: v1
kind: Namespace
metadata:
  name: jobs
  labels: {secrets.floe.dev/inject: LABEL}
  annotations: {secrets.floe.dev/env-from: snowflake, secrets.floe.dev/containers: 'main,sidecar'}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: runner, namespace: jobs, annotations: {secrets.floe.dev/refs: snowflake/role}}
";

const WITHOUT_ANNOTATIONS: &str = "
apiVersion: v1
kind: Pod
metadata: {name: p, namespace: jobs}
spec: {serviceAccountName: runner, containers: [{name: main}]}
";

#[rstest]
#[case::beside_the_secrets(&["-f", "bare.yaml", "--secrets", "s.yaml", "--secrets", "defaults.yaml"])]
#[case::among_the_manifests(&["-f", "bare.yaml", "-f", "defaults.yaml", "--secrets", "s.yaml"])]
#[case::without_secrets(&["-f", "bare.yaml", "-f", "defaults.yaml"])]
fn defaults_apply_in_a_labelled_namespace(#[case] args: &[&str]) {
    let defaults = DEFAULTS.replace("LABEL", "enabled");
    let output = inject(
        &[
            ("bare.yaml", WITHOUT_ANNOTATIONS),
            ("defaults.yaml", &defaults),
            ("s.yaml", SECRETS),
        ],
        "",
        args,
    );
    let pod = printed(&output, "");
    assert_eq!(
        env_of(&pod),
        json!([variable("FLOE_SECRET_SNOWFLAKE_ROLE", "snowflake", "role")])
    );
    assert_eq!(
        pod["spec"]["containers"][0]["envFrom"],
        json!([{ "secretRef": { "name": "snowflake" } }])
    );
    assert!(
        output.stderr.starts_with(
            "warning: bare.yaml: document 1, Pod \"p\" in namespace \"jobs\": the pod has no container \"sidecar\" (named by annotation secrets.floe.dev/containers of namespace \"jobs\")"
        ),
        "{}",
        output.stderr
    );
}

#[test]
fn defaults_do_not_apply_without_the_label() {
    let defaults = DEFAULTS.replace("LABEL", "disabled");
    let output = inject(
        &[("d.yaml", &defaults)],
        WITHOUT_ANNOTATIONS,
        &["-f", "-", "--secrets", "d.yaml"],
    );
    assert_eq!(
        (output.code, output.stdout.as_str(), output.stderr.as_str()),
        (0, WITHOUT_ANNOTATIONS, "")
    );
}

#[rstest]
#[case::to_inject(&["-f", "d.yaml"])]
#[case::to_check_against(&["-f", "-", "--secrets", "d.yaml"])]
fn malformed_defaults_are_rejected_where_they_are(#[case] args: &[&str]) {
    let sources = "
apiVersion: v1
kind: Namespace
metadata: {name: jobs, annotations: {secrets.floe.dev/on-missing: maybe}}
---
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: ServiceAccount
  metadata: {name: runner, annotations: {secrets.floe.dev/ref: a/b}}
";
    let output = inject(&[("d.yaml", sources)], "", args);
    assert_eq!((output.code, output.stdout.as_str()), (1, ""));
    let lines: Vec<&str> = output.stderr.lines().collect();
    assert_eq!(
        lines[0],
        "error: d.yaml: document 1, Namespace \"jobs\": annotation secrets.floe.dev/on-missing: \"maybe\" is not one of deny, warn."
    );
    assert!(
        lines[1].starts_with("error: d.yaml: document 2, ServiceAccount \"runner\": annotation secrets.floe.dev/ref: unknown annotation; did you mean secrets.floe.dev/refs?"),
        "{}",
        lines[1]
    );
}

// === rejections ===

#[test]
fn mistakes_of_all_documents_are_reported_and_nothing_is_printed() {
    let manifests = [
        pod("secrets.floe.dev/refs: 'tokn, snowflake/password'"),
        pod("secrets.floe.dev/refs: token"),
        pod("secrets.floe.dev/refs: Bad, secrets.floe.dev/containers: ''"),
        pod("secrets.floe.dev/containers: nobody, secrets.floe.dev/env-from: token"),
        pod("secrets.floe.dev/refs: 'token/other'"),
    ]
    .join("---\n");
    let output = inject(
        &[("s.yaml", SECRETS)],
        &manifests,
        &["-f", "-", "--secrets", "s.yaml"],
    );
    assert_eq!((output.code, output.stdout.as_str()), (1, ""));
    let lines: Vec<&str> = output.stderr.lines().collect();
    let place = |document: usize| {
        format!("error: standard input: document {document}, Pod \"p\" in namespace \"default\": ")
    };
    let expected = [
        (
            1,
            "secret \"snowflake\" not found in namespace \"default\" (backend files; asked for by annotation secrets.floe.dev/refs). Create it or correct the annotation. A Secret of that name is known in namespace \"jobs\", and pods read only those of their own: correct the object's namespace (-n sets that of objects that name none), or add the Secret here.",
        ),
        (
            1,
            "secret \"tokn\" not found in namespace \"default\" (backend files; asked for by annotation secrets.floe.dev/refs). Create it or correct the annotation. Did you mean \"token\"?",
        ),
        (
            3,
            "annotation secrets.floe.dev/containers: is empty; name at least one, or remove the annotation.",
        ),
        (
            3,
            "annotation secrets.floe.dev/refs: \"Bad\" is not a Secret name: lower-case letters, digits, '-' and '.', starting and ending with a letter or digit, at most 253 characters.",
        ),
        (
            4,
            "the pod has no container \"nobody\" (named by annotation secrets.floe.dev/containers). It has: main.",
        ),
        (
            5,
            "secret \"token\" in namespace \"default\" has no key \"other\" (asked for by annotation secrets.floe.dev/refs). Add the key or correct the annotation.",
        ),
    ];
    let expected: Vec<String> = expected
        .iter()
        .map(|(document, message)| place(*document) + message)
        .collect();
    assert_eq!(lines, expected);
}

#[test]
fn missing_secret_is_warning_if_author_allows_it() {
    let manifest = pod("secrets.floe.dev/refs: gone, secrets.floe.dev/on-missing: warn");
    let output = inject(
        &[("s.yaml", SECRETS)],
        &manifest,
        &["-f", "-", "--secrets", "s.yaml", "-n", "jobs"],
    );
    assert_eq!(
        env_of(&printed(&output, "")),
        json!([variable("FLOE_SECRET_GONE", "gone", "value")])
    );
    assert_eq!(
        output.stderr,
        "warning: standard input: document 1, Pod \"p\" in namespace \"jobs\": secret \"gone\" not found in namespace \"jobs\"; the pod waits until it exists\n"
    );
}

#[test]
fn unchecked_secrets_are_noted_once() {
    let manifests = [
        pod("secrets.floe.dev/refs: a/b"),
        pod("secrets.floe.dev/refs: c"),
    ]
    .join("---\n");
    let output = inject(&[], &manifests, &["-f", "-"]);
    assert_eq!(output.code, 0);
    assert_eq!(
        output.stderr,
        "note: no secret was looked for; check that they exist with --secrets FILE or --cluster\n"
    );
    let star = inject(&[], &pod("secrets.floe.dev/refs: a/*"), &["-f", "-"]);
    assert_eq!((star.code, star.stdout.as_str()), (1, ""));
    assert!(
        star.stderr.contains("\"a/*\" stands for all keys of the secret, which are not known here (asked for by annotation secrets.floe.dev/refs). Give the Secret with --secrets"),
        "{}",
        star.stderr
    );
}

#[test]
fn explain_shows_whether_defaults_apply() {
    let object = |kind: &str, name: &str, rest: &str| {
        format!(
            "apiVersion: v1\nkind: {kind}\nmetadata: {{name: {name}, annotations: {{secrets.floe.dev/env-from: a}}{rest}}}\n---\n"
        )
    };
    let manifest = [
        object("Namespace", "dark", ""),
        object(
            "Namespace",
            "near",
            ", labels: {secrets.floe.dev/inject: 'Enabled'}",
        ),
        object(
            "Namespace",
            "lit",
            ", labels: {secrets.floe.dev/inject: enabled}",
        ),
        object("ServiceAccount", "a", ", namespace: dark"),
        object("ServiceAccount", "b", ", namespace: lit"),
        object("ServiceAccount", "c", ", namespace: elsewhere"),
    ]
    .concat();
    let output = inject(&[("m.yaml", &manifest)], "", &["-f", "m.yaml", "--explain"]);
    assert_eq!(output.code, 0, "{}", output.stderr);
    let start = |number: usize, what: &str| format!("note: m.yaml: document {number}, {what}: ");
    let idle = |whose: &str| format!("the secrets.floe.dev/ annotations of {whose} have no effect");
    let missing_label = " without the label secrets.floe.dev/inject=enabled: kubectl label namespace dark secrets.floe.dev/inject=enabled\n";
    let expected = [
        start(1, "Namespace \"dark\"") + &idle("namespace \"dark\"") + missing_label,
        start(2, "Namespace \"near\"")
            + &idle("namespace \"near\"")
            + ", because the label says \"Enabled\": kubectl label --overwrite namespace near secrets.floe.dev/inject=enabled\n",
        start(4, "ServiceAccount \"a\"") + &idle("service account \"a\"") + missing_label,
        start(6, "ServiceAccount \"c\"")
            + "its secrets.floe.dev/ annotations have an effect only if namespace \"elsewhere\" carries the label secrets.floe.dev/inject=enabled; it is not known here\n",
    ]
    .concat();
    assert_eq!(output.stderr, expected);
    let silent = inject(&[("m.yaml", &manifest)], "", &["-f", "m.yaml"]);
    assert_eq!((silent.code, silent.stderr.as_str()), (0, ""));
}

#[test]
fn secret_of_same_manifest_counts_with_all_its_keys() {
    let manifest = format!("{SECRETS}---\n{}", pod("secrets.floe.dev/refs: token/*"));
    let output = inject(
        &[("m.yaml", &manifest)],
        "",
        &["-f", "m.yaml", "--secrets", "m.yaml"],
    );
    assert_eq!(output.code, 0, "{}", output.stderr);
    assert!(
        output.stdout.starts_with(SECRETS),
        "a Secret passes through as it was written"
    );
    let objects = as_kubectl_reads(&output.stdout);
    assert_eq!(
        env_of(&objects[2]),
        json!([variable("FLOE_SECRET_TOKEN_VALUE", "token", "value")])
    );
}

#[rstest]
#[case::no_file(&["-f", "gone.yaml"], "", "error: gone.yaml: cannot be read: ")]
#[case::an_empty_folder(&["-f", "."], "", "error: .: has no file that ends in .json, .yaml or .yml; -R also reads the folders in it")]
#[case::stdin_twice(&["-f", "-", "-f", "-"], "", "error: standard input: it can be read only once")]
#[case::broken(&["-f", "-"], "a: b\n---\nkind: [canary\n", "error: standard input:3:7: is not valid YAML")]
#[case::twice(&["-f", "-"], "\n---\nkind: Pod\nkind: canary\n", "error: standard input:4:1: a key stands twice in one mapping")]
#[case::no_kind(&["-f", "-"], "---\n# c\na: canary\n", "error: standard input:3: the document is no Kubernetes object: it says no kind")]
#[case::no_object(&["-f", "-"], "---\n- canary\n", "error: standard input:2: the document is no Kubernetes object")]
#[case::a_bare_boolean(
    &["-f", "-"],
    "apiVersion: v1\nkind: Pod\nmetadata: {name: p, annotations: {secrets.floe.dev/inject: true}}\nspec: {containers: [{name: c}]}\n",
    "error: standard input:1: Pod \"p\": the annotation secrets.floe.dev/inject is not a text; write its value in quotes"
)]
#[case::an_env_that_is_a_map(
    &["-f", "-"],
    "apiVersion: batch/v1\nkind: Job\nspec: {template: {spec: {containers: [{name: a}, {name: c, env: {A: canary}}]}}}\n",
    "error: standard input:1: Job without a name: spec.template.spec.containers[1].env (container \"c\") is an object, and Kubernetes takes a list there"
)]
#[case::a_bare_number(
    &["-f", "-"],
    "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: c, env: [{name: PORT, value: 54327}]}]}\n",
    "error: standard input:1: Pod \"p\": spec.containers[0].env[0].value (container \"c\", variable \"PORT\") is a number, and Kubernetes takes a string there; write it in quotes\n"
)]
#[case::no_flags(&[], "", "error: the following required arguments were not provided")]
fn unreadable_input_exits_with_2_and_its_place(
    #[case] args: &[&str],
    #[case] stdin: &str,
    #[case] message: &str,
) {
    let output = inject(&[], stdin, args);
    assert_eq!(
        (output.code, output.stdout.as_str()),
        (2, ""),
        "{}",
        output.stderr
    );
    assert!(output.stderr.starts_with(message), "{}", output.stderr);
    assert!(
        !output.stderr.contains("canary") && !output.stderr.contains("54327"),
        "{}",
        output.stderr
    );
}

#[test]
fn invalid_utf8_is_rejected_with_its_line() {
    let folder = TempDir::new().unwrap();
    let program = Command::new(env!("CARGO_BIN_EXE_floe-secrets-webhook"));
    let output = run(
        program,
        folder.path(),
        b"a: b\nc: \xff\n",
        &["inject", "-f", "-"],
    );
    assert_eq!(
        (output.code, output.stderr.as_str()),
        (2, "error: standard input:2: is not UTF-8 text\n")
    );
}

// === propagation and explanation ===

#[test]
fn workload_annotations_reach_template_as_on_a_cluster() {
    let manifest = "
apiVersion: v1
kind: List
items:
- apiVersion: batch/v1
  kind: CronJob
  metadata: {name: nightly, annotations: {secrets.floe.dev/env-from: a, secrets.floe.dev/containers: main}}
  spec:
    jobTemplate:
      metadata: {annotations: {secrets.floe.dev/env-from: b}}
      spec: {template: {spec: {containers: [{name: main}, {name: side}]}}}
";
    let output = inject(&[], manifest, &["-f", "-"]);
    let template = printed(&output, "/spec/jobTemplate/spec/template");
    let annotations = &template["metadata"]["annotations"];
    assert_eq!(
        annotations["secrets.floe.dev/inherited"], r#"{"containers":"main","env-from":"b"}"#,
        "the nearer one"
    );
    assert_eq!(
        template["spec"]["containers"][0]["envFrom"],
        json!([{ "secretRef": { "name": "b" } }])
    );
    assert_eq!(template["spec"]["containers"][1], json!({ "name": "side" }));
    assert_eq!(
        output.stderr,
        "note: no secret was looked for; check that they exist with --secrets FILE or --cluster\n"
    );
}

#[test]
fn explain_shows_changes_and_reasons() {
    let defaults = DEFAULTS
        .replace("LABEL", "enabled")
        .replace("main,sidecar", "*");
    let manifest = "
apiVersion: v1
kind: Pod
metadata:
  name: p
  namespace: jobs
  annotations:
    secrets.floe.dev/env.PASSWORD: snowflake/password
    secrets.floe.dev/refs: token/*, snowflake/role
    secrets.floe.dev/containers: main
spec:
  initContainers: [{name: fetch}]
  containers:
  - {name: main, env: [{name: URL, value: 'x:$(PASSWORD)'}]}
  - {name: other}
---
apiVersion: v1
kind: Pod
metadata: {name: q}
spec: {containers: [{name: main}]}
---
apiVersion: v1
kind: Pod
metadata: {name: r, namespace: kube-system, annotations: {secrets.floe.dev/refs: a/b}}
spec: {containers: [{name: main}]}
---
apiVersion: v1
kind: Pod
metadata: {name: s, annotations: {secrets.floe.dev/refs: token}}
spec: {containers: [{name: envoy}, {name: main}]}
";
    let secrets = format!(
        "{SECRETS}---\napiVersion: v1\nkind: Secret\nmetadata: {{name: token, namespace: jobs}}\nstringData: {{a: x, b: y}}\n"
    );
    let files = [("d.yaml", defaults.as_str()), ("s.yaml", secrets.as_str())];
    let output = inject(
        &files,
        manifest,
        &[
            "-f",
            "-",
            "--secrets",
            "d.yaml",
            "--secrets",
            "s.yaml",
            "--explain",
        ],
    );
    assert_eq!(output.code, 0, "{}", output.stderr);
    let p = "note: standard input: document 1, Pod \"p\" in namespace \"jobs\":";
    let s = "note: standard input: document 4, Pod \"s\" in namespace \"default\":";
    let expected = format!(
        "\
{p} container \"main\" takes every key of secret \"snowflake\" (annotation secrets.floe.dev/env-from of namespace \"jobs\")
{p} container \"main\" takes PASSWORD from key \"password\" of secret \"snowflake\" (annotation secrets.floe.dev/env.PASSWORD), before the variables that refer to it
{p} container \"main\" takes FLOE_SECRET_TOKEN_A from key \"a\" of secret \"token\" (annotation secrets.floe.dev/refs)
{p} container \"main\" takes FLOE_SECRET_TOKEN_B from key \"b\" of secret \"token\" (annotation secrets.floe.dev/refs)
{p} container \"main\" takes FLOE_SECRET_SNOWFLAKE_ROLE from key \"role\" of secret \"snowflake\" (annotation secrets.floe.dev/refs)
{p} container \"other\" gets nothing: annotation secrets.floe.dev/containers does not select it
{p} init container \"fetch\" gets nothing: init containers get nothing unless secrets.floe.dev/init-containers selects them
{p} annotation secret.reloader.stakater.com/reload tells \"snowflake,token\": a record, which restarts nothing
note: standard input: document 2, Pod \"q\" in namespace \"default\": nothing to do: no annotation asks for a secret
note: standard input: document 3, Pod \"r\" in namespace \"kube-system\": nothing to do: pods of this namespace are never touched
{s} container \"envoy\" gets nothing: it is on the list of sidecar containers; to include it, select it in secrets.floe.dev/containers
{s} container \"main\" takes FLOE_SECRET_TOKEN from key \"value\" of secret \"token\" (annotation secrets.floe.dev/refs)
{s} annotation secret.reloader.stakater.com/reload tells \"token\": a record, which restarts nothing
"
    );
    assert_eq!(output.stderr, expected);
}

// === values ===

#[rstest]
#[case::whole(SECRETS, "token", 0)]
#[case::missing(SECRETS, "gone", 1)]
#[case::a_list(
    "apiVersion: v1\nkind: SecretList\nitems:\n- {metadata: {name: token}, data: {value: canary}}\n- {metadata: {name: x}, data: canary}\n- canary\n- 7\n",
    "token",
    0
)]
#[case::malformed(
    "apiVersion: v1\nkind: Secret\nstringData:\n  a: canary\n b: canary\n",
    "token",
    2
)]
#[case::open_quote(
    "apiVersion: v1\nkind: Secret\nstringData:\n  a: \"canary\n",
    "token",
    2
)]
#[case::open_flow("apiVersion: v1\nkind: Secret\nstringData: {a: canary", "token", 2)]
#[case::an_unknown_alias("kind: Secret\nstringData: {a: *canary}\n", "token", 2)]
#[case::a_key_twice("kind: Secret\nstringData: {canary: a, canary: b}\n", "token", 2)]
#[case::a_tab("kind: Secret\nstringData:\n\tcanary: x\n", "token", 2)]
#[case::an_unknown_tag("kind: Secret\nstringData: {a: !<canary canary}\n", "token", 2)]
#[case::a_bad_escape("kind: Secret\nstringData: {a: \"\\canary\"}\n", "token", 2)]
#[case::broken_json(
    "{\"kind\": \"Secret\", \"data\": {\"a\": \"canary\", canary",
    "token",
    2
)]
#[case::plain_text("canary", "token", 1)]
fn values_of_secrets_are_never_shown(#[case] secrets: &str, #[case] name: &str, #[case] code: i32) {
    let manifest = pod(&format!("secrets.floe.dev/refs: {name}"));
    let args = ["-f", "-", "--secrets", "s.yaml", "--explain"];
    let output = inject(&[("s.yaml", secrets)], &manifest, &args);
    assert_eq!(output.code, code, "{}", output.stderr);
    assert!(
        !output.stderr.contains("canary") && !output.stdout.contains("canary"),
        "{}\n{}",
        output.stderr,
        output.stdout
    );
    if code == 2 {
        assert!(
            output.stderr.starts_with("error: s.yaml:"),
            "{}",
            output.stderr
        );
        // The same from Secrets among the manifests.
        let output = inject(&[("s.yaml", secrets)], "", &["-f", "s.yaml"]);
        assert_eq!(
            (
                output.code,
                output.stdout.contains("canary"),
                output.stderr.contains("canary")
            ),
            (2, false, false),
            "{}",
            output.stderr
        );
    }
}

// === YAML that kubectl reads equally ===

/// Texts that one version of YAML would read as another type.
fn tricky_texts() -> Vec<String> {
    let words = "yes no on off y n Y N Yes No ON OFF true false True FALSE null Null NULL ~ = << - ? : | > ! & * % @ ` \
                 0644 0o14 1e3 1E3 1.0 1. .5 -.5 +5 -0 0x1F 0X1f 0b11 1_000 1__0 _1 190:20:30 2001-01-01 2001-01-01T00:00:00Z \
                 .inf -.INF .nan .NaN inf nan Infinity 012e3 09 -09 0_7 1e400 99999999999999999999 --- ... {} [] {a [b a: :a #a a#b \
                 'q' \"q\" \\n !!str !x *a &a %a @a `a ,a a, ?a -a - a";
    let mut texts: Vec<String> = words.split(' ').map(str::to_owned).collect();
    texts.extend(
        [
            "",
            " ",
            "  lead",
            "trail  ",
            "a: b",
            "a #b",
            "- a",
            "? a",
            ": a",
            "a\nb",
            "a\nb\n",
            "a\nb\n\n",
            "\na",
            "\n",
            "\n\n",
            " \n a",
            "  a\nb",
            "a\n  b\n c",
            "a \nb",
            "a\n \nb",
            "a\r\nb",
            "a\rb",
            "tab\tin",
            "\ttab",
            "a\n\tb\n",
            "--- \na",
            "a\n---\nb\n",
            "a\n...\nb",
            "#!/bin/sh\nset -e\necho \"$HOME\" # x\n",
            "é",
            "日本",
            "😀",
            "a\u{85}b",
            "a\u{a0}b",
            "a\u{2028}b",
            "\u{feff}a",
            "a\u{feff}",
            "\u{0}",
            "\u{1}\u{7f}",
            "\u{1b}[0m",
            "\\",
            "\\u0041",
            "$(A)",
            "{{ .x }}",
            "%{x}",
            "key: |\n  x",
            "'",
            "\"",
            "''",
            "a'b\"c",
        ]
        .map(str::to_owned),
    );
    texts.push(format!("{} long", "word ".repeat(60)));
    texts.push("x".repeat(300));
    texts.push(format!(
        "{}\n  {}\n",
        "word ".repeat(60),
        "more ".repeat(50)
    ));
    // Every short text over the significant characters.
    let alphabet: Vec<char> = "-?:,[]{}#&*!|>'\"%@` \t\na0.~=<_+e\\\r".chars().collect();
    for a in &alphabet {
        for b in &alphabet {
            texts.push(format!("{a}{b}"));
            texts.push(format!("x{a}{b}x"));
            texts.push(format!("{a}x{b}"));
            texts.push(format!("{a}{b}\n{b}{a}"));
        }
    }
    texts
}

#[test]
fn strings_are_read_unchanged_by_kubectl() {
    let texts = tricky_texts();
    let by_key: serde_json::Map<String, Value> = texts
        .iter()
        .filter(|text| !text.is_empty())
        .map(|text| (text.clone(), json!([text, { "k": text }])))
        .collect();
    let rollout = json!({
        "apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout", "metadata": { "name": "r" },
        "spec": {
            "texts": texts,
            "byKey": by_key,
            "template": {
                "metadata": { "annotations": { "secrets.floe.dev/refs": "a/b" } },
                "spec": { "containers": [{ "name": "main", "args": texts }] },
            },
        },
    });
    let output = inject(&[], &rollout.to_string(), &["-f", "-"]);
    assert_eq!(output.code, 0, "{}", output.stderr);
    let read = &as_kubectl_reads(&output.stdout)[0];
    let spec = &read["spec"];
    for (index, text) in texts.iter().enumerate() {
        let context = || {
            let lines: Vec<&str> = output
                .stdout
                .lines()
                .filter(|line| line.contains(text.trim()))
                .take(3)
                .collect();
            format!("{text:?} printed as {lines:?}")
        };
        assert_eq!(spec["texts"][index], json!(text), "{}", context());
        assert_eq!(
            spec["template"]["spec"]["containers"][0]["args"][index],
            json!(text),
            "{}",
            context()
        );
        if !text.is_empty() {
            assert_eq!(spec["byKey"][text], by_key[text], "as a key: {}", context());
        }
    }
    // And `inject` reads it as kubectl does.
    let again = inject(&[], &output.stdout, &["-f", "-"]);
    assert_eq!(
        (again.code, again.stdout == output.stdout),
        (0, true),
        "{}",
        again.stderr
    );
}

#[test]
fn scalars_keep_their_kubectl_type() {
    let manifest = "
apiVersion: argoproj.io/v1alpha1
kind: Rollout
metadata: {name: r}
spec:
  scalars: [yes, No, on, OFF, y, n, ~, null, 0644, -0644, 0o14, 0x1F, 0b11, 1_000, 1e3, 1.5e-7, .5, 1., 1.0, +5, -0, 089, 190:20:30,
    2001-01-01, 2001-01-01T00:00:00Z, 18446744073709551615, -9223372036854775808, 99999999999999999999, 0.1, 100000000000000000000000.0,
    =, 1.10, '0644', \"yes\", !!str yes, !!str 0644, !!int '7', 12e03, 0_7, a, 1a]
  base: &base {a: 1, b: [x, y]}
  merged: {<<: *base, b: z}
  alias: *base
  folded: >-
    two lines
    become one

    and a break
  plain
    text: runs
      on
  literal: |+
    keeps

  template:
    metadata: {annotations: {secrets.floe.dev/refs: a/b}}
    spec: {containers: [{name: main}]}
";
    let manifest = manifest.replace(
        "  plain\n    text: runs\n      on\n",
        "  plain: text runs\n    on\n",
    );
    let output = inject(&[], &manifest, &["-f", "-"]);
    assert_eq!(output.code, 0, "{}", output.stderr);
    let (before, after) = (
        as_kubectl_reads(&manifest),
        as_kubectl_reads(&output.stdout),
    );
    for field in [
        "scalars", "base", "merged", "alias", "folded", "plain", "literal",
    ] {
        if let (Some(before), Some(after)) = (
            before[0]["spec"][field].as_array(),
            after[0]["spec"][field].as_array(),
        ) {
            for (index, (before, after)) in before.iter().zip(after).enumerate() {
                assert_eq!(before, after, "{field} {index}");
            }
        }
        assert_eq!(before[0]["spec"][field], after[0]["spec"][field], "{field}");
    }
}

#[test]
fn closed_output_pipe_is_not_a_panic() {
    let folder = TempDir::new().unwrap();
    let big = "x".repeat(4 << 20);
    std::fs::write(
        folder.path().join("m.yaml"),
        format!("apiVersion: v1\nkind: ConfigMap\ndata: {{a: {big}}}\n"),
    )
    .unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_floe-secrets-webhook"))
        .args(["inject", "-f", "m.yaml"])
        .current_dir(folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = [0; 10];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(
        (output.status.code(), output.stderr.as_slice()),
        (Some(0), &[][..])
    );
}
