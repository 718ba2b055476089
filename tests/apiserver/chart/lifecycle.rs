//! Install, upgrade, rollback, uninstall: by both Helms, and by kubectl from rendered files, on a real API server.

use std::collections::BTreeSet;

use base64::Engine as _;
use http::Method;
use serde_json::{Value, json};

use crate::{existing, merged};
use testbed::control_plane::ControlPlane;
use testbed::helm::{Helm, NAME, chart};
use testbed::namespace::TestNamespace;
use testbed::objects::{self, yaml};
use testbed::wait_for;

/// Release in a namespace of its own.
struct Release {
    cp: &'static ControlPlane,
    name: String,
    fullname: String,
    /// Every kind that can be listed.
    kinds: String,
    _namespace: TestNamespace,
}

impl Release {
    async fn new(stem: &str) -> Self {
        let cp = ControlPlane::shared().await;
        let kinds = cp
            .kubectl(&["api-resources", "--verbs=list", "--output=name"], "")
            .await
            .expect_success();
        // Events outlive their objects.
        let kinds: Vec<&str> = kinds
            .stdout
            .lines()
            .filter(|kind| !kind.starts_with("events"))
            .collect();
        let restricted = json!({"labels": {"pod-security.kubernetes.io/enforce": "restricted"}});
        let namespace = cp.namespace_with(stem, &restricted).await;
        let name = namespace.name.clone();
        Self {
            cp,
            fullname: format!("{name}-{NAME}"),
            name,
            kinds: kinds.join(","),
            _namespace: namespace,
        }
    }

    /// Objects of the cluster that belong to this release: those in its namespace, and those of its name.
    async fn objects(&self) -> BTreeSet<String> {
        let columns = "custom-columns=NS:.metadata.namespace,KIND:.kind,NAME:.metadata.name";
        let args = [
            "get",
            &self.kinds,
            "--all-namespaces",
            "--no-headers",
            "--output",
            columns,
        ];
        let all = self.cp.kubectl(&args, "").await.expect_success();
        let own = |line: &&str| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [namespace, kind, name] = words[..] else {
                panic!("{line}")
            };
            let given = [
                ("ConfigMap", "kube-root-ca.crt"),
                ("ServiceAccount", "default"),
            ];
            (namespace == self.name || name.contains(&self.name))
                && !given.contains(&(kind, name))
                && (kind, name) != ("Namespace", &self.name)
        };
        all.stdout
            .lines()
            .filter(own)
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect()
    }

    /// Waits until nothing is left; the garbage collector deletes pods after their Deployment.
    async fn nothing_is_left(&self) {
        self.only_left(&BTreeSet::new()).await;
    }

    /// Waits until the claim with the history is left and nothing else, and deletes it by the command that the notes
    /// have.
    async fn only_the_claim_is_left(&self, notes: &str) {
        let claim = format!(
            "{0} PersistentVolumeClaim {1}-audit",
            self.name, self.fullname
        );
        self.only_left(&BTreeSet::from([claim])).await;
        let command = format!(
            "kubectl -n {} delete persistentvolumeclaim {}-audit",
            self.name, self.fullname
        );
        assert!(notes.contains(&command), "{notes}");
        self.cp.shell(&command).await.expect_success();
        self.nothing_is_left().await;
    }

    async fn only_left(&self, expected: &BTreeSet<String>) {
        let mut left = BTreeSet::new();
        for _ in 0..60 {
            left = self.objects().await;
            if left == *expected {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        }
        panic!("left behind: {left:?}, expected {expected:?}");
    }

    async fn get(&self, path: &str) -> Value {
        self.cp.request(Method::GET, path, None).await.object()
    }

    async fn configuration(&self) -> Value {
        self.get(&self.configuration_path()).await
    }

    fn configuration_path(&self) -> String {
        format!(
            "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/zz-{}",
            self.fullname
        )
    }

    async fn deployment(&self) -> Value {
        self.get(&format!(
            "/apis/apps/v1/namespaces/{}/deployments/{}",
            self.name, self.fullname
        ))
        .await
    }

    /// Acts as an issuer: writes its CA into every entry, by server-side apply as a field manager of its own.
    async fn write_ca(&self, ca: &str) {
        let bundle = base64::engine::general_purpose::STANDARD.encode(ca);
        let entries = self.configuration().await["webhooks"].clone();
        let entries: Vec<Value> = entries
            .as_array()
            .expect("entries")
            .iter()
            .map(|entry| json!({"name": entry["name"], "clientConfig": {"caBundle": bundle}}))
            .collect();
        let apply = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
            "metadata": {"name": format!("zz-{}", self.fullname)}, "webhooks": entries});
        let path = format!(
            "{}?fieldManager=floe-secrets-certificates&force=true",
            self.configuration_path()
        );
        let client = self.cp.client();
        objects::send_as(
            &client,
            Method::PATCH,
            &path,
            Some(&apply),
            "application/apply-patch+yaml",
        )
        .await
        .object();
    }

    async fn cas(&self) -> Vec<Value> {
        let configuration = self.configuration().await;
        let entries = configuration["webhooks"]
            .as_array()
            .expect("entries")
            .clone();
        entries
            .into_iter()
            .map(|mut entry| entry["clientConfig"]["caBundle"].take())
            .collect()
    }

    /// Values with which no other test's objects are sent to a webhook that does not run.
    fn alone(&self, values: &Value) -> Value {
        let only =
            json!({"key": "kubernetes.io/metadata.name", "operator": "In", "values": [self.name]});
        merged(
            values.clone(),
            &json!({"webhook": {"namespaceSelector": {"matchExpressions": [only]}}}),
        )
    }

    async fn helm(&self, helm: Helm, args: &[&str], values: &Value) -> String {
        let args = [args, &["--namespace", &self.name]].concat();
        let values = if values.is_null() {
            Value::Null
        } else {
            self.alone(values)
        };
        let output = self.cp.helm(helm, &args, &values).await.expect_success();
        assert!(
            !output.stderr.to_lowercase().contains("warning"),
            "{helm:?} {args:?}: {}",
            output.stderr
        );
        output.stdout
    }
}

#[tokio::test]
async fn helm_installs_upgrades_rolls_back_and_leaves_nothing() {
    for helm in Helm::ALL {
        let release = Release::new(&format!("{helm:?}").to_lowercase()).await;
        let name = release.name.as_str();
        assert!(release.objects().await.is_empty());

        let notes = release
            .helm(helm, &["install", name, &chart()], &existing())
            .await;
        for step in [
            "rollout status",
            "helm test",
            "caBundle",
            "secrets.floe.dev/env-from",
        ] {
            assert!(
                notes.contains(step),
                "{helm:?}: NOTES.txt does not mention {step}:\n{notes}"
            );
        }
        // The policy is enforced, so the notes need no warning.
        assert!(!notes.contains("pod-security"), "{notes}");
        let first = release.objects().await;
        assert!(first.len() > 15, "{first:?}");
        wait_for("the three Deployments' pods", || async {
            let pods = release.objects().await;
            (pods.iter().filter(|line| line.contains(" Pod ")).count() == 5).then_some(())
        })
        .await;
        assert_eq!(
            release.configuration().await["webhooks"][0]["timeoutSeconds"],
            5
        );

        // The CA and the key that signs checkpoints are kept by every later command of Helm.
        let key = format!(
            "/api/v1/namespaces/{name}/secrets/{}-audit-key",
            release.fullname
        );
        let written = json!({"data": {"ed25519.pub": "YQ=="}});
        release
            .cp
            .request(Method::PATCH, &key, Some(&written))
            .await
            .object();
        release.write_ca("the CA").await;
        let ca = release.cas().await;
        assert!(ca.len() == 5 && ca.iter().all(Value::is_string), "{ca:?}");

        let other = merged(
            existing(),
            &json!({
                "replicas": 3, "onUnavailable": "admit", "autoscaling": {"enabled": false},
                "webhook": {"timeoutSeconds": 7, "exemptNamespaces": ["quiet"]},
                "podDisruptionBudget": {"enabled": false}, "controller": {"retryOwners": false},
                "tls": {"secretName": "another"},
            }),
        );
        release
            .helm(helm, &["upgrade", name, &chart()], &other)
            .await;
        let (configuration, deployment) =
            (release.configuration().await, release.deployment().await);
        assert_eq!(
            configuration["webhooks"][2]["timeoutSeconds"], 7,
            "{helm:?}"
        );
        let exempt =
            &configuration["webhooks"][4]["namespaceSelector"]["matchExpressions"][0]["values"];
        assert!(
            exempt.as_array().expect("values").contains(&json!("quiet")),
            "{exempt}"
        );
        assert_eq!(deployment["spec"]["replicas"], 3);
        let args = deployment["spec"]["template"]["spec"]["containers"][0]["args"].to_string();
        assert!(
            args.contains("--on-unavailable=admit") && args.contains("--exempt-namespaces=quiet"),
            "{args}"
        );
        let budget = format!("{name} PodDisruptionBudget {}", release.fullname);
        assert!(first.contains(&budget) && !release.objects().await.contains(&budget));
        assert_eq!(release.cas().await, ca, "{helm:?}: the upgrade took the CA");

        release
            .helm(helm, &["rollback", name, "1"], &Value::Null)
            .await;
        let (configuration, deployment) =
            (release.configuration().await, release.deployment().await);
        assert_eq!(
            configuration["webhooks"][2]["timeoutSeconds"], 5,
            "{helm:?}"
        );
        assert_eq!(deployment["spec"]["replicas"], 2);
        let args = deployment["spec"]["template"]["spec"]["containers"][0]["args"].to_string();
        assert!(
            args.contains("--on-unavailable=deny") && !args.contains("--exempt-namespaces"),
            "{args}"
        );
        assert!(release.objects().await.contains(&budget));
        assert_eq!(
            release.cas().await,
            ca,
            "{helm:?}: the rollback took the CA"
        );

        // Repeating the command changes nothing: no pod is restarted.
        let before = release.deployment().await["metadata"]["generation"].take();
        release
            .helm(helm, &["upgrade", name, &chart()], &existing())
            .await;
        assert_eq!(
            release.deployment().await["metadata"]["generation"],
            before,
            "{helm:?}"
        );
        assert_eq!(release.get(&key).await["data"], written["data"], "{helm:?}");

        release.helm(helm, &["uninstall", name], &Value::Null).await;
        release.only_the_claim_is_left(&notes).await;
    }
}

#[tokio::test]
async fn every_mode_installs_and_leaves_nothing() {
    let scoped = json!({"rbac": {"scope": "namespaces", "namespaces": ["kube-public"]}});
    for values in [
        json!({"tls": {"mode": "self-managed"}}),
        merged(existing(), &merged(crate::recorded(), &scoped)),
        merged(scoped, &json!({"tls": {"mode": "self-managed"}})),
        merged(
            existing(),
            &json!({"replicas": 0, "webhook": {"url": "https://webhook.example.com"}}),
        ),
        merged(
            existing(),
            &json!({"controller": {"enabled": false}, "flowControl": {"enabled": false}}),
        ),
        merged(existing(), &json!({"admin": {"enabled": false}})),
        merged(
            existing(),
            &json!({"admin": {"persistence": {"enabled": false}}}),
        ),
        crate::everything(),
    ] {
        let release = Release::new("mode").await;
        let name = release.name.as_str();
        let notes = release
            .helm(Helm::V4, &["install", name, &chart()], &values)
            .await;
        assert!(!release.objects().await.is_empty());
        // The controller's changes to its own objects are kept by Helm, and deleted with the release.
        let secrets = ["tls-self", "admin-tls-self"].map(|end| {
            format!(
                "/api/v1/namespaces/{name}/secrets/{}-{end}",
                release.fullname
            )
        });
        if values["tls"]["mode"] == "self-managed" {
            let data = json!({"data": {"tls.crt": "YQ=="}});
            for secret in &secrets {
                release
                    .cp
                    .request(Method::PATCH, secret, Some(&data))
                    .await
                    .object();
            }
            let lease = format!(
                "/apis/coordination.k8s.io/v1/namespaces/{name}/leases/{name}-floe-secrets-controller"
            );
            let held = json!({"spec": {"holderIdentity": "somebody"}});
            release
                .cp
                .request(Method::PATCH, &lease, Some(&held))
                .await
                .object();
            release
                .helm(Helm::V4, &["upgrade", name, &chart()], &values)
                .await;
            for secret in &secrets {
                assert_eq!(
                    release.get(secret).await["data"]["tls.crt"],
                    "YQ==",
                    "the upgrade emptied the certificate"
                );
            }
            assert_eq!(
                release.get(&lease).await["spec"]["holderIdentity"],
                "somebody"
            );
        }
        release
            .helm(Helm::V4, &["uninstall", name], &Value::Null)
            .await;
        let admin = &values["admin"];
        if admin["enabled"] == false || admin["persistence"]["enabled"] == false {
            release.nothing_is_left().await;
        } else {
            release.only_the_claim_is_left(&notes).await;
        }
    }
}

/// History that an uninstallation left belongs to the next installation of the same name. A claim that waits for a
/// `StorageClass` gets one by an upgrade.
#[tokio::test]
async fn claim_is_adopted_and_gets_its_storage_class() {
    for helm in Helm::ALL {
        let release = Release::new("claim").await;
        let name = release.name.as_str();
        let path = format!(
            "/api/v1/namespaces/{name}/persistentvolumeclaims/{}-audit",
            release.fullname
        );
        let install = ["install", name, &chart()];
        release.helm(helm, &install, &existing()).await;
        let first = release.get(&path).await;
        assert!(first["spec"]["storageClassName"].is_null(), "{first}");
        release.helm(helm, &["uninstall", name], &Value::Null).await;
        let notes = release.helm(helm, &install, &existing()).await;
        let again = release.get(&path).await;
        assert_eq!(
            again["metadata"]["uid"], first["metadata"]["uid"],
            "{helm:?}"
        );
        let classed = json!({"admin": {"persistence": {"storageClass": "local"}}});
        release
            .helm(
                helm,
                &["upgrade", name, &chart()],
                &merged(existing(), &classed),
            )
            .await;
        assert_eq!(
            release.get(&path).await["spec"]["storageClassName"],
            "local",
            "{helm:?}"
        );
        release.helm(helm, &["uninstall", name], &Value::Null).await;
        release.only_the_claim_is_left(&notes).await;
    }
}

#[tokio::test]
async fn rendered_files_can_be_applied_repeatedly_on_either_side() {
    for flags in [&[][..], &["--server-side"]] {
        let release = Release::new("files").await;
        let template = [
            "template",
            &release.name,
            &chart(),
            "--namespace",
            &release.name,
            "--skip-tests",
        ];
        let rendered = release
            .cp
            .helm(Helm::V4, &template, &release.alone(&existing()))
            .await
            .expect_success()
            .stdout;
        let documents = yaml(&rendered)
            .into_iter()
            .filter(|object| !object.is_null())
            .count();
        let apply = async || {
            let args = [&["apply", "--filename", "-"], flags].concat();
            let output = release.cp.kubectl(&args, &rendered).await.expect_success();
            assert_eq!(output.stderr, "", "{flags:?}");
            assert_eq!(
                output.stdout.lines().count(),
                documents,
                "{flags:?}: {}",
                output.stdout
            );
            output.stdout
        };
        apply().await;
        release.write_ca("the CA").await;
        let ca = release.cas().await;
        let (before, generation) = (
            release.objects().await,
            release.deployment().await["metadata"]["generation"].take(),
        );
        let again = apply().await;
        if flags.is_empty() {
            // kubectl sends a budget's selector each time, and prints so; the object stays the same.
            let changed = again
                .lines()
                .filter(|line| !line.ends_with(" unchanged"))
                .collect::<Vec<_>>();
            assert!(
                changed
                    .iter()
                    .all(|line| line.starts_with("poddisruptionbudget.")),
                "{again}"
            );
        }
        assert_eq!(
            release.cas().await,
            ca,
            "{flags:?}: the second apply took the CA"
        );
        assert_eq!(
            release.deployment().await["metadata"]["generation"],
            generation,
            "{flags:?}"
        );
        assert!(before.is_subset(&release.objects().await));
        release
            .cp
            .kubectl(&["delete", "--filename", "-"], &rendered)
            .await
            .expect_success();
        release.nothing_is_left().await;
    }
}
