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

use super::objects::{collection, send};
use super::served::{pod, prefixed};
use super::wait_for;

/// Limit of creates in flight. Beyond it, the generator waits: a machine that cannot keep up is not to be overloaded.
const IN_FLIGHT: usize = 16;

/// Outcome of a create.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Admitted with its secret.
    Injected,
    /// Admitted without its secret.
    Bare,
    /// Error of the API server.
    Refused(String),
}

#[derive(Debug, Clone)]
pub struct Create {
    /// Time of the request.
    pub sent: Instant,
    /// Time from request to response.
    pub took: Duration,
    pub verdict: Verdict,
}

/// Creates pods that request a secret, with `dryRun=All`, until it is stopped.
pub struct Stream {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    began: Instant,
    task: JoinHandle<Vec<Create>>,
}

impl Stream {
    /// Sends `rate` creates per second, each of a pod that requests this Secret of the namespace. The client should be
    /// an ordinary account's: `system:masters` is exempt from flow control.
    pub fn start(client: Client, namespace: &str, secret: &str, rate: u32) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let answered = Arc::new(AtomicUsize::new(0));
        let asking = Arc::new(pod(
            namespace,
            "asks",
            &prefixed(&json!({"env-from": secret})),
        ));
        let task = tokio::spawn(create_until(
            stop.clone(),
            answered.clone(),
            client,
            asking,
            secret.to_owned(),
            rate,
        ));
        Self {
            stop,
            answered,
            began: Instant::now(),
            task,
        }
    }

    /// Waits for this many more responses.
    pub async fn answers(&self, more: usize) {
        let enough = self.answered.load(Ordering::Relaxed) + more;
        wait_for("creates are answered", || async {
            (self.answered.load(Ordering::Relaxed) >= enough).then_some(())
        })
        .await;
    }

    /// Waits for the responses in flight.
    pub async fn stop(self) -> Report {
        let lasted = self.began.elapsed();
        self.stop.store(true, Ordering::Relaxed);
        Report {
            creates: self.task.await.expect("every create has an answer"),
            lasted,
        }
    }
}

async fn create_until(
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    client: Client,
    asking: Arc<Value>,
    secret: String,
    rate: u32,
) -> Vec<Create> {
    let mut tick = tokio::time::interval(Duration::from_secs(1) / rate);
    // Creates that a slow response delayed are sent in a burst, so that the rate is kept on average.
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let room = Arc::new(Semaphore::new(IN_FLIGHT));
    let mut under_way = JoinSet::new();
    let mut done = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        tick.tick().await;
        let place = room
            .clone()
            .acquire_owned()
            .await
            .expect("it is never closed");
        let (client, asking, secret, answered) = (
            client.clone(),
            asking.clone(),
            secret.clone(),
            answered.clone(),
        );
        under_way.spawn(async move {
            let create = create(&client, &asking, &secret).await;
            answered.fetch_add(1, Ordering::Relaxed);
            drop(place);
            create
        });
        while let Some(ended) = under_way.try_join_next() {
            done.push(ended.expect("a create does not panic"));
        }
    }
    done.extend(under_way.join_all().await);
    done
}

async fn create(client: &Client, asking: &Value, secret: &str) -> Create {
    let sent = Instant::now();
    let answer = send(
        client,
        Method::POST,
        &format!("{}?dryRun=All", collection(asking)),
        Some(asking),
    )
    .await;
    let verdict = if !answer.accepted() {
        Verdict::Refused(format!("{}: {}", answer.status, answer.message()))
    } else if answer.body["spec"]["containers"][0]["envFrom"][0]["secretRef"]["name"] == secret {
        Verdict::Injected
    } else {
        Verdict::Bare
    };
    Create {
        sent,
        took: sent.elapsed(),
        verdict,
    }
}

/// Results of a load.
#[derive(Debug)]
pub struct Report {
    /// In the order of the responses.
    pub creates: Vec<Create>,
    lasted: Duration,
}

impl Report {
    /// Rejected creates, with the error.
    pub fn refused(&self) -> impl Iterator<Item = (&Create, &str)> {
        self.creates
            .iter()
            .filter_map(|create| match &create.verdict {
                Verdict::Refused(sentence) => Some((create, sentence.as_str())),
                Verdict::Injected | Verdict::Bare => None,
            })
    }

    /// Panics unless each create was admitted with its secret.
    #[track_caller]
    pub fn all_injected(&self) {
        self.none_bare();
        let refused: Vec<_> = self.refused().map(|(_, sentence)| sentence).collect();
        assert!(
            refused.is_empty(),
            "{} of {} refused: {refused:#?}",
            refused.len(),
            self.creates.len()
        );
        assert!(!self.creates.is_empty(), "nothing was created");
    }

    /// Panics if a create was admitted without its secret.
    #[track_caller]
    pub fn none_bare(&self) {
        let bare = self
            .creates
            .iter()
            .filter(|create| create.verdict == Verdict::Bare)
            .count();
        assert_eq!(bare, 0, "admitted without their secret");
    }

    /// Line for a person.
    pub fn summary(&self) -> String {
        let mut took: Vec<Duration> = self.creates.iter().map(|create| create.took).collect();
        took.sort();
        let at = |share: usize| {
            took.get(took.len() * share / 100)
                .or(took.last())
                .copied()
                .unwrap_or_default()
        };
        let seconds = self.lasted.as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "a count for a person")]
        let rate = self.creates.len() as f64 / seconds;
        format!(
            "{} creates in {seconds:.1} s ({rate:.0}/s), {} refused; p50 {:.1?}, p99 {:.1?}, slowest {:.1?}",
            self.creates.len(),
            self.refused().count(),
            at(50),
            at(99),
            at(100),
        )
    }
}
