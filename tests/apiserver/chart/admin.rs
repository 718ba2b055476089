//! Objects of `admin`: what the webhook's replicas need to send their records to it, and what is left without it.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::{existing, merged, recorded};
use testbed::helm::{Helm, NAME, find_object, summaries};

const ADMIN: &str = "floe-secrets-webhook-admin";

/// Host of the collector: a Service of the chart.
const HOST: &str = "floe-secrets-webhook-admin.floe-secrets-webhook.svc";

fn template<'a>(objects: &'a [Value], deployment: &str) -> &'a Value {
    &find_object(objects, "Deployment", deployment)["spec"]["template"]["spec"]
}

fn args(objects: &[Value], deployment: &str) -> Vec<String> {
    let args = &template(objects, deployment)["containers"][0]["args"];
    let args = args.as_array().expect("arguments").iter();
    args.map(|arg| arg.as_str().expect("text").to_owned())
        .collect()
}

/// Value of an argument.
fn arg(objects: &[Value], deployment: &str, flag: &str) -> Option<String> {
    let args = args(objects, deployment);
    let value = |arg: &String| Some(arg.strip_prefix(flag)?.strip_prefix('=')?.to_owned());
    args.iter().find_map(value)
}

/// Volume of a pod, and the path at which the first container has it.
fn volume(objects: &[Value], deployment: &str, name: &str) -> (Value, String) {
    let spec = template(objects, deployment);
    let named = |list: &Value| {
        let mut all = list.as_array().into_iter().flatten();
        all.find(|each| each["name"] == name)
            .cloned()
            .unwrap_or_else(|| panic!("no {name} in {list}"))
    };
    let mount = named(&spec["containers"][0]["volumeMounts"]);
    let path = mount["mountPath"].as_str().expect("a path").to_owned();
    (named(&spec["volumes"]), path)
}

#[test]
fn webhook_sends_records_to_the_collector_of_each_mode() {
    for (mode, secret) in [
        ("cert-manager", "floe-secrets-webhook-admin-tls"),
        ("existing", "floe-secrets-webhook-admin-tls"),
        ("self-managed", "floe-secrets-webhook-admin-tls-self"),
    ] {
        let values = merged(recorded(), &json!({"tls": {"mode": mode}}));
        let objects = Helm::V4.objects(NAME, &values);
        let of_webhook = |flag: &str| arg(&objects, NAME, flag).expect("the argument");

        assert_eq!(
            of_webhook("--audit-collector"),
            format!("https://{HOST}:9444")
        );
        let service = find_object(&objects, "Service", ADMIN);
        assert_eq!(service["spec"]["ports"][0]["port"], 9444);
        assert_eq!(
            arg(&objects, ADMIN, "--collector-listen").as_deref(),
            Some("0.0.0.0:9444")
        );

        let (token, path) = volume(&objects, NAME, "audit-token");
        let source = &token["projected"]["sources"][0]["serviceAccountToken"];
        assert_eq!(source["audience"], "floe-secrets-audit");
        assert_eq!(source["expirationSeconds"], 3600);
        assert_eq!(
            of_webhook("--audit-token"),
            format!("{path}/{}", source["path"].as_str().expect("a path"))
        );
        assert_eq!(
            arg(&objects, ADMIN, "--senders").expect("senders"),
            format!("{NAME}/{NAME}")
        );

        // The CA alone: the webhook never has the collector's key.
        let (ca, path) = volume(&objects, NAME, "audit-ca");
        assert_eq!(ca["secret"]["secretName"], secret, "{mode}");
        assert_eq!(ca["secret"]["optional"], true);
        assert_eq!(
            ca["secret"]["items"],
            json!([{"key": "ca.crt", "path": "ca.crt"}])
        );
        assert_eq!(of_webhook("--audit-collector-ca"), format!("{path}/ca.crt"));

        let (spool, path) = volume(&objects, NAME, "audit-spool");
        assert_eq!(spool["emptyDir"]["sizeLimit"], "256Mi");
        assert_eq!(of_webhook("--audit-spool"), path);

        // The certificate of that Secret is for that host.
        match mode {
            "cert-manager" => {
                let certificate = &find_object(&objects, "Certificate", secret)["spec"];
                assert_eq!(certificate["dnsNames"], json!([HOST]));
                let own = &find_object(&objects, "Certificate", "floe-secrets-webhook-tls")["spec"];
                assert_eq!(certificate["issuerRef"], own["issuerRef"]);
            }
            "self-managed" => {
                let controller = "floe-secrets-controller";
                let of = |flag: &str| arg(&objects, controller, flag);
                assert_eq!(of("--admin-tls-secret").as_deref(), Some(secret));
                assert_eq!(of("--admin-dns-names").as_deref(), Some(HOST));
                assert_eq!(
                    arg(&objects, ADMIN, "--tls-secret").as_deref(),
                    Some(secret)
                );
                find_object(&objects, "Secret", secret);
            }
            _ => {
                let (tls, _) = volume(&objects, ADMIN, "tls");
                assert_eq!(tls["secret"]["secretName"], secret);
            }
        }
    }
}

/// Objects of `admin` by kind and name.
fn of_admin(objects: &[Value]) -> BTreeSet<String> {
    let all = summaries(objects).into_iter();
    all.filter(|summary| summary.contains("admin") || summary.contains("audit"))
        .collect()
}

#[test]
fn nothing_of_admin_is_left_when_it_is_disabled() {
    for mode in ["cert-manager", "existing", "self-managed"] {
        let values = merged(recorded(), &json!({"tls": {"mode": mode}}));
        let with = Helm::V4.objects(NAME, &values);
        let without =
            Helm::V4.objects(NAME, &merged(values, &json!({"admin": {"enabled": false}})));
        assert!(of_admin(&with).len() >= 10, "{:?}", of_admin(&with));
        assert_eq!(of_admin(&without), BTreeSet::new());
        let without = without
            .iter()
            .filter(|object| object["kind"] != "ValidatingAdmissionPolicy")
            .map(Value::to_string);
        for object in without {
            for word in ["admin-", "audit-key", "--audit-collector", "audit-spool"] {
                assert!(!object.contains(word), "{mode}: {word} in {object}");
            }
        }
    }
}

#[test]
fn webhook_without_a_trail_sends_nothing() {
    let objects = Helm::V4.objects(NAME, &json!({"audit": {"output": "off"}}));
    assert_eq!(arg(&objects, NAME, "--audit").as_deref(), Some("off"));
    assert_eq!(arg(&objects, NAME, "--audit-collector"), None);
    let spec = template(&objects, NAME).to_string();
    assert!(!spec.contains("audit-spool") && !spec.contains("audit-token"));
    // What is stored stays there.
    find_object(&objects, "Deployment", ADMIN);
    // YAML 1.1 reads off as false.
    let objects = Helm::V4.objects(NAME, &json!({"audit": {"output": false}}));
    assert_eq!(arg(&objects, NAME, "--audit").as_deref(), Some("off"));
}

#[test]
fn one_process_writes_a_store_that_outlives_the_release() {
    let objects = Helm::V4.objects(NAME, &existing());
    let deployment = &find_object(&objects, "Deployment", ADMIN)["spec"];
    assert_eq!(deployment["replicas"], 1);
    assert_eq!(deployment["strategy"], json!({"type": "Recreate"}));
    let limits = &deployment["template"]["spec"]["containers"][0]["resources"]["limits"];
    assert_eq!(limits, &json!({"memory": "256Mi"}));
    let claim = find_object(
        &objects,
        "PersistentVolumeClaim",
        "floe-secrets-webhook-audit",
    );
    assert_eq!(
        claim["metadata"]["annotations"]["helm.sh/resource-policy"],
        "keep"
    );
    assert_eq!(claim["spec"]["resources"]["requests"]["storage"], "5Gi");
    assert!(claim["spec"]["storageClassName"].is_null());
    let (store, path) = volume(&objects, ADMIN, "store");
    assert_eq!(
        store["persistentVolumeClaim"]["claimName"],
        claim["metadata"]["name"]
    );
    let file = arg(&objects, ADMIN, "--store").expect("a store");
    assert_eq!(file, format!("{path}/audit.db"));
    assert_eq!(arg(&objects, ADMIN, "--max-size").as_deref(), Some("4Gi"));

    let in_pod = json!({"admin": {"persistence": {"enabled": false, "size": "2Gi"}}, "audit": {"maxSize": "1Gi"}});
    let objects = Helm::V4.objects(NAME, &merged(existing(), &in_pod));
    let (store, _) = volume(&objects, ADMIN, "store");
    assert_eq!(store["emptyDir"]["sizeLimit"], "2Gi");
    assert!(
        objects
            .iter()
            .all(|object| object["kind"] != "PersistentVolumeClaim")
    );
}

#[test]
fn store_in_a_database_needs_no_volume() {
    let store = json!({
        "url": "postgres://floe@a:6543,b/audit", "passwordSecret": "database", "caSecret": "database-ca",
    });
    let egress = json!({"enabled": true, "egress": {"enabled": true}});
    let values = json!({"admin": {"replicas": 3, "store": store}, "networkPolicy": egress});
    let objects = Helm::V4.objects(NAME, &merged(existing(), &values));
    let spec = &find_object(&objects, "Deployment", ADMIN)["spec"];
    assert_eq!(spec["replicas"], 3);
    assert_eq!(spec["strategy"]["type"], "RollingUpdate");
    assert!(
        objects
            .iter()
            .all(|object| object["kind"] != "PersistentVolumeClaim")
    );
    let of_admin = |flag: &str| arg(&objects, ADMIN, flag);
    assert_eq!(
        of_admin("--store").as_deref(),
        Some("postgres://floe@a:6543,b/audit")
    );
    let (files, path) = volume(&objects, ADMIN, "store");
    let sources = &files["projected"]["sources"];
    for (number, secret, key, flag) in [
        (0, "database", "password", "--store-password-file"),
        (1, "database-ca", "ca.crt", "--store-ca-file"),
    ] {
        let source = &sources[number]["secret"];
        assert_eq!(
            (&source["name"], &source["items"][0]["key"]),
            (&json!(secret), &json!(key))
        );
        assert_eq!(of_admin(flag), Some(format!("{path}/{key}")));
    }
    let policy = find_object(&objects, "NetworkPolicy", ADMIN);
    let rules = policy["spec"]["egress"].as_array().expect("rules").iter();
    let mut ports = rules.flat_map(|rule| rule["ports"].as_array().expect("ports"));
    for port in [6543, 5432] {
        assert!(ports.any(|each| each["port"] == port), "{policy}");
    }
    // Without a volume, the size of one is no limit.
    let unencrypted = json!({"url": "postgres://floe@db/audit?sslmode=disable"});
    let values = json!({"admin": {"store": unencrypted}, "audit": {"maxSize": "1Ti"}});
    let objects = Helm::V4.objects(NAME, &merged(existing(), &values));
    let volumes = &template(&objects, ADMIN)["volumes"];
    assert!(!volumes.to_string().contains("\"store\""), "{volumes}");
}

#[test]
fn notes_report_what_the_history_needs() {
    let notes = |values: Value| {
        let chart = testbed::helm::chart();
        let install = [
            "install",
            NAME,
            &chart,
            "--namespace",
            NAME,
            "--dry-run=client",
        ];
        let output = Helm::V4.run(&install, &values).expect_success().stdout;
        let (_, notes) = output.split_once("\nNOTES:\n").expect("notes");
        notes.to_owned()
    };
    let claim = "delete persistentvolumeclaim floe-secrets-webhook-audit";
    let text = notes(recorded());
    assert!(
        text.contains(claim) && !text.contains("audit.output is off"),
        "{text}"
    );
    let text = notes(json!({"audit": {"output": "off"}}));
    assert!(text.contains("audit.output is off"), "{text}");
    let text = notes(json!({"admin": {"persistence": {"enabled": false}}}));
    assert!(
        text.contains("lives as long as the pod") && !text.contains(claim),
        "{text}"
    );
    let database = json!({"url": "postgres://floe@db/audit", "caSecret": "ca"});
    let text = notes(json!({"admin": {"store": database}}));
    assert!(
        text.contains("Its store is in a database") && !text.contains(claim),
        "{text}"
    );
    let text = notes(existing());
    assert!(
        text.contains("Secret floe-secrets-webhook-admin-tls") && text.contains(HOST),
        "{text}"
    );
    let text = notes(json!({"admin": {"enabled": false}}));
    assert!(!text.contains("admin"), "{text}");
}
