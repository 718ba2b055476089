use std::collections::BTreeSet;

use futures::future::join_all;
use tokio::time::{advance, sleep, timeout};

use super::*;
use crate::backend::memory::{Fault, MemoryBackend, query};
use crate::backend::metrics::BackendMetrics;

const READ: Duration = Duration::from_millis(20);

type Cache = Arc<Cached<Arc<MemoryBackend>>>;

fn subject_with(settings: CacheSettings) -> (Cache, Arc<MemoryBackend>, BackendMetrics) {
    let metrics = BackendMetrics::default();
    let backend = Arc::new(MemoryBackend::new());
    backend.put("jobs", "db", &[("user", "u"), ("password", "p")]);
    backend.always(Some(Fault::Delay(READ)));
    (
        Arc::new(Cached::new(Arc::clone(&backend), settings, metrics.clone())),
        backend,
        metrics,
    )
}

fn subject() -> (Cache, Arc<MemoryBackend>, BackendMetrics) {
    subject_with(CacheSettings::default())
}

fn counted(metrics: &BackendMetrics, result: CacheResult) -> u64 {
    metrics
        .cache
        .get_or_create(&BackendCache {
            backend: BackendKind::Memory,
            result,
        })
        .get()
}

fn wants(keys: KeyQuery) -> BindQuery {
    BindQuery {
        keys,
        ..query("jobs", "db")
    }
}

fn wants_key(key: &str) -> BindQuery {
    wants(KeyQuery::of(BTreeSet::from([key.parse().unwrap()])))
}

fn kind<T>(answer: Result<T, BackendError>) -> ErrorKind {
    answer.err().expect("an error").kind
}

/// Lets spawned tasks run without moving the clock by more than a blink.
async fn settle() {
    sleep(Duration::from_micros(10)).await;
}

#[tokio::test(start_paused = true)]
async fn a_fresh_binding_answers_without_a_read_until_the_ttl() {
    let (cached, backend, metrics) = subject();
    for _ in 0..10 {
        cached.bind(&query("jobs", "db")).await.unwrap();
    }
    assert_eq!(backend.calls(), 1);
    assert_eq!(
        (
            counted(&metrics, CacheResult::Miss),
            counted(&metrics, CacheResult::Hit)
        ),
        (1, 9)
    );
    advance(Duration::from_secs(30)).await;
    cached.bind(&query("jobs", "db")).await.unwrap();
    assert_eq!(backend.calls(), 2);
}

#[rstest::rstest]
#[case("db", None)]
#[case("gone", Some(ErrorKind::NotFound))]
#[tokio::test(start_paused = true)]
async fn five_hundred_reviews_at_once_cost_two_reads_at_most(
    #[case] name: &str,
    #[case] error: Option<ErrorKind>,
) {
    let (cached, backend, metrics) = subject();
    let query = query("jobs", name);
    let answers = join_all((0..500).map(|_| cached.bind(&query))).await;
    assert!(
        answers
            .into_iter()
            .all(|answer| answer.err().map(|error| error.kind) == error)
    );
    assert!(backend.calls() <= 2, "{} reads", backend.calls());
    assert_eq!(counted(&metrics, CacheResult::Miss), backend.calls() as u64);
    assert_eq!(
        counted(&metrics, CacheResult::Shared),
        500 - backend.calls() as u64
    );
}

#[tokio::test]
async fn five_hundred_tasks_on_real_threads_share_reads_too() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_all()
        .build()
        .unwrap();
    let (cached, backend, _) = subject();
    let subject = Arc::clone(&cached);
    let tasks: Vec<_> = (0..500)
        .map(|_| {
            let cached = Arc::clone(&subject);
            runtime.spawn(async move { cached.bind(&query("jobs", "gone")).await })
        })
        .collect();
    for task in tasks {
        assert_eq!(kind(task.await.unwrap()), ErrorKind::NotFound);
    }
    assert!(backend.calls() < 50, "{} reads", backend.calls());
    assert_eq!(cached.flights.len(), 0);
    runtime.shutdown_background();
}

#[tokio::test(start_paused = true)]
async fn a_refusal_never_rests_on_a_read_that_began_before_the_review() {
    let (cached, backend, _) = subject();
    let early = tokio::spawn({
        let cached = Arc::clone(&cached);
        async move { cached.bind(&query("jobs", "late")).await }
    });
    settle().await;
    // The first read has looked already; the secret is created, then a second review arrives.
    backend.put("jobs", "late", &[]);
    cached.bind(&query("jobs", "late")).await.unwrap();
    assert_eq!(kind(early.await.unwrap()), ErrorKind::NotFound);
    assert_eq!(backend.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_read_that_began_after_the_review_arrived_is_shared_while_under_way() {
    let (cached, backend, _) = subject();
    let review = query("jobs", "gone");
    settle().await;
    let (first, second) = tokio::join!(cached.bind(&review), async {
        settle().await;
        cached.bind(&review).await
    });
    assert_eq!(
        (kind(first), kind(second)),
        (ErrorKind::NotFound, ErrorKind::NotFound)
    );
    assert_eq!(backend.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn not_found_is_asked_again_by_every_review() {
    let (cached, backend, _) = subject();
    for _ in 0..3 {
        assert_eq!(
            kind(cached.bind(&query("jobs", "gone")).await),
            ErrorKind::NotFound
        );
    }
    assert_eq!(backend.calls(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_negative_ttl_spares_the_backend_for_that_long() {
    let negative_ttl = Some(Duration::from_secs(2));
    let (cached, backend, _) = subject_with(CacheSettings {
        negative_ttl,
        ..CacheSettings::default()
    });
    for _ in 0..3 {
        assert_eq!(
            kind(cached.bind(&query("jobs", "gone")).await),
            ErrorKind::NotFound
        );
    }
    assert_eq!(backend.calls(), 1);
    backend.put("jobs", "gone", &[]);
    advance(Duration::from_secs(2)).await;
    cached.bind(&query("jobs", "gone")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_stored_binding_without_the_wanted_key_is_read_again() {
    let (cached, backend, _) = subject();
    cached.bind(&wants_key("user")).await.unwrap();
    backend.put("jobs", "db", &[("user", "u"), ("token", "t")]);
    cached.bind(&wants_key("user")).await.unwrap();
    assert_eq!(backend.calls(), 1);
    let keys = cached
        .bind(&wants_key("token"))
        .await
        .unwrap()
        .keys
        .unwrap();
    assert!(keys.contains("token"));
    assert_eq!(backend.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_expansion_always_reads() {
    let (cached, backend, _) = subject();
    for reads in 1..=3 {
        cached.bind(&wants(KeyQuery::all())).await.unwrap();
        assert_eq!(backend.calls(), reads);
    }
}

#[tokio::test(start_paused = true)]
async fn one_read_asks_for_keys_when_any_waiter_wants_them() {
    let (cached, backend, _) = subject();
    let (existence, all, some) = (
        query("jobs", "db"),
        wants(KeyQuery::all()),
        wants_key("user"),
    );
    let under_way = cached.bind(&existence);
    let waiting = join_all([
        cached.bind(&existence),
        cached.bind(&all),
        cached.bind(&some),
    ]);
    let (first, rest) = tokio::join!(under_way, waiting);
    first.unwrap();
    assert!(
        rest.into_iter()
            .all(|answer| answer.unwrap().keys.is_some())
    );
    assert_eq!((backend.calls(), backend.calls_for_keys()), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn known_keys_are_refreshed_with_the_binding() {
    let (cached, backend, _) = subject();
    cached.bind(&wants_key("user")).await.unwrap();
    advance(Duration::from_secs(31)).await;
    cached.bind(&query("jobs", "db")).await.unwrap();
    cached.bind(&wants_key("user")).await.unwrap();
    assert_eq!((backend.calls(), backend.calls_for_keys()), (2, 2));
}

#[rstest::rstest]
#[case(Fault::Fail(ErrorKind::Unavailable))]
#[case(Fault::Fail(ErrorKind::Unauthenticated))]
#[case(Fault::SlowDown(Duration::from_secs(1)))]
#[case(Fault::Hang)]
#[tokio::test(start_paused = true)]
async fn an_older_binding_stands_in_while_the_backend_is_unavailable(#[case] fault: Fault) {
    let (cached, backend, metrics) = subject();
    cached.bind(&wants_key("user")).await.unwrap();
    advance(Duration::from_mins(5)).await;
    backend.always(Some(fault));
    cached.bind(&wants_key("user")).await.unwrap();
    assert_eq!(counted(&metrics, CacheResult::Stale), 1);
    // It can say yes, never no, and never what all keys are.
    assert!(kind(cached.bind(&wants_key("token")).await).is_unavailable());
    assert!(kind(cached.bind(&wants(KeyQuery::all())).await).is_unavailable());
    advance(Duration::from_mins(5)).await;
    assert!(kind(cached.bind(&wants_key("user")).await).is_unavailable());
}

#[rstest::rstest]
#[case(ErrorKind::Protocol)]
#[case(ErrorKind::Invalid)]
#[tokio::test(start_paused = true)]
async fn a_verdict_is_not_papered_over(#[case] fault: ErrorKind) {
    let (cached, backend, _) = subject();
    cached.bind(&query("jobs", "db")).await.unwrap();
    advance(Duration::from_mins(1)).await;
    backend.always(Some(Fault::Fail(fault)));
    assert_eq!(kind(cached.bind(&query("jobs", "db")).await), fault);
}

#[rstest::rstest]
#[case(ErrorKind::NotFound)]
#[case(ErrorKind::PermissionDenied)]
#[tokio::test(start_paused = true)]
async fn a_secret_that_went_does_not_stand_in_later(#[case] verdict: ErrorKind) {
    let (cached, backend, _) = subject();
    cached.bind(&query("jobs", "db")).await.unwrap();
    advance(Duration::from_mins(1)).await;
    backend.always(Some(Fault::Fail(verdict)));
    assert_eq!(kind(cached.bind(&query("jobs", "db")).await), verdict);
    backend.always(Some(Fault::Fail(ErrorKind::Unavailable)));
    assert_eq!(
        kind(cached.bind(&query("jobs", "db")).await),
        ErrorKind::Unavailable
    );
}

#[tokio::test(start_paused = true)]
async fn the_backend_is_left_in_peace_when_every_waiter_has_gone() {
    let (cached, backend, _) = subject();
    backend.always(Some(Fault::Hang));
    let waiters: Vec<_> = (0..10)
        .map(|_| {
            let cached = Arc::clone(&cached);
            tokio::spawn(async move { cached.bind(&query("jobs", "db")).await })
        })
        .collect();
    settle().await;
    assert_eq!(backend.in_flight(), 1);
    waiters.iter().for_each(tokio::task::JoinHandle::abort);
    settle().await;
    assert_eq!(backend.in_flight(), 0);
    assert_eq!(cached.flights.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_next_read_starts_when_the_waiters_of_the_one_under_way_have_gone() {
    let (cached, backend, _) = subject();
    backend.next(Fault::Hang);
    let first = query("jobs", "db");
    let second = query("jobs", "db");
    let (left, answered) = tokio::join!(timeout(READ, cached.bind(&first)), cached.bind(&second));
    assert!(left.is_err());
    answered.unwrap();
    assert_eq!(
        (backend.calls(), backend.in_flight(), cached.flights.len()),
        (2, 0, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn one_waiter_leaving_does_not_cancel_the_read_of_another() {
    let (cached, backend, _) = subject();
    let review = query("jobs", "db");
    settle().await;
    let (left, answered) = tokio::join!(timeout(READ / 2, cached.bind(&review)), async {
        settle().await;
        cached.bind(&review).await
    });
    assert!(left.is_err());
    answered.unwrap();
    assert_eq!(backend.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn every_waiter_has_its_own_deadline() {
    let (cached, backend, _) = subject();
    backend.always(Some(Fault::Delay(Duration::from_secs(3))));
    let patient = query("jobs", "db");
    let hasty = BindQuery {
        deadline: patient.arrived + Duration::from_secs(1),
        ..patient.clone()
    };
    let began = Instant::now();
    let (hasty, patient, first) = tokio::join!(
        async { (cached.bind(&hasty).await, began.elapsed()) },
        cached.bind(&patient),
        cached.bind(&patient),
    );
    assert_eq!(
        (kind(hasty.0), hasty.1),
        (ErrorKind::Deadline, Duration::from_secs(1))
    );
    patient.unwrap();
    first.unwrap();
}

/// So long a silence that everybody waits as long as they can.
fn patiently() -> (Cache, Arc<MemoryBackend>) {
    let silence = Duration::from_mins(1);
    let (cached, backend, _) = subject_with(CacheSettings {
        silence,
        ..CacheSettings::default()
    });
    (cached, backend)
}

fn within(millis: u64) -> BindQuery {
    let query = query("jobs", "db");
    BindQuery {
        deadline: query.arrived + Duration::from_millis(millis),
        ..query
    }
}

#[tokio::test(start_paused = true)]
async fn caller_in_a_hurry_does_not_shorten_the_read_of_others() {
    let (cached, backend) = patiently();
    backend.always(Some(Fault::Delay(Duration::from_secs(3))));
    let patient = within(10_000);
    settle().await;
    // The read begins for one who has a second; the other arrived before it began, and joins it.
    let hasty = within(1000);
    let (told, answered) = tokio::join!(cached.bind(&hasty), async {
        settle().await;
        cached.bind(&patient).await
    });
    assert_eq!(kind(told), ErrorKind::Deadline);
    answered.unwrap();
    assert_eq!((backend.calls(), cached.flights.len()), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn a_row_of_callers_in_a_hurry_delays_the_patient_one_read_at_most() {
    let (cached, backend) = patiently();
    backend.always(Some(Fault::Delay(Duration::from_millis(1500))));
    let patient = within(5000);
    settle().await;
    let (first, second) = (within(1000), within(2000));
    let began = Instant::now();
    let (first, second, (patient, took)) = tokio::join!(
        cached.bind(&first),
        async {
            sleep(Duration::from_millis(500)).await;
            cached.bind(&second).await
        },
        async {
            settle().await;
            (cached.bind(&patient).await, began.elapsed())
        }
    );
    assert_eq!(
        (kind(first), kind(second)),
        (ErrorKind::Deadline, ErrorKind::Deadline)
    );
    patient.unwrap();
    assert!(took <= Duration::from_millis(3600), "{took:?}");
    assert!((2..=3).contains(&backend.calls()), "{}", backend.calls());
}

#[tokio::test(start_paused = true)]
async fn namespaces_and_sources_are_kept_apart() {
    let (cached, _, _) = subject();
    cached.bind(&query("jobs", "db")).await.unwrap();
    assert_eq!(
        kind(cached.bind(&query("other", "db")).await),
        ErrorKind::NotFound
    );
}

#[tokio::test(start_paused = true)]
async fn recent_names_are_those_bound_here_lately() {
    let (cached, backend, _) = subject();
    backend.put("jobs", "a", &[]);
    backend.put("other", "b", &[]);
    for (namespace, name) in [
        ("jobs", "db"),
        ("jobs", "a"),
        ("other", "b"),
        ("jobs", "gone"),
    ] {
        let _ = cached.bind(&query(namespace, name)).await;
    }
    assert_eq!(cached.recent_names("jobs"), ["a", "db"]);
    assert!(cached.recent_names("nowhere").is_empty());
    advance(Duration::from_secs(601)).await;
    assert!(cached.recent_names("jobs").is_empty());
}

#[tokio::test(start_paused = true)]
async fn memory_is_bounded() {
    let (cached, backend, _) = subject_with(CacheSettings {
        max_bytes: 10_000,
        ..CacheSettings::default()
    });
    backend.always(None);
    for at in 0..200 {
        backend.put("jobs", &format!("s{at}"), &[]);
        cached
            .bind(&query("jobs", &format!("s{at}")))
            .await
            .unwrap();
    }
    cached.memory.stored.run_pending_tasks();
    assert!(
        (1..20).contains(&cached.memory.stored.entry_count()),
        "{}",
        cached.memory.stored.entry_count()
    );
}
