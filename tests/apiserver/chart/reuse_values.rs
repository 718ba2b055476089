//! `helm upgrade --reuse-values` from every earlier chart: Helm then uses the earlier chart's values alone, and none of
//! the new chart's defaults. `tests/testdata/chart-values` has those of each earlier chart.

use std::process::Command;

use http::Method;
use serde_json::{Value, json};

use crate::{existing, merged};
use testbed::control_plane::ControlPlane;
use testbed::helm::{Helm, NAME, chart, default_values};
use testbed::process::Folder;
use testbed::tools::project_root;

#[test]
fn absent_values_have_defaults() {
    let defaults = default_values();
    let sections = defaults.as_object().expect("sections");
    let absent: Value = sections
        .keys()
        .map(|section| (section.clone(), Value::Null))
        .collect();
    let inner: Value = sections
        .iter()
        .filter(|(name, section)| {
            section.as_object().is_some_and(|keys| !keys.is_empty()) && !is_free(name)
        })
        .map(|(name, section)| {
            let keys = section.as_object().expect("a section").keys();
            (
                name.clone(),
                keys.map(|key| (key.clone(), Value::Null))
                    .collect::<Value>(),
            )
        })
        .collect();
    for helm in Helm::ALL {
        let rendered_default = helm.template(NAME, &json!({})).expect_success().stdout;
        for values in [&absent, &inner] {
            assert!(
                helm.template(NAME, values).expect_success().stdout == rendered_default,
                "{helm:?}: {values}"
            );
        }
    }
    // The content of a map is the user's.
    let objects = Helm::V4.objects(
        NAME,
        &json!({"podSecurityContext": {"runAsUser": null, "fsGroup": null}}),
    );
    let deployment = objects
        .iter()
        .find(|object| object["kind"] == "Deployment")
        .expect("one");
    let context = &deployment["spec"]["template"]["spec"]["securityContext"];
    assert!(
        context["runAsUser"].is_null()
            && context["fsGroup"].is_null()
            && context["runAsGroup"] == 65532,
        "{context}"
    );
}

/// Maps with a default whose keys are defined by Kubernetes.
fn is_free(section: &str) -> bool {
    [
        "resources",
        "nodeSelector",
        "podSecurityContext",
        "containerSecurityContext",
    ]
    .contains(&section)
}

/// Arguments of the runbook's command, for a release of this name in a namespace of the same name.
fn emergency(release: &str) -> Vec<String> {
    let page = std::fs::read_to_string(project_root().join("docs/operations/RUNBOOK.md"))
        .expect("the page");
    let from = page
        .find("helm upgrade floe-secrets-webhook ")
        .expect("the command");
    let command = page[from..]
        .split("```")
        .next()
        .expect("its end")
        .replace("\\\n", " ");
    let [helm, upgrade, _, path, flag, _, rest @ ..] =
        &command.split_whitespace().collect::<Vec<_>>()[..]
    else {
        panic!("{command}")
    };
    assert_eq!(
        [*helm, upgrade, path, flag],
        ["helm", "upgrade", "charts/floe-secrets-webhook", "-n"]
    );
    let words = [*upgrade, release, path, flag, release]
        .into_iter()
        .chain(rest.iter().copied());
    words.map(ToOwned::to_owned).collect()
}

#[tokio::test]
async fn emergency_upgrade_works_from_every_earlier_chart() {
    let cp = ControlPlane::shared().await;
    let mut earlier: Vec<_> = std::fs::read_dir(project_root().join("tests/testdata/chart-values"))
        .expect("the values of earlier charts")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    earlier.sort();
    assert!(earlier.len() >= 4, "{earlier:?}");
    // The oldest by both Helms, the others by one of them.
    let rounds = [(Helm::V3, &earlier[0])]
        .into_iter()
        .chain(Helm::ALL.into_iter().cycle().zip(&earlier));
    for (helm, values) in rounds {
        let namespace = cp.namespace("earlier").await;
        let name = namespace.name.as_str();
        let folder = Folder::new();
        let copied = Command::new("cp")
            .args(["-r", &chart()])
            .arg(folder.path())
            .status();
        assert!(copied.expect("cp runs").success());
        let old = folder.path().join(NAME);
        std::fs::copy(values, old.join("values.yaml")).expect("the values");

        let only =
            json!({"key": "kubernetes.io/metadata.name", "operator": "In", "values": [name]});
        let own = merged(
            existing(),
            &json!({"webhook": {"namespaceSelector": {"matchExpressions": [only]}}}),
        );
        cp.helm(
            helm,
            &[
                "install",
                name,
                &old.display().to_string(),
                "--namespace",
                name,
            ],
            &own,
        )
        .await
        .expect_success();
        let words = emergency(name);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        cp.helm(helm, &words, &Value::Null).await.expect_success();

        let path = format!(
            "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/zz-{name}-floe-secrets-webhook"
        );
        let configuration = cp.request(Method::GET, &path, None).await.object();
        let entries = configuration["webhooks"]
            .as_array()
            .expect("entries")
            .iter();
        let policies: Vec<&Value> = entries
            .clone()
            .map(|entry| &entry["failurePolicy"])
            .collect();
        assert_eq!(policies, ["Ignore"; 5], "{helm:?} {}", values.display());
        // Earlier charts did not have `admin`: it is added, with its claim.
        for path in [
            format!("/apis/apps/v1/namespaces/{name}/deployments/{name}-{NAME}-admin"),
            format!("/api/v1/namespaces/{name}/persistentvolumeclaims/{name}-{NAME}-audit"),
        ] {
            cp.request(Method::GET, &path, None).await.object();
        }
        // Values that the user had set are kept.
        for entry in entries {
            assert!(
                entry["namespaceSelector"]["matchExpressions"]
                    .as_array()
                    .expect("some")
                    .contains(&only)
            );
        }
        cp.helm(
            helm,
            &["uninstall", name, "--namespace", name],
            &Value::Null,
        )
        .await
        .expect_success();
    }
}
