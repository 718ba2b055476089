//! Reads that concurrent reviews share.

use futures::future::join_all;
use tokio::time::timeout;

use super::*;

#[rstest::rstest]
#[case("db", None)]
#[case("gone", Some(ErrorKind::NotFound))]
#[tokio::test(start_paused = true)]
async fn concurrent_reviews_cost_at_most_two_reads(
    #[case] name: &str,
    #[case] error: Option<ErrorKind>,
) {
    let (cached, backend, metrics) = fixture();
    let query = query("jobs", name);
    let results = join_all((0..500).map(|_| cached.bind(&query))).await;
    assert!(
        results
            .into_iter()
            .all(|result| result.err().map(|error| error.kind) == error)
    );
    assert!(backend.calls() <= 2, "{} reads", backend.calls());
    assert_eq!(counted(&metrics, CacheResult::Miss), backend.calls() as u64);
    assert_eq!(
        counted(&metrics, CacheResult::Shared),
        500 - backend.calls() as u64
    );
}

#[tokio::test]
async fn tasks_on_several_threads_share_reads() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_all()
        .build()
        .unwrap();
    let (cached, backend, _) = fixture();
    let fixture = Arc::clone(&cached);
    let tasks: Vec<_> = (0..500)
        .map(|_| {
            let cached = Arc::clone(&fixture);
            runtime.spawn(async move { cached.bind(&query("jobs", "gone")).await })
        })
        .collect();
    for task in tasks {
        assert_eq!(kind(task.await.unwrap()), ErrorKind::NotFound);
    }
    assert!(backend.calls() < 50, "{} reads", backend.calls());
    assert_eq!(cached.single_flight.len(), 0);
    runtime.shutdown_background();
}

#[tokio::test(start_paused = true)]
async fn refusal_never_rests_on_a_read_that_began_before_the_review() {
    let (cached, backend, _) = fixture();
    let early = tokio::spawn({
        let cached = Arc::clone(&cached);
        async move { cached.bind(&query("jobs", "late")).await }
    });
    run_spawned_tasks().await;
    // The first read has begun already. The secret is created, then a second review arrives.
    backend.put("jobs", "late", &[]);
    cached.bind(&query("jobs", "late")).await.unwrap();
    assert_eq!(kind(early.await.unwrap()), ErrorKind::NotFound);
    assert_eq!(backend.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn read_that_began_after_the_review_arrived_is_shared() {
    let (cached, backend, _) = fixture();
    let review = query("jobs", "gone");
    run_spawned_tasks().await;
    let (first, second) = tokio::join!(cached.bind(&review), async {
        run_spawned_tasks().await;
        cached.bind(&review).await
    });
    assert_eq!(
        (kind(first), kind(second)),
        (ErrorKind::NotFound, ErrorKind::NotFound)
    );
    assert_eq!(backend.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn shared_read_has_keys_if_any_waiter_needs_them() {
    let (cached, backend, _) = fixture();
    let (existence, all, some) = (
        query("jobs", "db"),
        keys_query(KeyQuery::all()),
        key_query("user"),
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
            .all(|result| result.unwrap().keys.is_some())
    );
    assert_eq!((backend.calls(), backend.calls_for_keys()), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn read_is_cancelled_when_every_waiter_has_left() {
    let (cached, backend, _) = fixture();
    backend.always(Some(Fault::Hang));
    let waiters: Vec<_> = (0..10)
        .map(|_| {
            let cached = Arc::clone(&cached);
            tokio::spawn(async move { cached.bind(&query("jobs", "db")).await })
        })
        .collect();
    run_spawned_tasks().await;
    assert_eq!(backend.in_flight(), 1);
    waiters.iter().for_each(tokio::task::JoinHandle::abort);
    run_spawned_tasks().await;
    assert_eq!(backend.in_flight(), 0);
    assert_eq!(cached.single_flight.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn next_read_starts_when_the_waiters_of_the_current_one_have_left() {
    let (cached, backend, _) = fixture();
    backend.next(Fault::Hang);
    let first = query("jobs", "db");
    let second = query("jobs", "db");
    let (left, second_result) =
        tokio::join!(timeout(READ, cached.bind(&first)), cached.bind(&second));
    assert!(left.is_err());
    second_result.unwrap();
    assert_eq!(
        (
            backend.calls(),
            backend.in_flight(),
            cached.single_flight.len()
        ),
        (2, 0, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn waiter_that_leaves_does_not_cancel_the_read_of_another() {
    let (cached, backend, _) = fixture();
    let review = query("jobs", "db");
    run_spawned_tasks().await;
    let (left, second_result) = tokio::join!(timeout(READ / 2, cached.bind(&review)), async {
        run_spawned_tasks().await;
        cached.bind(&review).await
    });
    assert!(left.is_err());
    second_result.unwrap();
    assert_eq!(backend.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn waiters_have_their_own_deadlines() {
    let (cached, backend, _) = fixture();
    backend.always(Some(Fault::Delay(Duration::from_secs(3))));
    let long_query = query("jobs", "db");
    let short_query = BindQuery {
        deadline: long_query.arrived + Duration::from_secs(1),
        ..long_query.clone()
    };
    let began = Instant::now();
    let (short_result, long_result, first) = tokio::join!(
        async { (cached.bind(&short_query).await, began.elapsed()) },
        cached.bind(&long_query),
        cached.bind(&long_query),
    );
    assert_eq!(
        (kind(short_result.0), short_result.1),
        (ErrorKind::Deadline, Duration::from_secs(1))
    );
    long_result.unwrap();
    first.unwrap();
}

/// Cache whose backend never counts as stalled, so that all callers wait until their deadline.
fn never_stalled() -> (TestCache, Arc<MemoryBackend>) {
    let stall_after = Duration::from_mins(1);
    let (cached, backend, _) = fixture_with(CacheSettings {
        stall_after,
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
async fn short_deadline_does_not_shorten_the_read_of_others() {
    let (cached, backend) = never_stalled();
    backend.always(Some(Fault::Delay(Duration::from_secs(3))));
    let long_query = within(10_000);
    run_spawned_tasks().await;
    // The read begins for a caller with a second. The other caller arrived before it began, and joins it.
    let short_query = within(1000);
    let (short_result, long_result) = tokio::join!(cached.bind(&short_query), async {
        run_spawned_tasks().await;
        cached.bind(&long_query).await
    });
    assert_eq!(kind(short_result), ErrorKind::Deadline);
    long_result.unwrap();
    assert_eq!((backend.calls(), cached.single_flight.len()), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn short_deadlines_in_a_row_delay_a_long_one_by_one_read_at_most() {
    let (cached, backend) = never_stalled();
    backend.always(Some(Fault::Delay(Duration::from_millis(1500))));
    let long_query = within(5000);
    run_spawned_tasks().await;
    let (first, second) = (within(1000), within(2000));
    let began = Instant::now();
    let (first, second, (long_result, took)) = tokio::join!(
        cached.bind(&first),
        async {
            sleep(Duration::from_millis(500)).await;
            cached.bind(&second).await
        },
        async {
            run_spawned_tasks().await;
            (cached.bind(&long_query).await, began.elapsed())
        }
    );
    assert_eq!(
        (kind(first), kind(second)),
        (ErrorKind::Deadline, ErrorKind::Deadline)
    );
    long_result.unwrap();
    assert!(took <= Duration::from_millis(3600), "{took:?}");
    assert!((2..=3).contains(&backend.calls()), "{}", backend.calls());
}
