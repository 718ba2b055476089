mod collector;

use std::io::{self, BufRead as _, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::Instant;

use futures::future::join_all;
use jiff::Timestamp;
use rstest::rstest;
use serde_json::json;
use tempfile::TempDir;
use testbed::pki::Authority;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use self::collector::{CollectorState, Reply, ScriptedCollector, rejection};
use super::*;
use crate::audit::delivery::{MAX_RESPONSE, Rejection, ReplicaState};
use crate::audit::digest::Digest;
use crate::audit::link::ChainId;
use crate::audit::record::{Action, Class, Record, RecordOutcome, Service};
use crate::audit::target::TargetSecret;
use crate::audit::text::Text;
use crate::audit::verify::{TrailFindingKind, TrailReport, Verdict, VerifyOptions, verify};
use crate::clock::Clock;
use crate::recorder::spool::{MAX_SEGMENT_BYTES, MAX_SPOOL_BYTES, Spool};
use crate::recorder::{Recorded, RecorderSettings};
use crate::telemetry::metrics::registry;

/// Deadline of what a test waits for.
const DEADLINE: Duration = Duration::from_mins(1);

const TOKEN: &str = "c4n4ry.t0ken.value";

/// Output that a test reads later.
#[derive(Clone, Default)]
struct SharedOut(Arc<Mutex<Vec<u8>>>);

impl Write for SharedOut {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl SharedOut {
    fn lines(&self) -> Vec<String> {
        let bytes = self.0.lock().unwrap().clone();
        let text = String::from_utf8(bytes).unwrap();
        text.lines().map(str::to_owned).collect()
    }
}

/// Recorder that ships to a collector.
struct Fixture {
    folder: TempDir,
    authority: Authority,
    collector: ScriptedCollector,
    recorder: AuditRecorder,
    shipping: Shipping,
    registry: Registry,
    _task: JoinHandle<()>,
}

fn settings(chain: &str) -> RecorderSettings {
    RecorderSettings {
        cluster: Text::new("prod"),
        service: Service {
            name: "serve",
            replica: Text::new("pod-1"),
            version: "0.1.0",
        },
        chain: ChainId::parse(chain).unwrap(),
    }
}

fn replica() -> Arc<ReadReplica> {
    Arc::new(|| ReplicaState {
        pod: "pod-1".to_owned(),
        admissions: 7,
        ..ReplicaState::default()
    })
}

impl Fixture {
    async fn start() -> Self {
        Self::start_with(
            "pod-1/1",
            tempfile::tempdir().unwrap(),
            io::sink(),
            Clock::system(),
        )
        .await
    }

    async fn start_with(
        chain: &str,
        folder: TempDir,
        out: impl Write + Send + 'static,
        clock: Clock,
    ) -> Self {
        let authority = Authority::new("collector CA");
        let collector = ScriptedCollector::start(&authority.server(&["127.0.0.1"])).await;
        std::fs::write(folder.path().join("ca.crt"), authority.pem()).unwrap();
        std::fs::write(folder.path().join("token"), format!("{TOKEN}\n")).unwrap();
        let spool = folder.path().join("spool");
        let mut registry = registry();
        let recorder = AuditRecorder::start_with_spool(
            settings(chain),
            Some(spool),
            out,
            clock,
            &mut registry,
        );
        let recorder = recorder.unwrap();
        let url = format!("https://127.0.0.1:{}", collector.port);
        let settings = ShippingSettings {
            collector: url.parse().unwrap(),
            ca: folder.path().join("ca.crt"),
            token: folder.path().join("token"),
        };
        let (shipping, task) = recorder.ship(settings, replica(), &mut registry);
        Self {
            folder,
            authority,
            collector,
            recorder,
            shipping,
            registry,
            _task: tokio::spawn(task),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn state(&self) -> std::sync::MutexGuard<'_, CollectorState> {
        self.collector.state()
    }

    async fn record(&self, count: usize) -> Vec<Recorded> {
        let records = (0..count).map(|_| self.recorder.record(admission(&self.recorder)));
        join_all(records).await
    }

    /// Sum of a metric over its labels, or of one of them.
    fn metric(&self, name: &str) -> u64 {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        let prefix = format!("floe_secrets_webhook_{name}");
        let values = text.lines().filter_map(|line| {
            let value = line.strip_prefix(&prefix)?;
            value.rsplit_once(' ')?.1.parse::<u64>().ok()
        });
        values.sum()
    }

    fn failures(&self, reason: &str) -> u64 {
        self.metric(&format!(
            "audit_shipping_failures_total{{reason=\"{reason}\"}}"
        ))
    }

    async fn until(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + DEADLINE;
        while !condition(self) {
            assert!(
                Instant::now() < deadline,
                "{what}: {:?}",
                self.state().heads.last()
            );
            sleep(Duration::from_millis(5)).await;
        }
    }

    async fn until_shipped(&self) {
        self.until("the spool is shipped", |fixture| {
            fixture.metric("audit_unshipped_lines") == 0 && fixture.state().lines().next().is_some()
        })
        .await;
    }

    /// Ends the recorder, and ships the rest.
    async fn finish(&self) {
        self.recorder.stop(DEADLINE).await;
        self.shipping.finish(DEADLINE).await;
    }
}

/// Lets time pass for timers alone.
async fn advance(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

/// Admission of a pod.
fn admission(recorder: &AuditRecorder) -> Record {
    let emitter = recorder.emitter();
    let mut record = emitter.record(Class::Injection, Action::AdmitPod, RecordOutcome::Success);
    record.decision = "injected";
    record
}

/// Admission whose line is nearly as long as a line may be.
fn large_admission(recorder: &AuditRecorder) -> Record {
    let mut record = admission(recorder);
    let target = |n: usize| TargetSecret {
        backend: Text::new("kubernetes"),
        name: Text::new(&format!("{n:060}")),
        namespace: Text::new("n"),
        origin: "pod",
    };
    record.targets = (0..50).map(target).collect();
    record
}

fn verified(lines: &[String]) -> TrailReport {
    verify(lines, VerifyOptions::default())
}

/// Admissions, and records that gap records report.
fn accounted<'a>(lines: impl IntoIterator<Item = &'a str>) -> (u64, u64) {
    let count = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        match line["action"].as_str() {
            Some("pod.admit") => (1, 0),
            Some("system.gap") => (0, line["gap"]["count"].as_u64().unwrap()),
            _ => (0, 0),
        }
    };
    let counts = lines.into_iter().map(count);
    counts.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
}

#[tokio::test]
async fn lines_are_shipped_in_order_as_they_were_written() {
    let out = SharedOut::default();
    let folder = tempfile::tempdir().unwrap();
    let fixture = Fixture::start_with("pod-1/1", folder, out.clone(), Clock::system()).await;
    for _ in 0..4 {
        fixture.record(500).await;
    }
    fixture.finish().await;
    let stored: Vec<String> = fixture
        .state()
        .lines()
        .map(|line| line.json.clone())
        .collect();
    assert_eq!(stored, out.lines());
    assert_eq!(stored.len(), 2_002);
    assert!(stored[2_001].contains("system.stop"));
    let report = verified(&stored);
    assert_eq!(report.verdict(), Verdict::Intact, "{report:?}");
    assert_eq!(fixture.metric("audit_shipped_lines_total"), 2_002);
    assert_eq!(fixture.metric("audit_unshipped_lines"), 0);
    assert_eq!(fixture.metric("audit_oldest_unshipped_seconds"), 0);
    assert_eq!(fixture.metric("audit_shipping_failures_total"), 0);
    assert!(fixture.state().largest <= BATCH_BYTES);
    let state = fixture.state();
    let head = state.heads.last().unwrap();
    assert_eq!(
        (head.replica.pod.as_str(), head.replica.admissions),
        ("pod-1", 7)
    );
    assert!(head.replica.unshipped > 0);
    let authorizations = state.authorizations.iter();
    assert!(authorizations.eq(vec![&format!("Bearer {TOKEN}"); state.heads.len()]));
}

#[rstest]
#[case(rejection(Rejection::Unauthenticated, None), "unauthenticated")]
#[case(rejection(Rejection::Forbidden, None), "forbidden")]
#[case(rejection(Rejection::InvalidBatch, None), "invalid_batch")]
#[case(rejection(Rejection::TooLarge, None), "invalid_batch")]
#[case(rejection(Rejection::Unavailable, None), "unavailable")]
#[case(rejection(Rejection::OutOfOrder, None), "invalid_response")]
#[case(rejection(Rejection::OutOfOrder, Some(7)), "invalid_response")]
#[case(Reply::Http(200, "{\"durable\":0}".to_owned()), "invalid_response")]
#[case(Reply::Http(200, "garbage".to_owned()), "invalid_response")]
#[case(Reply::Http(200, "x".repeat(10 << 20)), "invalid_response")]
#[case(Reply::Http(500, "<html>".to_owned()), "invalid_response")]
#[case(Reply::Http(403, "{\"reason\":\"unavailable\",\"message\":\"\"}".to_owned()), "invalid_response")]
#[case(Reply::Redirect("https://127.0.0.1:1/v1/lines".to_owned()), "invalid_response")]
#[case(Reply::Bytes(vec![b'x'; 100_000]), "invalid_response")]
#[case(Reply::Torn, "connection")]
#[case(Reply::Close, "connection")]
#[tokio::test]
async fn failed_batch_is_sent_again(#[case] reply: Reply, #[case] reason: &str) {
    let fixture = Fixture::start().await;
    fixture.state().script = vec![reply.clone(), reply].into();
    fixture.record(10).await;
    fixture.finish().await;
    assert_eq!(fixture.failures(reason), 2);
    assert_eq!(fixture.metric("audit_shipping_failures_total"), 2);
    assert_eq!(
        accounted(fixture.state().lines().map(|line| &*line.json)),
        (10, 0)
    );
    assert_eq!(fixture.metric("audit_unshippable_lines_total"), 0);
}

#[tokio::test]
async fn collector_that_never_responds_is_given_up() {
    let fixture = Fixture::start().await;
    fixture.state().script = vec![Reply::Never].into();
    fixture.record(10).await;
    fixture
        .until("a request", |fixture| !fixture.state().heads.is_empty())
        .await;
    assert_eq!(fixture.failures("timeout"), 0);
    advance(RESPONSE_TIMEOUT).await;
    fixture
        .until("a failure", |fixture| fixture.failures("timeout") == 1)
        .await;
    fixture.finish().await;
    assert_eq!(
        accounted(fixture.state().lines().map(|line| &*line.json)),
        (10, 0)
    );
}

#[tokio::test]
async fn collector_that_is_away_is_found_again() {
    let fixture = Fixture::start().await;
    fixture.state().always = Some(Reply::Close);
    fixture.record(10).await;
    fixture
        .until("failures", |fixture| fixture.failures("connection") >= 3)
        .await;
    assert_eq!(fixture.metric("audit_unshipped_lines"), 11);
    fixture.state().always = None;
    fixture.until_shipped().await;
    assert_eq!(
        accounted(fixture.state().lines().map(|line| &*line.json)),
        (10, 0)
    );
}

#[rstest]
#[case::silent(Reply::Never)]
#[case::closing(Reply::Close)]
#[tokio::test]
async fn end_waits_for_an_absent_collector_no_longer_than_its_limit(#[case] reply: Reply) {
    let fixture = Fixture::start().await;
    fixture.state().always = Some(reply);
    fixture.record(3).await;
    fixture
        .until("a request", |fixture| !fixture.state().heads.is_empty())
        .await;
    fixture.recorder.stop(DEADLINE).await;
    tokio::time::pause();
    let limit = Duration::from_secs(10);
    let started = tokio::time::Instant::now();
    fixture.shipping.finish(limit).await;
    let took = started.elapsed();
    assert!(
        took >= limit && took < limit + Duration::from_secs(1),
        "{took:?}"
    );
    // The start, three admissions and the stop are in the spool.
    assert_eq!(fixture.metric("audit_unshipped_lines"), 5);
}

#[tokio::test]
async fn state_is_sent_without_lines() {
    let fixture = Fixture::start().await;
    fixture.until_shipped().await;
    let before = fixture.state().heads.len();
    for count in 1..=3 {
        advance(STATE_INTERVAL).await;
        fixture
            .until("a state", |fixture| {
                fixture.state().heads.len() == before + count
            })
            .await;
    }
    let state = fixture.state();
    let head = state.heads.last().unwrap();
    assert_eq!(
        (head.chain.as_str(), head.replica.unshipped),
        ("pod-1/1", 0)
    );
}

#[tokio::test]
async fn lines_that_the_collector_has_lost_are_sent_again() {
    let fixture = Fixture::start().await;
    fixture.record(10).await;
    fixture.until_shipped().await;
    fixture
        .state()
        .chains
        .get_mut("pod-1/1")
        .unwrap()
        .retain(|seq, _| *seq <= 4);
    fixture.record(10).await;
    fixture.finish().await;
    assert!(fixture.failures("out_of_order") >= 1);
    assert_eq!(
        accounted(fixture.state().lines().map(|line| &*line.json)),
        (20, 0)
    );
    assert_eq!(fixture.metric("audit_unshippable_lines_total"), 0);
    assert_eq!(fixture.metric("audit_unshipped_lines"), 0);
}

#[tokio::test]
async fn lines_that_are_nowhere_are_declared_lost() {
    let folder = tempfile::tempdir().unwrap();
    // The spool cannot be opened, because a file has its name.
    std::fs::write(folder.path().join("spool"), "").unwrap();
    let out = SharedOut::default();
    let fixture = Fixture::start_with("pod-1/1", folder, out.clone(), Clock::system()).await;
    let results = fixture.record(10).await;
    assert!(!results.contains(&Recorded::Written), "{results:?}");
    fixture
        .until("lost records", |fixture| {
            fixture.metric("audit_records_dropped_total") == 10
        })
        .await;
    std::fs::remove_file(fixture.path("spool")).unwrap();
    fixture
        .until("a gap record", |fixture| {
            fixture.state().lines().next().is_some()
        })
        .await;
    let results = fixture.record(10).await;
    assert!(!results.contains(&Recorded::Dropped), "{results:?}");
    fixture.finish().await;
    assert_eq!(
        accounted(fixture.state().lines().map(|line| &*line.json)),
        (10, 10)
    );
    assert!(fixture.state().heads.iter().any(|head| head.lost_before));
    let reason = "audit_unshippable_lines_total{reason=\"not_in_spool\"}";
    assert_eq!(fixture.metric(reason), 11);
    // Standard output has them, in the same chain.
    let lines = out.lines();
    assert_eq!(accounted(lines.iter().map(String::as_str)), (20, 10));
    assert_eq!(verified(&lines).verdict(), Verdict::Intact);
}

#[tokio::test]
async fn chain_with_a_second_history_is_set_aside() {
    let fixture = Fixture::start().await;
    fixture.state().script = vec![rejection(Rejection::SecondHistory, None)].into();
    fixture.record(10).await;
    let reason = "audit_unshippable_lines_total{reason=\"second_history\"}";
    fixture
        .until("lines are skipped", |fixture| fixture.metric(reason) == 11)
        .await;
    fixture.record(10).await;
    fixture.finish().await;
    assert_eq!(fixture.failures("second_history"), 1);
    assert_eq!(fixture.metric(reason), 22);
    assert_eq!(fixture.state().lines().count(), 0);
    assert_eq!(fixture.metric("audit_unshipped_lines"), 0);
}

#[tokio::test]
async fn certificate_of_another_ca_is_rejected_until_the_file_is_replaced() {
    let fixture = Fixture::start().await;
    let other = Authority::new("another CA");
    fixture
        .collector
        .replace_certificate(&other.server(&["127.0.0.1"]));
    fixture.record(10).await;
    fixture
        .until("failures", |fixture| fixture.failures("tls") >= 2)
        .await;
    assert_eq!(fixture.state().heads.len(), 0);
    std::fs::write(fixture.path("ca.crt"), other.pem()).unwrap();
    fixture.until_shipped().await;
    // The name is checked, too.
    fixture
        .collector
        .replace_certificate(&other.server(&["localhost"]));
    fixture.state().script = vec![Reply::Close].into();
    let before = fixture.failures("tls");
    fixture.record(1).await;
    fixture
        .until("failures", |fixture| fixture.failures("tls") > before)
        .await;
    for unusable in ["", "garbage", &fixture.authority.pem().replace('M', "?")] {
        std::fs::write(fixture.path("ca.crt"), unusable).unwrap();
        let before = fixture.failures("credentials");
        fixture
            .until("failures", |fixture| {
                fixture.failures("credentials") > before
            })
            .await;
    }
}

#[tokio::test]
async fn replaced_token_is_used() {
    let fixture = Fixture::start().await;
    fixture.state().token = "second".to_owned();
    fixture.record(10).await;
    fixture
        .until("failures", |fixture| {
            fixture.failures("unauthenticated") >= 1
        })
        .await;
    std::fs::write(fixture.path("token"), "second").unwrap();
    fixture.until_shipped().await;
    // The connection stays, and the token is read again in time.
    std::fs::write(fixture.path("token"), "third").unwrap();
    fixture.state().token = "third".to_owned();
    advance(CREDENTIALS_INTERVAL).await;
    let before = fixture.failures("unauthenticated");
    fixture.record(10).await;
    fixture.until_shipped().await;
    assert_eq!(fixture.failures("unauthenticated"), before);
    for unusable in [
        String::new(),
        "\n".to_owned(),
        "x".repeat(MAX_TOKEN_BYTES + 1),
    ] {
        std::fs::write(fixture.path("token"), unusable).unwrap();
        fixture.state().script = vec![Reply::Close].into();
        let before = fixture.failures("credentials");
        fixture.record(1).await;
        fixture
            .until("failures", |fixture| {
                fixture.failures("credentials") > before
            })
            .await;
        std::fs::write(fixture.path("token"), "third").unwrap();
        fixture.until_shipped().await;
    }
}

/// Fills a spool with a chain of the process before, up to a number of bytes.
fn fill(folder: &Path, bytes: u64) {
    let mut spool = Spool::open(folder).unwrap();
    let chain = ChainId::parse("pod-1/0").unwrap();
    let (mut prev, mut seq) = (chain.root(), 0);
    while spool.bytes() < bytes {
        seq += 1;
        let place = json!({"id": chain, "prev": prev, "seq": seq});
        let text = "x".repeat(7_900);
        let line = json!({"chain": place, "time": "2026-11-28T12:00:00Z", "w": text}).to_string();
        prev = Digest::of(line.as_bytes());
        spool.append(format!("{line}\n").as_bytes()).unwrap();
    }
}

#[tokio::test]
async fn full_spool_loses_no_count() {
    let out = SharedOut::default();
    let folder = tempfile::tempdir().unwrap();
    let (limit, rest) = (MAX_SPOOL_BYTES, 1 << 20);
    fill(&folder.path().join("spool"), limit - rest);
    let fixture = Fixture::start_with("pod-1/1", folder, out.clone(), Clock::system()).await;
    fixture.state().always = Some(rejection(Rejection::Unavailable, None));
    let (mut answered, mut dropped) = (0, 0);
    let large = large_admission(&fixture.recorder);
    while dropped < 50 {
        let records = (0..25).map(|_| fixture.recorder.record(large.clone()));
        let results = join_all(records).await;
        answered += results.len() as u64;
        dropped += results
            .iter()
            .filter(|recorded| **recorded == Recorded::Dropped)
            .count();
    }
    let spooled = fixture.metric("audit_spool_bytes");
    assert!(
        spooled <= limit && spooled > limit - (600 << 10),
        "{spooled}"
    );
    fixture.state().always = None;
    fixture.until_shipped().await;
    answered += fixture.record(10).await.len() as u64;
    fixture.finish().await;
    let (stored, lost) = accounted(fixture.state().lines().map(|line| &*line.json));
    assert_eq!(stored + lost, answered);
    assert!(lost >= 50 && stored > 50, "{stored} {lost}");
    assert_eq!(fixture.metric("audit_records_dropped_total"), lost);
    // Standard output has more of them, in the same chain.
    let lines = out.lines();
    assert!(accounted(lines.iter().map(String::as_str)).0 > stored);
    assert_eq!(verified(&lines).verdict(), Verdict::Intact);
}

#[tokio::test]
async fn output_that_is_not_read_does_not_hold_up_the_spool() {
    let (_reader, out) = io::pipe().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let fixture = Fixture::start_with("pod-1/1", folder, out, Clock::system()).await;
    let large = large_admission(&fixture.recorder);
    for _ in 0..80 {
        let records = (0..10).map(|_| fixture.recorder.record(large.clone()));
        assert!(!join_all(records).await.contains(&Recorded::Dropped));
    }
    fixture.finish().await;
    assert_eq!(
        accounted(fixture.state().lines().map(|line| &*line.json)),
        (800, 0)
    );
    assert!(fixture.metric("audit_stdout_lines_dropped_total") > 0);
}

#[tokio::test]
async fn clock_that_is_set_back_stops_nothing() {
    let hours: Arc<Mutex<i64>> = Arc::default();
    let shared = Arc::clone(&hours);
    let clock = Clock::new(move || {
        Timestamp::now() - jiff::SignedDuration::from_hours(*shared.lock().unwrap())
    });
    let folder = tempfile::tempdir().unwrap();
    let fixture = Fixture::start_with("pod-1/1", folder, io::sink(), clock).await;
    fixture.record(10).await;
    *hours.lock().unwrap() = 1;
    fixture.record(10).await;
    fixture.finish().await;
    assert_eq!(
        accounted(fixture.state().lines().map(|line| &*line.json)),
        (20, 0)
    );
}

#[tokio::test]
async fn lines_that_cannot_be_read_are_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("spool")).unwrap();
    let segment = folder.path().join("spool/00000000000000000001.jsonl");
    std::fs::write(segment, "garbage\n{}\n{\"chain\"").unwrap();
    let fixture = Fixture::start_with("pod-1/2", folder, io::sink(), Clock::system()).await;
    fixture.record(10).await;
    fixture.finish().await;
    let reason = "audit_unshippable_lines_total{reason=\"unreadable\"}";
    assert_eq!(fixture.metric(reason), 2);
    assert_eq!(
        accounted(fixture.state().lines().map(|line| &*line.json)),
        (10, 0)
    );
}

/// Program that the test below kills: records admissions into the spool of the folder that standard input names, and
/// prints the ids of those that were acknowledged.
#[test]
#[ignore = "a process of the test below"]
fn recording_process() {
    let mut input = String::new();
    io::stdin().read_line(&mut input).unwrap();
    let (chain, folder) = input.trim_end().split_once(' ').unwrap();
    let spool = Some(Path::new(folder).join("spool"));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(async {
        let recorder = AuditRecorder::start_with_spool(
            settings(chain),
            spool,
            io::sink(),
            Clock::system(),
            &mut registry(),
        );
        let recorder = recorder.unwrap();
        loop {
            let records = (0..20).map(|_| async {
                let record = admission(&recorder);
                let id = record.id.as_str().to_owned();
                (id, recorder.record(record).await)
            });
            let mut out = io::stdout().lock();
            for (id, recorded) in join_all(records).await {
                if recorded == Recorded::Written {
                    writeln!(out, "#{id}").unwrap();
                }
            }
            out.flush().unwrap();
        }
    });
}

#[tokio::test]
async fn killed_process_loses_nothing_that_was_answered() {
    let folder = tempfile::tempdir().unwrap();
    let mut acknowledged = Vec::new();
    for round in 0..5 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "recorder::shipping::tests::recording_process"])
            .args(["--ignored", "--nocapture"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        writeln!(input, "pod-1/{round} {}", folder.path().display()).unwrap();
        let output = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut ids = output.filter_map(|line| {
            let line = line.unwrap();
            line.rsplit_once('#').map(|(_, id)| id.to_owned())
        });
        acknowledged.extend(ids.by_ref().take(100 * round + 50));
        child.kill().unwrap();
        acknowledged.extend(ids);
        child.wait().unwrap();
    }
    // The process after them ships their chains first.
    let fixture = Fixture::start_with("pod-1/9", folder, io::sink(), Clock::system()).await;
    fixture.record(10).await;
    fixture.finish().await;
    let state = fixture.state();
    let chains = [
        "pod-1/0", "pod-1/1", "pod-1/2", "pod-1/3", "pod-1/4", "pod-1/9",
    ];
    assert_eq!(state.order, chains);
    let stored: std::collections::BTreeSet<&str> = state.lines().map(|line| &*line.id).collect();
    assert!(acknowledged.len() > 1_000, "{}", acknowledged.len());
    for id in &acknowledged {
        assert!(
            stored.contains(id.as_str()),
            "{id} was acknowledged and is not stored"
        );
    }
    // Each chain confirms the last line of the one before.
    for pair in chains.windows(2) {
        let (_, tip) = state.chains[pair[0]].last_key_value().unwrap();
        let start = &state.chains[pair[1]][&1];
        assert_eq!(
            (&start.confirmed[0].chain, start.confirmed[0].seq),
            (&tip.chain, tip.seq)
        );
        assert_eq!(start.confirmed[0].hash, tip.hash);
    }
    let lines: Vec<String> = state.lines().map(|line| line.json.clone()).collect();
    let report = verified(&lines);
    assert_eq!(report.verdict(), Verdict::Intact, "{report:?}");
    let farewells = report.findings.iter();
    assert_eq!(
        farewells
            .filter(|found| found.kind == TrailFindingKind::NoFarewell)
            .count(),
        0
    );
}

#[tokio::test]
async fn token_is_in_no_message() {
    let log = SharedOut::default();
    let written = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || written.clone())
        .finish();
    let _guard = crate::telemetry::logs::thread_log::set_for_thread(subscriber);
    let fixture = Fixture::start().await;
    let replies = [
        rejection(Rejection::Unauthenticated, None),
        Reply::Http(500, TOKEN.to_owned()),
        Reply::Http(
            403,
            format!("{{\"reason\":\"forbidden\",\"message\":\"{TOKEN}\"}}"),
        ),
        Reply::Redirect(format!("https://{TOKEN}/")),
        Reply::Bytes(TOKEN.as_bytes().to_vec()),
    ];
    fixture.state().script = replies.into();
    fixture.record(10).await;
    fixture.until_shipped().await;
    // A token with bytes that no header may have.
    std::fs::write(fixture.path("token"), format!("{TOKEN}\n{TOKEN}\0")).unwrap();
    fixture.state().script = vec![Reply::Close].into();
    fixture.record(1).await;
    fixture
        .until("failures", |fixture| fixture.failures("credentials") > 0)
        .await;
    let log = log.lines().join("\n");
    assert!(log.contains("the audit trail is not shipped"), "{log}");
    assert!(!log.contains(TOKEN), "{log}");
    let debug = format!("{:?} {:?}", fixture.shipping, fixture.recorder);
    assert!(!debug.contains(TOKEN), "{debug}");
}

#[test]
fn docs_contain_the_limits() {
    let docs = include_str!("../../../docs/AUDIT.md");
    let millis = |duration: Duration| usize::try_from(duration.as_millis()).unwrap();
    let seconds = |duration: Duration| usize::try_from(duration.as_secs()).unwrap();
    let spool = |bytes: u64| usize::try_from(bytes).unwrap();
    let limits = [
        ("Bytes of a spool", spool(MAX_SPOOL_BYTES)),
        ("Bytes of a file of a spool", spool(MAX_SEGMENT_BYTES)),
        (
            "Milliseconds that lines wait for a batch",
            millis(BATCH_INTERVAL),
        ),
        ("Bytes of lines of a batch that `serve` sends", BATCH_BYTES),
        (
            "Seconds between batches without lines",
            seconds(STATE_INTERVAL),
        ),
        (
            "Seconds of connecting to the collector",
            seconds(CONNECT_TIMEOUT),
        ),
        (
            "Seconds of a TLS handshake with the collector",
            seconds(HANDSHAKE_TIMEOUT),
        ),
        (
            "Seconds of a response of the collector",
            seconds(RESPONSE_TIMEOUT),
        ),
        ("Bytes of a response of the collector", MAX_RESPONSE),
        (
            "Milliseconds of the first pause after a failure, at most",
            millis(MIN_BACKOFF),
        ),
        (
            "Seconds of a pause after a failure, at most",
            seconds(MAX_BACKOFF),
        ),
        (
            "Seconds between readings of the token and the CA",
            seconds(CREDENTIALS_INTERVAL),
        ),
        ("Bytes of the token", MAX_TOKEN_BYTES),
        ("Bytes of the CA file", MAX_CA_BYTES),
    ];
    for (name, limit) in limits {
        let row = format!("| {name} | {limit} |");
        assert!(docs.contains(&row), "docs/AUDIT.md lacks {row}");
    }
}
