//! Memory of `admin`: a process on a real API server that takes lines of two replicas over TLS.

use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use floe_secrets_webhook::audit::delivery::{BatchHead, PATH, ReplicaState};
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use jiff::{SignedDuration, Timestamp};
use testbed::admission_client::connect_tls;
use testbed::control_plane::ControlPlane;
use testbed::print_line;
use testbed::trail::{ReplicaPod, Trail, admin_identity};
use testbed::webhook::SERVICE_HOST;
use testbed::webhook_process::Launch;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::records::{Cluster, MadeBatch};
use super::report::memory;

/// Lines of a batch, and its interval for each of two replicas: 1,000 lines a second.
const LINES: u64 = 50;
const INTERVAL: Duration = Duration::from_millis(50);

/// Time in which lines are sent.
const SENDING: Duration = Duration::from_mins(1);

/// Time after which `admin` is idle.
const SETTLING: Duration = Duration::from_secs(15);

/// Promised memory in KiB: idle, and while lines are sent.
const PROMISE: (u64, u64) = (48 << 10, 128 << 10);

/// Connection of a replica to the collector.
struct Sender {
    pod: ReplicaPod,
    token: String,
    requests: SendRequest<Full<Bytes>>,
}

/// Measures `admin` with this store, which is created if it does not exist. Returns the promises that are not kept.
pub async fn measure(cp: &'static ControlPlane, store: &Path, state: &str) -> Vec<String> {
    let path = store.display().to_string();
    let launch = Launch::admin(cp, &admin_identity(cp).await).set("--store", &path);
    let trail = Trail::start_with(cp, launch).await;
    let pid = trail.admin.pid().to_string();
    sleep(SETTLING).await;
    let [idle, ..] = report(&pid, &format!("{state}, idle"));

    let pods = [ReplicaPod::create(cp).await, ReplicaPod::create(cp).await];
    let names = pods.iter().map(|pod| (pod.name.clone(), pod.uid.clone()));
    let step = SignedDuration::from_millis(1);
    let mut cluster = Cluster::of_pods(names.collect(), Timestamp::now(), step);
    let [first, second] = pods;
    let mut senders = [
        Sender::connect(&trail, first).await,
        Sender::connect(&trail, second).await,
    ];
    let mut tick = interval(INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let batches = SENDING.as_millis() / INTERVAL.as_millis();
    let mut peak = 0;
    for number in 0..batches {
        tick.tick().await;
        let batch = cluster.batch(LINES);
        let chain = batch.batch.chain().as_str();
        let sender = senders.iter_mut();
        let mut sender = sender.filter(|sender| chain.starts_with(&sender.pod.uid));
        sender.next().expect("a sender").send(&batch).await;
        if number % 20 == 0 {
            let [now, ..] = memory(&pid);
            peak = peak.max(now);
        }
    }
    let [_, high, _] = report(&pid, &format!("{state}, 1,000 lines/s, most {peak} KiB"));
    sleep(SETTLING).await;
    report(&pid, &format!("{state}, idle again"));
    trail.admin.stop().await;
    let promises = [
        (idle, PROMISE.0, "idle"),
        (high, PROMISE.1, "at 1,000 lines/s"),
    ];
    let broken = promises.iter().filter(|(found, most, _)| found > most);
    broken
        .map(|(found, _, when)| format!("{found} KiB {when}, {state}"))
        .collect()
}

fn report(pid: &str, when: &str) -> [u64; 3] {
    let figures = memory(pid);
    let [now, high, anonymous] = figures;
    print_line(&format!(
        "memory of admin, {when}: {now} KiB, {anonymous} of them not of files; highest {high} KiB"
    ));
    figures
}

impl Sender {
    async fn connect(trail: &Trail, pod: ReplicaPod) -> Self {
        let launch = &trail.admin.launch;
        let address = (Ipv4Addr::LOCALHOST, launch.port).into();
        let ca = trail.cp.authority.pem();
        let stream = connect_tls(address, &ca).await.expect("a connection");
        let (requests, connection) = handshake(TokioIo::new(stream)).await.expect("HTTP");
        tokio::spawn(connection);
        let token = pod.token(trail.cp).await;
        Self {
            pod,
            token,
            requests,
        }
    }

    /// Sends a batch, and waits until it is durable.
    async fn send(&mut self, batch: &MadeBatch) {
        let head = BatchHead {
            chain: batch.batch.chain().clone(),
            lost_before: false,
            replica: ReplicaState {
                pod: self.pod.name.clone(),
                ..ReplicaState::default()
            },
        };
        let mut body = head.to_line();
        body.extend_from_slice(batch.text.as_bytes());
        let request = Request::builder()
            .method(Method::POST)
            .uri(PATH)
            .header("host", SERVICE_HOST)
            .header("authorization", format!("Bearer {}", self.token))
            .body(Full::new(Bytes::from(body)));
        let request = request.expect("a request");
        self.requests.ready().await.expect("a connection");
        let response = self.requests.send_request(request).await;
        let response = response.expect("a response");
        let status = response.status();
        let body = response.into_body().collect().await.expect("a body");
        assert_eq!(status, 200, "{:?}", body.to_bytes());
    }
}
