//! Stale bindings while the backend is unavailable.

use super::*;

#[rstest::rstest]
#[case(Fault::Fail(ErrorKind::Unavailable))]
#[case(Fault::Fail(ErrorKind::Unauthenticated))]
#[case(Fault::SlowDown(Duration::from_secs(1)))]
#[case(Fault::Hang)]
#[tokio::test(start_paused = true)]
async fn stale_binding_is_returned_while_the_backend_is_unavailable(#[case] fault: Fault) {
    let (cached, backend, metrics) = fixture();
    cached.bind(&key_query("user")).await.unwrap();
    advance(Duration::from_mins(5)).await;
    backend.always(Some(fault));
    cached.bind(&key_query("user")).await.unwrap();
    assert_eq!(counted(&metrics, CacheResult::Stale), 1);
    // A stale binding never leads to a refusal or to an expansion.
    assert!(kind(cached.bind(&key_query("token")).await).is_unavailable());
    assert!(kind(cached.bind(&keys_query(KeyQuery::all())).await).is_unavailable());
    advance(Duration::from_mins(5)).await;
    assert!(kind(cached.bind(&key_query("user")).await).is_unavailable());
}

#[rstest::rstest]
#[case(ErrorKind::Protocol)]
#[case(ErrorKind::Invalid)]
#[tokio::test(start_paused = true)]
async fn verdict_is_not_replaced_by_a_stale_binding(#[case] fault: ErrorKind) {
    let (cached, backend, _) = fixture();
    cached.bind(&query("jobs", "db")).await.unwrap();
    advance(Duration::from_mins(1)).await;
    backend.always(Some(Fault::Fail(fault)));
    assert_eq!(kind(cached.bind(&query("jobs", "db")).await), fault);
}

#[rstest::rstest]
#[case(ErrorKind::NotFound)]
#[case(ErrorKind::PermissionDenied)]
#[tokio::test(start_paused = true)]
async fn binding_of_a_deleted_secret_is_not_returned_later(#[case] verdict: ErrorKind) {
    let (cached, backend, _) = fixture();
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
