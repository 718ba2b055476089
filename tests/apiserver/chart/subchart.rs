//! Chart as a subchart: with a condition, with global values, under an alias, and twice.

use std::collections::BTreeSet;
use std::process::Command;

use http::Method;
use serde_json::{Value, json};

use crate::merged;
use testbed::control_plane::ControlPlane;
use testbed::helm::{Helm, NAME, chart, find_object};
use testbed::objects::yaml;
use testbed::process::Folder;

/// Parent chart with the chart under each of these keys, and a `ConfigMap` of its own.
fn parent(keys: &[&str]) -> Folder {
    let folder = Folder::new();
    let dependencies: Vec<Value> = keys
        .iter()
        .map(|key| {
            let dependency = json!({"name": NAME, "version": ">=0.1.0-0", "condition": format!("{key}.enabled")});
            if *key == NAME { dependency } else { merged(dependency, &json!({"alias": key})) }
        })
        .collect();
    let metadata = json!({"apiVersion": "v2", "name": "platform", "version": "1.0.0", "dependencies": dependencies});
    folder.write("Chart.yaml", metadata.to_string());
    let own =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "platform-own"}});
    for made in ["charts", "templates"] {
        std::fs::create_dir(folder.path().join(made)).expect("a folder");
    }
    folder.write("templates/own.yaml", own.to_string());
    let copied = Command::new("cp")
        .args(["-r", &chart()])
        .arg(folder.path().join("charts"))
        .status();
    assert!(copied.expect("cp runs").success());
    folder
}

#[track_caller]
fn objects(helm: Helm, parent: &Folder, values: &Value) -> Vec<Value> {
    let path = parent.path().display().to_string();
    let rendered = helm
        .run(&["template", "data", &path, "--namespace", "data"], values)
        .expect_success();
    yaml(&rendered.stdout)
        .into_iter()
        .filter(|object| !object.is_null())
        .collect()
}

#[test]
fn subchart_condition_enables_installation() {
    let parent = parent(&[NAME]);
    for helm in Helm::ALL {
        for (enabled, found) in [
            (json!({"enabled": true}), true),
            (json!({"enabled": false}), false),
            (json!({}), true),
        ] {
            let global = json!({"imageRegistry": "registry.example.com", "deep": {"er": [1]}});
            let objects = objects(helm, &parent, &json!({NAME: enabled, "global": global}));
            assert_eq!(objects.len() > 1, found, "{helm:?}: {enabled}");
            if found {
                let service = find_object(&objects, "Service", "data-floe-secrets-webhook");
                assert_eq!(service["metadata"]["labels"]["floe.dev/subchart"], NAME);
            }
        }
        // A wrong value is rejected as before, under the parent's key.
        let path = parent.path().display().to_string();
        let output = helm.run(
            &["template", "data", &path],
            &json!({NAME: {"replicaz": 3}}),
        );
        assert!(
            output.code != 0 && output.stderr.contains("'replicaz' not allowed"),
            "{helm:?}: {}",
            output.stderr
        );
    }
    // Without a condition, the value has no effect.
    for (values, code) in [
        (json!({"enabled": true}), 0),
        (json!({"enabled": false}), 1),
    ] {
        let output = Helm::V4.template(NAME, &values);
        assert_eq!(output.code, code, "{}", output.stderr);
        assert!(
            code == 0 || output.stderr.contains("Give the dependency"),
            "{}",
            output.stderr
        );
    }
    let alone = Helm::V4.objects(NAME, &json!({}));
    assert!(
        find_object(&alone, "Service", NAME)["metadata"]["labels"]["floe.dev/subchart"].is_null()
    );
}

/// An alias may be any valid key.
#[test]
fn subchart_alias_names_objects() {
    let parent = parent(&["secretsWebhook_", "b"]);
    for helm in Helm::ALL {
        let objects = objects(
            helm,
            &parent,
            &json!({"secretsWebhook_": {"replicas": 3}, "b": {"replicas": 4}}),
        );
        for (name, key, replicas) in [
            ("data-secretswebhook", "secretsWebhook", 3),
            ("data-b", "b", 4),
        ] {
            let deployment = find_object(&objects, "Deployment", name);
            assert_eq!(deployment["spec"]["replicas"], replicas);
            assert_eq!(deployment["metadata"]["labels"]["floe.dev/subchart"], key);
            find_object(
                &objects,
                "MutatingWebhookConfiguration",
                &format!("zz-{name}"),
            );
        }
        let unique: BTreeSet<String> = objects
            .iter()
            .map(|object| {
                let metadata = &object["metadata"];
                format!(
                    "{} {} {}",
                    object["kind"], metadata["namespace"], metadata["name"]
                )
            })
            .collect();
        assert_eq!(unique.len(), objects.len(), "{helm:?}: {unique:?}");
    }
}

#[tokio::test]
async fn parent_chart_installs_and_removes_subchart() {
    let cp = ControlPlane::shared().await;
    let parent = parent(&["secretsWebhook"]);
    let path = parent.path().display().to_string();
    for helm in Helm::ALL {
        let (namespace, own) = (cp.namespace("parent").await, cp.namespace("subchart").await);
        let name = namespace.name.as_str();
        let only =
            json!({"key": "kubernetes.io/metadata.name", "operator": "In", "values": [name]});
        let values = |enabled: bool| {
            json!({"global": {"a": "b"}, "secretsWebhook": {
                "enabled": enabled, "namespaceOverride": own.name, "tls": {"mode": "existing"},
                "webhook": {"namespaceSelector": {"matchExpressions": [only]}},
            }})
        };
        let deployment = format!(
            "/apis/apps/v1/namespaces/{}/deployments/{name}-secretswebhook",
            own.name
        );
        let map = format!("/api/v1/namespaces/{name}/configmaps/platform-own");
        let status = async |path: &str| cp.request(Method::GET, path, None).await.status;
        for (verb, enabled, there) in [
            ("install", true, 200),
            ("upgrade", false, 404),
            ("upgrade", true, 200),
        ] {
            cp.helm(
                helm,
                &[verb, name, &path, "--namespace", name],
                &values(enabled),
            )
            .await
            .expect_success();
            assert_eq!(
                (status(&deployment).await, status(&map).await),
                (there, 200),
                "{helm:?}: {verb} {enabled}"
            );
        }
        cp.helm(
            helm,
            &["uninstall", name, "--namespace", name],
            &Value::Null,
        )
        .await
        .expect_success();
        assert_eq!(
            (status(&deployment).await, status(&map).await),
            (404, 404),
            "{helm:?}"
        );
    }
}
