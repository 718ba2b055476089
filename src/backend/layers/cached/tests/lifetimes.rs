//! Time in which stored bindings are returned, and what is read again.

use super::*;

#[tokio::test(start_paused = true)]
async fn fresh_binding_is_returned_without_a_read_until_the_ttl() {
    let (cached, backend, metrics) = fixture();
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

#[tokio::test(start_paused = true)]
async fn not_found_is_read_again_by_every_review() {
    let (cached, backend, _) = fixture();
    for _ in 0..3 {
        assert_eq!(
            kind(cached.bind(&query("jobs", "gone")).await),
            ErrorKind::NotFound
        );
    }
    assert_eq!(backend.calls(), 3);
}

#[tokio::test(start_paused = true)]
async fn negative_ttl_stores_not_found_for_that_time() {
    let negative_ttl = Some(Duration::from_secs(2));
    let (cached, backend, _) = fixture_with(CacheSettings {
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
async fn binding_without_the_requested_key_is_read_again() {
    let (cached, backend, _) = fixture();
    cached.bind(&key_query("user")).await.unwrap();
    backend.put("jobs", "db", &[("user", "u"), ("token", "t")]);
    cached.bind(&key_query("user")).await.unwrap();
    assert_eq!(backend.calls(), 1);
    let keys = cached
        .bind(&key_query("token"))
        .await
        .unwrap()
        .keys
        .unwrap();
    assert!(keys.contains("token"));
    assert_eq!(backend.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn expansion_always_reads() {
    let (cached, backend, _) = fixture();
    for reads in 1..=3 {
        cached.bind(&keys_query(KeyQuery::all())).await.unwrap();
        assert_eq!(backend.calls(), reads);
    }
}

#[tokio::test(start_paused = true)]
async fn stored_keys_are_refreshed_with_the_binding() {
    let (cached, backend, _) = fixture();
    cached.bind(&key_query("user")).await.unwrap();
    advance(Duration::from_secs(31)).await;
    cached.bind(&query("jobs", "db")).await.unwrap();
    cached.bind(&key_query("user")).await.unwrap();
    assert_eq!((backend.calls(), backend.calls_for_keys()), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn bindings_are_stored_by_namespace() {
    let (cached, _, _) = fixture();
    cached.bind(&query("jobs", "db")).await.unwrap();
    assert_eq!(
        kind(cached.bind(&query("other", "db")).await),
        ErrorKind::NotFound
    );
}

#[tokio::test(start_paused = true)]
async fn recent_names_are_those_bound_in_the_namespace_recently() {
    let (cached, backend, _) = fixture();
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
async fn cache_size_is_bounded() {
    let (cached, backend, _) = fixture_with(CacheSettings {
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
    cached.store.entries.run_pending_tasks();
    assert!(
        (1..20).contains(&cached.store.entries.entry_count()),
        "{}",
        cached.store.entries.entry_count()
    );
}
