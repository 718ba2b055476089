//! What is applied comes out injected: every kind that makes pods, every way to ask, every choice of containers, on a
//! real API server, which applies our patch by its own library.

mod common;

use common::objects::{self, yaml};
use common::served::{
    Served, container, deployment, job, named, patched, pod, prefixed, served, sources, template, variables, with,
};
use common::stub_server::Stub;
use common::unique;
use common::webhook::{Registration, narrowed_to};
use http::Method;
use serde_json::{Value, json};

/// A value that must not be seen anywhere on the way.
const CANARY: &str = "canary-7f3a-value";

/// Tries a pod of these containers without storing it.
async fn tried(served: &Served, namespace: &str, annotations: &Value, spec: &Value) -> Value {
    let mut pod = pod(namespace, &unique("tried"), annotations);
    pod["spec"] = spec.clone();
    served.cp.create_dry(&pod).await.object()
}

fn keyed(name: &str) -> Value {
    json!({"name": name, "image": "none"})
}

#[tokio::test]
async fn one_manifest_brings_a_secret_and_all_who_use_it() {
    let served = served().await;
    let (cp, ns) = (served.cp, served.cp.namespace("manifest").await);
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
        let name = document["metadata"]["name"].as_str().expect("a name").to_owned();
        let mut template = template(&name, &annotations, &json!([main]));
        let (kind, spec) = (document["kind"].clone(), template["spec"].as_object_mut().expect("a spec"));
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
    let applied = cp.kubectl_apply(&ns.name, &list).await.succeeded();
    assert_eq!(applied.stderr, "", "nothing to warn about");
    assert_eq!(applied.stdout.lines().filter(|line| line.ends_with(" created")).count(), documents.len());
    // As a person does it; kubectl cannot apply a generateName.
    cp.kubectl(&["-n", &ns.name, "create", "job", "tonight", "--from=cronjob/nightly"], "").await.succeeded();
    let mut generated = pod(&ns.name, "", &annotations);
    generated["metadata"]["generateName"] = "generated-".into();
    generated["metadata"]["labels"] = json!({"app": "generated"});
    generated["metadata"].as_object_mut().expect("metadata").remove("name");
    generated["spec"]["containers"] = json!([main]);
    cp.kubectl(&["-n", &ns.name, "create", "-f", "-"], &generated.to_string()).await.succeeded();

    for selector in ["job-name=load", "job-name=tonight", "app=api", "app=store", "app=bare", "app=generated"] {
        let pod = cp.pod_of(&ns.name, selector).await;
        let main = named(&pod, "main");
        let ours_first = ["secret/snowflake-credentials", "configMap/settings", "secret/author"];
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
        assert_eq!(pod["metadata"]["labels"]["secrets.floe.dev/injected"], "true", "{selector}");
        assert_eq!(pod["metadata"]["annotations"]["example.com/theirs"], "kept", "{selector}");
        let record = pod["metadata"]["annotations"]["secrets.floe.dev/injected"].as_str().expect("the record");
        let record: Value = serde_json::from_str(record).expect("JSON");
        let added = json!({"containers": {"main": {
            "envFrom": ["snowflake-credentials"],
            "env": ["PASSWORD", "FLOE_SECRET_SNOWFLAKE_CREDENTIALS_SNOWFLAKE_USER"],
        }}});
        assert_eq!(record, added, "{selector}");
        assert!(!pod.to_string().contains(CANARY), "{selector}");
    }

    // Templates stay as the author wrote them, so nobody's second apply conflicts or restarts anything.
    for path in ["apis/apps/v1/namespaces/NS/deployments/api", "apis/batch/v1/namespaces/NS/cronjobs/nightly"] {
        let object = cp.request(Method::GET, &format!("/{}", path.replace("NS", &ns.name)), None).await.object();
        assert!(!object.to_string().contains("secrets.floe.dev/injected"), "{object}");
        assert_eq!(object["metadata"]["generation"], 1);
    }
    let (secret, workloads) = (&documents[..1], &documents[1..5]);
    assert!(secret[0]["kind"] == "Secret" && workloads.iter().all(|object| object["kind"] != "Pod"));
    let list = json!({"apiVersion": "v1", "kind": "List", "items": workloads});
    let again = cp.kubectl_apply(&ns.name, &list).await.succeeded();
    assert_eq!(again.stdout.lines().filter(|line| line.ends_with(" unchanged")).count(), workloads.len(), "{again:?}");
    for flags in [&["--server-side", "--force-conflicts"][..], &["--server-side"]] {
        let args = [&["-n", &ns.name, "apply", "-f", "-"], flags].concat();
        cp.kubectl(&args, &list.to_string()).await.succeeded();
    }

    let (_, metrics) = served.webhook.get("/metrics").expect("metrics");
    assert!(metrics.contains(r#"decision="injected""#) && !metrics.contains(CANARY), "{metrics}");
    let log = served.webhook.log();
    assert!(log.contains("snowflake-credentials") && !log.contains(CANARY), "a value in the log");
}

/// Every way of asking: what | annotations | `envFrom` | `env`.
#[tokio::test]
async fn each_way_of_asking_gives_its_entries_once() {
    let served = served().await;
    let (cp, ns) = (served.cp, served.cp.namespace("ways").await);
    cp.secret(&ns.name, "db-creds", &["username", "password", "host", "tls.crt"], CANARY).await;
    cp.secret(&ns.name, "api-keys", &["value", "KEY"], CANARY).await;
    cp.secret(&ns.name, "has.dot", &["k"], CANARY).await;
    cp.secret(&ns.name, "1-secret", &["k"], CANARY).await;
    let longest = "x".repeat(253);
    cp.secret(&ns.name, &longest, &["k"], CANARY).await;
    let of_longest = format!("FLOE_SECRET_{}_K<{longest}/k", longest.to_uppercase());
    let json_list =
        r#"[{"source": "kubernetes", "name": "db-creds", "key": "password"}, {"name": "api-keys", "key": ""}]"#;
    let yaml_list = "- name: db-creds\n  key: password\n- name: api-keys\n";
    let long_ref = format!("{longest}/k");

    let cases: [(&str, Value, &[&str], &[&str]); 14] = [
        ("bulk", json!({"env-from": "db-creds"}), &["secret/db-creds"], &[]),
        ("bulk, in order", json!({"env-from": "db-creds, api-keys"}), &["secret/db-creds", "secret/api-keys"], &[]),
        (
            "bulk, the other way",
            json!({"env-from": "api-keys\n db-creds"}),
            &["secret/api-keys", "secret/db-creds"],
            &[],
        ),
        ("bulk, twice", json!({"env-from": "db-creds kubernetes:db-creds db-creds"}), &["secret/db-creds"], &[]),
        ("reference", json!({"refs": "db-creds/password"}), &[], &["FLOE_SECRET_DB_CREDS_PASSWORD<db-creds/password"]),
        ("reference without a key", json!({"refs": "api-keys"}), &[], &["FLOE_SECRET_API_KEYS<api-keys/value"]),
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
            &["FLOE_SECRET_DB_CREDS_PASSWORD<db-creds/password", "FLOE_SECRET_API_KEYS<api-keys/value"],
        ),
        (
            "a YAML list",
            json!({"refs": yaml_list}),
            &[],
            &["FLOE_SECRET_DB_CREDS_PASSWORD<db-creds/password", "FLOE_SECRET_API_KEYS<api-keys/value"],
        ),
        (
            "names that Kubernetes allows",
            json!({"refs": format!("has.dot/k 1-secret/k {long_ref}")}),
            &[],
            &["FLOE_SECRET_HAS_DOT_K<has.dot/k", "FLOE_SECRET_1_SECRET_K<1-secret/k", &of_longest],
        ),
        (
            "aliases",
            json!({"env.AWS_ACCESS_KEY_ID": "db-creds/username", "env.aws_secret": "kubernetes:db-creds/password"}),
            &[],
            &["AWS_ACCESS_KEY_ID<db-creds/username", "aws_secret<db-creds/password"],
        ),
        ("already in the environment", json!({"refs": "env:anything/at-all"}), &[], &[]),
    ];
    for (what, short, envs, vars) in cases {
        let annotations = prefixed(&short);
        // Without a token's volume, which has another name each time.
        let before = json!({"automountServiceAccountToken": false, "containers": [container()]});
        let pod = tried(served, &ns.name, &annotations, &before).await;
        let main = named(&pod, "main");
        assert_eq!(sources(main), envs, "{what}");
        assert_eq!(variables(main), vars, "{what}");
        // Nothing but what is needed is made.
        assert_eq!(main.get("envFrom").is_some(), !envs.is_empty(), "{what}");
        assert_eq!(main.get("env").is_some(), !vars.is_empty(), "{what}");
        for _ in 0..3 {
            let again = tried(served, &ns.name, &annotations, &before).await;
            assert_eq!(again["spec"]["containers"], pod["spec"]["containers"], "{what}");
        }
        // What came out goes in again: `kubectl get -o yaml | kubectl apply -f -`.
        let mut copy = pod.clone();
        let name = unique("copy");
        copy["metadata"] = json!({
            "name": name, "namespace": ns.name,
            "annotations": pod["metadata"]["annotations"], "labels": pod["metadata"]["labels"],
        });
        let copied = cp.create_dry(&copy).await.object();
        assert_eq!(copied["spec"]["containers"], pod["spec"]["containers"], "{what}");
        assert_eq!(copied["metadata"]["annotations"], pod["metadata"]["annotations"], "{what}");
        let [line] = served.webhook.admissions("name", &name).try_into().expect("one admission");
        assert_eq!(line["decision"], "skipped", "{what}: {line}");
    }
}

/// What the author wrote beside ours: `envFrom` and `env` | annotations | after.
#[tokio::test]
async fn what_the_author_wrote_stays_in_its_place() {
    let served = served().await;
    let (cp, ns) = (served.cp, served.cp.namespace("authors").await);
    cp.secret(&ns.name, "a", &["k"], CANARY).await;
    cp.secret(&ns.name, "b", &["k"], CANARY).await;
    let (a, b) = (json!({"secretRef": {"name": "a"}}), json!({"secretRef": {"name": "b"}}));
    let c = json!({"configMapRef": {"name": "c"}});
    let optional = json!({"secretRef": {"name": "a", "optional": true}});
    let with_prefix = json!({"prefix": "P_", "secretRef": {"name": "a"}});
    let both = json!({"env-from": "a b"});
    let reference = json!({"env.VAR": "a/k"});
    let of_a = json!({"name": "VAR", "valueFrom": {"secretKeyRef": {"name": "a", "key": "k"}}});

    let cases: [(&str, Value, &Value, Value); 13] = [
        ("an empty list", json!({"envFrom": []}), &both, json!({"envFrom": [a, b]})),
        ("null", json!({"envFrom": null, "env": null}), &both, json!({"envFrom": [a, b]})),
        ("a ConfigMap", json!({"envFrom": [c]}), &both, json!({"envFrom": [a, b, c]})),
        ("ours already, alone", json!({"envFrom": [b]}), &both, json!({"envFrom": [a, b]})),
        ("ours already, after theirs", json!({"envFrom": [c, a]}), &both, json!({"envFrom": [b, c, a]})),
        ("ours already, twice", json!({"envFrom": [a, c, a]}), &both, json!({"envFrom": [a, b, c, a]})),
        ("optional stays optional", json!({"envFrom": [optional]}), &both, json!({"envFrom": [optional, b]})),
        (
            "another prefix is another thing",
            json!({"envFrom": [with_prefix]}),
            &both,
            json!({"envFrom": [a, b, with_prefix]}),
        ),
        ("an empty env", json!({"env": []}), &reference, json!({"env": [of_a]})),
        (
            "a variable of theirs",
            json!({"env": [{"name": "X", "value": "1"}]}),
            &reference,
            json!({"env": [{"name": "X", "value": "1"}, of_a]}),
        ),
        ("the same, by hand", json!({"env": [of_a]}), &reference, json!({"env": [of_a]})),
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
        let pod = tried(served, &ns.name, &prefixed(short), &json!({"containers": [main]})).await;
        for field in ["envFrom", "env"] {
            assert_eq!(named(&pod, "main")[field], after[field], "{what}: {field}");
        }
    }
}

/// annotations | the containers that get it.
#[tokio::test]
async fn the_chosen_containers_get_it_and_no_others() {
    let served = served().await;
    let (cp, ns) = (served.cp, served.cp.namespace("chosen").await);
    cp.secret(&ns.name, "a", &["k"], CANARY).await;
    let sidecar =
        json!({"name": "native", "image": "none", "restartPolicy": "Always", "env": [{"name": "X", "value": "$(V)"}]});
    let spec = json!({
        "initContainers": [keyed("migrate"), sidecar, keyed("warm")],
        "containers": [keyed("istio-proxy"), keyed("main"), keyed("main-2"), keyed("helper")],
    });
    let cases: [(Value, &[&str]); 11] = [
        (json!({}), &["main", "main-2", "helper"]),
        (json!({"containers": "*"}), &["istio-proxy", "main", "main-2", "helper"]),
        (json!({"containers": "main"}), &["main"]),
        (json!({"containers": "main*"}), &["main", "main-2"]),
        (json!({"containers": "main-? helper"}), &["main-2", "helper"]),
        (json!({"containers": "istio-proxy"}), &["istio-proxy"]),
        (json!({"init-containers": "none"}), &["main", "main-2", "helper"]),
        (json!({"init-containers": "*"}), &["migrate", "native", "warm", "main", "main-2", "helper"]),
        (json!({"init-containers": "native"}), &["native", "main", "main-2", "helper"]),
        (json!({"init-containers": "migrate,warm", "containers": "main"}), &["migrate", "warm", "main"]),
        (json!({"init-containers": "native", "containers": "m*n"}), &["native", "main"]),
    ];
    for (choice, expected) in cases {
        let mut short = choice.clone();
        short["env-from"] = "a".into();
        short["env.V"] = "a/k".into();
        let pod = tried(served, &ns.name, &prefixed(&short), &spec).await;
        for name in ["migrate", "native", "warm", "istio-proxy", "main", "main-2", "helper"] {
            let (container, chosen) = (named(&pod, name), expected.contains(&name));
            assert_eq!(sources(container), if chosen { vec!["secret/a"] } else { vec![] }, "{choice}: {name}");
            let ours = variables(container).iter().filter(|entry| *entry == "V<a/k").count();
            assert_eq!(ours, usize::from(chosen), "{choice}: {name}");
        }
        let native = named(&pod, "native");
        assert_eq!(native["restartPolicy"], "Always", "{choice}");
        // It is expanded in the native sidecar too, so ours stands before it.
        assert_eq!(variables(native).last().map(String::as_str), Some("X=$(V)"), "{choice}");
        assert_eq!(pod["spec"]["initContainers"][1]["name"], "native", "the order stays");
    }
}

/// The pods that the floe charts and Dagster make, in a namespace with Pod Security at its strictest.
#[tokio::test]
async fn the_platforms_pods_stay_what_they_were() {
    let served = served().await;
    let restricted = json!({"labels": {"pod-security.kubernetes.io/enforce": "restricted"}});
    let (cp, ns) = (served.cp, served.cp.namespace_with("floe-jobs", &restricted).await);
    cp.secret(&ns.name, "snowflake-credentials", &["SNOWFLAKE_PASSWORD"], CANARY).await;
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
    let cube = json!({"envFrom": [{"configMapRef": {"name": "cube"}}, {"secretRef": {"name": "cube"}}]});
    // Labels | container | the author's own sources after ours
    let cases: [(Value, Value, &[&str]); 7] = [
        (
            json!({"app.kubernetes.io/name": "floe-jobs", "app.kubernetes.io/component": "dbt"}),
            one("dbt", json!({"env": [{"name": "POLARIS_ENDPOINT", "value": "http://polaris"}]})),
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
            one("dagster", json!({"env": [{"name": "DAGSTER_HOME", "value": "/opt"}, pg]})),
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
    for (labels, container, theirs) in cases {
        let name = unique("platform");
        let metadata = json!({"name": name, "namespace": ns.name, "labels": labels});
        let spec = json!({
            "restartPolicy": "Never", "automountServiceAccountToken": false, "securityContext": pod_security,
            "volumes": [{"name": "tmp", "emptyDir": {}}], "containers": [container],
        });
        let plain = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec});
        let before = cp.create_dry(&plain).await.object();
        let mut asking = plain.clone();
        asking["metadata"]["annotations"] = annotations.clone();
        let answer = cp.create_dry(&asking).await;
        assert!(answer.warnings.is_empty(), "Pod Security: {answer:?}");
        let mut after = answer.object();
        let main = &after["spec"]["containers"][0];
        assert_eq!(sources(main), [&["secret/snowflake-credentials"], theirs].concat(), "{labels}");
        assert_eq!(variables(main), variables(&before["spec"]["containers"][0]), "{labels}");
        // But for the sources, the pod is the one that it would have been.
        after["spec"]["containers"][0]["envFrom"] = before["spec"]["containers"][0]["envFrom"].clone();
        if before["spec"]["containers"][0].get("envFrom").is_none() {
            after["spec"]["containers"][0].as_object_mut().expect("a container").remove("envFrom");
        }
        assert_eq!(after["spec"], before["spec"], "{labels}");
    }
}

/// The API server applies patches by a library of its own; what it stores is what RFC 6902 says by another one.
#[tokio::test]
async fn the_api_server_understands_our_patch_as_we_do() {
    let served = served().await;
    let (cp, ns) = (served.cp, served.cp.namespace("patches").await);
    for name in ["a", "b", "c"] {
        cp.secret(&ns.name, name, &["k", "l"], CANARY).await;
    }
    // It sees each pod before we do, in the API server's own words.
    let recorder = Stub::start(&cp.authority).await;
    let mut configuration = narrowed_to(recorder.by_url(), &[&ns.name]);
    configuration["metadata"]["name"] = unique("aa-recorder").into();
    let _registered = Registration::shared(cp, &configuration).await;

    let short = json!({"env-from": "a,b", "refs": "a/k c/*", "env.ALIAS": "b/k", "init-containers": "*"});
    let annotations = prefixed(&short);
    let theirs = |count: usize| -> Value {
        (0..count)
            .map(
                |n| json!({"name": format!("T{n}"), "value": if n == 1 { "$(ALIAS) $(FLOE_SECRET_A_K)" } else { "x" }}),
            )
            .collect()
    };
    let from = |names: &[&str]| -> Value { names.iter().map(|name| json!({"secretRef": {"name": name}})).collect() };
    let strange = json!({"a.b-c/d": "~0~1\"\\/\u{1f980}", "x/y": "", "plain": "a/b~c"});
    let mut bodies = Vec::new();
    for env in 0..4 {
        for sources in [&[][..], &["b"], &["x", "a"], &["b", "a", "b"], &["a", "b"]] {
            let mut main = container();
            if env > 0 {
                main["env"] = theirs(env - 1);
            }
            if env != 1 || !sources.is_empty() {
                main["envFrom"] = from(sources);
            }
            let mut init = main.clone();
            init["name"] = "init".into();
            let mut pod = pod(&ns.name, &unique("varied"), &annotations);
            pod["spec"]["containers"] = json!([main, keyed("second"), keyed("istio-proxy")]);
            pod["spec"]["initContainers"] = json!([init]);
            with(&mut pod["metadata"]["annotations"], &strange);
            if env % 2 == 0 {
                pod["metadata"]["labels"] = json!({"a.b/c": "d"});
            }
            bodies.push(pod);
        }
    }
    for pod in &bodies {
        let name = pod["metadata"]["name"].as_str().expect("a name");
        let stored = cp.create(pod).await.object();
        let calls = recorder.calls();
        let call = calls.iter().find(|call| call.object_name() == name).expect("it was recorded");
        let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": call.request});
        let answer = served.webhook.review("/admit/pods?timeout=5s", &review).await;
        let ours = patched(&call.request["object"], &answer);
        assert_ne!(ours, call.request["object"], "something was patched");
        for field in ["/spec", "/metadata/annotations", "/metadata/labels"] {
            assert_eq!(stored.pointer(field), ours.pointer(field), "{name}: {field}");
        }
    }
}

/// A Job's and a Deployment's objects are never ours to write, so a label edit or an identical apply is nothing.
#[tokio::test]
async fn workloads_are_applied_and_edited_as_ever() {
    let served = served().await;
    let (cp, ns) = (served.cp, served.cp.namespace("workloads").await);
    cp.secret(&ns.name, "a", &["k"], CANARY).await;
    let annotations = prefixed(&json!({"env-from": "a"}));
    let containers = json!([container()]);
    for (kind, object) in
        [("job", job("load", &annotations, &containers)), ("deployment", deployment("api", &annotations, &containers))]
    {
        cp.kubectl_apply(&ns.name, &object).await.succeeded();
        let name = object["metadata"]["name"].as_str().expect("a name");
        cp.pod_of(&ns.name, &format!("app={name}")).await;
        let again = cp.kubectl_apply(&ns.name, &object).await.succeeded();
        assert!(again.stdout.ends_with(" unchanged\n"), "{again:?}");
        cp.kubectl(&["-n", &ns.name, "label", kind, name, "a=b"], "").await.succeeded();
    }
    assert_eq!(cp.pods(&ns.name, "app=api").await.len(), 1);
    let path = format!("/apis/apps/v1/namespaces/{}/replicasets", ns.name);
    let sets = cp.request(Method::GET, &path, None).await.object();
    assert_eq!(sets["items"].as_array().map(Vec::len), Some(1), "no second ReplicaSet: {sets}");
}

/// A bare pod cannot be changed, and `envFrom` is a list that `kubectl apply` only knows whole.
#[tokio::test]
async fn a_bare_pod_is_applied_again_unless_it_has_sources_of_its_own() {
    let served = served().await;
    let (cp, ns) = (served.cp, served.cp.namespace("again").await);
    cp.secret(&ns.name, "a", &["k"], CANARY).await;
    let annotations = prefixed(&json!({"env-from": "a", "env.VAR": "a/k"}));
    let theirs = json!([{"name": "X", "value": "1"}, {"name": "Y", "value": "$(VAR)"}]);
    for (fields, applied_again) in [
        (json!({}), true),
        (json!({"env": theirs}), true),
        (json!({"env": theirs, "envFrom": [{"configMapRef": {"name": "c"}}]}), false),
    ] {
        let mut bare = pod(&ns.name, &unique("bare"), &annotations);
        with(&mut bare["spec"]["containers"][0], &fields);
        cp.kubectl_apply(&ns.name, &bare).await.succeeded();
        let path = objects::path(&bare);
        let stored = cp.request(Method::GET, &path, None).await.object();
        let again = cp.kubectl_apply(&ns.name, &bare).await;
        if applied_again {
            again.succeeded();
            assert_eq!(cp.request(Method::GET, &path, None).await.object(), stored, "{fields}");
        } else {
            assert!(again.stderr.contains("pod updates may not change fields"), "{again:?}");
        }
    }
}
