//! Pod templates in kinds of other projects, Argo's own form, and annotations without effect.

use super::*;

/// Template that requests a secret, in the usual form.
fn template(container: &str) -> Value {
    json!({
        "metadata": { "annotations": { "secrets.floe.dev/refs": "token" } },
        "spec": { "containers": [{ "name": container, "image": "i" }] },
    })
}

fn injected_env() -> Value {
    json!([variable("FLOE_SECRET_TOKEN", "token", "value")])
}

/// Object of an operator's kind in the shape of its own manifests, and the paths of its pod templates.
fn operators_object(kind: &str) -> (Value, Vec<&'static str>) {
    let t = template;
    let (spec, api_version, at) = match kind {
        "RayCluster" => (
            json!({ "headGroupSpec": { "template": t("head") }, "workerGroupSpecs": [
                { "groupName": "small", "template": t("worker") }, { "groupName": "large", "template": t("worker") } ] }),
            "ray.io/v1",
            vec![
                "headGroupSpec/template",
                "workerGroupSpecs/0/template",
                "workerGroupSpecs/1/template",
            ],
        ),
        "RayJob" => (
            json!({ "entrypoint": "python job.py", "submitterPodTemplate": t("submit"), "rayClusterSpec": {
                "headGroupSpec": { "template": t("head") }, "workerGroupSpecs": [{ "template": t("worker") }] } }),
            "ray.io/v1",
            vec![
                "submitterPodTemplate",
                "rayClusterSpec/headGroupSpec/template",
                "rayClusterSpec/workerGroupSpecs/0/template",
            ],
        ),
        "SparkApplication" => (
            json!({ "type": "Scala", "driver": { "cores": 1, "template": t("spark-kubernetes-driver") },
                "executor": { "instances": 2, "template": t("spark-kubernetes-executor") } }),
            "sparkoperator.k8s.io/v1beta2",
            vec!["driver/template", "executor/template"],
        ),
        "FlinkDeployment" => (
            json!({ "podTemplate": t("flink-main-container"), "jobManager": { "podTemplate": t("flink-main-container") },
                "taskManager": { "podTemplate": t("flink-main-container") } }),
            "flink.apache.org/v1beta1",
            vec![
                "podTemplate",
                "jobManager/podTemplate",
                "taskManager/podTemplate",
            ],
        ),
        "PyTorchJob" => (
            json!({ "pytorchReplicaSpecs": { "Master": { "replicas": 1, "template": t("pytorch") },
                "Worker": { "replicas": 2, "template": t("pytorch") } } }),
            "kubeflow.org/v1",
            vec![
                "pytorchReplicaSpecs/Master/template",
                "pytorchReplicaSpecs/Worker/template",
            ],
        ),
        "TFJob" => (
            json!({ "tfReplicaSpecs": { "Chief": { "template": t("tensorflow") }, "PS": { "template": t("tensorflow") } } }),
            "kubeflow.org/v1",
            vec![
                "tfReplicaSpecs/Chief/template",
                "tfReplicaSpecs/PS/template",
            ],
        ),
        "MPIJob" => (
            json!({ "mpiReplicaSpecs": { "Launcher": { "template": t("mpi") }, "Worker": { "template": t("mpi") } } }),
            "kubeflow.org/v2beta1",
            vec![
                "mpiReplicaSpecs/Launcher/template",
                "mpiReplicaSpecs/Worker/template",
            ],
        ),
        "Job" => (
            json!({ "minAvailable": 1, "tasks": [{ "name": "a", "template": t("a") }, { "name": "b", "template": t("b") }] }),
            "batch.volcano.sh/v1alpha1",
            vec!["tasks/0/template", "tasks/1/template"],
        ),
        "Service" => {
            // Knative names the one container of a revision itself.
            let mut revision = t("ignored");
            revision["spec"]["containers"] = json!([{ "image": "i" }]);
            (
                json!({ "template": revision }),
                "serving.knative.dev/v1",
                vec!["template"],
            )
        }
        "JobSet" => (
            json!({ "replicatedJobs": [{ "name": "w", "template": { "spec": { "template": t("w") } } }] }),
            "jobset.x-k8s.io/v1alpha2",
            vec!["replicatedJobs/0/template/spec/template"],
        ),
        "LeaderWorkerSet" => (
            json!({ "leaderWorkerTemplate": { "size": 2, "leaderTemplate": t("l"), "workerTemplate": t("w") } }),
            "leaderworkerset.x-k8s.io/v1",
            vec![
                "leaderWorkerTemplate/leaderTemplate",
                "leaderWorkerTemplate/workerTemplate",
            ],
        ),
        "Experiment" => (
            json!({ "templates": [{ "name": "canary", "template": t("c") }] }),
            "argoproj.io/v1alpha1",
            vec!["templates/0/template"],
        ),
        "CloneSet" => (
            json!({ "replicas": 1, "template": t("c") }),
            "apps.kruise.io/v1alpha1",
            vec!["template"],
        ),
        "AppWrapper" => (
            json!({ "podTemplates": [t("a"), t("b")] }),
            "workload.example.com/v1",
            vec!["podTemplates/0", "podTemplates/1"],
        ),
        other => panic!("no such kind here: {other}"),
    };
    let object = json!({
        "apiVersion": api_version, "kind": kind, "metadata": { "name": "x" }, "spec": spec,
        // Copies in a status are not requests.
        "status": { "stored": { "template": t("old") } },
    });
    (object, at)
}

/// Entries of a pod that is created from a template.
fn as_a_pod(template: &Value) -> Value {
    let mut pod = template.clone();
    pod["apiVersion"] = "v1".into();
    pod["kind"] = "Pod".into();
    pod["metadata"]["name"] = "made-from-it".into();
    printed(
        &inject(
            &[("s.yaml", SECRETS)],
            &pod.to_string(),
            &["-f", "-", "--secrets", "s.yaml"],
        ),
        "",
    )
}

#[rstest]
fn template_of_any_kind_is_found_by_its_shape(
    #[values(
        "RayCluster",
        "RayJob",
        "SparkApplication",
        "FlinkDeployment",
        "PyTorchJob",
        "TFJob",
        "MPIJob",
        "Job",
        "Service",
        "JobSet",
        "LeaderWorkerSet",
        "Experiment",
        "CloneSet",
        "AppWrapper"
    )]
    kind: &str,
) {
    let (object, places) = operators_object(kind);
    let output = inject(
        &[("s.yaml", SECRETS)],
        &object.to_string(),
        &["-f", "-", "--secrets", "s.yaml"],
    );
    assert_eq!((output.code, output.stderr.as_str()), (0, ""));
    let printed = &as_kubectl_reads(&output.stdout)[0];
    let mut expected = object.clone();
    expected["metadata"]["labels"] = json!({ "seen": "yes" });
    for place in places {
        let at = format!("/spec/{place}");
        let pod = printed
            .pointer(&at)
            .unwrap_or_else(|| panic!("no {at} in {}", output.stdout));
        assert_eq!(env_of(pod), injected_env(), "{at}");
        assert_eq!(
            pod["metadata"]["labels"]["secrets.floe.dev/injected"], "true",
            "{at}"
        );
        assert_eq!(
            pod["spec"],
            as_a_pod(object.pointer(&at).unwrap())["spec"],
            "{at}: as a pod made from it"
        );
        *expected.pointer_mut(&at).unwrap() = pod.clone();
    }
    assert_eq!(*printed, expected, "nothing else changed");
    let again = inject(
        &[("s.yaml", SECRETS)],
        &output.stdout,
        &["-f", "-", "--secrets", "s.yaml"],
    );
    assert_eq!(
        (again.code, again.stdout.as_str()),
        (0, output.stdout.as_str()),
        "a second pass changes nothing"
    );
}

#[rstest]
#[case::base_alone("ASKS", "", true)]
#[case::manager_alone("", "ASKS", true)]
#[case::both_the_same("ASKS", "ASKS", true)]
#[case::manager_has_variables("ASKS", "ENV", false)]
#[case::base_has_variables("ENV", "ASKS", false)]
#[case::both_the_same_and_variables("ASKS ENV", "ASKS", false)]
#[case::both_differ("ASKS", "OTHER", false)]
#[case::nobody_asks("ENV", "ENV", true)]
fn templates_that_flink_merges_do_not_lose_variables(
    #[case] base: &str,
    #[case] manager: &str,
    #[case] accepted: bool,
) {
    let template = |words: &str| {
        let mut template =
            json!({ "spec": { "containers": [{ "name": "flink-main-container" }] } });
        for word in words.split_whitespace() {
            match word {
                "ENV" => {
                    template["spec"]["containers"][0]["env"] =
                        json!([{ "name": "A", "value": "b" }]);
                }
                asks => {
                    let key = if asks == "ASKS" { "refs" } else { "env-from" };
                    template["metadata"] =
                        json!({ "annotations": { format!("secrets.floe.dev/{key}"): "token" } });
                }
            }
        }
        template
    };
    let object = json!({
        "apiVersion": "flink.apache.org/v1beta1", "kind": "FlinkDeployment", "metadata": { "name": "f" },
        "spec": { "podTemplate": template(base), "taskManager": { "podTemplate": template(manager) } },
    });
    let output = inject(
        &[("s.yaml", SECRETS)],
        &object.to_string(),
        &["-f", "-", "--secrets", "s.yaml"],
    );
    assert_eq!(output.code, i32::from(!accepted), "{}", output.stderr);
    let message = "nothing can be injected here: Flink merges spec.podTemplate and spec.taskManager.podTemplate by position, and variables of one would take the place of the other's. Write annotations, env and envFrom in one of the two, or pass --allow-unknown to leave it out.\n";
    assert_eq!(
        output.stderr.ends_with(message),
        !accepted,
        "{}",
        output.stderr
    );
}

#[test]
fn template_lookalike_is_unchanged_unless_annotated() {
    let object = |annotations: Value| {
        json!({
            "apiVersion": "x.io/v1", "kind": "X", "metadata": { "name": "x" },
            "spec": { "boxTemplate": {
                "metadata": { "annotations": annotations },
                "spec": { "containers": [{ "name": "box", "env": { "A": "b" } }] },
            } },
        })
        .to_string()
    };
    let innocent = object(json!({ "a": "b" }));
    let output = inject(&[], &innocent, &["-f", "-"]);
    assert_eq!(
        (output.code, output.stdout.as_str(), output.stderr.as_str()),
        (0, innocent.as_str(), "")
    );
    let output = inject(
        &[],
        &object(json!({ "secrets.floe.dev/refs": "token" })),
        &["-f", "-"],
    );
    assert_eq!(
        (output.code, output.stderr.as_str()),
        (
            2,
            "error: standard input:1: X \"x\": spec.boxTemplate.spec.containers[0].env (container \"box\") is an object, and Kubernetes takes a list there\n"
        )
    );
}

#[test]
fn copies_of_controllers_are_neither_injected_nor_rejected() {
    let replica_set = |controller: bool| {
        json!({
            "apiVersion": "apps/v1", "kind": "ReplicaSet",
            "metadata": {
                "name": "web-1", "annotations": { "secrets.floe.dev/refs": "a/b" },
                "ownerReferences": [{ "kind": "Deployment", "name": "web", "controller": controller }],
            },
            "spec": { "template": { "spec": { "containers": [{ "name": "main" }] } } },
        })
        .to_string()
    };
    for (controller, code) in [(true, 0), (false, 1)] {
        assert_eq!(
            inject(&[], &replica_set(controller), &["-f", "-"]).code,
            code,
            "{controller}"
        );
    }
}

#[test]
fn mistake_in_a_nested_template_names_its_place() {
    let (mut object, _) = operators_object("RayCluster");
    object["spec"]["workerGroupSpecs"][1]["template"]["metadata"]["annotations"]["secrets.floe.dev/refs"] =
        "gone".into();
    let output = inject(
        &[("s.yaml", SECRETS)],
        &object.to_string(),
        &["-f", "-", "--secrets", "s.yaml"],
    );
    assert_eq!((output.code, output.stdout.as_str()), (1, ""));
    assert!(
        output.stderr.starts_with(
            "error: standard input: document 1, RayCluster \"x\", spec.workerGroupSpecs[1].template in namespace \"default\": secret \"gone\" not found"
        ),
        "{}",
        output.stderr
    );
}

#[test]
fn nested_templates_get_the_defaults_that_their_pods_would_get() {
    let defaults = DEFAULTS
        .replace("LABEL", "enabled")
        .replace("main,sidecar", "*");
    let (mut object, _) = operators_object("RayCluster");
    object["metadata"]["namespace"] = "jobs".into();
    object["spec"]["headGroupSpec"]["template"]["spec"]["serviceAccountName"] = "runner".into();
    for group in ["/spec/headGroupSpec", "/spec/workerGroupSpecs/0"] {
        object
            .pointer_mut(&format!("{group}/template/metadata"))
            .unwrap()["annotations"] = json!({});
    }
    object["spec"]["workerGroupSpecs"]
        .as_array_mut()
        .unwrap()
        .pop();
    let files = [("d.yaml", defaults.as_str()), ("s.yaml", SECRETS)];
    let args = ["-f", "-", "--secrets", "d.yaml", "--secrets", "s.yaml"];
    let output = inject(&files, &object.to_string(), &args);
    let head = printed(&output, "/spec/headGroupSpec/template");
    assert_eq!(
        env_of(&head),
        json!([variable("FLOE_SECRET_SNOWFLAKE_ROLE", "snowflake", "role")]),
        "its account's"
    );
    let worker = printed(&output, "/spec/workerGroupSpecs/0/template");
    assert_eq!(env_of(&worker), Value::Null);
    assert_eq!(
        worker["spec"]["containers"][0]["envFrom"],
        json!([{ "secretRef": { "name": "snowflake" } }])
    );
}

#[rstest]
#[case::at_the_bound(1_000, 0)]
#[case::above(1_001, 2)]
fn templates_of_one_object_are_bounded(#[case] count: usize, #[case] code: i32) {
    let templates = vec![template("c"); count];
    let object = json!({ "apiVersion": "x.io/v1", "kind": "X", "metadata": { "name": "x" }, "templates": templates });
    let output = inject(
        &[("s.yaml", SECRETS)],
        &object.to_string(),
        &["-f", "-", "--secrets", "s.yaml"],
    );
    assert_eq!(output.code, code, "{}", output.stderr);
    assert_eq!(
        output.stdout.matches("secretKeyRef").count(),
        if code == 0 { count } else { 0 }
    );
    if code == 2 {
        assert_eq!(
            output.stderr,
            "error: standard input:1: X \"x\": it has more than 1000 pod templates; split it\n"
        );
    }
}

// === Argo ===

/// Spec of a workflow with templates of every kind.
const WORKFLOW_SPEC: &str = "
entrypoint: all
serviceAccountName: runner
podMetadata:
  annotations: {secrets.floe.dev/env.SHARED: token/value}
templates:
- name: all
  steps:
  - - {name: one, template: build}
    - name: two
      inline:
        metadata: {annotations: {secrets.floe.dev/refs: token}}
        container: {image: i}
- name: build
  metadata: {annotations: {secrets.floe.dev/refs: token, secrets.floe.dev/init-containers: '*'}}
  initContainers: [{name: fetch, image: i}]
  container: {image: i, env: [{name: A, value: 'x:$(SHARED)'}]}
  sidecars: [{name: cache, image: i}]
- name: script
  script: {image: i, source: 'print(1)'}
- name: set
  metadata: {annotations: {secrets.floe.dev/containers: b}}
  containerSet: {containers: [{name: a, image: i}, {name: b, image: i}]}
- name: graph
  dag:
    tasks:
    - name: t
      inline: {script: {image: i, source: x}}
- name: wait
  suspend: {}
";

fn workflow(kind: &str, spec: &str) -> String {
    let spec: Value = serde_saphyr::from_str(spec).unwrap();
    let spec = if kind == "CronWorkflow" {
        json!({ "schedule": "@daily", "workflowSpec": spec })
    } else {
        spec
    };
    json!({ "apiVersion": "argoproj.io/v1alpha1", "kind": kind, "metadata": { "name": "w" }, "spec": spec }).to_string()
}

#[rstest]
#[case("Workflow", "/spec")]
#[case("WorkflowTemplate", "/spec")]
#[case("ClusterWorkflowTemplate", "/spec")]
#[case("CronWorkflow", "/spec/workflowSpec")]
fn argo_templates_get_what_their_pods_would_get(#[case] kind: &str, #[case] at: &str) {
    let manifest = workflow(kind, WORKFLOW_SPEC);
    let output = inject(
        &[("s.yaml", SECRETS)],
        &manifest,
        &["-f", "-", "--secrets", "s.yaml"],
    );
    assert_eq!((output.code, output.stderr.as_str()), (0, ""));
    let spec = as_kubectl_reads(&output.stdout)[0]
        .pointer(at)
        .unwrap()
        .clone();
    let (shared, own) = (
        variable("SHARED", "token", "value"),
        variable("FLOE_SECRET_TOKEN", "token", "value"),
    );
    let templates = &spec["templates"];

    let build = &templates[1];
    let author = json!({ "name": "A", "value": "x:$(SHARED)" });
    assert_eq!(
        build["container"]["env"],
        json!([shared, author, own]),
        "before the variable that refers to it"
    );
    assert_eq!(build["container"].get("name"), None, "Argo names it");
    assert_eq!(build["sidecars"][0]["env"], json!([own, shared]));
    assert_eq!(build["initContainers"][0]["env"], json!([own, shared]));
    assert_eq!(
        build["metadata"]["labels"],
        json!({ "secrets.floe.dev/injected": "true" })
    );
    assert_eq!(
        templates[0]["steps"][0][1]["inline"]["container"]["env"],
        json!([own, shared])
    );
    let script = &templates[2];
    assert_eq!(
        (&script["script"]["env"], &script["script"]["source"]),
        (&json!([shared]), &json!("print(1)"))
    );
    let record = script["metadata"]["annotations"]["secrets.floe.dev/injected"]
        .as_str()
        .unwrap();
    assert_eq!(record, r#"{"containers":{"main":{"env":["SHARED"]}}}"#);
    let containers = &templates[3]["containerSet"]["containers"];
    assert_eq!(
        (containers[0].get("env"), &containers[1]["env"]),
        (None, &json!([shared]))
    );
    assert_eq!(
        templates[4]["dag"]["tasks"][0]["inline"]["script"]["env"],
        json!([shared])
    );
    assert_eq!(templates[5], json!({ "name": "wait", "suspend": {} }));

    let again = inject(
        &[("s.yaml", SECRETS)],
        &output.stdout,
        &["-f", "-", "--secrets", "s.yaml"],
    );
    assert_eq!(
        (again.code, again.stdout.as_str()),
        (0, output.stdout.as_str()),
        "a second pass changes nothing"
    );
}

#[rstest]
#[case::the_workflows("serviceAccountName: runner", "")]
#[case::the_templates("serviceAccountName: other", "serviceAccountName: runner")]
#[case::of_the_defaults(
    "serviceAccountName: other\ntemplateDefaults: {serviceAccountName: runner}",
    ""
)]
fn argo_templates_get_the_defaults_of_their_service_account(
    #[case] spec: &str,
    #[case] template: &str,
) {
    let defaults = DEFAULTS
        .replace("LABEL", "enabled")
        .replace("main,sidecar", "*");
    let spec = format!("{spec}\ntemplates:\n- name: a\n  container: {{image: i}}\n  {template}\n");
    let manifest = workflow("Workflow", &spec);
    let files = [("d.yaml", defaults.as_str()), ("s.yaml", SECRETS)];
    let output = inject(
        &files,
        &manifest,
        &[
            "-f",
            "-",
            "-n",
            "jobs",
            "--secrets",
            "d.yaml",
            "--secrets",
            "s.yaml",
        ],
    );
    let template = printed(&output, "/spec/templates/0");
    assert_eq!(
        template["container"]["env"],
        json!([variable("FLOE_SECRET_SNOWFLAKE_ROLE", "snowflake", "role")])
    );
}

const ASKS: &str = "metadata: {annotations: {secrets.floe.dev/refs: token}}";

#[rstest]
#[case::pod_spec_patch(
    "templates: [{name: a, container: {image: i}, podSpecPatch: '{\"containers\":[{\"name\":\"main\",\"envFrom\":[]}]}', ASKS}]",
    "spec.templates[0] \"a\" in namespace \"default\": nothing can be injected here: its podSpecPatch sets envFrom"
)]
#[case::workflow_pod_spec_patch(
    "podSpecPatch: '{\"containers\":[{\"name\":\"main\",\"envFrom\":[]}]}'\ntemplates: [{name: a, container: {image: i}, ASKS}]",
    "nothing can be injected here: its podSpecPatch sets envFrom"
)]
#[case::template_defaults(
    "templateDefaults: {container: {env: [{name: A, value: b}]}}\ntemplates: [{name: a, container: {image: i}, ASKS}]",
    "nothing can be injected here: templateDefaults.container.env is merged into the template later"
)]
#[case::annotations_in_template_defaults(
    "templateDefaults: {ASKS}\ntemplates: [{name: a, container: {image: i}}]",
    "annotation secrets.floe.dev/refs in spec.templateDefaults.metadata.annotations is not acted on. Move it to spec.templates[0].metadata.annotations, or pass --allow-unknown"
)]
#[case::resource(
    "templates: [{name: a, resource: {action: create, manifest: x}, ASKS}]",
    "annotation secrets.floe.dev/refs in spec.templates[0].metadata.annotations is not acted on: no pod template was found in this Workflow."
)]
#[case::resource_beside_pod_metadata(
    "podASKS\ntemplates: [{name: a, container: {image: i}}, {name: b, resource: {action: create}}]",
    "annotation secrets.floe.dev/refs in spec.podMetadata.annotations is not acted on for every pod: it holds for the pod of spec.templates[1] too, whose container comes from Argo."
)]
#[case::template_ref(
    "podASKS\ntemplates: [{name: a, container: {image: i}}, {name: b, steps: [[{name: s, templateRef: {name: x, template: y}}]]}]",
    "annotation secrets.floe.dev/refs in spec.podMetadata.annotations is not acted on for every pod: it holds for the pods of a WorkflowTemplate too"
)]
#[case::workflow_template_ref(
    "podASKS\nworkflowTemplateRef: {name: x}",
    "annotation secrets.floe.dev/refs in spec.podMetadata.annotations is not acted on for every pod: it holds for the pods of a WorkflowTemplate too"
)]
#[case::workflow_metadata(
    "workflowASKS\ntemplates: [{name: a, container: {image: i}}]",
    "annotation secrets.floe.dev/refs in spec.workflowMetadata.annotations is not acted on."
)]
fn annotations_that_cannot_reach_argo_pods_are_rejected(#[case] spec: &str, #[case] message: &str) {
    let spec = spec
        .replace(
            "podASKS",
            "podMetadata: {annotations: {secrets.floe.dev/refs: token}}",
        )
        .replace(
            "workflowASKS",
            "workflowMetadata: {annotations: {secrets.floe.dev/refs: token}}",
        )
        .replace("ASKS", ASKS);
    let manifest = workflow("Workflow", &spec);
    let args = ["-f", "-", "--secrets", "s.yaml"];
    let output = inject(&[("s.yaml", SECRETS)], &manifest, &args);
    assert_eq!(
        (output.code, output.stdout.as_str()),
        (1, ""),
        "{}",
        output.stderr
    );
    assert!(
        output
            .stderr
            .starts_with("error: standard input: document 1, Workflow \"w\""),
        "{}",
        output.stderr
    );
    assert!(output.stderr.contains(message), "{}", output.stderr);
    let allowed = inject(
        &[("s.yaml", SECRETS)],
        &manifest,
        &[&args[..], &["--allow-unknown"]].concat(),
    );
    assert_eq!(allowed.code, 0, "{}", allowed.stderr);
    assert!(
        allowed.stderr.starts_with("warning: ") && allowed.stderr.contains(message),
        "{}",
        allowed.stderr
    );
}

// === annotations without effect ===

#[test]
fn ineffective_annotation_is_error_with_its_place() {
    let manifest = "
apiVersion: apps/v1
kind: ReplicaSet
metadata: {name: web, annotations: {secrets.floe.dev/refs: a/b, secrets.floe.dev/containers: main, other: x}}
spec: {template: {spec: {containers: [{name: main}]}}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: c, annotations: {secrets.floe.dev/refs: a/b}}
---
apiVersion: v1
kind: Secret
metadata: {name: s, annotations: {secrets.floe.dev/refs: a/b, secrets.floe.dev/injected: '{}'}}
stringData: {a: canary}
---
apiVersion: argoproj.io/v1alpha1
kind: Rollout
metadata: {name: r, annotations: {secrets.floe.dev/refs: a/b}}
spec: {workloadRef: {name: web}}
---
apiVersion: acid.zalan.do/v1
kind: postgresql
metadata: {name: p}
spec: {podAnnotations: {secrets.floe.dev/refs: a/b}}
---
apiVersion: ray.io/v1
kind: RayCluster
metadata: {name: ray, annotations: {secrets.floe.dev/refs: a/b}}
spec:
  headGroupSpec: {template: {spec: {containers: [{name: main}]}}}
  workerGroupSpecs: [{template: {spec: {containers: [{name: main}]}}}]
---
apiVersion: tekton.dev/v1
kind: TaskRun
metadata: {name: t, annotations: {secrets.floe.dev/refs: a/b}}
spec: {taskSpec: {steps: [{name: main}]}}
status: {old: {annotations: {secrets.floe.dev/refs: a/b}}}
";
    let expected = [
        "document 1, ReplicaSet \"web\": annotations secrets.floe.dev/refs, secrets.floe.dev/containers in metadata.annotations are not acted on. Move them to spec.template.metadata.annotations, or pass --allow-unknown to leave them there.",
        "document 2, ConfigMap \"c\": annotation secrets.floe.dev/refs in metadata.annotations is not acted on: no pod template was found in this ConfigMap. Move it to a pod or a pod template; if a controller copies it to its pods, where the webhook reads it, pass --allow-unknown.",
        "document 3, Secret \"s\": annotation secrets.floe.dev/refs in metadata.annotations is not acted on: no pod template was found in this Secret. Move it to a pod or a pod template; if a controller copies it to its pods, where the webhook reads it, pass --allow-unknown.",
        "document 4, Rollout \"r\": annotation secrets.floe.dev/refs in metadata.annotations is not acted on: no pod template was found in this Rollout. Move it to a pod or a pod template; if a controller copies it to its pods, where the webhook reads it, pass --allow-unknown.",
        "document 5, postgresql \"p\": annotation secrets.floe.dev/refs in spec.podAnnotations is not acted on: no pod template was found in this postgresql. Move it to a pod or a pod template; if a controller copies it to its pods, where the webhook reads it, pass --allow-unknown.",
        "document 6, RayCluster \"ray\": annotation secrets.floe.dev/refs in metadata.annotations is not acted on. Move it to spec.headGroupSpec.template.metadata.annotations or spec.workerGroupSpecs[0].template.metadata.annotations, or pass --allow-unknown to leave it there.",
        "document 7, TaskRun \"t\": annotation secrets.floe.dev/refs in metadata.annotations is not acted on: no pod template was found in this TaskRun. Move it to a pod or a pod template; if a controller copies it to its pods, where the webhook reads it, pass --allow-unknown.",
    ];
    let lines = |word: &str| {
        expected
            .map(|line| format!("{word}: standard input: {line}\n"))
            .concat()
    };
    let output = inject(&[], manifest, &["-f", "-"]);
    assert_eq!(
        (output.code, output.stdout.as_str(), output.stderr),
        (1, "", lines("error"))
    );
    let allowed = inject(&[], manifest, &["-f", "-", "--allow-unknown"]);
    assert_eq!(
        (allowed.code, allowed.stdout.as_str(), allowed.stderr),
        (0, manifest, lines("warning"))
    );
}

#[test]
fn messages_per_object_are_bounded() {
    let annotations: serde_json::Map<String, Value> = (0..30)
        .map(|n| (format!("secrets.floe.dev/env.V{n}"), "a/b".into()))
        .collect();
    let list = vec![json!({ "annotations": annotations }); 60];
    let object =
        json!({ "apiVersion": "x.io/v1", "kind": "X", "metadata": { "name": "x" }, "spec": list });
    let output = inject(&[], &object.to_string(), &["-f", "-"]);
    assert_eq!(output.code, 1);
    let lines: Vec<&str> = output.stderr.lines().collect();
    assert_eq!(lines.len(), 51);
    assert!(
        lines[0].contains("env.V9 and 20 more in spec[0].annotations are not acted on"),
        "{}",
        lines[0]
    );
    assert_eq!(
        lines[50],
        "error: standard input: document 1, X \"x\": there are 10 more such places"
    );
}

#[test]
fn misspelled_annotation_names_cause_warnings() {
    let manifest = "
apiVersion: v1
kind: Namespace
metadata: {name: jobs, labels: {secrets.floe.dev/inject: enabled, secrets.floe.dev/env-from: db}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: d, annotations: {secret.floe.dev/env-from: db}, labels: {secrets.floe.dev/inject: enabled}}
spec:
  template:
    metadata:
      labels: {secrets.floe.io/refs: db, secrets.floe.dev/injected: 'true', app: x}
      annotations: {retry.floe.dev/requested-for: x, secrets.floe.dev.refs: db}
    spec: {containers: [{name: main}]}
";
    let output = inject(&[], manifest, &["-f", "-"]);
    assert_eq!(
        (output.code, output.stdout.as_str()),
        (0, manifest),
        "{}",
        output.stderr
    );
    let (n, d) = (
        "warning: standard input: document 1, Namespace \"jobs\"",
        "warning: standard input: document 2, Deployment \"d\"",
    );
    let expected = format!(
        "\
{n}: label secrets.floe.dev/env-from in metadata.labels has no effect: it is an annotation. Move it to the annotations beside the labels.
{d}: annotation secret.floe.dev/env-from in metadata.annotations has no effect: its prefix is not secrets.floe.dev/. Did you mean secrets.floe.dev/env-from?
{d}: label secrets.floe.dev/inject in metadata.labels has no effect: as a label it belongs on a Namespace, and elsewhere it is an annotation.
{d}: label secrets.floe.io/refs in spec.template.metadata.labels has no effect: its prefix is not secrets.floe.dev/. Did you mean secrets.floe.dev/refs?
{d}: annotation secrets.floe.dev.refs in spec.template.metadata.annotations has no effect: its prefix is not secrets.floe.dev/. Did you mean secrets.floe.dev/refs?
"
    );
    assert_eq!(output.stderr, expected);
}

// === service accounts ===

#[rstest]
#[case::deprecated("serviceAccount: runner", true)]
#[case::both_and_the_current_one_wins("serviceAccount: other, serviceAccountName: runner", true)]
#[case::the_deprecated_one_loses("serviceAccount: runner, serviceAccountName: other", false)]
fn deprecated_service_account_field_selects_defaults(#[case] fields: &str, #[case] gets: bool) {
    let defaults = DEFAULTS
        .replace("LABEL", "enabled")
        .replace("main,sidecar", "*");
    for (api_version, kind) in [
        ("argoproj.io/v1alpha1", "Rollout"),
        ("apps/v1", "Deployment"),
    ] {
        let manifest = format!(
            "apiVersion: {api_version}\nkind: {kind}\nmetadata: {{name: r, namespace: jobs}}\nspec: {{template: {{spec: {{{fields}, containers: [{{name: main}}]}}}}}}\n"
        );
        let files = [("d.yaml", defaults.as_str()), ("s.yaml", SECRETS)];
        let output = inject(
            &files,
            &manifest,
            &["-f", "-", "--secrets", "d.yaml", "--secrets", "s.yaml"],
        );
        let env = env_of(&printed(&output, "/spec/template"));
        let expected = if gets {
            json!([variable("FLOE_SECRET_SNOWFLAKE_ROLE", "snowflake", "role")])
        } else {
            Value::Null
        };
        assert_eq!(env, expected, "{kind}");
    }
}
