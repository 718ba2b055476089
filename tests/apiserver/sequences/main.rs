//! Random sequences of changes by users to a workload: apply, server-side apply by two managers, replace, annotate,
//! undo, restart, set image, move, remove, adopt. After each step, the next pod gets exactly what the nearest
//! annotation in the stored object requests, and no author's statement is lost.

#![cfg(feature = "test-util")]
#![expect(clippy::indexing_slicing, reason = "a failing helper fails its test")]

mod apply;
mod author;
mod check;
mod facts;
mod live;
mod regressions;
mod simulated;

use std::fmt::Write as _;

use author::{Author, KINDS, Manifest, Step};
use check::{ApiServer, Checker};
use fastrand::Rng;
use futures::StreamExt as _;
use live::{Fixture, Live};
use regressions::Known;
use simulated::{Simulated, Webhook};
use testbed::control_plane::ControlPlane;

/// Steps of one sequence, without its creation.
const STEPS: usize = 7;
/// Sequences on the real API server at a time.
const MAX_CONCURRENT: usize = 8;

/// One sequence by its seed.
struct Sequence {
    kind: &'static str,
    /// Whether an earlier version wrote the workload.
    older: bool,
    manifest: Manifest,
    author: Author,
    /// Steps so far, for the message of a failure.
    done: String,
}

impl Sequence {
    fn new(seed: u64) -> Self {
        let mut random = Rng::with_seed(seed);
        let (kind, _) = KINDS[random.usize(..KINDS.len())];
        let older = random.u8(..100) < 20;
        let mut author = Author::new(random, kind);
        let manifest = author.manifest();
        let done = format!(
            "seed {seed}: {kind} {}{manifest:?}\n",
            if older { "of an earlier version " } else { "" }
        );
        Self {
            kind,
            older,
            manifest,
            author,
            done,
        }
    }

    /// Applies the steps; returns their number, or the violated invariant.
    async fn apply_step(
        mut self,
        api_server: &mut impl ApiServer,
        checker: &mut Checker,
    ) -> Result<usize, String> {
        for taken in 0..STEPS {
            let step = self
                .author
                .step(&checker.latest, &checker.claims, checker.revisions.len());
            writeln!(self.done, "{step:?}").ok();
            let before = api_server.object().await;
            match checker.step(api_server, &step).await {
                Ok(()) => {}
                // Two references for one variable: rejected, and the sequence ends.
                Err(problem) if problem.starts_with("refused") => return Ok(taken),
                Err(problem) => {
                    let after = api_server.object().await;
                    return Err(format!(
                        "{}{problem}\nbefore {before}\nafter {after}",
                        self.done
                    ));
                }
            }
        }
        Ok(STEPS)
    }
}

async fn simulated(webhook: &Webhook, seed: u64) -> Result<usize, String> {
    let sequence = Sequence::new(seed);
    let created = Simulated::create(webhook, sequence.kind, &sequence.manifest).await;
    let Ok((mut api_server, mut checker)) = created else {
        return Ok(0);
    };
    if sequence.older {
        api_server.make_older();
        checker.revisions.clear();
    }
    sequence.apply_step(&mut api_server, &mut checker).await
}

async fn real(fixture: &Fixture, seed: u64) -> Result<usize, String> {
    let sequence = Sequence::new(seed);
    match Live::create(
        fixture,
        sequence.kind,
        &format!("w{seed}"),
        &sequence.manifest,
    )
    .await
    {
        Ok((mut api_server, mut checker)) => {
            sequence.apply_step(&mut api_server, &mut checker).await
        }
        Err(problem) if problem.starts_with("refused") => Ok(0),
        Err(problem) => Err(problem),
    }
}

/// Installs the kind once for all tests.
async fn rollouts(cp: &ControlPlane) {
    static INSTALLED: tokio::sync::OnceCell<()> = tokio::sync::OnceCell::const_new();
    INSTALLED.get_or_init(|| cp.install_rollouts()).await;
}

/// Webhook of a sequence: every fourth also injects into templates.
fn webhook_of(seed: u64) -> usize {
    usize::from(seed % 4 == 3)
}

/// Number of sequences in a run.
#[expect(
    clippy::disallowed_methods,
    reason = "the environment sets the number of sequences"
)]
fn count(variable: &str, default: u64) -> u64 {
    std::env::var(variable)
        .ok()
        .and_then(|count| count.parse().ok())
        .unwrap_or(default)
}

/// Applies the steps of a sequence; none of them may be rejected.
async fn apply_known(
    name: &str,
    steps: Vec<Step>,
    api_server: &mut impl ApiServer,
    checker: &mut Checker,
) {
    for step in steps {
        let taken = checker.step(api_server, &step).await;
        assert_eq!(
            taken,
            Ok(()),
            "{name}: {step:?}\n{}",
            api_server.object().await
        );
    }
}

#[tokio::test]
async fn known_sequences_lose_nothing_and_keep_nothing() {
    for webhook in [Webhook::new(false), Webhook::new(true)] {
        for Known {
            name,
            kind,
            manifest,
            steps,
        } in regressions::all()
        {
            let created = Simulated::create(&webhook, kind, &manifest).await;
            let (mut api_server, mut checker) =
                created.unwrap_or_else(|problem| panic!("{name}: {problem}"));
            apply_known(name, steps, &mut api_server, &mut checker).await;
        }
    }
}

#[tokio::test]
async fn simulated_sequences_lose_no_secret_and_no_author_field() {
    let webhooks = [Webhook::new(false), Webhook::new(true)];
    let (count, mut taken) = (count("SEQUENCES", 500), 0);
    for seed in 0..count {
        taken += simulated(&webhooks[webhook_of(seed)], seed)
            .await
            .unwrap_or_else(|problem| panic!("{problem}"));
    }
    assert!(
        taken as u64 > count * 3,
        "most steps are taken: {taken} in {count} sequences"
    );
}

#[tokio::test]
async fn api_server_sequences_lose_no_secret_and_no_author_field() {
    let cp = ControlPlane::shared().await;
    rollouts(cp).await;
    let beds = [
        Fixture::new(cp, "pods", &[]).await,
        Fixture::new(cp, "templates", &["--workloads-inject-template"]).await,
    ];
    let count = count("LIVE_SEQUENCES", 40);
    let start = std::time::Instant::now();
    for (
        number,
        Known {
            name,
            kind,
            manifest,
            steps,
        },
    ) in regressions::all().into_iter().enumerate()
    {
        for fixture in &beds {
            let created = Live::create(fixture, kind, &format!("known{number}"), &manifest).await;
            let (mut api_server, mut checker) =
                created.unwrap_or_else(|problem| panic!("{name}: {problem}"));
            apply_known(name, steps.clone(), &mut api_server, &mut checker).await;
        }
    }
    let all = futures::stream::iter(0..count).map(|seed| real(&beds[webhook_of(seed)], seed));
    let taken: Vec<Result<usize, String>> = all.buffer_unordered(MAX_CONCURRENT).collect().await;
    let problems: Vec<&String> = taken
        .iter()
        .filter_map(|taken| taken.as_ref().err())
        .collect();
    let taken: usize = taken.iter().flatten().sum();
    println!(
        "{count} sequences, {taken} steps in {:?}, {} problems",
        start.elapsed(),
        problems.len()
    );
    assert!(
        problems.is_empty(),
        "{} of {count}:\n{}",
        problems.len(),
        problems
            .iter()
            .map(|p| p.as_str())
            .collect::<Vec<_>>()
            .join("\n\n")
    );
    assert!(
        taken as u64 > count * 3,
        "most steps are taken: {taken} in {count} sequences"
    );
}
