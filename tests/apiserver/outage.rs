//! Outage of the webhook, by a crash and by SIGTERM: pods that wait meanwhile, requests that succeed without it, and
//! recovery of everything that waited.

#![expect(
    clippy::too_many_lines,
    reason = "a test of one sequence, or a table of cases"
)]

use http::Method;
use serde_json::{Value, json};
use testbed::control_plane::ControlPlane;
use testbed::manifests::{container, deployment, find_container, job, pod, prefixed, sources};
use testbed::namespace::TestNamespace;
use testbed::objects;
use testbed::webhook::{NAMESPACE, Registration, webhook_identity};
use testbed::webhook_process::{Launch, WebhookProcess};
use testbed::{unique, wait_for};

/// Webhook that exits immediately on SIGTERM.
async fn start(cp: &ControlPlane) -> (WebhookProcess, Registration) {
    let identity = webhook_identity(cp).await;
    let launch = Launch::serve(cp, &identity).with(&["--log", "debug", "--shutdown-delay", "0s"]);
    let webhook = launch.start().await;
    let registration = Registration::exclusive(cp, &webhook.service_configuration()).await;
    (webhook, registration)
}

/// Both kinds of outage.
async fn end(webhook: &WebhookProcess, signal: &str) {
    if signal == "KILL" {
        webhook.kill();
    } else {
        webhook.terminate();
        wait_for("the webhook's end", || async { webhook.exit_status() }).await;
    }
}

fn asking() -> Value {
    prefixed(&json!({"env-from": "db-creds"}))
}

async fn labelled(cp: &ControlPlane, stem: &str) -> TestNamespace {
    cp.namespace_with(
        stem,
        &json!({"labels": {"secrets.floe.dev/inject": "enabled"}}),
    )
    .await
}

const SIGNALS: [&str; 2] = ["KILL", "TERM"];

#[tokio::test]
async fn only_annotated_pods_wait_and_recover_by_themselves() {
    let cp = ControlPlane::shared().await;
    let (mut webhook, _registration) = start(cp).await;
    for signal in SIGNALS {
        let (plain, defaults) = (cp.namespace("plain").await, labelled(cp, "defaults").await);
        cp.secret(&plain.name, "db-creds", &["k"], "x").await;
        cp.secret(&defaults.name, "db-creds", &["k"], "x").await;
        end(&webhook, signal).await;

        // Namespace | annotations | admitted
        let helm_test = json!({"helm.sh/hook": "test"});
        let opted_out = prefixed(&json!({"inject": "false"}));
        for (namespace, annotations, admitted) in [
            (plain.name.as_str(), &json!({}), true),
            (&plain.name, &helm_test, true),
            (&plain.name, &asking(), false),
            (&defaults.name, &json!({}), false),
            (&defaults.name, &helm_test, false),
            (&defaults.name, &opted_out, true),
            ("kube-system", &asking(), true),
            (NAMESPACE, &asking(), true),
        ] {
            let name = unique("pod");
            let mut pod = pod(namespace, &name, annotations);
            // Avoids warnings of Pod Security in the webhook's own namespace.
            pod["spec"]["securityContext"] =
                json!({"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}});
            pod["spec"]["containers"][0]["securityContext"] =
                json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}});
            // The controller does not create one in every namespace at once.
            wait_for("the namespace's default ServiceAccount", || async {
                let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/default");
                cp.request(Method::GET, &path, None)
                    .await
                    .is_accepted()
                    .then_some(())
            })
            .await;
            let tried = cp.kubectl_apply(namespace, &pod).await;
            assert_eq!(
                tried.code == 0,
                admitted,
                "{signal}: in {namespace}: {annotations}: {tried:?}"
            );
            if admitted {
                let path = format!("{}?gracePeriodSeconds=0", objects::path(&pod));
                cp.request(Method::DELETE, &path, None).await.object();
            } else {
                let message = tried.stderr;
                assert!(
                    message.starts_with("Error from server (InternalError)"),
                    "{message}"
                );
                assert!(
                    message.contains("failed calling webhook")
                        && message.contains("connection refused"),
                    "{message}"
                );
            }
        }
        // Workloads are applied as before; those without annotations get their pods.
        let containers = json!([container()]);
        let asks = asking();
        for object in [
            deployment("api", &asks, &containers),
            job("load", &asks, &containers),
            deployment("others", &json!({}), &containers),
            job("other", &json!({}), &containers),
        ] {
            cp.kubectl_apply(&plain.name, &object)
                .await
                .expect_success();
        }
        cp.kubectl_apply(&defaults.name, &deployment("api", &asks, &containers))
            .await
            .expect_success();
        for free in ["app=others", "app=other"] {
            cp.pod_of(&plain.name, free).await;
        }
        for (kind, name) in [("ReplicaSet", "api-"), ("Job", "load")] {
            let message = cp.event(&plain.name, kind, name, "FailedCreate").await;
            assert!(
                message.contains("failed calling webhook \"pods.secrets.floe.dev\""),
                "{message}"
            );
        }
        assert!(
            cp.pods(&plain.name, "app=api").await.is_empty()
                && cp.pods(&plain.name, "app=load").await.is_empty()
        );

        webhook = webhook.restart().await;
        let back = std::time::Instant::now();
        for (namespace, selector) in [
            (&plain, "app=api"),
            (&plain, "app=load"),
            (&defaults, "app=api"),
        ] {
            let pod = cp.pod_of(&namespace.name, selector).await;
            assert_eq!(
                sources(find_container(&pod, "main")),
                ["secret/db-creds"],
                "{signal}: {selector}"
            );
            println!(
                "{signal}: {selector} in {}: {:.1?} after it was back",
                namespace.name,
                back.elapsed()
            );
        }
        let path = format!("/apis/batch/v1/namespaces/{}/jobs/load", plain.name);
        let load = cp.request(Method::GET, &path, None).await.object();
        assert_eq!(load["status"]["failed"].as_u64().unwrap_or(0), 0, "{load}");
    }
}

/// Requests other than the creation of a pod never depend on the webhook.
#[tokio::test]
async fn other_requests_succeed_without_webhook() {
    let cp = ControlPlane::shared().await;
    let ns = cp.namespace("goes-on").await;
    cp.secret(&ns.name, "db-creds", &["k"], "x").await;
    // Created before the webhook was installed: it has annotations, and no secret.
    let before = pod(&ns.name, "before", &asking());
    {
        let _turn = Registration::lock_exclusive().await;
        cp.create(&before).await.object();
    }
    let (webhook, _registration) = start(cp).await;
    let containers = json!([container()]);
    let run = async |args: &[&str]| {
        cp.kubectl(&[&["-n", &ns.name], args].concat(), "")
            .await
            .expect_success()
    };
    // Labels and annotations of a pod that was never injected, with the webhook running and without.
    let edit = async |value: &str| {
        for change in ["label", "annotate"] {
            run(&[
                change,
                "--overwrite",
                "pod",
                "before",
                &format!("example.com/a={value}"),
            ])
            .await;
        }
        run(&[
            "annotate",
            "--overwrite",
            "pod",
            "before",
            &format!("secrets.floe.dev/env-from={value}"),
        ])
        .await;
    };
    edit("there").await;
    for object in [
        deployment("api", &asking(), &containers),
        deployment("gone", &asking(), &containers),
        job("load", &asking(), &containers),
    ] {
        cp.kubectl_apply(&ns.name, &object).await.expect_success();
    }
    for name in ["api", "gone", "load"] {
        cp.pod_of(&ns.name, &format!("app={name}")).await;
    }
    let pod_name = async |app: &str| {
        let pods = cp.pods(&ns.name, &format!("app={app}")).await;
        pods[0]["metadata"]["name"]
            .as_str()
            .expect("a name")
            .to_owned()
    };
    let of_api = pod_name("api").await;

    end(&webhook, "KILL").await;
    edit("away").await;
    run(&["label", "pod", &of_api, "example.com/a=b"]).await;
    run(&["label", "deployment", "api", "example.com/a=b"]).await;
    run(&[
        "annotate",
        "deployment",
        "api",
        "secrets.floe.dev/env-from=other",
    ])
    .await;
    run(&["label", "namespace", &ns.name, "example.com/a=b"]).await;
    run(&["scale", "deployment", "api", "--replicas=0"]).await;
    run(&["delete", "deployment", "gone"]).await;
    run(&["delete", "job", "load"]).await;
    // Without a node nothing confirms the end of a bound pod; these were never bound.
    for name in ["api", "gone", "load"] {
        wait_for(&format!("the end of the pods of {name}"), || async {
            cp.pods(&ns.name, &format!("app={name}"))
                .await
                .is_empty()
                .then_some(())
        })
        .await;
    }
    run(&["delete", "pod", "before", "--wait=false"]).await;
}

/// A mistake that was written during an outage (`sources` is `Ignore`) is reported for the pods that it affects.
#[tokio::test]
async fn stored_malformed_default_rejects_its_pods_with_its_name() {
    let cp = ControlPlane::shared().await;
    let (mut webhook, _registration) = start(cp).await;
    let (ns, by_account) = (
        labelled(cp, "standing").await,
        labelled(cp, "account").await,
    );
    end(&webhook, "KILL").await;
    let annotation = "secrets.floe.dev/on-missing=perhaps";
    cp.kubectl(&["annotate", "namespace", &ns.name, annotation], "")
        .await
        .expect_success();
    let of_account = [
        "-n",
        &by_account.name,
        "annotate",
        "serviceaccount",
        "default",
        annotation,
    ];
    cp.kubectl(&of_account, "").await.expect_success();
    webhook = webhook.restart().await;

    for (namespace, whose) in [
        (&ns.name, format!("of namespace \"{}\"", ns.name)),
        (
            &by_account.name,
            "of service account \"default\"".to_owned(),
        ),
    ] {
        let refused = cp
            .kubectl_apply(namespace, &pod(namespace, "governed", &json!({})))
            .await;
        let message = format!(
            "The request is invalid: metadata.annotations[secrets.floe.dev/on-missing]: annotation \
             secrets.floe.dev/on-missing {whose}: \"perhaps\" is not one of deny, warn.\n"
        );
        assert_eq!(refused.stderr, message);
        // Neither pods that override it by an annotation nor those that opt out are affected.
        for short in [json!({"on-missing": "deny"}), json!({"inject": "false"})] {
            cp.create_dry_run(&pod(namespace, "free", &prefixed(&short)))
                .await
                .object();
        }
    }
    // Updates of other fields are accepted, changes of the webhook's annotations are rejected; removing the mistake is
    // possible.
    let all = [
        &["namespace", &ns.name][..],
        &["-n", &by_account.name, "serviceaccount", "default"],
    ];
    for target in all {
        let run = async |verb: &str, change: &str| {
            cp.kubectl(&[&[verb], target, &[change]].concat(), "").await
        };
        run("label", "example.com/a=b").await.expect_success();
        run("annotate", "example.com/a=b").await.expect_success();
        let refused = run("annotate", "secrets.floe.dev/refs=a").await;
        assert!(
            refused
                .stderr
                .contains("\"perhaps\" is not one of deny, warn"),
            "{refused:?}"
        );
        run("annotate", "secrets.floe.dev/on-missing-")
            .await
            .expect_success();
    }
    drop(webhook);
}
