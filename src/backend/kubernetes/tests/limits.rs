//! Concurrent binds behind the limits.

use super::*;
use crate::backend::layers::circuit_breaker::{Breaker, BreakerSettings};
use crate::backend::limits::{LimitSettings, Limited, Limits};

/// The backend behind its limits.
async fn limited() -> (FakeApi, Limited<Breaker<KubernetesBackend>>) {
    let (api, backend) = fixture().await;
    let breaker = Breaker::new(backend, BreakerSettings::default());
    let circuit = breaker.circuit();
    (
        api,
        Limited::new(breaker, Limits::new(LimitSettings::default()), circuit),
    )
}

#[tokio::test]
async fn burst_uses_few_connections_and_all_calls_get_a_response() {
    let (api, limited) = limited().await;
    api.always(Some(ApiFault::Slow(Duration::from_millis(5))));
    let queries = ["a", "b", "c", "d"].map(|namespace| {
        api.put(namespace, "db", &[]);
        query(namespace, "db")
    });
    let results =
        futures::future::join_all((0..200).map(|at| limited.bind(&queries[at % 4]))).await;
    assert!(results.iter().all(Result::is_ok));
    assert!(
        (2..=24).contains(&api.max_in_flight()),
        "{}",
        api.max_in_flight()
    );
}

#[tokio::test]
async fn callers_that_leave_release_their_permits() {
    let (api, backend) = limited().await;
    api.always(Some(ApiFault::NoResponse));
    let long_query = query("jobs", "db");
    let leaving = futures::future::join_all((0..100).map(|_| backend.bind(&long_query)));
    assert!(timeout(Duration::from_millis(300), leaving).await.is_err());
    api.always(None);
    timeout(Duration::from_secs(2), backend.bind(&long_query))
        .await
        .expect("a permit is free")
        .unwrap();
}
