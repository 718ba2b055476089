//! Every form of request and every selection of containers: the injected entries, and that nothing else changes.

use serde_json::{Value, json};

use crate::CANARY;
use testbed::manifests::{
    container, container_named, find_container, pod, prefixed, sources, variables, with,
};
use testbed::shared_fixture::{SharedFixture, shared_fixture};
use testbed::unique;

/// Admits a pod of these containers without storing it.
async fn tried(
    fixture: &SharedFixture,
    namespace: &str,
    annotations: &Value,
    spec: &Value,
) -> Value {
    let mut pod = pod(namespace, &unique("tried"), annotations);
    pod["spec"] = spec.clone();
    fixture.cp.create_dry_run(&pod).await.object()
}

/// Every form of request: name | annotations | `envFrom` | `env`.
#[tokio::test]
async fn each_form_of_request_injects_its_entries_once() {
    let fixture = shared_fixture().await;
    let (cp, ns) = (fixture.cp, fixture.cp.namespace("ways").await);
    cp.secret(
        &ns.name,
        "db-creds",
        &["username", "password", "host", "tls.crt"],
        CANARY,
    )
    .await;
    cp.secret(&ns.name, "api-keys", &["value", "KEY"], CANARY)
        .await;
    cp.secret(&ns.name, "has.dot", &["k"], CANARY).await;
    cp.secret(&ns.name, "1-secret", &["k"], CANARY).await;
    let longest = "x".repeat(253);
    cp.secret(&ns.name, &longest, &["k"], CANARY).await;
    let of_longest = format!("FLOE_SECRET_{}_K<{longest}/k", longest.to_uppercase());
    let json_list = r#"[{"source": "kubernetes", "name": "db-creds", "key": "password"}, {"name": "api-keys", "key": ""}]"#;
    let yaml_list = "- name: db-creds\n  key: password\n- name: api-keys\n";
    let long_ref = format!("{longest}/k");

    let cases: [(&str, Value, &[&str], &[&str]); 14] = [
        (
            "bulk",
            json!({"env-from": "db-creds"}),
            &["secret/db-creds"],
            &[],
        ),
        (
            "bulk, in order",
            json!({"env-from": "db-creds, api-keys"}),
            &["secret/db-creds", "secret/api-keys"],
            &[],
        ),
        (
            "bulk, the other way",
            json!({"env-from": "api-keys\n db-creds"}),
            &["secret/api-keys", "secret/db-creds"],
            &[],
        ),
        (
            "bulk, twice",
            json!({"env-from": "db-creds kubernetes:db-creds db-creds"}),
            &["secret/db-creds"],
            &[],
        ),
        (
            "reference",
            json!({"refs": "db-creds/password"}),
            &[],
            &["FLOE_SECRET_DB_CREDS_PASSWORD<db-creds/password"],
        ),
        (
            "reference without a key",
            json!({"refs": "api-keys"}),
            &[],
            &["FLOE_SECRET_API_KEYS<api-keys/value"],
        ),
        (
            "three keys, one twice",
            json!({"refs": "db-creds/host,db-creds/username,db-creds/host,db-creds/password"}),
            &[],
            &[
                "FLOE_SECRET_DB_CREDS_HOST<db-creds/host",
                "FLOE_SECRET_DB_CREDS_USERNAME<db-creds/username",
                "FLOE_SECRET_DB_CREDS_PASSWORD<db-creds/password",
            ],
        ),
        (
            "a key with a dot",
            json!({"refs": "db-creds/tls.crt"}),
            &[],
            &["FLOE_SECRET_DB_CREDS_TLS_CRT<db-creds/tls.crt"],
        ),
        (
            "all keys",
            json!({"refs": "db-creds/*"}),
            &[],
            &[
                "FLOE_SECRET_DB_CREDS_HOST<db-creds/host",
                "FLOE_SECRET_DB_CREDS_PASSWORD<db-creds/password",
                "FLOE_SECRET_DB_CREDS_TLS_CRT<db-creds/tls.crt",
                "FLOE_SECRET_DB_CREDS_USERNAME<db-creds/username",
            ],
        ),
        (
            "a JSON list",
            json!({"refs": json_list}),
            &[],
            &[
                "FLOE_SECRET_DB_CREDS_PASSWORD<db-creds/password",
                "FLOE_SECRET_API_KEYS<api-keys/value",
            ],
        ),
        (
            "a YAML list",
            json!({"refs": yaml_list}),
            &[],
            &[
                "FLOE_SECRET_DB_CREDS_PASSWORD<db-creds/password",
                "FLOE_SECRET_API_KEYS<api-keys/value",
            ],
        ),
        (
            "names that Kubernetes allows",
            json!({"refs": format!("has.dot/k 1-secret/k {long_ref}")}),
            &[],
            &[
                "FLOE_SECRET_HAS_DOT_K<has.dot/k",
                "FLOE_SECRET_1_SECRET_K<1-secret/k",
                &of_longest,
            ],
        ),
        (
            "aliases",
            json!({"env.AWS_ACCESS_KEY_ID": "db-creds/username", "env.aws_secret": "kubernetes:db-creds/password"}),
            &[],
            &[
                "AWS_ACCESS_KEY_ID<db-creds/username",
                "aws_secret<db-creds/password",
            ],
        ),
        (
            "already in the environment",
            json!({"refs": "env:anything/at-all"}),
            &[],
            &[],
        ),
    ];
    for (what, short, envs, vars) in cases {
        let annotations = prefixed(&short);
        // Without the token's volume, whose name differs each time.
        let before = json!({"automountServiceAccountToken": false, "containers": [container()]});
        let pod = tried(fixture, &ns.name, &annotations, &before).await;
        let main = find_container(&pod, "main");
        assert_eq!(sources(main), envs, "{what}");
        assert_eq!(variables(main), vars, "{what}");
        // Only the necessary fields are created.
        assert_eq!(main.get("envFrom").is_some(), !envs.is_empty(), "{what}");
        assert_eq!(main.get("env").is_some(), !vars.is_empty(), "{what}");
        for _ in 0..3 {
            let again = tried(fixture, &ns.name, &annotations, &before).await;
            assert_eq!(
                again["spec"]["containers"], pod["spec"]["containers"],
                "{what}"
            );
        }
        // The result is applied again: `kubectl get -o yaml | kubectl apply -f -`.
        let mut copy = pod.clone();
        let name = unique("copy");
        copy["metadata"] = json!({
            "name": name, "namespace": ns.name,
            "annotations": pod["metadata"]["annotations"], "labels": pod["metadata"]["labels"],
        });
        let copied = cp.create_dry_run(&copy).await.object();
        assert_eq!(
            copied["spec"]["containers"], pod["spec"]["containers"],
            "{what}"
        );
        assert_eq!(
            copied["metadata"]["annotations"], pod["metadata"]["annotations"],
            "{what}"
        );
        let [line] = fixture
            .webhook
            .admissions("name", &name)
            .try_into()
            .expect("one admission");
        assert_eq!(line["decision"], "skipped", "{what}: {line}");
    }
}

/// Entries of the author next to injected ones: `envFrom` and `env` | annotations | result.
#[tokio::test]
async fn author_entries_keep_their_position() {
    let fixture = shared_fixture().await;
    let (cp, ns) = (fixture.cp, fixture.cp.namespace("authors").await);
    cp.secret(&ns.name, "a", &["k"], CANARY).await;
    cp.secret(&ns.name, "b", &["k"], CANARY).await;
    let (a, b) = (
        json!({"secretRef": {"name": "a"}}),
        json!({"secretRef": {"name": "b"}}),
    );
    let c = json!({"configMapRef": {"name": "c"}});
    let optional = json!({"secretRef": {"name": "a", "optional": true}});
    let with_prefix = json!({"prefix": "P_", "secretRef": {"name": "a"}});
    let both = json!({"env-from": "a b"});
    let reference = json!({"env.VAR": "a/k"});
    let of_a = json!({"name": "VAR", "valueFrom": {"secretKeyRef": {"name": "a", "key": "k"}}});

    let cases: [(&str, Value, &Value, Value); 13] = [
        (
            "an empty list",
            json!({"envFrom": []}),
            &both,
            json!({"envFrom": [a, b]}),
        ),
        (
            "null",
            json!({"envFrom": null, "env": null}),
            &both,
            json!({"envFrom": [a, b]}),
        ),
        (
            "a ConfigMap",
            json!({"envFrom": [c]}),
            &both,
            json!({"envFrom": [a, b, c]}),
        ),
        (
            "ours already, alone",
            json!({"envFrom": [b]}),
            &both,
            json!({"envFrom": [a, b]}),
        ),
        (
            "ours already, after theirs",
            json!({"envFrom": [c, a]}),
            &both,
            json!({"envFrom": [b, c, a]}),
        ),
        (
            "ours already, twice",
            json!({"envFrom": [a, c, a]}),
            &both,
            json!({"envFrom": [a, b, c, a]}),
        ),
        (
            "optional stays optional",
            json!({"envFrom": [optional]}),
            &both,
            json!({"envFrom": [optional, b]}),
        ),
        (
            "another prefix is another thing",
            json!({"envFrom": [with_prefix]}),
            &both,
            json!({"envFrom": [a, b, with_prefix]}),
        ),
        (
            "an empty env",
            json!({"env": []}),
            &reference,
            json!({"env": [of_a]}),
        ),
        (
            "a variable of theirs",
            json!({"env": [{"name": "X", "value": "1"}]}),
            &reference,
            json!({"env": [{"name": "X", "value": "1"}, of_a]}),
        ),
        (
            "the same, by hand",
            json!({"env": [of_a]}),
            &reference,
            json!({"env": [of_a]}),
        ),
        (
            "theirs of that name",
            json!({"env": [{"name": "VAR", "value": "mine"}]}),
            &reference,
            json!({"env": [{"name": "VAR", "value": "mine"}]}),
        ),
        (
            "used before it would be set, and escaped",
            json!({"env": [{"name": "X", "value": "$$(VAR)"}, {"name": "Y", "value": "$(VAR)"}]}),
            &reference,
            json!({"env": [of_a, {"name": "X", "value": "$$(VAR)"}, {"name": "Y", "value": "$(VAR)"}]}),
        ),
    ];
    for (what, before, short, after) in cases {
        let mut main = container();
        with(&mut main, &before);
        let pod = tried(
            fixture,
            &ns.name,
            &prefixed(short),
            &json!({"containers": [main]}),
        )
        .await;
        for field in ["envFrom", "env"] {
            assert_eq!(
                find_container(&pod, "main")[field],
                after[field],
                "{what}: {field}"
            );
        }
    }
}

/// annotations | selected containers.
#[tokio::test]
async fn selected_containers_get_entries_and_no_others() {
    let fixture = shared_fixture().await;
    let (cp, ns) = (fixture.cp, fixture.cp.namespace("chosen").await);
    cp.secret(&ns.name, "a", &["k"], CANARY).await;
    let sidecar = json!({"name": "native", "image": "none", "restartPolicy": "Always", "env": [{"name": "X", "value": "$(V)"}]});
    let spec = json!({
        "initContainers": [container_named("migrate"), sidecar, container_named("warm")],
        "containers": [container_named("istio-proxy"), container_named("main"), container_named("main-2"), container_named("helper")],
    });
    let cases: [(Value, &[&str]); 11] = [
        (json!({}), &["main", "main-2", "helper"]),
        (
            json!({"containers": "*"}),
            &["istio-proxy", "main", "main-2", "helper"],
        ),
        (json!({"containers": "main"}), &["main"]),
        (json!({"containers": "main*"}), &["main", "main-2"]),
        (
            json!({"containers": "main-? helper"}),
            &["main-2", "helper"],
        ),
        (json!({"containers": "istio-proxy"}), &["istio-proxy"]),
        (
            json!({"init-containers": "none"}),
            &["main", "main-2", "helper"],
        ),
        (
            json!({"init-containers": "*"}),
            &["migrate", "native", "warm", "main", "main-2", "helper"],
        ),
        (
            json!({"init-containers": "native"}),
            &["native", "main", "main-2", "helper"],
        ),
        (
            json!({"init-containers": "migrate,warm", "containers": "main"}),
            &["migrate", "warm", "main"],
        ),
        (
            json!({"init-containers": "native", "containers": "m*n"}),
            &["native", "main"],
        ),
    ];
    for (choice, expected) in cases {
        let mut short = choice.clone();
        short["env-from"] = "a".into();
        short["env.V"] = "a/k".into();
        let pod = tried(fixture, &ns.name, &prefixed(&short), &spec).await;
        for name in [
            "migrate",
            "native",
            "warm",
            "istio-proxy",
            "main",
            "main-2",
            "helper",
        ] {
            let (container, chosen) = (find_container(&pod, name), expected.contains(&name));
            assert_eq!(
                sources(container),
                if chosen { vec!["secret/a"] } else { vec![] },
                "{choice}: {name}"
            );
            let injected_count = variables(container)
                .iter()
                .filter(|entry| *entry == "V<a/k")
                .count();
            assert_eq!(injected_count, usize::from(chosen), "{choice}: {name}");
        }
        let native = find_container(&pod, "native");
        assert_eq!(native["restartPolicy"], "Always", "{choice}");
        // The native sidecar expands the variable too, so the injected one precedes it.
        assert_eq!(
            variables(native).last().map(String::as_str),
            Some("X=$(V)"),
            "{choice}"
        );
        assert_eq!(
            pod["spec"]["initContainers"][1]["name"], "native",
            "the order stays"
        );
    }
}

/// Pods of the floe charts and of Dagster, in a namespace with the restricted Pod Security standard.
#[tokio::test]
async fn platform_pods_change_only_by_injected_sources() {
    let fixture = shared_fixture().await;
    let restricted = json!({"labels": {"pod-security.kubernetes.io/enforce": "restricted"}});
    let (cp, ns) = (
        fixture.cp,
        fixture.cp.namespace_with("floe-jobs", &restricted).await,
    );
    cp.secret(
        &ns.name,
        "snowflake-credentials",
        &["SNOWFLAKE_PASSWORD"],
        CANARY,
    )
    .await;
    let annotations = prefixed(&json!({"env-from": "snowflake-credentials"}));
    let pod_security = json!({
        "runAsNonRoot": true, "runAsUser": 1000, "runAsGroup": 1000, "fsGroup": 1000,
        "seccompProfile": {"type": "RuntimeDefault"},
    });
    let security = json!({
        "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]},
    });
    let one = |name: &str, more: Value| {
        let mut container = json!({
            "name": name, "image": "none", "securityContext": security,
            "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
            "resources": {"requests": {"cpu": "1m"}, "limits": {"memory": "1Gi"}},
        });
        with(&mut container, &more);
        container
    };
    let pg = json!({"name": "DAGSTER_PG_PASSWORD",
        "valueFrom": {"secretKeyRef": {"name": "dagster-postgresql", "key": "postgresql-password"}}});
    let cube =
        json!({"envFrom": [{"configMapRef": {"name": "cube"}}, {"secretRef": {"name": "cube"}}]});
    // Labels | container | the author's own sources after the injected ones
    let cases: [(Value, Value, &[&str]); 7] = [
        (
            json!({"app.kubernetes.io/name": "floe-jobs", "app.kubernetes.io/component": "dbt"}),
            one(
                "dbt",
                json!({"env": [{"name": "POLARIS_ENDPOINT", "value": "http://polaris"}]}),
            ),
            &[],
        ),
        (
            json!({"app.kubernetes.io/name": "floe-jobs", "app.kubernetes.io/component": "ingestion"}),
            one("ingestion", json!({"env": [], "envFrom": []})),
            &[],
        ),
        (
            json!({"app.kubernetes.io/name": "floe-jobs", "app.kubernetes.io/component": "custom"}),
            one("custom", json!({})),
            &[],
        ),
        (
            json!({"app.kubernetes.io/name": "dagster", "app.kubernetes.io/component": "run_worker", "dagster/run-id": "r"}),
            one(
                "dagster",
                json!({"env": [{"name": "DAGSTER_HOME", "value": "/opt"}, pg]}),
            ),
            &[],
        ),
        (
            json!({"app.kubernetes.io/name": "dagster", "app.kubernetes.io/component": "step_worker", "dagster/op": "o"}),
            one("dagster", json!({"env": [pg]})),
            &[],
        ),
        (
            json!({"app.kubernetes.io/name": "cube", "app.kubernetes.io/component": "api"}),
            one("cube-api", cube.clone()),
            &["configMap/cube", "secret/cube"],
        ),
        (
            json!({"app.kubernetes.io/name": "cube", "app.kubernetes.io/component": "refresh-worker"}),
            one("cube-refresh-worker", cube),
            &["configMap/cube", "secret/cube"],
        ),
    ];
    for (labels, container, author_sources) in cases {
        let name = unique("platform");
        let metadata = json!({"name": name, "namespace": ns.name, "labels": labels});
        let spec = json!({
            "restartPolicy": "Never", "automountServiceAccountToken": false, "securityContext": pod_security,
            "volumes": [{"name": "tmp", "emptyDir": {}}], "containers": [container],
        });
        let plain = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec});
        let before = cp.create_dry_run(&plain).await.object();
        let mut asking = plain.clone();
        asking["metadata"]["annotations"] = annotations.clone();
        let response = cp.create_dry_run(&asking).await;
        assert!(response.warnings.is_empty(), "Pod Security: {response:?}");
        let mut after = response.object();
        let main = &after["spec"]["containers"][0];
        assert_eq!(
            sources(main),
            [&["secret/snowflake-credentials"], author_sources].concat(),
            "{labels}"
        );
        assert_eq!(
            variables(main),
            variables(&before["spec"]["containers"][0]),
            "{labels}"
        );
        // Apart from the sources, the pod is unchanged.
        after["spec"]["containers"][0]["envFrom"] =
            before["spec"]["containers"][0]["envFrom"].clone();
        if before["spec"]["containers"][0].get("envFrom").is_none() {
            after["spec"]["containers"][0]
                .as_object_mut()
                .expect("a container")
                .remove("envFrom");
        }
        assert_eq!(after["spec"], before["spec"], "{labels}");
    }
}
