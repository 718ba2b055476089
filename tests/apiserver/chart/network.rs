//! Connections that the rendered `NetworkPolicy` objects admit, by a small evaluator of their rules: nothing enforces
//! them here.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr as _;

use serde_json::{Value, json};

use crate::merged;
use testbed::helm::{Helm, NAME, find_object};

/// Other end of a connection.
struct Peer {
    address: IpAddr,
    /// Labels of its namespace and its own, if it is a pod with a network of its own.
    pod: Option<(Value, Value)>,
}

/// Direction in which a connection is opened.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    In,
    Out,
}

impl Direction {
    /// Policy type, field with the rules, and field with their peers.
    fn words(self) -> [&'static str; 3] {
        match self {
            Self::In => ["Ingress", "ingress", "from"],
            Self::Out => ["Egress", "egress", "to"],
        }
    }
}

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// Peer outside of the pods' network: a node, or a control plane elsewhere.
fn host(text: &str) -> Peer {
    Peer {
        address: address(text),
        pod: None,
    }
}

fn pod(text: &str, namespace: &str, labels: Value) -> Peer {
    let namespace = json!({"kubernetes.io/metadata.name": namespace});
    Peer {
        address: address(text),
        pod: Some((namespace, labels)),
    }
}

fn includes(range: &str, address: IpAddr) -> bool {
    let (network, length) = range.split_once('/').expect("a range");
    let length = u32::from_str(length).expect("a length");
    match (IpAddr::from_str(network).expect("a network"), address) {
        (IpAddr::V4(network), IpAddr::V4(address)) => {
            let bits = |address: Ipv4Addr| u64::from(address.to_bits()) >> (32 - length);
            bits(network) == bits(address)
        }
        (IpAddr::V6(network), IpAddr::V6(address)) => {
            let bits = |address: Ipv6Addr| address.to_bits().checked_shr(128 - length).unwrap_or(0);
            bits(network) == bits(address)
        }
        _ => false,
    }
}

/// Whether a label selector matches; a missing selector matches nothing here.
fn selects(selector: &Value, labels: &Value) -> bool {
    let equal = selector["matchLabels"]
        .as_object()
        .into_iter()
        .flatten()
        .all(|(key, value)| labels[key] == *value);
    let expressions = selector["matchExpressions"]
        .as_array()
        .into_iter()
        .flatten()
        .all(|expression| {
            let is = &labels[expression["key"].as_str().expect("a key")];
            let among = expression["values"]
                .as_array()
                .is_some_and(|values| values.contains(is));
            match expression["operator"].as_str().expect("an operator") {
                "In" => among,
                "NotIn" => !among,
                "Exists" => !is.is_null(),
                "DoesNotExist" => is.is_null(),
                other => panic!("no operator {other}"),
            }
        });
    selector.is_object() && equal && expressions
}

fn is_peer(rule: &Value, own: &str, peer: &Peer) -> bool {
    if let Some(range) = rule["ipBlock"]["cidr"].as_str() {
        let except = rule["ipBlock"]["except"].as_array().into_iter().flatten();
        let mut except = except.map(|range| range.as_str().expect("a range"));
        return includes(range, peer.address) && !except.any(|range| includes(range, peer.address));
    }
    let Some((namespace, labels)) = &peer.pod else {
        return false;
    };
    let there = if rule["namespaceSelector"].is_object() {
        selects(&rule["namespaceSelector"], namespace)
    } else {
        namespace["kubernetes.io/metadata.name"] == own
    };
    there && (rule["podSelector"].is_null() || selects(&rule["podSelector"], labels))
}

fn is_port(rule: &Value, container: &Value, protocol: &str, port: u16) -> bool {
    let number = match &rule["port"] {
        Value::String(name) => {
            let ports = container["ports"].as_array().expect("ports");
            ports
                .iter()
                .find(|port| port["name"] == *name.as_str())
                .map(|port| port["containerPort"].clone())
        }
        Value::Null => Some(port.into()),
        number => Some(number.clone()),
    };
    let number = number
        .and_then(|number| number.as_u64())
        .expect("a port of the container");
    let last = rule["endPort"].as_u64().unwrap_or(number);
    rule["protocol"].as_str().unwrap_or("TCP") == protocol && (number..=last).contains(&port.into())
}

/// Pods of a component among rendered objects, with the policies that select them.
struct Component {
    namespace: String,
    container: Value,
    policies: Vec<Value>,
}

impl Component {
    fn of(values: &Value, deployment: &str) -> Self {
        let objects = Helm::V4.objects(NAME, values);
        let template = find_object(&objects, "Deployment", deployment)["spec"]["template"].clone();
        let policies: Vec<Value> = objects
            .iter()
            .filter(|object| object["kind"] == "NetworkPolicy")
            .filter(|policy| {
                selects(
                    &policy["spec"]["podSelector"],
                    &template["metadata"]["labels"],
                )
            })
            .cloned()
            .collect();
        Self {
            namespace: NAME.to_owned(),
            container: template["spec"]["containers"][0].clone(),
            policies,
        }
    }

    /// Semantics of the API: without a policy of this type everything is admitted; with one, what any rule admits.
    fn admits(&self, direction: Direction, peer: &Peer, protocol: &str, port: u16) -> bool {
        let [kind, rules, peers] = direction.words();
        let mut of_kind = self
            .policies
            .iter()
            .filter(|policy| {
                policy["spec"]["policyTypes"]
                    .as_array()
                    .is_some_and(|types| types.contains(&kind.into()))
            })
            .peekable();
        if of_kind.peek().is_none() {
            return true;
        }
        of_kind
            .flat_map(|policy| policy["spec"][rules].as_array().into_iter().flatten())
            .any(|rule| {
                let any = |list: &Value| list.as_array().is_none_or(Vec::is_empty);
                let ports = rule["ports"].as_array().into_iter().flatten();
                let from = rule[peers].as_array().into_iter().flatten();
                (any(&rule["ports"])
                    || ports
                        .clone()
                        .any(|rule| is_port(rule, &self.container, protocol, port)))
                    && (any(&rule[peers])
                        || from
                            .clone()
                            .any(|rule| is_peer(rule, &self.namespace, peer)))
            })
    }

    /// Whether a peer reaches this TCP port.
    fn reached(&self, peer: &Peer, port: u16) -> bool {
        self.admits(Direction::In, peer, "TCP", port)
    }

    /// Whether these pods reach a port of a peer.
    fn reaches(&self, peer: &Peer, protocol: &str, port: u16) -> bool {
        self.admits(Direction::Out, peer, protocol, port)
    }
}

const ADMISSION: u16 = 8443;
const COLLECTOR: u16 = 9444;
const OPS: u16 = 8080;

fn with(policy: &Value) -> Value {
    json!({"networkPolicy": policy})
}

/// Control plane elsewhere, node, tenant's pod, and konnectivity's agent, which is a pod that connects for the API
/// server.
fn callers() -> [Peer; 4] {
    let agent = json!({"k8s-app": "konnectivity-agent"});
    [
        host("172.16.0.2"),
        host("192.168.1.10"),
        pod("10.244.3.7", "tenant", json!({"app": "curious"})),
        pod("10.244.9.9", "kube-system", agent),
    ]
}

fn who_reaches(values: &Value) -> [bool; 4] {
    let webhook = Component::of(values, NAME);
    callers().map(|peer| webhook.reached(&peer, ADMISSION))
}

#[test]
fn pod_ranges_exclude_only_pods() {
    assert_eq!(
        who_reaches(&json!({})),
        [true; 4],
        "the port is open by default"
    );
    assert_eq!(who_reaches(&with(&json!({"enabled": false}))), [true; 4]);
    assert_eq!(
        who_reaches(&with(&json!({"podCIDRs": ["10.244.0.0/16"]}))),
        [true, true, false, false]
    );
    // Each range counts, and each by itself.
    assert_eq!(
        who_reaches(&with(
            &json!({"podCIDRs": ["10.1.0.0/16", "10.244.0.0/16"]})
        )),
        [true, true, false, false]
    );
    assert_eq!(
        who_reaches(&with(&json!({"podCIDRs": ["10.244.3.0/24"]}))),
        [true, true, false, true]
    );
    let agents = json!([{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
        "podSelector": {"matchLabels": {"k8s-app": "konnectivity-agent"}}}]);
    let both = json!({"podCIDRs": ["10.244.0.0/16"], "admission": {"from": agents}});
    assert_eq!(
        who_reaches(&with(&both)),
        [true, true, false, true],
        "the two are merged"
    );
    assert_eq!(
        who_reaches(&with(&json!({"admission": {"from": agents}}))),
        [false, false, false, true]
    );
    // API server of a node whose tunnel has an address in the pods' range.
    let tunnel =
        |values: &Value| Component::of(values, NAME).reached(&host("10.244.0.0"), ADMISSION);
    assert!(!tunnel(&with(&json!({"podCIDRs": ["10.244.0.0/16"]}))));
    let admitted = json!({"podCIDRs": ["10.244.0.0/16"], "admission": {"from": [{"ipBlock": {"cidr": "10.244.0.0/32"}}]}});
    assert!(tunnel(&with(&admitted)));
    assert_eq!(who_reaches(&with(&admitted)), [true, true, false, false]);
    let plane = json!([{"ipBlock": {"cidr": "172.16.0.0/28"}}]);
    assert_eq!(
        who_reaches(&with(&json!({"admission": {"from": plane}}))),
        [true, false, false, false]
    );
}

#[test]
fn pod_ranges_of_both_families_are_excluded() {
    let both = with(&json!({"podCIDRs": ["10.244.0.0/16", "fd00:10:244::/56"]}));
    let webhook = Component::of(&both, NAME);
    let labels = || json!({});
    for (peer, reached) in [
        (host("172.16.0.2"), true),
        (pod("10.244.3.7", "tenant", labels()), false),
        (host("fd00:172::2"), true),
        (pod("fd00:10:244:5::7", "tenant", labels()), false),
    ] {
        assert_eq!(
            webhook.reached(&peer, ADMISSION),
            reached,
            "{}",
            peer.address
        );
    }
    // Ranges of one family do not affect the other, and what is not listed is not admitted.
    let six = Component::of(&with(&json!({"podCIDRs": ["fd00:10:244::/56"]})), NAME);
    assert!(
        six.reached(&host("fd00:172::2"), ADMISSION)
            && !six.reached(&host("172.16.0.2"), ADMISSION)
    );
}

#[test]
fn pods_reach_metrics_and_no_other_port() {
    let prometheus = || pod("10.244.1.4", "monitoring", json!({"app": "prometheus"}));
    let tenant = || pod("10.244.3.7", "tenant", json!({}));
    for values in [json!({}), with(&json!({"podCIDRs": ["10.244.0.0/16"]}))] {
        for deployment in [
            NAME,
            "floe-secrets-controller",
            "floe-secrets-webhook-admin",
        ] {
            let component = Component::of(&values, deployment);
            assert!(component.reached(&prometheus(), OPS), "{deployment}");
            assert!(
                !component.reached(&host("192.168.1.10"), OPS),
                "{deployment}: the kubelet needs no rule"
            );
            assert!(!component.reached(&prometheus(), 9999), "{deployment}");
        }
    }
    assert!(
        !Component::of(&json!({}), "floe-secrets-controller").reached(&host("172.16.0.2"), 8444)
    );
    let one = json!({"metrics": {"from": [{"namespaceSelector": {"matchLabels":
        {"kubernetes.io/metadata.name": "monitoring"}}}]}});
    let webhook = Component::of(&with(&one), NAME);
    assert!(webhook.reached(&prometheus(), OPS) && !webhook.reached(&tenant(), OPS));
}

/// Labels of the pods of a component.
fn labels_of(component: &str) -> Value {
    json!({"app.kubernetes.io/name": NAME, "app.kubernetes.io/instance": NAME, "app.kubernetes.io/component": component})
}

#[test]
fn only_replicas_of_the_webhook_reach_the_audit_collector() {
    let admin_pod = || pod("10.244.1.6", NAME, labels_of("admin"));
    let replica = || pod("10.244.1.7", NAME, labels_of("webhook"));
    let recorded = crate::recorded();
    let admin = Component::of(&recorded, "floe-secrets-webhook-admin");
    assert!(admin.reached(&replica(), COLLECTOR));
    for other in [
        pod("10.244.3.7", "tenant", labels_of("webhook")),
        pod("10.244.1.8", NAME, labels_of("controller")),
        host("192.168.1.10"),
    ] {
        assert!(!admin.reached(&other, COLLECTOR), "{}", other.address);
    }
    let webhook = Component::of(&recorded, NAME);
    assert!(webhook.reaches(&admin_pod(), "TCP", COLLECTOR));
    assert!(!webhook.reaches(&host("172.16.0.2"), "TCP", COLLECTOR));
    // Without a trail or without `admin`, the webhook has nothing to send.
    for values in [
        json!({"audit": {"output": "off"}}),
        merged(recorded.clone(), &json!({"admin": {"enabled": false}})),
    ] {
        let webhook = Component::of(&values, NAME);
        assert!(!webhook.reaches(&admin_pod(), "TCP", COLLECTOR), "{values}");
    }
    // Replicas in the nodes' network have the nodes' addresses.
    let on_nodes = merged(recorded, &json!({"hostNetwork": true}));
    let admin = Component::of(&on_nodes, "floe-secrets-webhook-admin");
    assert!(admin.reached(&host("192.168.1.10"), COLLECTOR));
}

#[test]
fn pods_reach_only_api_server_dns_and_collector() {
    let tracing = json!({"tracing": {"endpoint": "http://collector.monitoring:4318"}});
    let collector = || pod("10.244.1.5", "monitoring", json!({"app": "collector"}));
    let tenant = || pod("10.244.3.7", "tenant", json!({}));
    for deployment in [
        NAME,
        "floe-secrets-controller",
        "floe-secrets-webhook-admin",
    ] {
        let plain = Component::of(&json!({}), deployment);
        for port in [443, 6443] {
            assert!(
                plain.reaches(&host("172.16.0.2"), "TCP", port),
                "{deployment}: {port}"
            );
        }
        assert!(plain.reaches(&pod("10.244.0.2", "kube-system", json!({})), "UDP", 53));
        assert!(
            !plain.reaches(&host("172.16.0.2"), "TCP", 22)
                && !plain.reaches(&host("172.16.0.2"), "UDP", 443)
        );
        assert!(
            !plain.reaches(&collector(), "TCP", 4318),
            "{deployment}: no collector is set"
        );

        let traced = Component::of(&tracing, deployment);
        assert!(
            traced.reaches(&collector(), "TCP", 4318) && traced.reaches(&tenant(), "TCP", 4318)
        );
        let peers = json!([{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]);
        let narrow = merged(
            tracing.clone(),
            &with(&json!({"egress": {"collector": peers}})),
        );
        let narrow = Component::of(&narrow, deployment);
        assert!(
            narrow.reaches(&collector(), "TCP", 4318) && !narrow.reaches(&tenant(), "TCP", 4318)
        );

        let api = with(&json!({"egress": {"apiServer": [{"ipBlock": {"cidr": "172.16.0.0/28"}}]}}));
        let api = Component::of(&api, deployment);
        assert!(
            api.reaches(&host("172.16.0.2"), "TCP", 443) && !api.reaches(&tenant(), "TCP", 443)
        );
        let open = Component::of(&with(&json!({"egress": {"enabled": false}})), deployment);
        assert!(open.reaches(&tenant(), "TCP", 22));
    }
}
