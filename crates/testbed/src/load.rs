//! Constant load of dry-run creates, and the outcome of each.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http::Method;
use kube::Client;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::MissedTickBehavior;

use super::manifests::{pod, prefixed};
use super::objects::{collection, send};
use super::wait_for;

/// Limit of creates in flight. Beyond it, the generator waits: a machine that cannot keep up is not to be overloaded.
const MAX_IN_FLIGHT: usize = 16;

/// Outcome of a create.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CreateOutcome {
    /// Admitted with its secret.
    Injected,
    /// Admitted without its secret.
    NotInjected,
    /// Error of the API server.
    Rejected(String),
}

#[derive(Debug, Clone)]
pub struct CreateResult {
    /// Time of the request.
    pub sent: Instant,
    /// Time from request to response.
    pub latency: Duration,
    pub outcome: CreateOutcome,
}

/// Creates pods that request a secret, with `dryRun=All`, until it is stopped.
pub struct LoadGenerator {
    stop: Arc<AtomicBool>,
    completed: Arc<AtomicUsize>,
    started: Instant,
    task: JoinHandle<Vec<CreateResult>>,
}

impl LoadGenerator {
    /// Sends `rate` creates per second, each of a pod that requests this Secret of the namespace. The client should be
    /// an ordinary account's: `system:masters` is exempt from flow control.
    pub fn start(client: Client, namespace: &str, secret: &str, rate: u32) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let completed = Arc::new(AtomicUsize::new(0));
        let pod_manifest = Arc::new(pod(
            namespace,
            "asks",
            &prefixed(&json!({"env-from": secret})),
        ));
        let task = tokio::spawn(create_until(
            stop.clone(),
            completed.clone(),
            client,
            pod_manifest,
            secret.to_owned(),
            rate,
        ));
        Self {
            stop,
            completed,
            started: Instant::now(),
            task,
        }
    }

    /// Waits for this many more responses.
    pub async fn wait_for_responses(&self, more: usize) {
        let enough = self.completed.load(Ordering::Relaxed) + more;
        wait_for("creates are answered", || async {
            (self.completed.load(Ordering::Relaxed) >= enough).then_some(())
        })
        .await;
    }

    /// Waits for the responses in flight.
    pub async fn stop(self) -> LoadReport {
        let duration = self.started.elapsed();
        self.stop.store(true, Ordering::Relaxed);
        LoadReport {
            creates: self.task.await.expect("the load generator does not panic"),
            duration,
        }
    }
}

async fn create_until(
    stop: Arc<AtomicBool>,
    completed: Arc<AtomicUsize>,
    client: Client,
    pod_manifest: Arc<Value>,
    secret: String,
    rate: u32,
) -> Vec<CreateResult> {
    let mut tick = tokio::time::interval(Duration::from_secs(1) / rate);
    // Creates that a slow response delayed are sent in a burst, so that the rate is kept on average.
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let permits = Arc::new(Semaphore::new(MAX_IN_FLIGHT));
    let mut in_flight = JoinSet::new();
    let mut done = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        tick.tick().await;
        let permit = permits
            .clone()
            .acquire_owned()
            .await
            .expect("the semaphore is never closed");
        let (client, pod_manifest, secret, completed) = (
            client.clone(),
            pod_manifest.clone(),
            secret.clone(),
            completed.clone(),
        );
        in_flight.spawn(async move {
            let create = create(&client, &pod_manifest, &secret).await;
            completed.fetch_add(1, Ordering::Relaxed);
            drop(permit);
            create
        });
        while let Some(ended) = in_flight.try_join_next() {
            done.push(ended.expect("a create does not panic"));
        }
    }
    done.extend(in_flight.join_all().await);
    done
}

async fn create(client: &Client, pod_manifest: &Value, secret: &str) -> CreateResult {
    let sent = Instant::now();
    let response = send(
        client,
        Method::POST,
        &format!("{}?dryRun=All", collection(pod_manifest)),
        Some(pod_manifest),
    )
    .await;
    let outcome = if !response.is_accepted() {
        CreateOutcome::Rejected(format!("{}: {}", response.status, response.message()))
    } else if response.body["spec"]["containers"][0]["envFrom"][0]["secretRef"]["name"] == secret {
        CreateOutcome::Injected
    } else {
        CreateOutcome::NotInjected
    };
    CreateResult {
        sent,
        latency: sent.elapsed(),
        outcome,
    }
}

/// Results of a load.
#[derive(Debug)]
pub struct LoadReport {
    /// In the order of the responses.
    pub creates: Vec<CreateResult>,
    duration: Duration,
}

impl LoadReport {
    /// Rejected creates, with the error.
    pub fn rejected(&self) -> impl Iterator<Item = (&CreateResult, &str)> {
        self.creates
            .iter()
            .filter_map(|create| match &create.outcome {
                CreateOutcome::Rejected(error) => Some((create, error.as_str())),
                CreateOutcome::Injected | CreateOutcome::NotInjected => None,
            })
    }

    /// Panics unless each create was admitted with its secret.
    #[track_caller]
    pub fn injects_all(&self) {
        self.accepts_none_without_secret();
        let rejected: Vec<_> = self.rejected().map(|(_, error)| error).collect();
        assert!(
            rejected.is_empty(),
            "{} of {} refused: {rejected:#?}",
            rejected.len(),
            self.creates.len()
        );
        assert!(!self.creates.is_empty(), "nothing was created");
    }

    /// Panics if a create was admitted without its secret.
    #[track_caller]
    pub fn accepts_none_without_secret(&self) {
        let not_injected = self
            .creates
            .iter()
            .filter(|create| create.outcome == CreateOutcome::NotInjected)
            .count();
        assert_eq!(not_injected, 0, "admitted without their secret");
    }

    /// Line for a person.
    pub fn summary(&self) -> String {
        let mut latency: Vec<Duration> = self.creates.iter().map(|create| create.latency).collect();
        latency.sort();
        let at = |share: usize| {
            latency
                .get(latency.len() * share / 100)
                .or(latency.last())
                .copied()
                .unwrap_or_default()
        };
        let seconds = self.duration.as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "a printed count")]
        let rate = self.creates.len() as f64 / seconds;
        format!(
            "{} creates in {seconds:.1} s ({rate:.0}/s), {} refused; p50 {:.1?}, p99 {:.1?}, slowest {:.1?}",
            self.creates.len(),
            self.rejected().count(),
            at(50),
            at(99),
            at(100),
        )
    }
}
