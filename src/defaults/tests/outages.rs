//! Stale defaults, retries and the circuit breaker while the API server fails.

use super::*;

#[rstest::rstest]
#[case(ServerBehavior::Fails(ErrorKind::Unavailable))]
#[case(ServerBehavior::Fails(ErrorKind::RateLimited))]
#[case(ServerBehavior::Fails(ErrorKind::Unauthenticated))]
#[case(ServerBehavior::NeverResponds)]
#[tokio::test(start_paused = true)]
async fn stale_defaults_apply_for_ten_minutes_and_confirm_no_absence(
    #[case] behavior: ServerBehavior,
) {
    for fixture in [fixture(), guarded()] {
        let (defaults, script) = fixture;
        script.set("jobs", Some("quiet"), &[]);
        applied(&defaults, "default").await.unwrap();
        applied(&defaults, "quiet").await.unwrap();
        script.behavior(behavior);
        advance(MAX_STALE.saturating_sub(Duration::from_mins(1))).await;
        for account in ["default", "quiet"] {
            let found = applied(&defaults, account).await.unwrap();
            assert_eq!(env_from(found.namespace.as_ref()), Some("of-namespace"));
            assert!(
                found.confirmed().unwrap_err().kind.is_unavailable(),
                "a stale default does not confirm an absence"
            );
        }
        // This account is not stored.
        assert!(
            applied(&defaults, "unknown")
                .await
                .unwrap_err()
                .kind
                .is_unavailable()
        );
        advance(Duration::from_mins(1)).await;
        assert!(
            applied(&defaults, "default")
                .await
                .unwrap_err()
                .kind
                .is_unavailable()
        );
        script.behavior(ServerBehavior::Responds);
        advance(Duration::from_secs(2)).await;
        // One call probes the server; the others wait for its result.
        drop(applied(&defaults, "default").await);
        assert!(
            applied(&defaults, "default")
                .await
                .unwrap()
                .confirmed()
                .is_ok()
        );
    }
}

#[rstest::rstest]
#[case(ErrorKind::PermissionDenied)]
#[case(ErrorKind::Protocol)]
#[tokio::test(start_paused = true)]
async fn verdict_is_not_replaced_by_stale_defaults(#[case] kind: ErrorKind) {
    let (defaults, script) = fixture();
    applied(&defaults, "default").await.unwrap();
    advance(TTL).await;
    script.behavior(ServerBehavior::Fails(kind));
    assert_eq!(applied(&defaults, "default").await.unwrap_err().kind, kind);
    script.behavior(ServerBehavior::Fails(ErrorKind::Unavailable));
    let denied = kind == ErrorKind::PermissionDenied;
    assert_eq!(applied(&defaults, "default").await.is_err(), denied);
}

#[tokio::test(start_paused = true)]
async fn temporary_failures_are_retried_until_the_breaker_opens() {
    let (defaults, script) = guarded();
    script.behavior(ServerBehavior::Fails(ErrorKind::Unavailable));
    assert!(applied(&defaults, "default").await.is_err());
    // Three attempts for the first read that fails for good. The breaker ends all attempts after five.
    assert!((3..=5).contains(&script.calls()), "{}", script.calls());
    for _ in 0..50 {
        assert_eq!(
            applied(&defaults, "default").await.unwrap_err().kind,
            ErrorKind::Unavailable
        );
    }
    assert!(script.calls() < 60, "{}", script.calls());
    script.behavior(ServerBehavior::Responds);
    advance(Duration::from_secs(2)).await;
    drop(applied(&defaults, "default").await);
    applied(&defaults, "default").await.unwrap();
}
