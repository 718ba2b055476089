//! Pods of the chart on a real API server.

use http::Method;
use serde_json::{Value, json};

use crate::{everything, existing, merged};
use testbed::control_plane::ControlPlane;
use testbed::helm::{Helm, NAME, find_object};
use testbed::process::{Folder, Process};
use testbed::{unique, wait_for};

/// Pods of the rendered Deployments, and the one of `helm test`.
fn pods(objects: &[Value], namespace: &str) -> Vec<Value> {
    let mut pods = Vec::new();
    for object in objects {
        let mut pod = match object["kind"].as_str() {
            Some("Deployment") => object["spec"]["template"].clone(),
            Some("Pod") => object.clone(),
            _ => continue,
        };
        let component = pod["metadata"]["labels"]["app.kubernetes.io/component"]
            .as_str()
            .expect("a component");
        pod["metadata"]["name"] = unique(component).into();
        pod["metadata"]["namespace"] = namespace.into();
        // Annotations are not tested here: the webhook does not run.
        pod["metadata"]["annotations"] = json!({});
        pod["spec"]["serviceAccountName"] = "default".into();
        pod["apiVersion"] = "v1".into();
        pod["kind"] = "Pod".into();
        pods.push(pod);
    }
    pods
}

#[tokio::test]
async fn pods_pass_restricted_pod_security_standard() {
    let cp = ControlPlane::shared().await;
    let labels = json!({"labels": {
        "pod-security.kubernetes.io/enforce": "restricted", "pod-security.kubernetes.io/warn": "restricted",
    }});
    let namespace = cp.namespace_with("restricted", &labels).await;
    // The controller manager computes the critical pods' quota.
    for values in [
        json!({}),
        existing(),
        merged(crate::recorded(), &json!({"tls": {"mode": "self-managed"}})),
        everything(),
    ] {
        let made = pods(&Helm::V4.objects(NAME, &values), &namespace.name);
        assert_eq!(made.len(), 4, "{values}");
        for pod in made {
            let response = cp.create_dry_run(&pod).await;
            assert!(
                response.is_accepted() && response.warnings.is_empty(),
                "{values}: {response:?}\n{pod}"
            );
        }
    }
    // Counterexample: the standard rejects a privileged pod.
    let open = json!({"hostNetwork": true, "containerSecurityContext": {"allowPrivilegeEscalation": true}});
    for pod in pods(
        &Helm::V4.objects(NAME, &merged(existing(), &open)),
        &namespace.name,
    ) {
        let response = cp.create_dry_run(&pod).await;
        assert!(
            response.status == 403 && response.message().contains("restricted"),
            "{response:?}"
        );
    }
}

/// Expands `$(POD_NAMESPACE)` and the like, and moves the store and the spool into a folder of the test.
fn arguments(container: &Value, folder: &Folder) -> Vec<String> {
    let folder = folder.path().display().to_string();
    let arguments = container["args"].as_array().expect("arguments").iter();
    arguments
        .map(|argument| argument.as_str().expect("text"))
        .map(|argument| {
            argument
                .replace("$(POD_NAMESPACE)", NAME)
                .replace("$(POD_NAME)", "pod")
                .replace("/var/lib/floe-audit", &folder)
                .replace("/var/spool/floe-audit", &folder)
        })
        .collect()
}

/// The program exits with 2 on an unknown argument, and with 1 if there is no cluster.
#[tokio::test]
async fn program_accepts_every_rendered_argument() {
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_floe-secrets-webhook"));
    let scoped =
        json!({"rbac": {"scope": "namespaces", "namespaces": ["a", "b"]}, "listenAddress": "[::]"});
    for values in [
        json!({}),
        everything(),
        crate::recorded(),
        scoped,
        json!({"tls": {"mode": "self-managed"}}),
    ] {
        let objects = Helm::V4.objects(NAME, &values);
        for name in [
            NAME,
            "floe-secrets-controller",
            "floe-secrets-webhook-admin",
        ] {
            let template = &find_object(&objects, "Deployment", name)["spec"]["template"];
            let container = &template["spec"]["containers"][0];
            let folder = Folder::new();
            let kubeconfig = folder.write("kubeconfig", "none");
            let mut args = arguments(container, &folder);
            args.extend(["--kubeconfig".to_owned(), kubeconfig.display().to_string()]);
            let process = Process::start("program", folder.path(), program, &args, &[]);
            let status =
                wait_for("exiting after an error", || async { process.exit_status() }).await;
            assert_eq!(status.code(), Some(1), "{args:?}\n{}", process.tail());
            assert!(process.log().contains("kubeconfig"), "{}", process.log());
        }
    }
}

/// The pod of `helm test` has the injected variable as its only argument; without injection it is not expanded.
#[tokio::test]
async fn test_pod_succeeds_only_with_injected_secret() {
    let objects = Helm::V4.objects(NAME, &json!({}));
    let pod = find_object(&objects, "Pod", "floe-secrets-webhook-test");
    let secret = find_object(&objects, "Secret", "floe-secrets-webhook-test");
    assert_eq!(
        pod["metadata"]["annotations"]["secrets.floe.dev/env.FLOE_SECRETS_TEST"],
        "floe-secrets-webhook-test/argument"
    );
    let written = pod["spec"]["containers"][0]["args"][0]
        .as_str()
        .expect("an argument");
    assert_eq!(written, "$(FLOE_SECRETS_TEST)");
    let injected = secret["stringData"]["argument"].as_str().expect("a value");
    for (argument, code) in [(written, 2), (injected, 0)] {
        let folder = Folder::new();
        let program = std::path::Path::new(env!("CARGO_BIN_EXE_floe-secrets-webhook"));
        let process = Process::start(
            "program",
            folder.path(),
            program,
            &[argument.to_owned()],
            &[],
        );
        let status = wait_for("exiting after an error", || async { process.exit_status() }).await;
        assert_eq!(status.code(), Some(code), "{argument}: {}", process.tail());
    }
}

#[test]
fn stopping_replica_has_enough_grace_period() {
    let values = merged(
        existing(),
        &json!({"shutdown": {"delaySeconds": 10, "drainSeconds": 40}}),
    );
    let objects = Helm::V4.objects(NAME, &values);
    let spec = &find_object(&objects, "Deployment", NAME)["spec"]["template"]["spec"];
    assert_eq!(spec["terminationGracePeriodSeconds"], 55);
    let args = spec["containers"][0]["args"].to_string();
    assert!(
        args.contains("--shutdown-delay=10s") && args.contains("--drain-timeout=40s"),
        "{args}"
    );
    assert!(
        spec["containers"][0]["resources"]["limits"]["cpu"].is_null(),
        "throttling would be waiting time"
    );
    // Two replicas cannot use the same port of a node.
    let objects = Helm::V4.objects(NAME, &merged(existing(), &json!({"hostNetwork": true})));
    let deployment = find_object(&objects, "Deployment", NAME);
    assert_eq!(
        deployment["spec"]["strategy"]["rollingUpdate"],
        json!({"maxUnavailable": 1, "maxSurge": 0})
    );
    assert_eq!(
        deployment["spec"]["template"]["spec"]["dnsPolicy"],
        "ClusterFirstWithHostNet"
    );
}

/// The real disruption controller decides; the test writes readiness, which is the kubelet's part.
#[tokio::test]
async fn disruption_budget_never_blocks_drain() {
    let cp = ControlPlane::shared().await;
    for (replicas, ready, evictions) in [(1, 1, 1), (2, 2, 1), (2, 0, 2)] {
        let namespace = cp.namespace("drain").await;
        let values = merged(
            existing(),
            &json!({"replicas": replicas, "priorityClassName": ""}),
        );
        let objects = Helm::V4.objects(&namespace.name, &values);
        let fullname = format!("{}-{NAME}", namespace.name);
        let mut deployment = find_object(&objects, "Deployment", &fullname).clone();
        deployment["spec"]["template"]["spec"]["serviceAccountName"] = "default".into();
        let mut budget = find_object(&objects, "PodDisruptionBudget", &fullname).clone();
        assert!(budget["spec"]["minAvailable"].is_null());
        for object in [&mut deployment, &mut budget] {
            cp.create(object).await.object();
        }
        let selector = "app.kubernetes.io/component=webhook";
        let made = wait_for("the pods", || async {
            let pods = cp.pods(&namespace.name, selector).await;
            (pods.len() == replicas).then_some(pods)
        })
        .await;
        let path = |pod: &Value| {
            let name = pod["metadata"]["name"].as_str().expect("a name");
            format!("/api/v1/namespaces/{}/pods/{name}", namespace.name)
        };
        for (number, pod) in made.iter().enumerate() {
            let status = if number < ready { "True" } else { "False" };
            let conditions = json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": status}]}});
            cp.request(
                Method::PATCH,
                &format!("{}/status", path(pod)),
                Some(&conditions),
            )
            .await
            .object();
        }
        let budget = testbed::objects::path(&budget);
        wait_for("the budget is counted", || async {
            let status = cp.request(Method::GET, &budget, None).await.object()["status"].take();
            (status["expectedPods"] == replicas && status["currentHealthy"] == ready).then_some(())
        })
        .await;
        let mut evicted = 0;
        for pod in &made {
            let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction",
                "metadata": {"name": pod["metadata"]["name"], "namespace": namespace.name}});
            // A blocked eviction gets 429, on which the client retries by itself.
            let path = format!("{}/eviction", path(pod));
            let eviction_request = cp.request(Method::POST, &path, Some(&eviction));
            if let Ok(response) =
                tokio::time::timeout(std::time::Duration::from_secs(5), eviction_request).await
            {
                assert!(
                    response.is_accepted() || response.status == 429,
                    "{response:?}"
                );
                evicted += usize::from(response.is_accepted());
            }
        }
        assert_eq!(
            evicted, evictions,
            "of {replicas} replicas, {ready} of them ready, at once"
        );
    }
}
