//! Replicas are started and stopped under load: on a real node, with the webhook's own pods, 200 creates per second by
//! an ordinary account. The outcomes of the creates are asserted, never their latency; measurements are printed.
//!
//! `make test-cluster` runs this where the API server of `KUBECONFIG` is reachable, and sets `BUSYBOX_IMAGE` to an
//! image with a shell that its nodes have. It is ignored otherwise: it needs root or a cluster.

#![expect(
    clippy::indexing_slicing,
    reason = "serde_json values are indexed; a panic fails the test"
)]

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::future::join_all;
use http::Method;
use serde_json::{Value, json};
use testbed::admission_client::{connect_tls, send_request};
use testbed::cluster::{Cluster, shell_image};
use testbed::flood::{FloodKind, Flooder};
use testbed::hostile::generator::Generator;
use testbed::hostile::{HostileReview, known_attacks};
use testbed::load::LoadGenerator;
use testbed::namespace::Identity;
use testbed::objects::{collection, path, send};
use testbed::{print_line, wait_for};

/// Namespace and Deployment of the installed webhook.
const INSTALLATION: &str = "floe-secrets-webhook";
const CONTROLLER: &str = "floe-secrets-controller";
const RATE: u32 = 200;
/// Concurrent hostile reviews for each replica, their duration, and the honest creates.
const CONCURRENT_REVIEWS: usize = 10;
const ATTACK_SECONDS: usize = 30;
const HONEST_RATE: u32 = 50;
/// Duration of the creates under each flood.
const FLOOD_SECONDS: usize = 10;
const WAIT_TIMEOUT: Duration = Duration::from_mins(3);

fn deployment(name: &str) -> String {
    format!("/apis/apps/v1/namespaces/{INSTALLATION}/deployments/{name}")
}

fn lease() -> String {
    format!("/apis/coordination.k8s.io/v1/namespaces/{INSTALLATION}/leases/{CONTROLLER}")
}

fn pod_path(pod: &str) -> String {
    format!("/api/v1/namespaces/{INSTALLATION}/pods/{pod}")
}

fn name(object: &Value) -> String {
    object["metadata"]["name"]
        .as_str()
        .expect("a name")
        .to_owned()
}

struct Fixture {
    cluster: Cluster,
    namespace: String,
    loader: Identity,
}

impl Fixture {
    async fn new() -> Self {
        let mut cluster = Cluster::connect().await;
        let namespace = cluster.namespace("replicas").await;
        let metadata = |name: &str| json!({"name": name, "namespace": namespace});
        let rbac = "rbac.authorization.k8s.io/v1";
        let rules = json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["create"]}]);
        let role =
            json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "loader"});
        let subjects =
            json!([{"kind": "ServiceAccount", "name": "loader", "namespace": namespace}]);
        for object in [
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata("db"), "stringData": {"PASSWORD": "x"}}),
            json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata("loader")}),
            json!({"apiVersion": rbac, "kind": "Role", "metadata": metadata("loader"), "rules": rules}),
            json!({"apiVersion": rbac, "kind": "RoleBinding", "metadata": metadata("loader"), "roleRef": role, "subjects": subjects}),
        ] {
            cluster.apply_temporarily(&object).await;
        }
        let loader = cluster.identity(&namespace, "loader").await;
        Self {
            cluster,
            namespace,
            loader,
        }
    }

    fn stream(&self) -> LoadGenerator {
        LoadGenerator::start(self.loader.client(), &self.namespace, "db", RATE)
    }

    /// Pods of a Deployment of the release, deleted ones included.
    async fn pods(&self, of: &str) -> Vec<Value> {
        let component = if of == CONTROLLER {
            "controller"
        } else {
            "webhook"
        };
        let query = format!("labelSelector=app.kubernetes.io%2Fcomponent%3D{component}");
        self.cluster
            .items(&format!("/api/v1/namespaces/{INSTALLATION}/pods?{query}"))
            .await
    }

    /// Waits until exactly this many pods exist and are ready, and none of these.
    async fn settled(&self, of: &str, replicas: usize, without: &BTreeSet<String>) {
        let end = Instant::now() + WAIT_TIMEOUT;
        loop {
            let pods = self.pods(of).await;
            let ready = pods
                .iter()
                .filter(|pod| ready(pod) && !without.contains(&name(pod)))
                .count();
            if (ready, pods.len()) == (replicas, replicas) {
                return;
            }
            assert!(
                Instant::now() < end,
                "not {replicas} ready pods without {without:?}: {pods:#?}"
            );
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    async fn scale(&self, replicas: usize) {
        self.cluster
            .patch(
                &deployment(INSTALLATION),
                &json!({"spec": {"replicas": replicas}}),
            )
            .await;
        self.settled(INSTALLATION, replicas, &BTreeSet::new()).await;
    }

    async fn rolling_restart(&self, replicas: usize) {
        let before = self.pods(INSTALLATION).await.iter().map(name).collect();
        let when = format!("{:?}", Instant::now());
        let template =
            json!({"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": when}}});
        self.cluster
            .patch(
                &deployment(INSTALLATION),
                &json!({"spec": {"template": template}}),
            )
            .await;
        self.settled(INSTALLATION, replicas, &before).await;
    }

    /// SIGTERM, as for an eviction or a drain.
    async fn end_one(&self, replicas: usize) {
        let one = name(&self.pods(INSTALLATION).await[0]);
        send(&self.cluster.client, Method::DELETE, &pod_path(&one), None)
            .await
            .object();
        self.settled(INSTALLATION, replicas, &BTreeSet::from([one]))
            .await;
    }

    /// SIGKILL for the container of a pod: by a pod that sees all processes of its node.
    async fn kill(&self, pod: &str) {
        let node = self.cluster.get(&pod_path(pod)).await.object()["spec"]["nodeName"].clone();
        let script = format!(
            "for p in /proc/[0-9]*; do if (tr '\\0' '\\n' <$p/environ) 2>/dev/null | grep -qx HOSTNAME={pod}; \
             then kill -9 ${{p#/proc/}} && echo killed; fi; done"
        );
        let killer = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"generateName": "killer-", "namespace": self.namespace},
            "spec": {
                "restartPolicy": "Never", "nodeName": node, "hostPID": true, "terminationGracePeriodSeconds": 0,
                "containers": [{
                    "name": "main", "image": shell_image(), "imagePullPolicy": "IfNotPresent",
                    "command": ["sh", "-c", script],
                    "securityContext": {"runAsUser": 0, "capabilities": {"add": ["KILL", "SYS_PTRACE"]}},
                }],
            },
        });
        let made = send(
            &self.cluster.client,
            Method::POST,
            &collection(&killer),
            Some(&killer),
        )
        .await
        .object();
        self.cluster
            .wait(
                "the process to be killed",
                WAIT_TIMEOUT,
                &path(&made),
                |pod| match pod["status"]["phase"].as_str() {
                    Some("Succeeded") => Some(()),
                    Some("Failed") => panic!("{pod:#}"),
                    _ => None,
                },
            )
            .await;
        let log = self
            .cluster
            .get(&format!("{}/log", path(&made)))
            .await
            .object();
        assert_eq!(
            log.as_str().map(str::trim),
            Some("killed"),
            "exactly one process"
        );
    }

    /// Pod of the leader.
    async fn leader(&self) -> String {
        let lease = self.cluster.get(&lease()).await.object();
        let holder = lease["spec"]["holderIdentity"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        let pods = self.pods(CONTROLLER).await;
        let leader = pods
            .iter()
            .map(name)
            .find(|pod| holder.contains(pod.as_str()));
        leader.unwrap_or_else(|| panic!("{holder:?} is not a pod of the controller"))
    }

    async fn kill_leader(&self) {
        let renewed = |lease: &Value| lease["spec"]["renewTime"].as_str().map(str::to_owned);
        let leader = self.leader().await;
        self.kill(&leader).await;
        let killed = renewed(&self.cluster.get(&lease()).await.object()).expect("it was renewed");
        self.cluster
            .wait("somebody leads again", WAIT_TIMEOUT, &lease(), |now| {
                renewed(now).filter(|renewed| *renewed > killed).map(drop)
            })
            .await;
    }
}

impl Fixture {
    /// Sends ten of the worst reviews to each replica, every second, next to honest creates: none of those is rejected,
    /// and no container is killed for the memory that the chart grants. Returns the number of responses, and the
    /// creates.
    async fn injects_under_hostile_reviews(&self) -> (usize, String) {
        let ca = self.ca().await;
        let before: u64 = self.pods(INSTALLATION).await.iter().map(restarts).sum();
        let mut generator = Generator::new(5);
        let mut worst: Vec<HostileReview> = (0..200).map(|_| generator.next_review()).collect();
        worst.sort_by_key(|hostile| std::cmp::Reverse(hostile.body.len()));
        worst.truncate(2 * CONCURRENT_REVIEWS);
        worst.extend(known_attacks());
        let stream = LoadGenerator::start(self.loader.client(), &self.namespace, "db", HONEST_RATE);
        let mut tick = tokio::time::interval(Duration::from_secs(1));
        let mut answered = 0;
        for second in 0..ATTACK_SECONDS {
            tick.tick().await;
            let pods = self.pods(INSTALLATION).await;
            let addresses = pods
                .iter()
                .filter_map(|pod| pod["status"]["podIP"].as_str()?.parse::<IpAddr>().ok());
            let these: Vec<_> = addresses
                .flat_map(|address| {
                    let these = worst
                        .iter()
                        .cycle()
                        .skip(second * CONCURRENT_REVIEWS % worst.len())
                        .take(CONCURRENT_REVIEWS);
                    these.map(move |hostile| (SocketAddr::from((address, 8443)), hostile))
                })
                .map(|(address, hostile)| attack(address, &ca, hostile))
                .collect();
            answered += join_all(these)
                .await
                .into_iter()
                .filter(|answered| *answered)
                .count();
        }
        let report = stream.stop().await;
        report.injects_all();
        let pods = self.pods(INSTALLATION).await;
        assert_eq!(
            pods.iter().map(restarts).sum::<u64>(),
            before,
            "a container was killed: {pods:#?}"
        );
        (answered, report.summary())
    }

    /// Floods every replica from an address that is not the API server's, with one kind of flood after the other, next
    /// to honest creates: none of those is rejected, and no container is killed. Returns the size of the floods, and
    /// the creates.
    async fn injects_under_floods(&self) -> Vec<String> {
        let ca = self.ca().await;
        let source = self.node_address().await;
        let pods = self.pods(INSTALLATION).await;
        let before: u64 = pods.iter().map(restarts).sum();
        let addresses: Vec<IpAddr> = pods
            .iter()
            .filter_map(|pod| pod["status"]["podIP"].as_str()?.parse().ok())
            .collect();
        assert!(!addresses.is_empty(), "{pods:#?}");
        let mut summaries = Vec::new();
        for kind in FloodKind::ALL {
            let mut floods = Vec::new();
            for address in &addresses {
                let flooder =
                    Flooder::new(source, SocketAddr::from((*address, 8443)), ca.as_bytes());
                floods.push(flooder.start(kind));
            }
            wait_for("the floods are under way", || async {
                let target_count =
                    |done: &AtomicUsize| done.load(Ordering::Relaxed) >= kind.target_count();
                floods
                    .iter()
                    .all(|(_, done)| target_count(done))
                    .then_some(())
            })
            .await;
            let stream =
                LoadGenerator::start(self.loader.client(), &self.namespace, "db", HONEST_RATE);
            stream
                .wait_for_responses(HONEST_RATE as usize * FLOOD_SECONDS)
                .await;
            let report = stream.stop().await;
            let done: Vec<usize> = floods
                .iter()
                .map(|(_, done)| done.load(Ordering::Relaxed))
                .collect();
            for (mut flood, _) in floods {
                flood.shutdown().await;
            }
            report.injects_all();
            summaries.push(format!(
                "{kind:?} ({done:?} for each replica): {}",
                report.summary()
            ));
        }
        let pods = self.pods(INSTALLATION).await;
        assert_eq!(
            pods.iter().map(restarts).sum::<u64>(),
            before,
            "a container was killed: {pods:#?}"
        );
        summaries
    }

    /// Address of the node. Connections to pods come from the bridge's address unless they are bound to this one.
    async fn node_address(&self) -> Ipv4Addr {
        let nodes = self.cluster.get("/api/v1/nodes").await.object();
        let addresses = nodes["items"][0]["status"]["addresses"].as_array().cloned();
        let internal = addresses
            .into_iter()
            .flatten()
            .find(|address| address["type"] == "InternalIP");
        let address = internal.expect("an address")["address"]
            .as_str()
            .map(str::to_owned);
        address.expect("a text").parse().expect("an IPv4 address")
    }

    /// CA of the webhook's certificate, as the API server has it.
    async fn ca(&self) -> String {
        use base64::Engine as _;
        let path = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/zz-floe-secrets-webhook";
        let configuration = self.cluster.get(path).await.object();
        let bundle = configuration["webhooks"][0]["clientConfig"]["caBundle"]
            .as_str()
            .expect("a CA")
            .to_owned();
        let pem = base64::engine::general_purpose::STANDARD
            .decode(bundle)
            .expect("base64");
        String::from_utf8(pem).expect("PEM")
    }
}

/// Whether there was a response at all: a flood may be rejected.
async fn attack(address: SocketAddr, ca: &str, hostile: &HostileReview) -> bool {
    let Ok(stream) = connect_tls(address, ca).await else {
        return false;
    };
    send_request(
        stream,
        Method::POST,
        &hostile.path,
        &[],
        hostile.body.clone(),
    )
    .await
    .is_ok()
}

fn ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    pod["metadata"]["deletionTimestamp"].is_null()
        && conditions
            .iter()
            .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

fn restarts(pod: &Value) -> u64 {
    pod["status"]["containerStatuses"][0]["restartCount"]
        .as_u64()
        .unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a cluster: make test-cluster"]
async fn replicas_come_and_go_and_no_create_is_lost() {
    let fixture = Fixture::new().await;
    for replicas in [2, 3] {
        fixture.scale(replicas).await;
        let print_summary = |what: &str, summary: &str| {
            print_line(&format!("{replicas} replicas, {what}: {summary}"));
        };

        let stream = fixture.stream();
        fixture.rolling_restart(replicas).await;
        let report = stream.stop().await;
        print_summary("rolling restart", &report.summary());
        report.injects_all();

        let stream = fixture.stream();
        fixture.end_one(replicas).await;
        let report = stream.stop().await;
        print_summary("SIGTERM", &report.summary());
        report.injects_all();

        let stream = fixture.stream();
        fixture.kill_leader().await;
        let report = stream.stop().await;
        print_summary("leader killed", &report.summary());
        report.injects_all();

        // A request that is cut off is rejected by the API server with an error; later ones are not.
        let stream = fixture.stream();
        let victim = name(&fixture.pods(INSTALLATION).await[0]);
        let before = restarts(&fixture.cluster.get(&pod_path(&victim)).await.object());
        fixture.kill(&victim).await;
        let again = |pod: &Value| (restarts(pod) > before && ready(pod)).then_some(());
        fixture
            .cluster
            .wait(
                "the container runs again",
                WAIT_TIMEOUT,
                &pod_path(&victim),
                again,
            )
            .await;
        let back = Instant::now();
        let report = stream.stop().await;
        print_summary("SIGKILL", &report.summary());
        report.accepts_none_without_secret();
        for (create, sentence) in report.rejected() {
            assert!(
                create.sent < back,
                "refused after the container was back: {sentence}"
            );
            assert!(
                sentence.contains("failed calling webhook"),
                "unclear error: {sentence}"
            );
        }
        let stream = fixture.stream();
        stream.wait_for_responses(200).await;
        let report = stream.stop().await;
        print_summary("afterwards", &report.summary());
        report.injects_all();
    }
    fixture.scale(2).await;
}

/// With the chart's own limits, and with the release image: a debug build takes many times longer for each review.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a cluster: hack/test-cluster.sh hostile"]
async fn hostile_reviews_kill_no_replica_and_refuse_no_create() {
    let fixture = Fixture::new().await;
    for replicas in [2, 3] {
        fixture.scale(replicas).await;
        let (answered, summary) = fixture.injects_under_hostile_reviews().await;
        print_line(&format!(
            "{replicas} replicas, {answered} hostile reviews answered: {summary}"
        ));
    }
    fixture.scale(2).await;
}

/// With the chart's own limits: a thousand connections take no memory beyond them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a cluster: hack/test-cluster.sh floods"]
async fn floods_kill_no_replica_and_refuse_no_create() {
    let fixture = Fixture::new().await;
    for replicas in [2, 3] {
        fixture.scale(replicas).await;
        for summary in fixture.injects_under_floods().await {
            print_line(&format!("{replicas} replicas, {summary}"));
        }
    }
    fixture.scale(2).await;
}
