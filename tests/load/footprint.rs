//! Resident memory and the time from start to ready, in an empty cluster and in one of 20,000 Secrets of 10 kB and
//! 5,000 pods: neither `serve` nor `controller` may grow with the cluster.
//!
//! Takes minutes and is meaningful for the release binary alone: `make footprint` builds and sets that one.

#![expect(
    clippy::indexing_slicing,
    reason = "serde_json values are indexed; a panic fails the test"
)]

use std::time::{Duration, Instant};

use futures::stream::{self, StreamExt};
use http::Method;
use kube::Client;
use serde_json::{Value, json};
use testbed::control_plane::{ControlPlane, Options};
use testbed::manifests::{pod, prefixed};
use testbed::namespace::{Identity, TestNamespace};
use testbed::objects::{collection, send};
use testbed::webhook::{Registration, controller_identity, webhook_identity};
use testbed::webhook_process::{Launch, WebhookProcess};
use testbed::{print_line, wait_within};

const SECRETS: usize = 20_000;
const SECRET_BYTES: usize = 10_000;
const PODS: usize = 5_000;
const NAMESPACES: usize = 20;
/// Limit of concurrent creates, here and in the load.
const MAX_CONCURRENT: usize = 64;
const CREATES: usize = 2_000;
const START_COUNT: usize = 5;

/// Budget in KiB: idle, and the peak under load.
const MAX_IDLE: u64 = 20 << 10;
const MAX_LOADED: u64 = 64 << 10;

/// Measurements, in KiB and time.
#[derive(Clone, Copy)]
struct Measurements {
    ready: Duration,
    idle: u64,
    loaded: u64,
    most: u64,
    controller: u64,
}

impl Measurements {
    fn print(&self, cluster: &str) {
        let mib = |kib: u64| format!("{}.{} MiB", kib >> 10, (kib & 1023) * 10 / 1024);
        print_line(&format!(
            "{cluster}: serve ready after {:.0?} (median of {START_COUNT}), idle {}, after {CREATES} creates {MAX_CONCURRENT} at a \
             time {} (most {}); controller after its drift scan, most {}",
            self.ready,
            mib(self.idle),
            mib(self.loaded),
            mib(self.most),
            mib(self.controller),
        ));
    }
}

struct Fixture {
    cp: ControlPlane,
    jobs: TestNamespace,
    loader: Identity,
    webhook: Identity,
    controller: Identity,
}

impl Fixture {
    async fn new() -> Self {
        let cp = ControlPlane::start(Options {
            controller_manager: false,
            ..Options::default()
        })
        .await;
        let (webhook, controller) = (webhook_identity(&cp).await, controller_identity(&cp).await);
        let jobs = cp.namespace("jobs").await;
        for number in 0..100 {
            cp.secret(
                &jobs.name,
                &format!("db-{number}"),
                &["user", "password"],
                "v",
            )
            .await;
        }
        let rules = json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["create"]}]);
        let loader = cp.service_account(&jobs.name, "loader", &rules).await;
        Self {
            cp,
            jobs,
            loader,
            webhook,
            controller,
        }
    }

    async fn measure(&self) -> Measurements {
        let mut starts = Vec::new();
        let mut running: Option<WebhookProcess> = None;
        for _ in 0..START_COUNT {
            drop(running.take());
            let began = Instant::now();
            let webhook = Launch::serve(&self.cp, &self.webhook).start().await;
            starts.push(began.elapsed());
            running = Some(webhook);
        }
        starts.sort();
        let webhook = running.expect("it was started");
        let (idle, _) = webhook.memory();
        {
            let _registered =
                Registration::exclusive(&self.cp, &webhook.service_configuration()).await;
            self.load().await;
        }
        let (loaded, most) = webhook.memory();
        let controller = Launch::controller(&self.cp, &self.controller)
            .with(&["--drift-interval", "1h"])
            .start()
            .await;
        wait_within(Duration::from_mins(3), "the first drift scan", || async {
            (controller.counter_value("drift_scans", &[]) > 0).then_some(())
        })
        .await;
        let (_, controller) = controller.memory();
        Measurements {
            ready: starts[START_COUNT / 2],
            idle,
            loaded,
            most,
            controller,
        }
    }

    /// Each pod requests one of a hundred Secrets.
    async fn load(&self) {
        let client = self.loader.client();
        let creates = stream::iter(0..CREATES).map(|number| {
            let secret = format!("db-{}", number % 100);
            let asking = pod(
                &self.jobs.name,
                "asks",
                &prefixed(&json!({"env-from": secret})),
            );
            let client = client.clone();
            async move {
                let path = format!("{}?dryRun=All", collection(&asking));
                let admitted = send(&client, Method::POST, &path, Some(&asking))
                    .await
                    .object();
                assert_eq!(
                    admitted["spec"]["containers"][0]["envFrom"][0]["secretRef"]["name"],
                    secret
                );
            }
        });
        creates
            .buffer_unordered(MAX_CONCURRENT)
            .collect::<()>()
            .await;
    }

    /// Fills the cluster; the namespaces end with the control plane.
    async fn fill(&self) {
        let mut namespaces = Vec::new();
        for _ in 0..NAMESPACES {
            namespaces.push(self.cp.namespace("crowd").await);
        }
        let bulk = "x".repeat(SECRET_BYTES);
        let client = self.cp.client();
        let create = |object: Value| create(&client, object);
        let secrets = (0..SECRETS).map(|number| {
            let metadata = namespaces[number % NAMESPACES].named(&format!("secret-{number}"));
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"bulk": bulk}})
        });
        stream::iter(secrets.map(create))
            .buffer_unordered(MAX_CONCURRENT)
            .collect::<()>()
            .await;
        let pods = (0..PODS).map(|number| {
            pod(
                &namespaces[number % NAMESPACES].name,
                &format!("pod-{number}"),
                &json!({"team": "other"}),
            )
        });
        stream::iter(pods.map(create))
            .buffer_unordered(MAX_CONCURRENT)
            .collect::<()>()
            .await;
        // Not deleted one by one.
        namespaces.into_iter().for_each(std::mem::forget);
    }
}

async fn create(client: &Client, object: Value) {
    send(client, Method::POST, &collection(&object), Some(&object))
        .await
        .object();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes and needs the release binary: make footprint"]
async fn memory_is_independent_of_cluster_size() {
    let fixture = Fixture::new().await;
    let empty = fixture.measure().await;
    empty.print("an empty cluster");
    let began = Instant::now();
    fixture.fill().await;
    print_line(&format!(
        "{SECRETS} Secrets of {SECRET_BYTES} bytes and {PODS} pods made in {:.0?}",
        began.elapsed()
    ));
    let full = fixture.measure().await;
    full.print("a full cluster");
    for figures in [empty, full] {
        assert!(
            figures.idle <= MAX_IDLE && figures.most <= MAX_LOADED,
            "over the budget of {MAX_IDLE} and {MAX_LOADED} KiB"
        );
    }
    for (what, before, after) in [
        ("serve, idle", empty.idle, full.idle),
        ("serve, loaded", empty.most, full.most),
        ("controller", empty.controller, full.controller),
    ] {
        // One page of a scan, and fluctuations of the allocator; the Secrets alone are 200 MB.
        assert!(
            after <= before + (16 << 10),
            "{what}: {before} KiB in an empty cluster, {after} KiB in a full one"
        );
    }
}
