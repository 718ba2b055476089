//! Wrong values are rejected before anything is installed, and the message names the value and the reason.

use serde_json::{Value, json};

use crate::merged;
use testbed::helm::{Helm, NAME, default_values};

/// Values of the chart by path, with their defaults. A section is a non-empty map with fixed keys.
fn leaves(path: &str, value: &Value, found: &mut Vec<(String, Value)>) {
    /// Maps with defaults whose keys are defined by the user or by Kubernetes.
    const MAPS_WITH_FREE_KEYS: [&str; 7] = [
        "/admin/resources",
        "/resources",
        "/nodeSelector",
        "/podSecurityContext",
        "/containerSecurityContext",
        "/controller/resources",
        "/metrics/grafanaDashboard/labels",
    ];
    match value {
        Value::Object(section) if !section.is_empty() && !MAPS_WITH_FREE_KEYS.contains(&path) => {
            for (key, value) in section {
                leaves(&format!("{path}/{key}"), value, found);
            }
        }
        _ => found.push((path.to_owned(), value.clone())),
    }
}

/// Values file in which only this path is set.
fn only(path: &str, value: Value) -> Value {
    path.rsplit('/')
        .filter(|key| !key.is_empty())
        .fold(value, |inner, key| match key.parse::<usize>() {
            Ok(_) => json!([inner]),
            Err(_) => json!({key: inner}),
        })
}

/// Renders with several wrong values at once, and expects each to be rejected under its own path.
#[track_caller]
fn rejects(helm: Helm, wrong: &[(String, Value)], expected_message: &str) {
    let values = wrong.iter().fold(json!({}), |values, (path, value)| {
        merged(values, &only(path, value.clone()))
    });
    let output = helm.template(NAME, &values);
    assert_ne!(output.code, 0, "rendered with {values}");
    for (path, value) in wrong {
        let named = output
            .stderr
            .lines()
            .any(|line| line.contains(&format!("at '{path}'")) && line.contains(expected_message));
        assert!(
            named,
            "{helm:?}: no message about {path} = {value} with {expected_message:?}:\n{}",
            output.stderr
        );
    }
}

#[test]
fn value_of_wrong_type_is_rejected() {
    let mut all = Vec::new();
    leaves("", &default_values(), &mut all);
    assert!(all.len() > 120, "{}", all.len());
    let wrong: Vec<(String, Value)> = all
        .into_iter()
        .map(|(path, default)| {
            // Values of a wrong type: a map where there is none, else a list.
            let other = if default.is_object() {
                json!(["x"])
            } else {
                json!({"x": "y"})
            };
            (path, other)
        })
        .collect();
    for helm in Helm::ALL {
        rejects(helm, &wrong, "");
    }
}

#[test]
fn unknown_value_is_rejected_in_every_section() {
    let mut all = Vec::new();
    leaves("", &default_values(), &mut all);
    let sections: std::collections::BTreeSet<String> = all
        .iter()
        .map(|(path, _)| path.rsplit_once('/').expect("a path").0.to_owned())
        .collect();
    assert!(sections.len() > 25, "{sections:?}");
    let values = sections.iter().fold(json!({}), |values, section| {
        merged(values, &only(&format!("{section}/replicaz"), json!(3)))
    });
    let output = Helm::V4.template(NAME, &values);
    assert_ne!(output.code, 0);
    for section in sections {
        let line = format!("at '{section}': additional properties 'replicaz' not allowed");
        assert!(
            output.stderr.contains(&line),
            "no line {line:?}:\n{}",
            output.stderr
        );
    }
}

#[test]
fn value_out_of_range_is_rejected() {
    let rows = [
        ("/replicas", json!(-1), "minimum"),
        ("/replicas", json!(1.5), "integer"),
        ("/autoscaling/minReplicas", json!(1), "minimum"),
        (
            "/autoscaling/targetCPUUtilizationPercentage",
            json!(0),
            "minimum",
        ),
        ("/podDisruptionBudget/maxUnavailable", json!(0), ""),
        ("/podDisruptionBudget/maxUnavailable", json!("0%"), ""),
        ("/podDisruptionBudget/maxUnavailable", json!("101%"), ""),
        ("/podDisruptionBudget/maxUnavailable", json!("2"), ""),
        ("/webhook/timeoutSeconds", json!(0), "minimum"),
        ("/webhook/timeoutSeconds", json!(11), "maximum"),
        (
            "/webhook/failurePolicy",
            json!("fail"),
            "one of 'Fail', 'Ignore'",
        ),
        ("/webhook/defaults/failurePolicy", json!(""), "one of"),
        (
            "/webhook/url",
            json!("http://webhook.example.com"),
            "pattern",
        ),
        (
            "/webhook/url",
            json!("https://user@webhook.example.com"),
            "pattern",
        ),
        (
            "/webhook/url",
            json!("https://webhook.example.com/?a=b"),
            "pattern",
        ),
        ("/webhook/namePrefix", json!("ZZ"), "pattern"),
        ("/webhook/exemptNamespaces/0", json!("Team_A"), "pattern"),
        (
            "/webhook/namespaceSelector/matchExpressions/0/operator",
            json!("Is"),
            "one of",
        ),
        (
            "/webhook/extraMatchConditions/0",
            json!({"name": "a"}),
            "missing property 'expression'",
        ),
        ("/webhook/annotations", json!({"a": true}), ""),
        (
            "/tls/mode",
            json!("certManager"),
            "one of 'cert-manager', 'self-managed', 'existing'",
        ),
        ("/tls/certManager/duration", json!("90d"), "pattern"),
        (
            "/tls/certManager/issuerRef",
            json!({"kind": "ClusterIssuer"}),
            "",
        ),
        ("/tls/selfManaged/caGrace", json!("30"), "pattern"),
        ("/tls/clientCA/key", json!("../ca.crt"), "pattern"),
        ("/tls/secretName", json!("Tls"), "pattern"),
        ("/secretNames/pattern", json!("A-b"), "pattern"),
        ("/secretNames/pattern", json!("a".repeat(64)), "pattern"),
        (
            "/secretNames/mode",
            json!("refuse"),
            "one of 'warn', 'deny'",
        ),
        ("/onUnavailable", json!("ignore"), "one of 'deny', 'admit'"),
        ("/audit/output", json!("file"), "one of 'off'"),
        ("/audit/maxSize", json!("4GB"), "pattern"),
        ("/audit/retention", json!("90d"), "pattern"),
        ("/audit/controllers/0", json!("a,b"), "pattern"),
        ("/audit/spool/sizeLimit", json!("0Mi"), "pattern"),
        ("/admin/persistence/size", json!(5), "string"),
        ("/admin/replicas", json!(0), "minimum"),
        ("/admin/store/caSecret", json!("CA"), "pattern"),
        ("/admin/persistence/storageClass", json!("Fast"), "pattern"),
        ("/admin/tls/secretName", json!("Tls"), "pattern"),
        ("/sidecarContainers/0", json!("istio proxy"), "pattern"),
        ("/sidecarContainers/0", json!("wait@"), "pattern"),
        ("/sidecarContainers/0", json!("wait@app=etl"), "pattern"),
        (
            "/rbac/scope",
            json!("namespace"),
            "one of 'cluster', 'namespaces'",
        ),
        ("/rbac/namespaces", json!(["a", "a"]), ""),
        ("/controller/replicas", json!(0), "minimum"),
        ("/controller/driftInterval", json!("10"), "pattern"),
        ("/controller/driftInterval", json!("soon"), "pattern"),
        ("/listenAddress", json!("::"), "pattern"),
        ("/port", json!(443), "minimum"),
        ("/opsPort", json!(70000), "maximum"),
        ("/service/port", json!(0), "minimum"),
        ("/service/ipFamilies/0", json!("IPv5"), "one of"),
        ("/shutdown/drainSeconds", json!(0), "minimum"),
        ("/log/format", json!("text"), "one of 'json', 'pretty'"),
        ("/log/filter", json!(""), "minLength"),
        ("/tracing/endpoint", json!("collector:4318"), "pattern"),
        (
            "/tracing/endpoint",
            json!("http://user:word@collector:4318"),
            "pattern",
        ),
        ("/tracing/samplingRatio", json!(1.5), "maximum"),
        ("/tracing/ca/key", json!("../ca.crt"), "pattern"),
        ("/image/tag", json!("a b"), "pattern"),
        ("/image/digest", json!("sha256:abc"), "pattern"),
        ("/image/pullPolicy", json!("always"), "one of"),
        ("/image/repository", json!(""), "minLength"),
        ("/imagePullSecrets/0", json!({}), "missing property 'name'"),
        (
            "/extraEnv/0",
            json!({"value": "b"}),
            "missing property 'name'",
        ),
        ("/networkPolicy/podCIDRs/0", json!("10.244.0.0"), "pattern"),
        ("/networkPolicy/podCIDRs/0", json!("0.0.0.0/0"), "pattern"),
        (
            "/networkPolicy/podCIDRs/0",
            json!("10.244.0.0/33"),
            "pattern",
        ),
        ("/networkPolicy/podCIDRs/0", json!("fd00::/0"), "pattern"),
        ("/networkPolicy/podCIDRs/0", json!("fd00::/129"), "pattern"),
        (
            "/networkPolicy/podCIDRs",
            json!(["10.244.0.0/16", "10.244.0.0/16"]),
            "",
        ),
        ("/flowControl/nominalConcurrencyShares", json!(0), "minimum"),
        ("/flowControl/matchingPrecedence", json!(10001), "maximum"),
        (
            "/networkPolicy/egress/apiServerPorts",
            json!([]),
            "minItems",
        ),
        (
            "/networkPolicy/metrics/from/0",
            json!({"cidr": "10.0.0.0/8"}),
            "additional properties",
        ),
        (
            "/metrics/prometheusRule/certificateExpiryDays",
            json!(1),
            "minimum",
        ),
        (
            "/metrics/prometheusRule/slowAdmissionSeconds",
            json!(0),
            "exclusiveMinimum",
        ),
        ("/metrics/serviceMonitor/interval", json!("30"), "pattern"),
        ("/resourceQuota/pods", json!(0), "minimum"),
        ("/hostUsers", json!("yes"), ""),
        ("/dnsPolicy", json!("Cluster"), "one of"),
        ("/helmTest/namespace", json!("A"), "pattern"),
        ("/commonLabels", json!({"a b": "c"}), ""),
    ];
    // As many at once as do not conflict; Helm names them all.
    let mut left: Vec<_> = rows.to_vec();
    while !left.is_empty() {
        let mut round: Vec<(&str, Value, &str)> = Vec::new();
        left.retain(|row| {
            let section = |path: &str| path.trim_end_matches("/0").to_owned();
            let meets = round.iter().any(|taken| section(taken.0) == section(row.0));
            if !meets {
                round.push(row.clone());
            }
            meets
        });
        let values = round.iter().fold(json!({}), |values, row| {
            merged(values, &only(row.0, row.1.clone()))
        });
        let output = Helm::V4.template(NAME, &values);
        assert_ne!(output.code, 0, "rendered with {values}");
        for (path, value, expected_message) in round {
            let about = output.stderr.lines().any(|line| {
                line.contains(&format!("at '{path}")) && line.contains(expected_message)
            });
            assert!(
                about,
                "no message about {path} = {value} with {expected_message:?}:\n{}",
                output.stderr
            );
        }
    }
}

#[test]
fn conflicting_values_are_rejected_with_solution() {
    let rows = [
        (
            json!({"webhook": {"requireAnnotation": false}}),
            "Set webhook.failurePolicy=Ignore",
        ),
        (json!({"replicas": 0}), "Set webhook.url"),
        (
            json!({"autoscaling": {"enabled": true, "minReplicas": 4, "maxReplicas": 3}}),
            "autoscaling.maxReplicas=3 is less",
        ),
        (
            json!({"rbac": {"scope": "namespaces"}}),
            "needs rbac.namespaces",
        ),
        (
            json!({"rbac": {"namespaces": ["a"]}}),
            "Set rbac.scope=namespaces",
        ),
        (
            json!({"rbac": {"scope": "namespaces", "namespaces": [NAME]}}),
            "Take it out of the list",
        ),
        (
            json!({"tls": {"mode": "self-managed"}, "controller": {"enabled": false}}),
            "Set controller.enabled=true",
        ),
        (
            json!({"tls": {"mode": "self-managed"}, "webhook": {"url": "https://192.0.2.1"}}),
            "Give it a name",
        ),
        (
            json!({"tls": {"mode": "self-managed"}, "replicas": 0, "webhook": {"url": "https://hooks.example.com"}}),
            "Choose another tls.mode",
        ),
        (
            json!({"tls": {"clientCA": {"secretName": "a", "configMapName": "b"}}}),
            "from one of them alone",
        ),
        (
            json!({"tls": {"certManager": {"renewBefore": "2160h"}}}),
            "renewBefore=2160h is not shorter",
        ),
        (
            json!({"tls": {"certManager": {"caRenewBefore": "43800h"}}}),
            "caRenewBefore=43800h is not shorter",
        ),
        (
            json!({"tls": {"certManager": {"caRenewBefore": "2000h"}}}),
            "would outlive its CA",
        ),
        (json!({"port": 8080}), "port and opsPort are both 8080"),
        (
            json!({"opsPort": 9444}),
            "opsPort is 9444, the port of the audit trail's collector",
        ),
        (
            json!({"audit": {"maxSize": "5120Mi"}}),
            "audit.maxSize=5120Mi leaves less than 96Mi of admin.persistence.size=5Gi free",
        ),
        (json!({"admin": {"replicas": 2}}), "a file has one writer"),
        (
            json!({"admin": {"store": {"url": "postgres://floe:s3cret@db/audit", "caSecret": "ca"}}}),
            "set admin.store.passwordSecret",
        ),
        (
            json!({"admin": {"store": {"url": "postgres://floe@db/audit?password=s3cret", "caSecret": "ca"}}}),
            "set admin.store.passwordSecret",
        ),
        (
            json!({"admin": {"store": {"url": "postgres://floe@db/audit"}}}),
            "admin.store.caSecret is empty",
        ),
        (
            json!({"admin": {"store": {"url": "audit.db", "caSecret": "ca"}}}),
            "is not of the form postgres://USER@HOST:PORT/DATABASE",
        ),
        (
            json!({"audit": {"minAge": "721h", "retention": "720h"}}),
            "audit.minAge=721h is longer than audit.retention=720h",
        ),
        (
            json!({"audit": {"spool": {"sizeLimit": "64Mi"}}}),
            "is less than 128Mi",
        ),
        (
            json!({"metrics": {"serviceMonitor": {"enabled": true}, "podMonitor": {"enabled": true}}}),
            "Choose one",
        ),
        (
            json!({"namespaceOverride": "kube-system"}),
            "Take one of its own",
        ),
        (
            json!({"namespaceOverride": "default"}),
            "Take one of its own",
        ),
        (
            json!({"helmTest": {"namespace": NAME}}),
            "Choose another one",
        ),
        (
            json!({"webhook": {"extraMatchConditions": [{"name": "a", "expression": "namespaceObject.metadata.name == 'a'"}]}}),
            "Use webhook.namespaceSelector",
        ),
        (
            json!({"webhook": {"extraMatchConditions": [{"name": "asks-for-secrets", "expression": "true"}]}}),
            "Choose another one",
        ),
    ];
    for (values, expected_message) in rows {
        let output = Helm::V4.template(NAME, &values);
        assert!(
            output.code != 0 && output.stderr.contains(expected_message),
            "{values}: no {expected_message:?} in:\n{}",
            output.stderr
        );
    }
    // Solutions that the messages name.
    for values in [
        json!({"webhook": {"requireAnnotation": false, "failurePolicy": "Ignore"}}),
        json!({"replicas": 0, "webhook": {"url": "https://webhook.example.com"}}),
        json!({"rbac": {"scope": "namespaces", "namespaces": ["a", "b"]}}),
        json!({"global": {"of": "a parent chart"}}),
        // An older release has this value.
        json!({"audit": {"output": "off"}, "admin": {"enabled": true}}),
        json!({"opsPort": 9444, "admin": {"enabled": false}}),
        json!({"audit": {"maxSize": "1Ti"}, "admin": {"persistence": {"size": "1500Gi"}}}),
        json!({"audit": {"maxSize": "1Ti"}, "admin": {"replicas": 2, "store":
            {"url": "postgresql://floe@a:1,b:2/audit?target_session_attrs=read-write", "caSecret": "ca"}}}),
        json!({"admin": {"store": {"url": "postgres://floe@db/audit?sslmode=disable"}}}),
    ] {
        Helm::V4.template(NAME, &values).expect_success();
    }
}

#[test]
fn older_kubernetes_is_rejected() {
    for (version, code) in [
        ("1.29.14", 1),
        ("1.30.0", 0),
        ("1.30.14-gke.1", 0),
        ("1.36.3", 0),
    ] {
        for helm in Helm::ALL {
            let chart = testbed::helm::chart();
            let args = [
                "template",
                NAME,
                &chart,
                "--namespace",
                NAME,
                "--kube-version",
                version,
            ];
            let output = helm.run(&args, &json!({}));
            assert_eq!(output.code, code, "{helm:?} {version}: {}", output.stderr);
            assert!(
                code == 0 || output.stderr.contains(">=1.30.0"),
                "{}",
                output.stderr
            );
        }
    }
}

#[test]
fn generated_files_are_up_to_date() {
    for script in ["hack/values-table.py", "hack/render-manifests.sh"] {
        let program = testbed::tools::project_root().join(script);
        let output = std::process::Command::new(program)
            .arg("--check")
            .output()
            .expect("the script runs");
        let printed = String::from_utf8_lossy(&output.stderr).into_owned()
            + &String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{script}: {printed}");
    }
}

#[test]
fn chart_passes_helm_lint() {
    for helm in Helm::ALL {
        for values in [
            json!({}),
            crate::existing(),
            crate::everything(),
            json!({"tls": {"mode": "self-managed"}}),
        ] {
            let chart = testbed::helm::chart();
            let output = helm
                .run(&["lint", &chart, "--strict", "--namespace", NAME], &values)
                .expect_success();
            assert!(
                !output.stdout.contains("[WARNING]"),
                "{helm:?} {values}: {}",
                output.stdout
            );
        }
    }
}
