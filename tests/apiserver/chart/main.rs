//! Helm chart: its values, its objects, and its lifecycle on a real API server with real Helm, version 4 and version 3.
//! Pods do not run here; `make demo-helm` installs it on a real node.

#![expect(
    clippy::too_many_lines,
    reason = "a test of one sequence, or a table of cases"
)]
#![expect(clippy::indexing_slicing, reason = "a failing helper fails its test")]

mod admin;
mod admin_rights;
mod admin_roles;
mod admission_policy;
mod callers;
mod certificates;
mod client_certificate;
mod image;
mod lifecycle;
mod monitoring;
mod names;
mod network;
mod pods;
mod rendering;
mod reuse_values;
mod rights;
mod scripts;
mod subchart;
mod tls_mode;
mod values;

use serde_json::{Value, json};

/// Values with which no certificate is issued.
fn existing() -> Value {
    json!({"tls": {"mode": "existing"}})
}

/// Values with which the webhook records its trail, and sends it to `admin`.
fn recorded() -> Value {
    json!({"audit": {"output": "stdout"}})
}

/// Values merged section by section.
fn merged(mut values: Value, more: &Value) -> Value {
    json_patch::merge(&mut values, more);
    values
}

/// Values that render everything which the chart can render in one release.
fn everything() -> Value {
    json!({
        "tls": {"mode": "existing", "clientCA": {"configMapName": "api-server-ca"}},
        "autoscaling": {"enabled": true},
        "webhook": {
            "exemptNamespaces": ["monitoring"], "aks": true, "annotations": {"example.com/a": "b"},
            "namespaceSelector": {"matchLabels": {"team": "data"}},
            "objectSelector": {"matchExpressions": [{"key": "skip", "operator": "DoesNotExist"}]},
            "extraMatchConditions": [{"name": "not-theirs", "expression": "!object.?metadata.?labels.orValue({}).exists(k, k == 'theirs')"}],
        },
        "workloads": {"injectTemplate": true},
        "commonLabels": {"example.com/owner": "platform"},
        "podLabels": {"example.com/pod": "a"}, "podAnnotations": {"example.com/pod": "a"},
        "controller": {"podLabels": {"example.com/pod": "b"}, "podAnnotations": {"example.com/pod": "b"}},
        "audit": {"output": "stdout", "clusterName": "prod", "onFailure": "refuse", "maxSize": "900Mi", "retention": "720h",
            "minAge": "24h", "controllers": ["system:serviceaccount:argo:rollouts"], "spool": {"sizeLimit": "512Mi"}},
        "admin": {"podLabels": {"example.com/pod": "c"}, "podAnnotations": {"example.com/pod": "c"},
            "persistence": {"size": "1Gi", "storageClass": "local"}, "extraEnv": [{"name": "A", "value": "b"}],
            "affinity": {"nodeAffinity": {}}},
        "secretNames": {"pattern": "{service}-{environment}-credentials", "mode": "deny"},
        "imagePullSecrets": [{"name": "registry"}],
        "image": {"digest": format!("sha256:{}", "0123456789abcdef".repeat(4))},
        "extraEnv": [{"name": "A", "value": "b"}], "extraVolumes": [{"name": "more", "emptyDir": {}}],
        "extraVolumeMounts": [{"name": "more", "mountPath": "/more"}],
        "service": {"annotations": {"example.com/a": "b"}, "ipFamilyPolicy": "SingleStack"},
        "tolerations": [{"key": "a", "operator": "Exists"}], "hostAliases": [{"ip": "127.0.0.1", "hostnames": ["x"]}],
        "dnsConfig": {"options": [{"name": "ndots", "value": "1"}]}, "hostUsers": false,
        "networkPolicy": {
            "podCIDRs": ["10.244.0.0/16", "fd00:10:244::/56"],
            "admission": {"from": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]},
            "metrics": {"from": [{"namespaceSelector": {"matchLabels": {"a": "b"}}}]},
            "egress": {"apiServer": [{"ipBlock": {"cidr": "10.0.0.1/32"}}], "extra": [{"ports": [{"port": 4317}]}],
                "collector": [{"namespaceSelector": {"matchLabels": {"a": "monitoring"}}}]},
        },
        "tracing": {"endpoint": "https://collector.monitoring:4318/otlp", "samplingRatio": 0.25,
            "ca": {"configMapName": "collector-ca"}},
        "metrics": {"service": {"enabled": true}, "grafanaDashboard": {"enabled": true}},
        "extraObjects": [{"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "{{ .Release.Name }}-extra", "namespace": "{{ .Release.Namespace }}"}}],
    })
}
