//! Reads that concurrent reviews share, and their time limits.

use futures::future::join_all;

use super::*;

#[tokio::test(start_paused = true)]
async fn absence_never_rests_on_a_read_that_began_before_the_review() {
    let (defaults, script) = fixture();
    let early = tokio::spawn({
        let defaults = Arc::clone(&defaults);
        async move { env_from_of(&defaults, "late").await.1 }
    });
    sleep(READ / 2).await;
    // The first read has begun already.
    script.set("jobs", Some("late"), &[("env-from", "late")]);
    assert_eq!(
        env_from_of(&defaults, "late").await.1.as_deref(),
        Some("late")
    );
    assert_eq!(early.await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn concurrent_reviews_share_reads() {
    let (defaults, script) = fixture();
    script.set("jobs", None, &[]);
    let found = join_all((0..500).map(|_| applied(&defaults, "default"))).await;
    assert!(found.iter().all(Result::is_ok));
    assert!(script.calls() <= 4, "{} reads", script.calls());
    assert_eq!(defaults.single_flight.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn short_deadline_does_not_affect_other_callers() {
    for fixture in [fixture(), guarded()] {
        let (defaults, script) = fixture;
        script.behavior(ServerBehavior::Slow(Duration::from_millis(500)));
        let began = Instant::now();
        let (short, long) = tokio::join!(
            async {
                (
                    within(&defaults, "default", Duration::from_millis(8)).await,
                    began.elapsed(),
                )
            },
            applied(&defaults, "default"),
        );
        assert_eq!(short.0.unwrap_err().kind, ErrorKind::Deadline);
        assert_eq!(short.1, Duration::from_millis(8));
        assert_eq!(
            env_from(long.unwrap().service_account.as_ref()),
            Some("of-account")
        );
    }
}

/// A loop of reviews with too little time for any read, and one review with enough.
#[tokio::test(start_paused = true)]
async fn short_deadlines_in_a_row_do_not_delay_a_long_one() {
    let (defaults, script) = guarded();
    script.behavior(ServerBehavior::Slow(Duration::from_millis(100)));
    let short = async {
        loop {
            let result = within(&defaults, "default", Duration::from_millis(90)).await;
            if result.is_ok() {
                break;
            }
        }
    };
    let long = async {
        sleep(Duration::from_millis(45)).await;
        let began = Instant::now();
        applied(&defaults, "default").await.unwrap();
        began.elapsed()
    };
    let ((), took) = tokio::join!(short, long);
    assert!(took <= Duration::from_millis(300), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn read_takes_no_longer_than_its_own_limit() {
    let (defaults, script) = fixture();
    script.behavior(ServerBehavior::NeverResponds);
    let began = Instant::now();
    let result = within(&defaults, "default", Duration::from_secs(29)).await;
    assert_eq!(
        (result.unwrap_err().kind, began.elapsed()),
        (ErrorKind::Deadline, READ_TIMEOUT)
    );
    // No controller waits for these callers: only their own deadline limits the read.
    let background = Defaults::for_background_reads(Arc::new(Arc::clone(&script)));
    let began = Instant::now();
    assert!(
        within(&background, "default", Duration::from_secs(29))
            .await
            .is_err()
    );
    assert_eq!(began.elapsed(), Duration::from_secs(29));
}

/// Secrets and defaults have the same shares.
#[tokio::test(start_paused = true)]
async fn reads_of_defaults_are_limited() {
    let (defaults, script) = guarded();
    script.behavior(ServerBehavior::Slow(Duration::from_millis(500)));
    let accounts: Vec<String> = (0..50).map(|at| format!("account-{at}")).collect();
    let calls = join_all(accounts.iter().map(|account| applied(&defaults, account)));
    let first = async {
        sleep(Duration::from_millis(100)).await;
        script.calls()
    };
    let (_, first) = tokio::join!(calls, first);
    assert_eq!(first, 8);
}
