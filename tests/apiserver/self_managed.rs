//! Self-managed certificates on a real API server: issued, trusted, renewed under load, and repaired.

#![expect(
    clippy::too_many_lines,
    reason = "a test of one sequence, or a table of cases"
)]
#![expect(
    clippy::indexing_slicing,
    reason = "serde_json values are indexed; a panic fails the test"
)]

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use testbed::control_plane::{ControlPlane, Options};
use testbed::load::LoadGenerator;
use testbed::manifests::{pod, prefixed};
use testbed::namespace::Identity;
use testbed::objects::{self, send_as};
use testbed::pki::Authority;
use testbed::soak::RotationSchedule;
use testbed::webhook::{
    CONFIGURATION, NAMESPACE, Registration, SERVICE_HOST, controller_identity,
    shipped_configuration, webhook_identity,
};
use testbed::webhook_process::{Launch, WebhookProcess};
use testbed::{wait_for, wait_within};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

const SECRET: &str = "floe-secrets-webhook-tls";
const ADMIN_SECRET: &str = "floe-secrets-webhook-admin-tls";

/// Permissions of self-managed mode beyond the shipped ones: three named objects.
fn rights() -> String {
    let subject = json!([{"kind": "ServiceAccount", "name": "floe-secrets-controller", "namespace": NAMESPACE}]);
    let group = "rbac.authorization.k8s.io";
    let objects = [
        json!({
            "apiVersion": format!("{group}/v1"), "kind": "Role",
            "metadata": {"name": "floe-secrets-controller-tls", "namespace": NAMESPACE},
            "rules": [{"apiGroups": [""], "resources": ["secrets"], "resourceNames": [SECRET, ADMIN_SECRET], "verbs": ["get", "patch"]}],
        }),
        json!({
            "apiVersion": format!("{group}/v1"), "kind": "RoleBinding",
            "metadata": {"name": "floe-secrets-controller-tls", "namespace": NAMESPACE},
            "roleRef": {"apiGroup": group, "kind": "Role", "name": "floe-secrets-controller-tls"}, "subjects": subject,
        }),
        json!({
            "apiVersion": format!("{group}/v1"), "kind": "ClusterRole",
            "metadata": {"name": "floe-secrets-controller-tls"},
            "rules": [{
                "apiGroups": ["admissionregistration.k8s.io"], "resources": ["mutatingwebhookconfigurations"],
                "resourceNames": [CONFIGURATION], "verbs": ["get", "patch"],
            }],
        }),
        json!({
            "apiVersion": format!("{group}/v1"), "kind": "ClusterRoleBinding",
            "metadata": {"name": "floe-secrets-controller-tls"},
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "floe-secrets-controller-tls"},
            "subjects": subject,
        }),
    ];
    objects.map(|object| object.to_string()).join("\n---\n")
}

/// Control plane with an empty Secret, and the identities of both components.
struct Fixture {
    cp: ControlPlane,
    controller: Identity,
    webhook: Identity,
}

impl Fixture {
    async fn new() -> Self {
        let cp = ControlPlane::start(Options {
            controller_manager: false,
            ..Options::default()
        })
        .await;
        let (controller, webhook) = (controller_identity(&cp).await, webhook_identity(&cp).await);
        cp.apply(&rights()).await;
        let metadata = json!({"name": SECRET, "namespace": NAMESPACE, "labels": {"app.kubernetes.io/name": "kept"}});
        cp.create(&json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata}))
            .await
            .object();
        Self {
            cp,
            controller,
            webhook,
        }
    }

    fn controller(&self, validity: &str) -> Launch {
        let names = format!("{SERVICE_HOST},127.0.0.1");
        Launch::controller(&self.cp, &self.controller).with(&[
            "--tls-secret",
            SECRET,
            "--tls-names",
            &names,
            "--tls-validity",
            validity,
            "--ca-grace",
            "2s",
            "--tls-poll",
            "1s",
        ])
    }

    fn serve(&self) -> Launch {
        Launch::serve(&self.cp, &self.webhook).with_tls_secret(SECRET)
    }

    async fn configuration(&self) -> Value {
        self.cp.request(Method::GET, &path(), None).await.object()
    }

    /// CA bundle of all entries, if it is the same.
    async fn trusted(&self) -> Option<String> {
        let configuration = self.configuration().await;
        let bundles = configuration["webhooks"]
            .as_array()?
            .iter()
            .map(|entry| entry["clientConfig"]["caBundle"].as_str());
        let mut bundles: Vec<&str> = bundles.collect::<Option<_>>()?;
        bundles.dedup();
        let [bundle] = bundles.as_slice() else {
            return None;
        };
        String::from_utf8(STANDARD.decode(bundle).ok()?).ok()
    }

    async fn kept(&self) -> Value {
        self.cp
            .request(Method::GET, &secret_path(), None)
            .await
            .object()
    }
}

/// Decoded data of a Secret.
fn data(fields: &[(&str, Option<&str>)]) -> Value {
    let fields = fields.iter().map(|(name, text)| {
        (
            (*name).to_owned(),
            text.map_or(Value::Null, |text| STANDARD.encode(text).into()),
        )
    });
    json!({"data": fields.collect::<serde_json::Map<_, _>>()})
}

fn path() -> String {
    format!("/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/{CONFIGURATION}")
}

fn secret_path() -> String {
    format!("/api/v1/namespaces/{NAMESPACE}/secrets/{SECRET}")
}

/// Shipped configuration as the chart renders it: without a CA bundle.
fn without_trust(mut configuration: Value) -> Value {
    for entry in configuration["webhooks"].as_array_mut().expect("entries") {
        entry["clientConfig"]
            .as_object_mut()
            .expect("a clientConfig")
            .remove("caBundle");
    }
    configuration
}

/// Handshake of an API server with this CA bundle.
async fn handshake(port: u16, trusted: &str) -> Result<CertificateDer<'static>, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(trusted.as_bytes()) {
        roots
            .add(certificate.expect("PEM"))
            .map_err(|error| error.to_string())?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))
        .await
        .map_err(|error| error.to_string())?;
    let name = ServerName::try_from(SERVICE_HOST).expect("a name");
    let stream = TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .map_err(|error| error.to_string())?;
    let shown = stream.get_ref().1.peer_certificates().unwrap_or_default();
    Ok(shown.first().expect("a certificate").clone().into_owned())
}

fn rotations(controller: &WebhookProcess) -> u64 {
    let (_, text) = controller.get("/metrics").expect("metrics");
    let line = "floe_secrets_webhook_certificate_rotations_total{result=\"rotated\"} ";
    text.lines()
        .find_map(|text| text.strip_prefix(line))
        .map_or(0, |count| count.parse().expect("a number"))
}

#[tokio::test]
async fn certificates_rotate_under_load_and_no_create_fails() {
    let fixture = Fixture::new().await;
    // Neither waits for the other: the server starts before there is a certificate, and the controller issues one.
    let starting = fixture.serve().spawn();
    wait_for("the server logs that it waits", || async {
        let (status, body) = starting.get("/readyz")?;
        (status == 503 && body.contains("no certificate yet")).then_some(())
    })
    .await;
    // The next certificate is issued after two thirds of the validity.
    let pace = RotationSchedule::or_soak(RotationSchedule {
        rotations: 3,
        seconds: 16,
    });
    let controller = fixture
        .controller(&format!("{}s", pace.seconds * 3 / 2))
        .start()
        .await;
    let webhook = starting;
    wait_for("the server is ready", || async {
        webhook
            .get("/readyz")
            .filter(|(status, _)| *status == 200)
            .map(drop)
    })
    .await;
    let _registration =
        Registration::shared(&fixture.cp, &without_trust(webhook.service_configuration())).await;
    wait_for("the configuration trusts the CA", || fixture.trusted()).await;

    let ns = fixture.cp.namespace("jobs").await;
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": ns.named("db"), "stringData": {"a": "b"}});
    fixture.cp.create(&secret).await.object();
    let asking = pod(&ns.name, "asks", &prefixed(&json!({"env-from": "db"})));
    wait_for("the API server trusts the webhook", || async {
        fixture
            .cp
            .create_dry_run(&asking)
            .await
            .is_accepted()
            .then_some(())
    })
    .await;

    let rules = json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["create"]}]);
    let loader = fixture.cp.service_account(&ns.name, "loader", &rules).await;
    let over = AtomicBool::new(false);
    let stream = LoadGenerator::start(loader.client(), &ns.name, "db", 50);
    // The API server keeps its connections. A new one has to be possible at any time too.
    let mut shown: Vec<CertificateDer<'static>> = Vec::new();
    let shaking = async {
        while !over.load(Ordering::Relaxed) {
            let trusted = fixture.trusted().await.expect("one trust for all entries");
            let certificate = handshake(webhook.launch.port, &trusted)
                .await
                .expect("a trusted certificate");
            if !shown.contains(&certificate) {
                shown.push(certificate);
            }
        }
    };
    let began = rotations(&controller);
    let watching = async {
        wait_within(Duration::from_mins(10), "more certificates", || async {
            (rotations(&controller) >= began + pace.rotations as u64).then_some(())
        })
        .await;
        over.store(true, Ordering::Relaxed);
    };
    futures::future::join(shaking, watching).await;
    let report = stream.stop().await;
    println!("{}; {} certificates", report.summary(), shown.len());
    report.injects_all();
    assert!(report.creates.len() > 50 && shown.len() >= pace.rotations);
    assert_eq!(
        fixture.kept().await["metadata"]["labels"]["app.kubernetes.io/name"],
        "kept"
    );
    for log in [controller.log(), webhook.log()] {
        assert!(!log.contains("PRIVATE KEY"), "{log}");
    }
}

#[tokio::test]
async fn damage_is_repaired_and_foreign_fields_are_kept() {
    let fixture = Fixture::new().await;
    let controller = fixture.controller("1h").start().await;
    let webhook = fixture.serve().start().await;
    let registered = without_trust(webhook.service_configuration());
    let registration = Registration::shared(&fixture.cp, &registered).await;
    let first = wait_for("the configuration trusts the CA", || fixture.trusted()).await;
    let client = fixture.cp.client();

    // The CA bundle is removed, or the Secret is overwritten with garbage.
    let patch = json!([{"op": "remove", "path": "/webhooks/0/clientConfig/caBundle"}]);
    send_as(
        &client,
        Method::PATCH,
        &path(),
        Some(&patch),
        "application/json-patch+json",
    )
    .await
    .object();
    assert_eq!(
        wait_for("the trust is back", || fixture.trusted()).await,
        first
    );
    let garbage = json!({"data": {"tls.key": STANDARD.encode("garbage")}});
    send_as(
        &client,
        Method::PATCH,
        &secret_path(),
        Some(&garbage),
        "application/merge-patch+json",
    )
    .await
    .object();
    let second = wait_for("another CA is trusted", || async {
        fixture.trusted().await.filter(|now| *now != first)
    })
    .await;
    assert!(
        second.ends_with(&first),
        "the old CA stays trusted while a replica may still serve with its leaf"
    );
    wait_for("the server shows a certificate of the new CA", || async {
        let new = second.strip_suffix(&first)?.to_owned();
        handshake(webhook.launch.port, &new).await.ok()
    })
    .await;

    // The owners of the other fields apply them again, in both ways, and change them.
    let mut changed = registered.clone();
    changed["webhooks"][0]["timeoutSeconds"] = json!(7);
    let apply = format!("{}?fieldManager=helm&force=true", path());
    let applied = send_as(
        &client,
        Method::PATCH,
        &apply,
        Some(&changed),
        "application/apply-patch+yaml",
    )
    .await;
    assert!(applied.is_accepted(), "{}", applied.message());
    assert_eq!(
        fixture.trusted().await.as_deref(),
        Some(&*second),
        "the manifest has no CA bundle"
    );
    let live = fixture.configuration().await;
    assert_eq!(live["webhooks"][0]["timeoutSeconds"], 7);
    let fields = live["metadata"]["managedFields"]
        .as_array()
        .expect("managed fields");
    let webhook_fields = fields
        .iter()
        .find(|entry| entry["manager"] == "floe-secrets-controller-certificates")
        .expect("ours");
    let entry = &webhook_fields["fieldsV1"]["f:webhooks"]["k:{\"name\":\"pods.secrets.floe.dev\"}"];
    let expected = json!({".": {}, "f:name": {}, "f:clientConfig": {"f:caBundle": {}}});
    assert_eq!(entry, &expected, "the webhook owns no other field");

    // The configuration is deleted and not restored.
    drop(registration);
    let lines_before = controller.log().lines().count();
    let garbage = json!({"data": {"tls.crt": STANDARD.encode("garbage")}});
    send_as(
        &client,
        Method::PATCH,
        &secret_path(),
        Some(&garbage),
        "application/merge-patch+json",
    )
    .await
    .object();
    let count = rotations(&controller);
    wait_for("another certificate without a configuration", || async {
        (rotations(&controller) > count).then_some(())
    })
    .await;
    assert_eq!(
        fixture.cp.request(Method::GET, &path(), None).await.status,
        404,
        "{lines_before} lines before"
    );

    // Without its Secret the controller logs what to do, and continues once it exists.
    fixture
        .cp
        .request(Method::DELETE, &secret_path(), None)
        .await
        .object();
    wait_for("the missing Secret is named", || async {
        let sentence = format!(
            "Secret \\\"{SECRET}\\\" not found in namespace \\\"{NAMESPACE}\\\"; create it empty"
        );
        controller.log().contains(&sentence).then_some(())
    })
    .await;
    let again = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": SECRET, "namespace": NAMESPACE}});
    assert_eq!(objects::path(&again), secret_path());
    fixture.cp.create(&again).await.object();
    wait_for("the Secret is filled", || async {
        fixture.kept().await["data"]["tls.crt"]
            .is_string()
            .then_some(())
    })
    .await;
    assert!(controller.exit_status().is_none() && webhook.exit_status().is_none());
    // The shipped file itself is the one that was tested here.
    assert_eq!(shipped_configuration()["metadata"]["name"], CONFIGURATION);
}

/// Waits until the server's certificate is trusted by all entries, and the Secret has the same CA bundle.
async fn await_trusted_certificate(
    fixture: &Fixture,
    webhook: &WebhookProcess,
    count: u64,
    controller: &WebhookProcess,
) -> String {
    wait_for("a new certificate", || async {
        (rotations(controller) > count).then_some(())
    })
    .await;
    wait_for("what is served, kept and trusted fits", || async {
        let trusted = fixture.trusted().await?;
        let kept = fixture.kept().await["data"]["ca.crt"].as_str()?.to_owned();
        let fits = STANDARD.decode(kept).ok()? == trusted.as_bytes();
        // By the newest CA alone: the server has the new certificate.
        let end =
            trusted.find("-----END CERTIFICATE-----\n")? + "-----END CERTIFICATE-----\n".len();
        handshake(webhook.launch.port, &trusted[..end]).await.ok()?;
        fits.then_some(trusted)
    })
    .await
}

#[tokio::test]
async fn pair_without_its_ca_is_replaced_before_publishing() {
    let fixture = Fixture::new().await;
    let controller = fixture.controller("1h").start().await;
    let webhook = fixture.serve().start().await;
    let _registration =
        Registration::shared(&fixture.cp, &without_trust(webhook.url_configuration())).await;
    let first = wait_for("the configuration trusts the CA", || fixture.trusted()).await;
    let client = fixture.cp.client();
    let write = async |change: &Value| {
        let count = rotations(&controller);
        let written = send_as(
            &client,
            Method::PATCH,
            &secret_path(),
            Some(change),
            "application/merge-patch+json",
        )
        .await;
        written.object();
        await_trusted_certificate(&fixture, &webhook, count, &controller).await
    };

    // A restored backup has the pair without its CA, which is still trusted.
    let second = write(&data(&[("ca.crt", None)])).await;
    assert!(
        second.ends_with(&first) && second != first,
        "what verified it stays trusted"
    );
    let because = "no CA in ca.crt verifies it";
    assert!(controller.log().contains(because), "{}", controller.log());

    // The pair is replaced by one of another CA, and the CA is unchanged.
    let foreign_ca = Authority::new("somebody").server(&[SERVICE_HOST, "127.0.0.1"]);
    let third = write(&data(&[
        ("tls.crt", Some(&foreign_ca.cert)),
        ("tls.key", Some(&foreign_ca.key)),
    ]))
    .await;
    assert!(third.ends_with(&second), "the CAs of before stay");
}

#[tokio::test]
async fn adopted_pair_serves_until_next_one_is_trusted() {
    let fixture = Fixture::new().await;
    let client = fixture.cp.client();
    // State of mode `existing`: the operator's pair without a CA next to it, and its CA in the configuration.
    let foreign_ca = Authority::new("operator");
    let pair = foreign_ca.server(&[SERVICE_HOST, "127.0.0.1"]);
    let change = data(&[("tls.crt", Some(&pair.cert)), ("tls.key", Some(&pair.key))]);
    send_as(
        &client,
        Method::PATCH,
        &secret_path(),
        Some(&change),
        "application/merge-patch+json",
    )
    .await
    .object();
    let webhook = fixture.serve().start().await;
    let mut registered = without_trust(webhook.url_configuration());
    for entry in registered["webhooks"].as_array_mut().expect("entries") {
        entry["clientConfig"]["caBundle"] = STANDARD.encode(foreign_ca.pem()).into();
    }
    let _registration = Registration::shared(&fixture.cp, &registered).await;
    let controller = fixture.controller("1h").start().await;

    // At every moment, a client that trusts the configured CA bundle reaches the server.
    let over = AtomicBool::new(false);
    let shaking = async {
        let mut shaken = 0;
        while !over.load(Ordering::Relaxed) {
            let trusted = fixture.trusted().await.expect("one trust for all entries");
            handshake(webhook.launch.port, &trusted)
                .await
                .expect("a trusted certificate");
            shaken += 1;
        }
        shaken
    };
    let watching = async {
        let trusted = await_trusted_certificate(&fixture, &webhook, 0, &controller).await;
        over.store(true, Ordering::Relaxed);
        trusted
    };
    let (shaken, trusted) = futures::future::join(shaking, watching).await;
    assert!(
        shaken > 0 && trusted.ends_with(&foreign_ca.pem()),
        "the operator's CA stays for a while"
    );
}

#[tokio::test]
async fn blocked_rotation_is_counted_and_logged() {
    let fixture = Fixture::new().await;
    let controller = fixture.controller("1h").start().await;
    let webhook = fixture.serve().start().await;
    let _registration =
        Registration::shared(&fixture.cp, &without_trust(webhook.url_configuration())).await;
    let first = wait_for("the configuration trusts the CA", || fixture.trusted()).await;
    drop(controller);
    let before = fixture.kept().await["data"]["tls.crt"].clone();

    // Another name is added, and a tool writes the old CA bundle repeatedly.
    let names = format!("{SERVICE_HOST},127.0.0.1,more.test.svc");
    let controller = fixture
        .controller("1h")
        .set("--tls-names", &names)
        .start()
        .await;
    let (over, client) = (AtomicBool::new(false), fixture.cp.client());
    let fighting = async {
        let entries = shipped_configuration()["webhooks"]
            .as_array()
            .expect("entries")
            .len();
        let old = STANDARD.encode(&first);
        let change: Vec<Value> = (0..entries)
            .map(|entry| json!({"op": "add", "path": format!("/webhooks/{entry}/clientConfig/caBundle"), "value": old}))
            .collect();
        while !over.load(Ordering::Relaxed) {
            if fixture.trusted().await.as_ref() != Some(&first) {
                send_as(
                    &client,
                    Method::PATCH,
                    &path(),
                    Some(&json!(change)),
                    "application/json-patch+json",
                )
                .await;
            }
        }
    };
    let watching = async {
        wait_for("the log message", || async {
            controller
                .log()
                .contains("does not keep the new CA, so the old certificate serves on")
                .then_some(())
        })
        .await;
        let (_, metrics) = controller.get("/metrics").expect("metrics");
        assert!(
            metrics.contains("certificate_rotations_total{result=\"failed\"}"),
            "{metrics}"
        );
        assert_eq!(
            fixture.kept().await["data"]["tls.crt"],
            before,
            "the old one serves on"
        );
        over.store(true, Ordering::Relaxed);
    };
    futures::future::join(fighting, watching).await;
    // Without the tool, the rotation continues.
    await_trusted_certificate(&fixture, &webhook, 0, &controller).await;
}

/// `serve` reads such a Secret as `admin` does.
#[tokio::test]
async fn certificate_of_admin_is_trusted_before_it_is_served() {
    let fixture = Fixture::new().await;
    let metadata = json!({"name": ADMIN_SECRET, "namespace": NAMESPACE});
    let empty = json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata});
    fixture.cp.create(&empty).await.object();
    let stored = async |key: &str| {
        let path = objects::path(&empty);
        let secret = fixture.cp.request(Method::GET, &path, None).await.object();
        let bytes = STANDARD.decode(secret["data"][key].as_str()?).ok()?;
        String::from_utf8(bytes).ok()
    };
    let launch = |names: &str| {
        let admin = [
            "--admin-tls-secret",
            ADMIN_SECRET,
            "--admin-dns-names",
            names,
        ];
        fixture
            .controller("1h")
            .set("--ca-grace", "1s")
            .with(&admin)
    };
    let controller = launch(SERVICE_HOST).start().await;
    let first = wait_for("the CA", || stored("ca.crt")).await;
    let certificate = stored("tls.crt").await.expect("the pair beside its CA");
    let server = Launch::serve(&fixture.cp, &fixture.webhook)
        .with_tls_secret(ADMIN_SECRET)
        .start()
        .await;
    let port = server.launch.port;
    handshake(port, &first)
        .await
        .expect("a trusted certificate");
    let _registration =
        Registration::shared(&fixture.cp, &without_trust(server.url_configuration())).await;
    let trusted = wait_for("the configuration trusts the CA of the webhook", || {
        fixture.trusted()
    })
    .await;
    assert!(!trusted.contains(&first), "the CA of admin is its own");
    drop(controller);

    // Another name makes a new certificate due.
    let controller = launch(&format!("{SERVICE_HOST},more.test.svc"))
        .start()
        .await;
    let announced = wait_for("the next CA", || async {
        stored("ca.crt").await.filter(|now| *now != first)
    })
    .await;
    assert!(announced.ends_with(&first), "the CA in use stays trusted");
    assert_eq!(
        stored("tls.crt").await.as_ref(),
        Some(&certificate),
        "the old certificate serves until clients have the next CA"
    );
    let next = announced.strip_suffix(&first).expect("the next CA");
    // A client that mounted the announced CAs reaches the server at every moment.
    wait_for("the server shows a certificate of the next CA", || async {
        handshake(port, &announced)
            .await
            .expect("a trusted certificate");
        handshake(port, next).await.ok()
    })
    .await;
    assert_ne!(stored("tls.crt").await.as_ref(), Some(&certificate));
    assert_eq!(
        fixture.trusted().await,
        Some(trusted),
        "nothing is written into the configuration"
    );
    for log in [controller.log(), server.log()] {
        assert!(!log.contains("PRIVATE KEY"), "{log}");
    }
}
