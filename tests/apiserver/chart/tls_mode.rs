//! Upgrade between the modes of certificates, in both directions: by real Helm and real cert-manager, with the
//! webhook's controller, and pods that get their secrets before and after.

use http::Method;
use serde_json::{Value, json};

use crate::certificates::{CONFIGURATION, decoded, lead_here, nothing_left, run};
use testbed::cert_manager::CertManager;
use testbed::control_plane::{ControlPlane, Options};
use testbed::helm::{Helm, NAME, chart, find_object};
use testbed::manifests::{pod, prefixed};
use testbed::process::{Folder, Process};
use testbed::wait_for;

const CONTROLLER: &str = "floe-secrets-controller";

/// Secrets of the two modes.
const CERT_MANAGER_SECRET: &str = "floe-secrets-webhook-tls";
const SELF_MANAGED_SECRET: &str = "floe-secrets-webhook-tls-self";

/// Release whose pods are processes on this machine.
struct Release<'c> {
    cp: &'c ControlPlane,
    helm: Helm,
    ports: [u16; 3],
    running: Vec<(Process, Folder)>,
}

impl Release<'_> {
    async fn helm(&self, verb: &str, mode: &str) {
        let values = json!({"tls": {"mode": mode}, "service": {"port": self.ports[0]}});
        let output = self
            .cp
            .helm(
                self.helm,
                &[verb, NAME, &chart(), "--namespace", NAME],
                &values,
            )
            .await;
        assert_eq!(output.code, 0, "{:?} {verb} {mode}: {output:?}", self.helm);
        // An upgrade keeps the Service's target, and an uninstallation deletes the objects that the release has
        // adopted.
        if verb == "install" {
            lead_here(self.cp).await;
        }
    }

    async fn secret(&self, name: &str) -> Option<Value> {
        let path = format!("/api/v1/namespaces/{NAME}/secrets/{name}");
        let response = self.cp.request(Method::GET, &path, None).await;
        response.is_accepted().then_some(response.body)
    }

    /// Certificate in this Secret.
    async fn certificate(&self, name: &str) -> String {
        wait_for("the certificate", || async {
            let ended = self
                .running
                .iter()
                .find_map(|(process, _)| process.exit_status());
            assert!(ended.is_none(), "{ended:?}");
            decoded(&self.secret(name).await?, "tls.crt").filter(|pem| !pem.is_empty())
        })
        .await
    }

    /// Replaces the old processes by new ones, as a rollout replaces pods.
    async fn roll_out(&mut self, secret: &str) {
        let [port, ops, controller_ops] = self.ports;
        self.running.clear();
        self.running
            .push(run(self.cp, CONTROLLER, [0, controller_ops]).await);
        self.certificate(secret).await;
        self.running.push(run(self.cp, NAME, [port, ops]).await);
        let asks = pod("default", "asks", &prefixed(&json!({"env-from": "db"})));
        wait_for("a pod gets its secret", || async {
            for (process, _) in &self.running {
                assert!(process.exit_status().is_none(), "{}", process.tail());
            }
            let response = self.cp.create_dry_run(&asks).await;
            let source = response
                .body
                .pointer("/spec/containers/0/envFrom/0/secretRef/name")
                .cloned();
            (response.is_accepted() && source == Some("db".into())).then_some(())
        })
        .await;
    }

    /// Whether the configuration has cert-manager's injection annotation.
    async fn injected_by_cert_manager(&self) -> bool {
        let configuration = self
            .cp
            .request(Method::GET, CONFIGURATION, None)
            .await
            .object();
        configuration["metadata"]["annotations"]["cert-manager.io/inject-ca-from"].is_string()
    }
}

#[tokio::test]
async fn upgrade_switches_certificate_mode_in_both_directions() {
    let cp = &ControlPlane::start(Options::default()).await;
    let _cert_manager = CertManager::start(cp).await;
    cp.create(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAME}}))
        .await
        .object();
    cp.secret("default", "db", &["k"], "v").await;
    for helm in Helm::ALL {
        let mut release = Release {
            cp,
            helm,
            ports: testbed::free_ports(),
            running: Vec::new(),
        };
        release.helm("install", "cert-manager").await;
        release.certificate(CERT_MANAGER_SECRET).await;
        release.roll_out(CERT_MANAGER_SECRET).await;
        let issued = release.certificate(CERT_MANAGER_SECRET).await;

        // From cert-manager to the controller.
        release.helm("upgrade", "self-managed").await;
        release.roll_out(SELF_MANAGED_SECRET).await;
        assert_ne!(
            release.certificate(SELF_MANAGED_SECRET).await,
            issued,
            "{helm:?}"
        );
        assert!(!release.injected_by_cert_manager().await);
        let args = ["-n", NAME, "get", "certificates,issuers", "--output=name"];
        assert_eq!(
            cp.kubectl(&args, "").await.expect_success().stdout,
            "",
            "{helm:?}"
        );
        // cert-manager leaves its Secrets behind, and the page has the command that deletes them.
        assert!(release.secret(CERT_MANAGER_SECRET).await.is_some());
        let page = std::fs::read_to_string(
            testbed::tools::project_root().join("docs/operations/INSTALL.md"),
        );
        let page = page.expect("the page");
        let delete = "kubectl -n floe-secrets-webhook delete secret floe-secrets-webhook-tls floe-secrets-webhook-tls-ca floe-secrets-webhook-admin-tls";
        assert!(page.contains(delete));
        // And back: with the leftover Secrets the first time, without them the second.
        if helm == Helm::V3 {
            cp.shell(delete).await.expect_success();
        }
        release.helm("upgrade", "cert-manager").await;
        assert!(
            release.secret(SELF_MANAGED_SECRET).await.is_none(),
            "{helm:?}: the Secret is the release's own"
        );
        release.certificate(CERT_MANAGER_SECRET).await;
        assert!(release.injected_by_cert_manager().await);
        release.roll_out(CERT_MANAGER_SECRET).await;
        assert!(
            release.secret(SELF_MANAGED_SECRET).await.is_none(),
            "{helm:?}: not created again"
        );

        release.running.clear();
        cp.helm(
            helm,
            &["uninstall", NAME, "--namespace", NAME],
            &Value::Null,
        )
        .await
        .expect_success();
        nothing_left(cp).await;
    }
}

/// A user's own certificate keeps the name of its Secret, so a change from it or to it leaves it alone.
#[test]
fn modes_use_separate_secrets() {
    let of = |mode: &str, object: &str| {
        let values = json!({"tls": {"mode": mode}});
        let objects = Helm::V4.objects(NAME, &values);
        let secrets = objects.iter().filter(|found| found["kind"] == object);
        let names: Vec<String> = secrets
            .map(|found| {
                found["metadata"]["name"]
                    .as_str()
                    .expect("a name")
                    .to_owned()
            })
            .collect();
        names
    };
    assert!(of("self-managed", "Secret").contains(&SELF_MANAGED_SECRET.to_owned()));
    assert!(!of("self-managed", "Secret").contains(&CERT_MANAGER_SECRET.to_owned()));
    assert!(of("cert-manager", "Certificate").contains(&CERT_MANAGER_SECRET.to_owned()));
    // The same applies to the Secret of `admin`.
    let admin = "floe-secrets-webhook-admin-tls".to_owned();
    assert!(of("self-managed", "Secret").contains(&format!("{admin}-self")));
    assert!(!of("self-managed", "Secret").contains(&admin));
    assert!(of("cert-manager", "Certificate").contains(&admin));
    let objects = Helm::V4.objects(NAME, &json!({"tls": {"mode": "existing"}}));
    let volumes = &find_object(&objects, "Deployment", NAME)["spec"]["template"]["spec"]["volumes"];
    assert_eq!(volumes[0]["secret"]["secretName"], CERT_MANAGER_SECRET);
    // A name that the user sets applies to every mode.
    let values = json!({"tls": {"mode": "self-managed", "secretName": "mine"}});
    let objects = Helm::V4.objects(NAME, &values);
    find_object(&objects, "Secret", "mine");
}
