use std::io::{BufRead as _, BufReader, PipeReader, pipe};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Instant;

use futures::future::join_all;
use jiff::Timestamp;

use super::*;
use crate::audit::record::{Action, Class, RecordOutcome, Service};
use crate::audit::text::Text;
use crate::audit::verify::{TrailFindingKind, TrailReport, Verdict, VerifyOptions, verify};
use crate::telemetry::metrics::registry;

fn settings() -> RecorderSettings {
    RecorderSettings {
        cluster: Text::new("prod"),
        service: Service {
            name: "serve",
            replica: Text::new("pod-1"),
            version: "0.1.0",
        },
        chain: ChainId::parse("pod-1/1").unwrap(),
    }
}

fn start(clock: Clock) -> (AuditRecorder, PipeReader) {
    let (reader, out) = pipe().unwrap();
    let recorder = AuditRecorder::start(settings(), out, clock, &mut registry()).unwrap();
    (recorder, reader)
}

/// Admission of a pod.
fn admission(recorder: &AuditRecorder) -> Record {
    let emitter = recorder.emitter();
    let mut record = emitter.record(Class::Injection, Action::AdmitPod, RecordOutcome::Success);
    record.decision = "injected";
    record
}

/// Lines until the output is closed.
fn lines_of(out: PipeReader) -> Vec<String> {
    BufReader::new(out).lines().map(Result::unwrap).collect()
}

fn verified(lines: &[String]) -> TrailReport {
    verify(lines, VerifyOptions::default())
}

/// Clock whose first reading by the writer waits for a message, so that the writer does not begin.
fn blocked_clock() -> (Clock, Sender<()>) {
    let (release, released) = channel();
    let released: Mutex<Option<Receiver<()>>> = Mutex::new(Some(released));
    let clock = Clock::new(move || {
        let is_writer = thread::current().name() == Some("audit");
        if is_writer && let Some(released) = released.lock().unwrap().take() {
            let _ = released.recv();
        }
        Timestamp::now()
    });
    (clock, release)
}

#[tokio::test]
async fn chain_has_start_records_and_stop() {
    let (recorder, out) = start(Clock::system());
    let records = (0..1_000).map(|_| recorder.record(admission(&recorder)));
    let results = join_all(records).await;
    assert!(results.iter().all(|result| *result != Recorded::Dropped));
    let reading = thread::spawn(move || lines_of(out));
    recorder.stop(Duration::from_secs(30)).await;
    assert_eq!(
        recorder.record(admission(&recorder)).await,
        Recorded::Dropped
    );
    let lines = reading.join().unwrap();
    assert_eq!(lines.len(), 1_002);
    assert!(
        lines[0].starts_with(r#"{"action":"system.start""#),
        "{}",
        lines[0]
    );
    assert!(
        lines[1_001].starts_with(r#"{"action":"system.stop""#),
        "{}",
        lines[1_001]
    );
    let report = verified(&lines);
    assert_eq!(report.verdict(), Verdict::Intact, "{report:?}");
    let has_note = |kind| report.findings.iter().any(|finding| finding.kind == kind);
    assert!(!has_note(TrailFindingKind::NoFarewell), "{report:?}");
}

#[tokio::test(start_paused = true)]
async fn admission_waits_at_most_50_ms_and_its_record_is_written_later() {
    let (clock, release) = blocked_clock();
    let (recorder, out) = start(clock);
    let began = tokio::time::Instant::now();
    assert_eq!(recorder.record(admission(&recorder)).await, Recorded::Late);
    assert_eq!(began.elapsed(), MAX_WAIT);
    assert_eq!(recorder.shared.metrics.late.get(), 1);
    release.send(()).unwrap();
    drop(recorder);
    let lines = lines_of(out);
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert_eq!(verified(&lines).verdict(), Verdict::Intact);
}

#[tokio::test(start_paused = true)]
async fn records_beyond_the_queue_are_counted_by_a_gap_record() {
    let (clock, release) = blocked_clock();
    let (recorder, out) = start(clock);
    let records = (0..QUEUE_CAPACITY + 10).map(|_| recorder.record(admission(&recorder)));
    let results = join_all(records).await;
    let dropped = results
        .iter()
        .filter(|result| **result == Recorded::Dropped);
    assert_eq!(dropped.count(), 10);
    assert_eq!(recorder.shared.metrics.dropped.get(), 10);
    let reading = thread::spawn(move || lines_of(out));
    release.send(()).unwrap();
    drop(recorder);
    let lines = reading.join().unwrap();
    assert_eq!(lines.len(), QUEUE_CAPACITY + 3);
    let gaps: Vec<&String> = lines
        .iter()
        .filter(|line| line.contains("system.gap"))
        .collect();
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    assert!(gaps[0].contains(r#""gap":{"count":10,"#), "{gaps:?}");
    assert_eq!(verified(&lines).verdict(), Verdict::Intact);
}

#[tokio::test]
async fn output_that_is_not_read_blocks_nothing_and_is_accounted_for() {
    let (recorder, out) = start(Clock::system());
    let (mut written, mut dropped) = (0, 0);
    // More than the buffer holds.
    for _ in 0..40 {
        let records = (0..500).map(|_| recorder.record(admission(&recorder)));
        for recorded in join_all(records).await {
            match recorded {
                Recorded::Dropped => dropped += 1,
                Recorded::Written | Recorded::Late => written += 1,
            }
        }
    }
    assert!(dropped > 0 && written > 0, "{written} {dropped}");
    // Room comes back with the reader.
    let reading = thread::spawn(move || lines_of(out));
    let deadline = Instant::now() + Duration::from_mins(1);
    let mut total = 20_001;
    while recorder.record(admission(&recorder)).await != Recorded::Written {
        assert!(Instant::now() < deadline, "there is no room");
        total += 1;
    }
    recorder.stop(Duration::from_secs(30)).await;
    let lines = reading.join().unwrap();
    let count = |line: &String| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        match line["action"].as_str() {
            Some("pod.admit") => (1, 0),
            Some("system.gap") => (0, line["gap"]["count"].as_u64().unwrap()),
            _ => (0, 0),
        }
    };
    let counts = lines.iter().map(count);
    let (admissions, lost) = counts.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    assert_eq!(
        admissions + lost,
        total,
        "each record is written or counted"
    );
    assert!(lost >= dropped, "{lost} {dropped}");
    assert_eq!(verified(&lines).verdict(), Verdict::Intact);
}

#[tokio::test]
async fn repeated_refusals_are_reported_at_the_end() {
    let (recorder, out) = start(Clock::system());
    for _ in 0..100 {
        let mut refusal = admission(&recorder);
        refusal.decision = "denied";
        assert_ne!(recorder.record(refusal).await, Recorded::Dropped);
    }
    recorder.stop(Duration::from_secs(30)).await;
    drop(recorder);
    let lines = lines_of(out);
    assert_eq!(lines.len(), 4, "{lines:?}");
    assert!(
        lines[2].contains(r#""repeat":{"count":99,"#),
        "{}",
        lines[2]
    );
}

#[tokio::test]
async fn clock_that_is_set_back_changes_no_number() {
    let start_time: Timestamp = "2026-11-28T12:00:00Z".parse().unwrap();
    let readings = Mutex::new(0);
    let clock = Clock::new(move || {
        let mut readings = readings.lock().unwrap();
        *readings += 1;
        start_time - jiff::SignedDuration::from_hours(*readings)
    });
    let (recorder, out) = start(clock);
    for _ in 0..10 {
        assert_eq!(
            recorder.record(admission(&recorder)).await,
            Recorded::Written
        );
    }
    recorder.stop(Duration::from_secs(30)).await;
    drop(recorder);
    let lines = lines_of(out);
    assert_eq!(
        (lines.len(), verified(&lines).verdict()),
        (12, Verdict::Intact)
    );
}

#[test]
fn docs_contain_the_limits() {
    let docs = include_str!("../../docs/AUDIT.md");
    let waiting = usize::try_from(crate::telemetry::line_writer::MAX_WAITING_BYTES).unwrap();
    let limits = [
        ("Records that wait for the writer", QUEUE_CAPACITY),
        ("Milliseconds that an admission waits", 50),
        ("Bytes of lines that wait for standard output", waiting),
        ("Microseconds between two groups of records", 250),
        (
            "Milliseconds between two groups of lines for standard output",
            5,
        ),
        ("Seconds between records of a refusal that repeats", 60),
        (
            "Records of refusals in a namespace and that time",
            MAX_REFUSED_RECORDS as usize,
        ),
        (
            "Namespaces whose refusals are counted apart",
            MAX_NAMESPACES,
        ),
        ("Different refusals that are counted apart", MAX_KEYS),
    ];
    for (name, limit) in limits {
        let row = format!("| {name} | {limit} |");
        assert!(docs.contains(&row), "docs/AUDIT.md lacks {row}");
    }
    assert_eq!(MAX_WAIT, Duration::from_millis(50));
    assert_eq!(GROUP_INTERVAL, Duration::from_micros(250));
    assert_eq!(STDOUT_INTERVAL, Duration::from_millis(5));
    assert_eq!(REPEAT_INTERVAL, Duration::from_mins(1));
}
