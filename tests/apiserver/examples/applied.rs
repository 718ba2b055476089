//! Worked examples: the variables that their pods get.
//!
//! `hack/examples/render.sh` makes the objects of Dagster and Airflow with their own packages. Pods of Argo Workflows and
//! Spark are made here as these programs make them, from the annotations of the example.

use http::Method;
use serde_json::{Map, Value, json};
use testbed::control_plane::ControlPlane;
use testbed::objects::yaml;
use testbed::tools::project_root;
use testbed::wait_for;

use crate::{Fixture, env_vars, example, names, secrets_of};

#[tokio::test]
async fn plain_job_has_secrets_in_each_of_three_ways() {
    let fixture = Fixture::new("plain-job").await;
    fixture
        .secret("warehouse", &["WAREHOUSE_USER", "WAREHOUSE_PASSWORD"])
        .await;
    fixture.secret("lake", &["token", "secret-key"]).await;
    fixture
        .kubectl(&["apply", "-f", "examples/plain-job/job.yaml"])
        .await;
    let pod = fixture.pod("job-name=load").await;
    let (bulk, entries) = secrets_of(&pod, "load");
    assert_eq!(bulk, ["secret/warehouse"]);
    assert_eq!(
        entries,
        [
            "AWS_SECRET_ACCESS_KEY<lake/secret-key",
            "FLOE_SECRET_LAKE_TOKEN<lake/token"
        ]
    );
}

#[tokio::test]
async fn dbt_job_has_the_variables_of_its_profile() {
    let fixture = Fixture::new("dbt-job").await;
    let variables = env_vars(&example("dbt-job/compiled/profiles.yml"));
    assert_eq!(variables.len(), 5, "{variables:?}");
    let keys: Vec<&str> = variables.iter().map(String::as_str).collect();
    fixture.secret("warehouse-credentials", &keys).await;
    fixture.kubectl(&["apply", "-k", "examples/dbt-job"]).await;
    let pod = fixture.pod("job-name=orders").await;
    let (bulk, entries) = secrets_of(&pod, "dbt");
    assert!(bulk.is_empty(), "{bulk:?}");
    assert_eq!(names(&entries), variables);
    // The profile in the pod is the compiled one.
    let project = pod["spec"]["volumes"]
        .as_array()
        .expect("volumes")
        .iter()
        .find_map(|volume| volume["configMap"]["name"].as_str())
        .expect("the project's ConfigMap");
    let path = format!(
        "/api/v1/namespaces/{}/configmaps/{project}",
        fixture.ns.name
    );
    let stored = fixture.cp.request(Method::GET, &path, None).await.object();
    assert_eq!(
        stored["data"]["profiles.yml"],
        example("dbt-job/compiled/profiles.yml")
    );
}

#[tokio::test]
async fn dbt_job_without_a_key_has_no_pod_and_names_the_key() {
    let fixture = Fixture::new("dbt-job").await;
    let variables = env_vars(&example("dbt-job/compiled/profiles.yml"));
    let keys: Vec<&str> = variables
        .iter()
        .map(String::as_str)
        .filter(|name| *name != "POSTGRES_PASSWORD")
        .collect();
    fixture.secret("warehouse-credentials", &keys).await;
    fixture.kubectl(&["apply", "-k", "examples/dbt-job"]).await;
    let message = fixture
        .cp
        .event(&fixture.ns.name, "Job", "orders", "FailedCreate")
        .await;
    assert!(
        message.contains("has no key \"POSTGRES_PASSWORD\""),
        "{message}"
    );
    let pods = fixture.cp.pods(&fixture.ns.name, "job-name=orders").await;
    assert!(pods.is_empty(), "{pods:?}");
}

#[tokio::test]
async fn dbt_cron_job_without_annotations_has_namespace_defaults() {
    let fixture = Fixture::new("dbt-cronjob").await;
    fixture.secret("partner-api", &["token"]).await;
    let patch = "examples/dbt-cronjob/compiled/namespace.yaml";
    let namespace = fixture.ns.name.clone();
    fixture
        .kubectl(&["patch", "namespace", &namespace, "--patch-file", patch])
        .await;
    fixture
        .kubectl(&["apply", "-k", "examples/dbt-cronjob"])
        .await;
    fixture
        .kubectl(&["create", "job", "now", "--from=cronjob/floe-jobs-dbt"])
        .await;
    let pod = fixture.pod("job-name=now").await;
    assert!(pod["metadata"]["annotations"]["secrets.floe.dev/refs"].is_null());
    let (bulk, entries) = secrets_of(&pod, "dbt");
    assert!(bulk.is_empty(), "{bulk:?}");
    assert_eq!(entries, ["FLOE_SECRET_PARTNER_API_TOKEN<partner-api/token"]);
    let profile = example("dbt-cronjob/compiled/profiles.yml");
    assert_eq!(names(&entries), env_vars(&profile));
}

#[tokio::test]
async fn cube_pods_have_the_variables_of_their_service_account() {
    let fixture = Fixture::new("cube").await;
    fixture.secret("cube", &["api-secret"]).await;
    fixture.secret("warehouse", &["user", "password"]).await;
    let namespace = fixture.ns.name.clone();
    let label = "secrets.floe.dev/inject=enabled";
    fixture
        .kubectl(&["label", "namespace", &namespace, label])
        .await;
    let (account, cube) = (
        "examples/cube/serviceaccount.yaml",
        "examples/cube/cube.yaml",
    );
    fixture.kubectl(&["apply", "-f", account, "-f", cube]).await;
    for component in ["api", "refresh-worker"] {
        let pod = fixture
            .pod(&format!("app.kubernetes.io/component={component}"))
            .await;
        let (bulk, entries) = secrets_of(&pod, &format!("cube-{component}"));
        assert!(bulk.is_empty(), "{bulk:?}");
        assert_eq!(
            entries,
            [
                "CUBEJS_API_SECRET<cube/api-secret",
                "CUBEJS_DB_PASS<warehouse/password",
                "CUBEJS_DB_USER<warehouse/user"
            ]
        );
    }
}

/// Secrets of the examples whose pods are made by another program.
async fn warehouse_and_dbt(fixture: &Fixture) {
    fixture
        .secret("warehouse", &["WAREHOUSE_USER", "WAREHOUSE_PASSWORD"])
        .await;
    fixture.secret("dbt", &["token"]).await;
}

#[tokio::test]
async fn dagster_run_has_the_secrets_of_its_tag() {
    let fixture = Fixture::new("dagster").await;
    warehouse_and_dbt(&fixture).await;
    fixture
        .kubectl(&["apply", "-f", "examples/dagster/run-job.json"])
        .await;
    let pod = fixture.pod("dagster/job=orders").await;
    assert_eq!(
        secrets_of(&pod, "dagster"),
        (
            vec!["secret/warehouse".to_owned()],
            vec!["DBT_TOKEN<dbt/token".to_owned()]
        )
    );
}

#[tokio::test]
async fn airflow_task_has_secrets_in_its_base_container_alone() {
    let fixture = Fixture::new("airflow").await;
    warehouse_and_dbt(&fixture).await;
    let mut pod: Value = serde_json::from_str(&example("airflow/task-pod.json")).expect("JSON");
    // Airflow's own namespace, of which this one takes the place.
    pod["metadata"]["namespace"] = fixture.ns.name.as_str().into();
    let pod = fixture.create_pod(&pod).await;
    assert_eq!(
        secrets_of(&pod, "base"),
        (
            vec!["secret/warehouse".to_owned()],
            vec!["DBT_TOKEN<dbt/token".to_owned()]
        )
    );
    assert_eq!(
        secrets_of(&pod, "airflow-xcom-sidecar"),
        (Vec::new(), Vec::new())
    );
}

#[tokio::test]
async fn argo_step_has_secrets_in_its_main_container_alone() {
    let fixture = Fixture::new("argo").await;
    fixture
        .secret("warehouse", &["WAREHOUSE_USER", "WAREHOUSE_PASSWORD"])
        .await;
    install_workflows(fixture.cp).await;
    let file = "examples/argo-workflows/workflow.yaml";
    let printed = fixture.kubectl(&["create", "-f", file, "-o", "json"]).await;
    let workflow: Value = serde_json::from_str(&printed.stdout).expect("the stored Workflow");
    let pod = argo_pod(&workflow);
    let pod = fixture.create_pod(&pod).await;
    let bulk = vec!["secret/warehouse".to_owned()];
    assert_eq!(secrets_of(&pod, "main"), (bulk, Vec::new()));
    for container in ["wait", "init"] {
        assert_eq!(secrets_of(&pod, container), (Vec::new(), Vec::new()));
    }
}

/// Pod of a Workflow's only step, as its controller makes it.
fn argo_pod(workflow: &Value) -> Value {
    let name = &workflow["metadata"]["name"];
    let mut annotations = workflow["spec"]["podMetadata"]["annotations"].clone();
    annotations["workflows.argoproj.io/node-name"] = name.clone();
    annotations["kubectl.kubernetes.io/default-container"] = "main".into();
    let executor = "quay.io/argoproj/argoexec:v3.7.0";
    let mut main = workflow["spec"]["templates"][0]["container"].clone();
    main["name"] = "main".into();
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": name,
            "labels": {"workflows.argoproj.io/workflow": name, "workflows.argoproj.io/completed": "false"},
            "annotations": annotations,
            "ownerReferences": [{
                "apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "name": name,
                "uid": workflow["metadata"]["uid"], "controller": true, "blockOwnerDeletion": true,
            }],
        },
        "spec": {
            "restartPolicy": "Never",
            "initContainers": [{"name": "init", "image": executor, "command": ["argoexec", "init"]}],
            "containers": [{"name": "wait", "image": executor, "command": ["argoexec", "wait"]}, main],
        },
    })
}

/// Installs the CRD of Workflows with the schema of Argo's own minimal manifests, which accepts every field.
async fn install_workflows(cp: &ControlPlane) {
    let schema = json!({"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
    let version = json!({"name": "v1alpha1", "served": true, "storage": true, "schema": schema});
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "workflows.argoproj.io"},
        "spec": {"group": "argoproj.io", "scope": "Namespaced", "versions": [version],
            "names": {"kind": "Workflow", "plural": "workflows", "singular": "workflow"}},
    });
    cp.create(&definition).await.object();
    wait_for("workflows are served", || async {
        let path = "/apis/argoproj.io/v1alpha1/workflows";
        let list = cp.request(Method::GET, path, None).await;
        list.is_accepted().then_some(())
    })
    .await;
}

#[tokio::test]
async fn spark_driver_and_executor_have_the_variables_of_their_annotations() {
    let fixture = Fixture::new("spark").await;
    fixture.secret("lake", &["access-key", "secret-key"]).await;
    let conf = example("spark/spark-defaults.conf");
    for role in ["driver", "executor"] {
        let container = format!("spark-kubernetes-{role}");
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": role, "annotations": spark_annotations(&conf, role),
                "labels": {"spark-role": role, "spark-app-selector": "spark-1"},
            },
            "spec": {"restartPolicy": "Never", "containers": [{
                "name": container, "image": "example.com/spark:4.0", "args": [role],
                "env": [{"name": "SPARK_USER", "value": "data"}],
            }]},
        });
        let pod = fixture.create_pod(&pod).await;
        let (bulk, entries) = secrets_of(&pod, &container);
        assert!(bulk.is_empty(), "{bulk:?}");
        assert_eq!(
            entries,
            [
                "AWS_ACCESS_KEY_ID<lake/access-key",
                "AWS_SECRET_ACCESS_KEY<lake/secret-key"
            ]
        );
    }
}

/// Annotations of a role's pods in a properties file: a name and a value, separated by white space.
fn spark_annotations(conf: &str, role: &str) -> Value {
    let prefix = format!("spark.kubernetes.{role}.annotation.");
    let settings = conf.lines().filter_map(|line| line.strip_prefix(&prefix));
    let pairs = settings.filter_map(|line| line.split_once(char::is_whitespace));
    let annotations: Map<String, Value> = pairs
        .map(|(name, value)| (name.to_owned(), value.trim().into()))
        .collect();
    assert!(!annotations.is_empty(), "{role} has no annotations");
    annotations.into()
}

#[test]
fn examples_have_a_readme_and_valid_yaml() {
    let folders = std::fs::read_dir(project_root().join("examples")).expect("the folder");
    let folders: Vec<_> = folders
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.is_dir())
        .collect();
    assert_eq!(folders.len(), 8, "{folders:?}");
    for folder in folders {
        let readme = std::fs::read_to_string(folder.join("README.md")).expect("a README");
        assert!(
            readme.lines().count() <= 20,
            "{} is short",
            folder.display()
        );
        for entry in std::fs::read_dir(&folder).expect("a folder") {
            let file = entry.expect("an entry").path();
            let extension = file.extension().and_then(std::ffi::OsStr::to_str);
            if matches!(extension, Some("yaml" | "yml")) {
                yaml(&std::fs::read_to_string(&file).expect("a file"));
            }
        }
    }
}
