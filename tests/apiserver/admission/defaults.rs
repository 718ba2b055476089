//! Namespaces with defaults, on a real API server: pods without annotations get the defaults, mistakes are rejected
//! where they are written, and no other namespace is affected.

use serde_json::{Value, json};
use testbed::manifests::{
    container, deployment, find_container, job, pod, prefixed, sources, variables, with,
};
use testbed::namespace::TestNamespace;
use testbed::shared_fixture::{SharedFixture, shared_fixture};
use testbed::{unique, wait_for};

/// Creates a labelled namespace with these defaults.
async fn enabled(fixture: &SharedFixture, stem: &str, defaults: &Value) -> TestNamespace {
    let metadata = json!({"labels": {"secrets.floe.dev/inject": "enabled"}, "annotations": prefixed(defaults)});
    let ns = fixture.cp.namespace_with(stem, &metadata).await;
    fixture
        .cp
        .secret(&ns.name, "of-namespace", &["k"], "x")
        .await;
    fixture.cp.secret(&ns.name, "of-account", &["k"], "x").await;
    fixture.cp.secret(&ns.name, "of-pod", &["k"], "x").await;
    ns
}

async fn account(fixture: &SharedFixture, namespace: &str, name: &str, annotations: &Value) {
    let metadata = json!({"name": name, "namespace": namespace, "annotations": annotations});
    fixture
        .cp
        .create(&json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}))
        .await
        .object();
}

/// Pod of the floe-jobs chart: no annotation or label of the webhook, and no value of the chart that could add one.
fn chart_job(name: &str, account: &str) -> Value {
    let mut job = job(
        name,
        &json!(null),
        &json!([{"name": "dbt", "image": "none", "env": [{"name": "OTEL", "value": "1"}]}]),
    );
    job["spec"]["template"]["metadata"] = json!({"labels": {
        "app": name, "app.kubernetes.io/name": "floe-jobs", "app.kubernetes.io/component": "dbt",
    }});
    job["spec"]["template"]["spec"]["serviceAccountName"] = account.into();
    job
}

#[tokio::test]
async fn chart_without_annotations_gets_defaults() {
    let fixture = shared_fixture().await;
    let cp = fixture.cp;
    let ns = enabled(
        fixture,
        "floe-jobs",
        &json!({"env-from": "of-namespace", "env.KEY": "of-namespace/k"}),
    )
    .await;
    account(
        fixture,
        &ns.name,
        "floe-job-runner",
        &prefixed(&json!({"env-from": "of-account"})),
    )
    .await;

    for (name, account, expected) in [
        ("plain", "default", "secret/of-namespace"),
        ("runner", "floe-job-runner", "secret/of-account"),
    ] {
        cp.kubectl_apply(&ns.name, &chart_job(name, account))
            .await
            .expect_success();
        let pod = cp.pod_of(&ns.name, &format!("app={name}")).await;
        assert_eq!(sources(find_container(&pod, "dbt")), [expected]);
        assert_eq!(
            variables(find_container(&pod, "dbt")),
            ["OTEL=1", "KEY<of-namespace/k"],
            "annotation by annotation"
        );
    }
}

/// Annotations of the pod, nearest first | `envFrom`.
#[tokio::test]
async fn nearest_annotation_wins() {
    let fixture = shared_fixture().await;
    let ns = enabled(
        fixture,
        "nearest",
        &json!({"env-from": "of-namespace", "containers": "main sidecar"}),
    )
    .await;
    account(
        fixture,
        &ns.name,
        "runner",
        &prefixed(&json!({"env-from": "of-account"})),
    )
    .await;
    account(fixture, &ns.name, "silent", &json!({"example.com/a": "b"})).await;
    let cases: [(&str, Value, &[&str]); 7] = [
        ("default", json!({}), &["secret/of-namespace"]),
        ("silent", json!({}), &["secret/of-namespace"]),
        ("runner", json!({}), &["secret/of-account"]),
        ("runner", json!({"env-from": "of-pod"}), &["secret/of-pod"]),
        ("runner", json!({"inject": "true"}), &["secret/of-account"]),
        ("runner", json!({"inject": "false"}), &[]),
        (
            "runner",
            json!({"inject": "false", "env-from": "of-pod"}),
            &[],
        ),
    ];
    for (account, short, expected) in cases {
        let mut pod = pod(&ns.name, &unique("nearest"), &prefixed(&short));
        pod["spec"]["serviceAccountName"] = account.into();
        let response = fixture.cp.create_dry_run(&pod).await;
        // A default may name a container that this pod does not have: that is not a mistake of its author.
        let warned = "the pod has no container \"sidecar\" (named by annotation secrets.floe.dev/containers of namespace";
        assert_eq!(
            response
                .warnings
                .iter()
                .any(|text| text.starts_with(warned)),
            !expected.is_empty(),
            "{response:?}"
        );
        assert_eq!(
            sources(find_container(&response.object(), "main")),
            expected,
            "{account}: {short}"
        );
    }
}

/// The API server fills in `serviceAccountName` for its own kinds, and not in the template of a Rollout.
#[tokio::test]
async fn deprecated_service_account_field_selects_defaults() {
    let fixture = shared_fixture().await;
    fixture.cp.install_rollouts().await;
    let ns = enabled(fixture, "deprecated", &json!({"env-from": "of-namespace"})).await;
    account(
        fixture,
        &ns.name,
        "runner",
        &prefixed(&json!({"env-from": "of-account"})),
    )
    .await;
    let cases = [
        (json!({"serviceAccount": "runner"}), "of-account"),
        (
            json!({"serviceAccount": "other", "serviceAccountName": "runner"}),
            "of-account",
        ),
        (
            json!({"serviceAccount": "runner", "serviceAccountName": "other"}),
            "of-namespace",
        ),
    ];
    for (api_version, kind) in [
        ("apps/v1", "Deployment"),
        ("argoproj.io/v1alpha1", "Rollout"),
    ] {
        for (fields, expected) in &cases {
            let mut object = json!({
                "apiVersion": api_version, "kind": kind, "metadata": ns.named(&unique("deprecated")),
                "spec": {
                    "selector": {"matchLabels": {"app": "x"}},
                    "template": {
                        "metadata": {"labels": {"app": "x"}},
                        "spec": {"containers": [{"name": "main", "image": "none"}]},
                    },
                },
            });
            with(&mut object["spec"]["template"]["spec"], fields);
            let stored = fixture.cp.create_dry_run(&object).await.object();
            let restarts =
                &stored["metadata"]["annotations"]["secret.reloader.stakater.com/reload"];
            assert_eq!(restarts, expected, "{kind} {fields}");
        }
    }
}

#[tokio::test]
async fn defaults_apply_only_in_labelled_namespaces() {
    let fixture = shared_fixture().await;
    let cp = fixture.cp;
    let annotations = json!({"annotations": prefixed(&json!({"env-from": "absent"}))});
    let ns = cp.namespace_with("unlabelled", &annotations).await;
    account(
        fixture,
        &ns.name,
        "runner",
        &prefixed(&json!({"env-from": "absent"})),
    )
    .await;
    let mut foreign = pod(&ns.name, "foreign", &json!({}));
    foreign["spec"]["serviceAccountName"] = "runner".into();
    let created = cp.create(&foreign).await.object();
    assert!(
        created["spec"]["containers"][0].get("envFrom").is_none(),
        "{created}"
    );
    assert!(
        fixture
            .webhook
            .admissions("namespace", &ns.name)
            .iter()
            .all(|line| line["surface"] == "sources")
    );

    // In a labelled namespace a pod without any annotation is sent too, and gets an empty patch.
    let ns = enabled(fixture, "silent", &json!({})).await;
    let mut object = pod(&ns.name, &unique("foreign"), &json!({"example.com/a": "b"}));
    object["spec"]["automountServiceAccountToken"] = false.into();
    let created = cp.create(&object).await.object();
    assert_eq!(
        created["metadata"]["annotations"],
        object["metadata"]["annotations"]
    );
    assert!(
        created["metadata"].get("labels").is_none()
            && created["spec"]["containers"][0].get("env").is_none()
    );
    let [line] = fixture
        .webhook
        .admissions("name", object["metadata"]["name"].as_str().expect("a name"))
        .try_into()
        .expect("one call");
    assert_eq!(
        (&line["decision"], &line["reason"]),
        (&json!("skipped"), &json!("not_requested")),
        "{line}"
    );

    // `helm test` pods and others of the chart get the defaults and are admitted.
    let mut test = pod(&ns.name, "test", &json!({"helm.sh/hook": "test"}));
    test["spec"]["automountServiceAccountToken"] = false.into();
    cp.create(&test).await.object();
}

/// A rejection caused by a default names the object that has the default.
#[tokio::test]
async fn refusal_names_owner_of_default() {
    let fixture = shared_fixture().await;
    let cp = fixture.cp;
    let ns = enabled(fixture, "whose", &json!({"env-from": "absent"})).await;
    account(
        fixture,
        &ns.name,
        "runner",
        &prefixed(&json!({"env-from": "gone"})),
    )
    .await;
    for (account, secret, whose) in [
        ("default", "absent", format!("of namespace \"{}\"", ns.name)),
        ("runner", "gone", "of service account \"runner\"".to_owned()),
    ] {
        let mut pod = pod(&ns.name, "refused", &json!({}));
        pod["spec"]["serviceAccountName"] = account.into();
        let refused = cp.kubectl_apply(&ns.name, &pod).await;
        let expected = format!(
            "The request is invalid: metadata.annotations[secrets.floe.dev/env-from]: secret \"{secret}\" not found in \
             namespace \"{}\" (backend kubernetes; asked for by annotation secrets.floe.dev/env-from {whose}). Create \
             it or correct the annotation.\n",
            ns.name
        );
        assert_eq!(refused.stderr, expected);
    }
}

/// A malformed default is rejected when it is written, and updates that do not touch it are accepted.
#[tokio::test]
async fn malformed_default_is_rejected_where_it_is_written() {
    let fixture = shared_fixture().await;
    let cp = fixture.cp;
    let ns = enabled(fixture, "written", &json!({})).await;
    account(fixture, &ns.name, "runner", &json!({})).await;
    let message = |key: &str, problem: &str| {
        format!(
            "The request is invalid: metadata.annotations[secrets.floe.dev/{key}]: annotation secrets.floe.dev/{key}: \
             {problem}.\n"
        )
    };
    let not_a_word = message("on-missing", "\"perhaps\" is not one of deny, warn");
    for target in [
        &["namespace", &ns.name][..],
        &["-n", &ns.name, "serviceaccount", "runner"],
    ] {
        let annotate = async |annotation: &str| {
            cp.kubectl(&[&["annotate"], target, &[annotation]].concat(), "")
                .await
        };
        let refused = annotate("secrets.floe.dev/on-missing=perhaps").await;
        assert_eq!(
            (refused.code, &*refused.stderr),
            (1, &*not_a_word),
            "{target:?}"
        );
        let refused = annotate("secrets.floe.dev/env-from=vault:a").await;
        assert!(
            refused.stderr.contains("\"vault:a\" is not supported"),
            "{target:?}: {refused:?}"
        );
        // The secret need not exist yet.
        annotate("secrets.floe.dev/env-from=not-yet")
            .await
            .expect_success();
        annotate("secrets.floe.dev/env-from-")
            .await
            .expect_success();
    }
    for kind in ["Namespace", "ServiceAccount"] {
        let annotations = prefixed(&json!({"on-missing": "perhaps"}));
        let mut object =
            json!({"apiVersion": "v1", "kind": kind, "metadata": {"annotations": annotations}});
        object["metadata"]["name"] = unique("made").into();
        if kind == "ServiceAccount" {
            object["metadata"]["namespace"] = ns.name.clone().into();
        }
        let refused = cp
            .kubectl(&["create", "-f", "-"], &object.to_string())
            .await;
        assert_eq!(
            (refused.code, &*refused.stderr),
            (1, &*not_a_word),
            "{kind}"
        );
    }
}

/// Warning about defaults without effect, as kubectl prints it.
fn idle(whose: &str, why: &str) -> String {
    format!("Warning: the secrets.floe.dev/ annotations of {whose} have no effect{why}\n")
}

#[tokio::test]
async fn defaults_in_unlabelled_namespace_warn_where_they_are_written() {
    let fixture = shared_fixture().await;
    let cp = fixture.cp;
    let ns = cp.namespace("unlabelled").await;
    let n = ns.name.as_str();
    let missing_label = format!(
        " without the label secrets.floe.dev/inject=enabled: kubectl label namespace {n} secrets.floe.dev/inject=enabled"
    );
    let kubectl = async |args: &[&str]| cp.kubectl(args, "").await.expect_success().stderr;
    let annotate = async |target: &[&str], value: &str| {
        kubectl(
            &[
                &["annotate", "--overwrite"],
                target,
                &[&format!("secrets.floe.dev/env-from={value}")],
            ]
            .concat(),
        )
        .await
    };
    let (of_namespace, of_account) = (
        ["namespace", n],
        ["--namespace", n, "serviceaccount", "default"],
    );
    let account = "service account \"default\"";
    assert_eq!(
        annotate(&of_namespace, "a").await,
        idle(&format!("namespace \"{n}\""), &missing_label)
    );
    assert_eq!(
        annotate(&of_account, "a").await,
        idle(account, &missing_label)
    );

    // A wrong value of the label is reported at once, and by its consequence.
    let near = format!(
        ", because the label says \"Enabled\": kubectl label --overwrite namespace {n} secrets.floe.dev/inject=enabled"
    );
    let label = async |label: &str| kubectl(&["label", "--overwrite", "namespace", n, label]).await;
    assert_eq!(
        label("secrets.floe.dev/inject=Enabled").await,
        idle(&format!("namespace \"{n}\""), &near)
    );
    assert_eq!(annotate(&of_account, "b").await, idle(account, &near));
    assert_eq!(
        label("team=a").await,
        "",
        "a change without names of the webhook causes no warning"
    );

    // Command that the warning names.
    assert_eq!(label("secrets.floe.dev/inject=enabled").await, "");
    assert_eq!(annotate(&of_namespace, "c").await, "");
    assert_eq!(annotate(&of_account, "c").await, "");
    assert_eq!(
        label("secrets.floe.dev/inject-").await,
        idle(&format!("namespace \"{n}\""), &missing_label)
    );

    let mixed_up = cp
        .kubectl(
            &[
                "annotate",
                "namespace",
                n,
                "secrets.floe.dev/inject=enabled",
            ],
            "",
        )
        .await;
    let hint = "\"enabled\" is not one of true, false; defaults are let in by the label secrets.floe.dev/inject=enabled of the Namespace, which is no annotation.";
    assert!(
        mixed_up.code == 1 && mixed_up.stderr.contains(hint),
        "{mixed_up:?}"
    );
}

#[tokio::test]
async fn changed_default_applies_without_restart() {
    let fixture = shared_fixture().await;
    let cp = fixture.cp;
    let ns = enabled(fixture, "changed", &json!({"env-from": "of-namespace"})).await;
    let probe = async || {
        let made = cp
            .create_dry_run(&pod(&ns.name, &unique("probe"), &json!({})))
            .await
            .object();
        sources(find_container(&made, "main"))
    };
    assert_eq!(probe().await, ["secret/of-namespace"]);
    let annotation = "secrets.floe.dev/env-from=of-pod";
    cp.kubectl(
        &["annotate", "--overwrite", "namespace", &ns.name, annotation],
        "",
    )
    .await
    .expect_success();
    wait_for("the new default", || async {
        (probe().await == ["secret/of-pod"]).then_some(())
    })
    .await;
}

/// `kubectl apply -f DIRECTORY` with deployment.yaml before serviceaccount.yaml: the account does not exist during the
/// workload's review, and the pods that are created a moment later still get its defaults.
#[tokio::test]
async fn pods_of_deployment_applied_before_its_account_get_its_defaults() {
    let fixture = shared_fixture().await;
    let cp = fixture.cp;
    let ns = enabled(fixture, "before-account", &json!({})).await;
    for round in 0..20 {
        let name = format!("app-{round}");
        let mut deployment = deployment(&name, &json!({}), &json!([container()]));
        deployment["spec"]["template"]["spec"]["serviceAccountName"] = name.clone().into();
        let metadata =
            json!({"name": name, "annotations": prefixed(&json!({"env-from": "of-account"}))});
        let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata});
        let both = json!({"apiVersion": "v1", "kind": "List", "items": [deployment, account]});
        cp.kubectl_apply(&ns.name, &both).await.expect_success();
    }
    for round in 0..20 {
        let pod = cp.pod_of(&ns.name, &format!("app=app-{round}")).await;
        assert_eq!(
            sources(find_container(&pod, "main")),
            ["secret/of-account"],
            "round {round}"
        );
    }
    // Precondition: the workloads were reviewed before the account existed.
    let seen = fixture.webhook.admissions("namespace", &ns.name);
    let workloads = seen
        .iter()
        .filter(|line| line["surface"] == "defaults.workloads" && line["operation"] == "create");
    let reasons: Vec<&Value> = workloads
        .filter(|line| line["resource"] == "deployments")
        .map(|line| &line["reason"])
        .collect();
    assert_eq!(reasons, vec![&json!("not_requested"); 20]);
}

/// `kubernetes.io/enforce-mountable-secrets` on a service account: the API server rejects an injected secret that is
/// not on the account's list, and does not name the webhook; the webhook's warning does.
#[tokio::test]
async fn account_with_enforced_mountable_secrets_gets_explanation() {
    let fixture = shared_fixture().await;
    let cp = fixture.cp;
    let ns = enabled(fixture, "mountable", &json!({})).await;
    let account = |name: &str, listed: &Value| {
        let metadata = json!({"name": name, "namespace": ns.name,
            "annotations": {"kubernetes.io/enforce-mountable-secrets": "true"}});
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata, "secrets": listed})
    };
    cp.create(&account("strict", &json!([{"name": "another"}])))
        .await
        .object();
    cp.create(&account("lenient", &json!([{"name": "of-pod"}])))
        .await
        .object();
    let note = |name: &str| {
        format!(
            "service account \"{name}\" enforces its list of mountable secrets: a pod that uses another one is refused by the API server"
        )
    };
    for (name, admitted) in [("strict", false), ("lenient", true)] {
        let mut pod = pod(
            &ns.name,
            &unique("mounting"),
            &prefixed(&json!({"env-from": "of-pod"})),
        );
        with(&mut pod["spec"], &json!({"serviceAccountName": name}));
        let tried = cp.kubectl_apply(&ns.name, &pod).await;
        assert_eq!(tried.code == 0, admitted, "{tried:?}");
        assert!(tried.stderr.contains(&note(name)), "{tried:?}");
        // Error of the API server, after the warning.
        let last = "is not allowed because service account strict does not reference that secret\n";
        assert_eq!(tried.stderr.ends_with(last), !admitted, "{tried:?}");
    }
}
