//! Names that YAML reads as numbers, booleans, dates or null, in every place where a template renders one; and names
//! that a release may not have.

use std::sync::LazyLock;

use http::Method;
use regex::Regex;
use serde_json::{Value, json};

use crate::{everything, existing, merged};
use testbed::control_plane::ControlPlane;
use testbed::helm::{Helm, NAME, chart, find_object};
use testbed::tools::project_root;

/// Valid names of namespaces that one version of YAML or the other reads as another type.
const ODD_NAMES: [&str; 15] = [
    "1234",
    "1e3",
    "on",
    "3240286e-210077",
    "0x1f",
    "0o17",
    "0b11",
    "017",
    "12e03",
    "2024",
    "2024-01-01",
    "null",
    "true",
    "no",
    "y",
];

/// Values in which every name is this one.
fn all_named(name: &str) -> Value {
    let texts = json!({"example.com/a": name});
    let pods = json!({"example.com/pod": name});
    let account = json!({"name": name, "annotations": texts});
    merged(
        everything(),
        &json!({
            "nameOverride": name, "commonLabels": {"example.com/all": name},
            "image": {"repository": name, "tag": name, "digest": ""}, "imagePullSecrets": [{"name": name}],
            "webhook": {
                "exemptNamespaces": [name], "annotations": texts, "namespaceSelector": {"matchLabels": texts},
                "objectSelector": {"matchLabels": texts, "matchExpressions": [{"key": "a", "operator": "In", "values": [name]}]},
                "extraMatchConditions": [{"name": name, "expression": "true"}],
            },
            "tls": {"secretName": name, "extraDnsNames": [name],
                "clientCA": {"configMapName": name, "key": name}, "certManager": {"issuerRef": {"name": name}}},
            "sidecarContainers": [name],
            "rbac": {"scope": "namespaces", "namespaces": [name]},
            "serviceAccount": account,
            "controller": {"serviceAccount": account, "podAnnotations": pods, "podLabels": pods},
            "audit": {"clusterName": name, "controllers": [name]},
            "admin": {"serviceAccount": account, "podAnnotations": pods, "podLabels": pods,
                "tls": {"secretName": format!("{name}-admin")}, "persistence": {"storageClass": name}},
            "service": {"annotations": texts}, "podAnnotations": pods, "podLabels": pods, "nodeSelector": texts,
            "tracing": {"ca": {"configMapName": name, "key": name}},
            "priorityClassName": format!("system-{name}"), "runtimeClassName": name,
            "extraEnv": [{"name": "A", "value": name}],
            "metrics": {
                "podMonitor": {"enabled": true, "namespace": name, "labels": texts},
                "prometheusRule": {"enabled": true, "namespace": name, "labels": texts, "alertLabels": texts},
                "grafanaDashboard": {"namespace": name, "labels": texts, "annotations": texts},
            },
            "helmTest": {"namespace": name},
        }),
    )
}

/// Replaces every text in a value, and counts those that are this one, to compare where texts are.
fn shape(value: &mut Value, name: &str, found: &mut usize) {
    match value {
        Value::String(text) => {
            *found += usize::from(text == name);
            "text".clone_into(text);
        }
        Value::Array(all) => all.iter_mut().for_each(|each| shape(each, name, found)),
        Value::Object(all) => all.values_mut().for_each(|each| shape(each, name, found)),
        _ => {}
    }
}

/// Shapes of the rendered objects, and how often this name occurs in them.
fn shapes(release: &str, values: &Value, name: &str) -> (Vec<String>, usize) {
    let mut found = 0;
    let objects = Helm::V4.objects(release, values).into_iter();
    let mut shapes: Vec<String> = objects
        .map(|mut object| {
            let kind = object["kind"].take();
            shape(&mut object, name, &mut found);
            format!("{kind} {object}")
        })
        .collect();
    shapes.sort();
    (shapes, found)
}

/// The reader here has the booleans of YAML 1.1 and the numbers of 1.2.
#[test]
fn odd_names_are_strings_everywhere() {
    let modes =
        ["cert-manager", "existing", "self-managed"].map(|mode| json!({"tls": {"mode": mode}}));
    let release = modes.clone().map(|mode| merged(everything(), &mode));
    let plain_release = release
        .clone()
        .map(|values| shapes("plain", &values, "plain"));
    let plain_values = modes
        .clone()
        .map(|mode| shapes(NAME, &merged(all_named("plain"), &mode), "plain"));
    for (_, found) in plain_release.iter().chain(&plain_values) {
        assert!(*found > 60, "{found}");
    }
    // Some odd names, such as "true", occur anyway.
    let same = |found: &(Vec<String>, usize), plain: &(Vec<String>, usize)| {
        found.0 == plain.0 && found.1 >= plain.1
    };
    for (odd, mode) in ODD_NAMES.iter().zip((0..modes.len()).cycle()) {
        let by_release = shapes(odd, &release[mode], odd);
        assert!(
            same(&by_release, &plain_release[mode]),
            "a release and a namespace {odd}: {mode}"
        );
        let by_values = shapes(NAME, &merged(all_named(odd), &modes[mode]), odd);
        assert!(
            same(&by_values, &plain_values[mode]),
            "values with {odd}: {mode}"
        );
    }
}

/// Whether a template writes a text after a key or a dash unquoted: not in quotes, JSON, a number, or the end of an
/// argument.
fn unquoted(line: &str) -> bool {
    static PLACE: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"^\s*(- )?([\w./-]+: )?").expect("a regular expression"));
    static ACTION: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"\{\{-? *((?:[^}]|\}[^}])*?) *-?\}\}").expect("a regular expression")
    });
    const CONTROL: [&str; 8] = [
        "if ", "else", "end", "with ", "range ", "define ", "/*", "$_ ",
    ];
    let place = PLACE.find(line).expect("it may be empty").as_str();
    if place.trim().is_empty() || line.trim_start().starts_with('#') {
        return false;
    }
    let value = &line[place.len()..];
    if value.starts_with(['"', '\'']) || value.starts_with("--") {
        return false;
    }
    ACTION.captures_iter(value).any(|action| {
        let action = &action[1];
        let control = CONTROL.iter().any(|word| action.starts_with(word));
        let last = action.rsplit('|').next().unwrap_or_default().trim();
        let first = action.split(' ').next().unwrap_or_default();
        !control
            && !["quote", "toJson", "int"]
                .iter()
                .any(|way| last == *way || first == *way)
    })
}

#[test]
fn template_strings_are_quoted() {
    for (line, wanted) in [
        ("  name: {{ $name }}", true),
        ("  - {{ .x }}", true),
        ("name: {{ .x }}-a", true),
        ("values: [{{ join \", \" . }}]", true),
        ("name: {{ include \"floe.fullname\" . | quote }}", false),
        ("- --x={{ .x }}", false),
        ("verbs: [get{{ if $cluster }}, list{{ end }}]", false),
        ("{{ .x }}", false),
    ] {
        assert_eq!(unquoted(line), wanted, "{line}");
    }
    let mut lines = 0;
    let mut folders = vec![project_root().join("charts/floe-secrets-webhook/templates")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = std::fs::read_to_string(&path).expect("a template");
            let is_yaml = path
                .extension()
                .is_some_and(|extension| extension == "yaml");
            if is_yaml || path.ends_with("NOTES.txt") {
                assert!(
                    text.starts_with("{{- include \"floe.defaults\" . }}\n"),
                    "{}",
                    path.display()
                );
            }
            if path.ends_with("NOTES.txt") || path.ends_with("_checks.tpl") {
                continue;
            }
            for (number, line) in text.lines().enumerate() {
                lines += usize::from(line.contains("{{"));
                assert!(!unquoted(line), "{}:{}: {line}", path.display(), number + 1);
            }
        }
    }
    assert!(lines > 300, "{lines}");
}

#[tokio::test]
async fn odd_names_install_and_uninstall() {
    let cp = ControlPlane::shared().await;
    for namespace in ["1e3", "1234"] {
        cp.create(
            &json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}),
        )
        .await
        .object();
    }
    // No other test's objects are sent to a webhook that does not run.
    let only = |name: &str| json!([{"key": "kubernetes.io/metadata.name", "operator": "In", "values": [name]}]);
    let names = json!({
        "webhook": {"exemptNamespaces": ["2024", "on"], "namespaceSelector": {"matchExpressions": only("1234")}},
        "rbac": {"scope": "namespaces", "namespaces": ["1234"]}, "helmTest": {"enabled": false},
        "tls": {"mode": "self-managed", "secretName": "0x1f"}, "serviceAccount": {"name": "1e3"},
        "imagePullSecrets": [{"name": "1234"}], "commonLabels": {"example.com/a": "on"},
    });
    for (helm, release, values) in [
        (Helm::V4, "3240286e-210077", names.clone()),
        (Helm::V3, "1234", names),
        (
            Helm::V4,
            "rel.one.2",
            merged(
                existing(),
                &json!({"webhook": {"namespaceSelector": {"matchExpressions": only("1e3")}}}),
            ),
        ),
        (
            Helm::V3,
            "on",
            merged(
                existing(),
                &json!({"webhook": {"namespaceSelector": {"matchExpressions": only("1e3")}}}),
            ),
        ),
    ] {
        cp.helm(
            helm,
            &["install", release, &chart(), "--namespace", "1e3"],
            &values,
        )
        .await
        .expect_success();
        let expected = match release {
            "rel.one.2" => "rel-one-2-floe-secrets-webhook".to_owned(),
            "on" => "on-floe-secrets-webhook".to_owned(),
            digits => format!("floe-{digits}-floe-secrets-webhook"),
        };
        let deployment = format!("/apis/apps/v1/namespaces/1e3/deployments/{expected}");
        let deployment = cp.request(Method::GET, &deployment, None).await.object();
        assert_eq!(
            deployment["metadata"]["labels"]["app.kubernetes.io/instance"],
            release
        );
        cp.helm(
            helm,
            &["uninstall", release, "--namespace", "1e3"],
            &Value::Null,
        )
        .await
        .expect_success();
    }
}

/// Names of releases become names of Services.
#[test]
fn service_names_are_valid_labels() {
    for (release, values, name) in [
        ("rel.one", json!({}), "rel-one-floe-secrets-webhook"),
        ("1.2", json!({}), "floe-1-2-floe-secrets-webhook"),
        (
            "floe-secrets-webhook.two",
            json!({}),
            "floe-secrets-webhook-two",
        ),
        ("a", json!({"fullnameOverride": "7.x"}), "floe-7-x"),
        ("a", json!({"nameOverride": "x.y"}), "a-x-y"),
        (
            "a",
            json!({"fullnameOverride": format!("{}.-.b", "x".repeat(48))}),
            &"x".repeat(48),
        ),
    ] {
        let objects = Helm::V4.objects(release, &values);
        find_object(&objects, "Service", name);
        find_object(&objects, "Deployment", name);
    }
}
