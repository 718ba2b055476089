//! Manifests that users apply repeatedly: every kind that creates pods, with real kubectl and real controllers.

use http::Method;
use serde_json::{Value, json};

use crate::CANARY;
use testbed::manifests::{
    container, deployment, find_container, job, pod, prefixed, sources, template, variables, with,
};
use testbed::objects::{self, yaml};
use testbed::shared_fixture::shared_fixture;
use testbed::unique;

/// Reload annotation of a pod.
const RELOAD: &str = "secret.reloader.stakater.com/reload";

#[tokio::test]
async fn manifest_creates_secret_and_its_users_together() {
    let fixture = shared_fixture().await;
    let (cp, ns) = (fixture.cp, fixture.cp.namespace("manifest").await);
    let manifest = r#"
apiVersion: v1
kind: Secret
metadata: {name: snowflake-credentials}
stringData: {SNOWFLAKE_USER: CANARY, SNOWFLAKE_PASSWORD: CANARY}
---
apiVersion: batch/v1
kind: Job
metadata: {name: load}
spec: {template: TEMPLATE}
---
apiVersion: batch/v1
kind: CronJob
metadata: {name: nightly}
spec: {schedule: "0 3 * * *", jobTemplate: {spec: {template: TEMPLATE}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: api}
spec: {selector: {matchLabels: {app: api}}, template: TEMPLATE}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: store}
spec: {serviceName: store, selector: {matchLabels: {app: store}}, template: TEMPLATE}
---
apiVersion: v1
kind: Pod
metadata: {name: bare, annotations: ANNOTATIONS}
spec: SPEC
"#;
    let annotations = json!({
        "secrets.floe.dev/env-from": "snowflake-credentials",
        "secrets.floe.dev/refs": "snowflake-credentials/SNOWFLAKE_USER",
        "secrets.floe.dev/env.PASSWORD": "snowflake-credentials/SNOWFLAKE_PASSWORD",
        "example.com/theirs": "kept",
    });
    let main = json!({
        "name": "main", "image": "none",
        "envFrom": [{"configMapRef": {"name": "settings"}}, {"secretRef": {"name": "author"}}],
        "env": [{"name": "MODE", "value": "batch"}, {"name": "URL", "value": "db://loader:$(PASSWORD)@db"}],
    });
    let mut documents = yaml(
        &manifest
            .replace("TEMPLATE", "{}")
            .replace("ANNOTATIONS", "{}")
            .replace("SPEC", "{}")
            .replace("CANARY", CANARY),
    );
    for document in &mut documents {
        let name = document["metadata"]["name"]
            .as_str()
            .expect("a name")
            .to_owned();
        let mut template = template(&name, &annotations, &json!([main]));
        let (kind, spec) = (
            document["kind"].clone(),
            template["spec"].as_object_mut().expect("a spec"),
        );
        match kind.as_str().expect("a kind") {
            "Job" => {
                spec.insert("restartPolicy".to_owned(), "Never".into());
                document["spec"]["template"] = template;
            }
            "CronJob" => {
                spec.insert("restartPolicy".to_owned(), "Never".into());
                document["spec"]["jobTemplate"]["spec"]["template"] = template;
            }
            "Pod" => {
                document["metadata"]["annotations"] = annotations.clone();
                document["metadata"]["labels"] = json!({"app": "bare"});
                document["spec"] = template["spec"].take();
            }
            "Secret" => {}
            _ => document["spec"]["template"] = template,
        }
    }
    let list = json!({"apiVersion": "v1", "kind": "List", "items": documents});
    let applied = cp.kubectl_apply(&ns.name, &list).await.expect_success();
    assert_eq!(applied.stderr, "", "nothing to warn about");
    assert_eq!(
        applied
            .stdout
            .lines()
            .filter(|line| line.ends_with(" created"))
            .count(),
        documents.len()
    );
    // kubectl cannot apply a generateName, so users create such a Job.
    cp.kubectl(
        &[
            "-n",
            &ns.name,
            "create",
            "job",
            "tonight",
            "--from=cronjob/nightly",
        ],
        "",
    )
    .await
    .expect_success();
    let mut generated = pod(&ns.name, "", &annotations);
    generated["metadata"]["generateName"] = "generated-".into();
    generated["metadata"]["labels"] = json!({"app": "generated"});
    generated["metadata"]
        .as_object_mut()
        .expect("metadata")
        .remove("name");
    generated["spec"]["containers"] = json!([main]);
    cp.kubectl(
        &["-n", &ns.name, "create", "-f", "-"],
        &generated.to_string(),
    )
    .await
    .expect_success();

    for selector in [
        "job-name=load",
        "job-name=tonight",
        "app=api",
        "app=store",
        "app=bare",
        "app=generated",
    ] {
        let pod = cp.pod_of(&ns.name, selector).await;
        let main = find_container(&pod, "main");
        let ours_first = [
            "secret/snowflake-credentials",
            "configMap/settings",
            "secret/author",
        ];
        assert_eq!(sources(main), ours_first, "{selector}");
        assert_eq!(
            variables(main),
            [
                "PASSWORD<snowflake-credentials/SNOWFLAKE_PASSWORD",
                "MODE=batch",
                "URL=db://loader:$(PASSWORD)@db",
                "FLOE_SECRET_SNOWFLAKE_CREDENTIALS_SNOWFLAKE_USER<snowflake-credentials/SNOWFLAKE_USER",
            ],
            "{selector}"
        );
        assert_eq!(
            pod["metadata"]["labels"]["secrets.floe.dev/injected"], "true",
            "{selector}"
        );
        assert_eq!(
            pod["metadata"]["annotations"]["example.com/theirs"], "kept",
            "{selector}"
        );
        let record = pod["metadata"]["annotations"]["secrets.floe.dev/injected"]
            .as_str()
            .expect("the record");
        let record: Value = serde_json::from_str(record).expect("JSON");
        let mut added = json!({"containers": {"main": {
            "envFrom": ["snowflake-credentials"],
            "env": ["PASSWORD", "FLOE_SECRET_SNOWFLAKE_CREDENTIALS_SNOWFLAKE_USER"],
        }}});
        // The pods of a restartable workload have reload annotations; a Job is never restarted.
        let restarts = !selector.starts_with("job-name=");
        if restarts {
            added["restart"] = json!({"list": ["snowflake-credentials"]});
        }
        assert_eq!(record, added, "{selector}");
        let reload_annotation = pod["metadata"]["annotations"][RELOAD].as_str();
        assert_eq!(
            reload_annotation,
            restarts.then_some("snowflake-credentials"),
            "{selector}"
        );
        assert!(!pod.to_string().contains(CANARY), "{selector}");
    }

    // Templates stay as the author wrote them, so no second apply conflicts or restarts anything.
    for path in [
        "apis/apps/v1/namespaces/NS/deployments/api",
        "apis/batch/v1/namespaces/NS/cronjobs/nightly",
    ] {
        let object = cp
            .request(
                Method::GET,
                &format!("/{}", path.replace("NS", &ns.name)),
                None,
            )
            .await
            .object();
        let spec = object["spec"].to_string();
        assert!(
            !spec.contains("secrets.floe.dev/injected") && !spec.contains(RELOAD),
            "{object}"
        );
        assert_eq!(object["metadata"]["generation"], 1);
    }
    let (secret, workloads) = (&documents[..1], &documents[1..5]);
    assert!(
        secret[0]["kind"] == "Secret" && workloads.iter().all(|object| object["kind"] != "Pod")
    );
    let list = json!({"apiVersion": "v1", "kind": "List", "items": workloads});
    let again = cp.kubectl_apply(&ns.name, &list).await.expect_success();
    assert_eq!(
        again
            .stdout
            .lines()
            .filter(|line| line.ends_with(" unchanged"))
            .count(),
        workloads.len(),
        "{again:?}"
    );
    for flags in [
        &["--server-side", "--force-conflicts"][..],
        &["--server-side"],
    ] {
        let args = [&["-n", &ns.name, "apply", "-f", "-"], flags].concat();
        cp.kubectl(&args, &list.to_string()).await.expect_success();
    }

    let (_, metrics) = fixture.webhook.get("/metrics").expect("metrics");
    assert!(
        metrics.contains(r#"decision="injected""#) && !metrics.contains(CANARY),
        "{metrics}"
    );
    let log = fixture.webhook.log();
    assert!(
        log.contains("snowflake-credentials") && !log.contains(CANARY),
        "a value in the log"
    );
}

/// The webhook never changes the templates of a Job and a Deployment, so editing a label and an identical apply change
/// nothing.
#[tokio::test]
async fn workloads_can_be_applied_and_edited_repeatedly() {
    let fixture = shared_fixture().await;
    let (cp, ns) = (fixture.cp, fixture.cp.namespace("workloads").await);
    cp.secret(&ns.name, "a", &["k"], CANARY).await;
    let annotations = prefixed(&json!({"env-from": "a"}));
    let containers = json!([container()]);
    for (kind, object) in [
        ("job", job("load", &annotations, &containers)),
        ("deployment", deployment("api", &annotations, &containers)),
    ] {
        cp.kubectl_apply(&ns.name, &object).await.expect_success();
        let name = object["metadata"]["name"].as_str().expect("a name");
        cp.pod_of(&ns.name, &format!("app={name}")).await;
        let again = cp.kubectl_apply(&ns.name, &object).await.expect_success();
        assert!(again.stdout.ends_with(" unchanged\n"), "{again:?}");
        cp.kubectl(&["-n", &ns.name, "label", kind, name, "a=b"], "")
            .await
            .expect_success();
    }
    assert_eq!(cp.pods(&ns.name, "app=api").await.len(), 1);
    let path = format!("/apis/apps/v1/namespaces/{}/replicasets", ns.name);
    let sets = cp.request(Method::GET, &path, None).await.object();
    assert_eq!(
        sets["items"].as_array().map(Vec::len),
        Some(1),
        "no second ReplicaSet: {sets}"
    );
}

/// Users cannot remove what the webhook wrote: neither entries nor the pod's reload annotation.
#[tokio::test]
async fn bare_pod_can_be_applied_again_server_side() {
    let fixture = shared_fixture().await;
    let (cp, ns) = (fixture.cp, fixture.cp.namespace("server-side").await);
    cp.secret(&ns.name, "a", &["k"], CANARY).await;
    let bare = pod(
        &ns.name,
        "bare",
        &prefixed(&json!({"env-from": "a", "env.VAR": "a/k"})),
    );
    let apply = ["-n", &ns.name, "apply", "--server-side", "-f", "-"];
    cp.kubectl(&apply, &bare.to_string()).await.expect_success();
    let stored = cp
        .request(Method::GET, &objects::path(&bare), None)
        .await
        .object();
    assert_eq!(stored["metadata"]["annotations"][RELOAD], "a");
    cp.kubectl(&apply, &bare.to_string()).await.expect_success();
    let again = cp
        .request(Method::GET, &objects::path(&bare), None)
        .await
        .object();
    for field in ["/metadata/annotations", "/metadata/labels", "/spec"] {
        assert_eq!(again.pointer(field), stored.pointer(field), "{field}");
    }
}

/// A pod is immutable, and `kubectl apply` replaces `envFrom` as a whole.
#[tokio::test]
async fn bare_pod_can_be_applied_again_unless_it_has_own_sources() {
    let fixture = shared_fixture().await;
    let (cp, ns) = (fixture.cp, fixture.cp.namespace("again").await);
    cp.secret(&ns.name, "a", &["k"], CANARY).await;
    let annotations = prefixed(&json!({"env-from": "a", "env.VAR": "a/k"}));
    let author_env = json!([{"name": "X", "value": "1"}, {"name": "Y", "value": "$(VAR)"}]);
    for (fields, list, applied_again) in [
        (json!({}), json!(null), true),
        (json!({}), json!("theirs"), true),
        (json!({"env": author_env}), json!(null), true),
        (
            json!({"env": author_env, "envFrom": [{"configMapRef": {"name": "c"}}]}),
            json!(null),
            false,
        ),
    ] {
        let mut bare = pod(&ns.name, &unique("bare"), &annotations);
        with(&mut bare["spec"]["containers"][0], &fields);
        if list.is_string() {
            bare["metadata"]["annotations"][RELOAD] = list.clone();
        }
        cp.kubectl_apply(&ns.name, &bare).await.expect_success();
        let path = objects::path(&bare);
        let stored = cp.request(Method::GET, &path, None).await.object();
        let reload_annotation = if list.is_string() { list } else { json!("a") };
        assert_eq!(
            stored["metadata"]["annotations"][RELOAD], reload_annotation,
            "{fields}"
        );
        let again = cp.kubectl_apply(&ns.name, &bare).await;
        if applied_again {
            again.expect_success();
            assert_eq!(
                cp.request(Method::GET, &path, None).await.object(),
                stored,
                "{fields}"
            );
        } else {
            assert!(
                again.stderr.contains("pod updates may not change fields"),
                "{again:?}"
            );
        }
    }
}
