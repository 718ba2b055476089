//! Time in which stored objects are used, and what is read again.

use super::*;

#[tokio::test(start_paused = true)]
async fn defaults_with_references_are_returned_from_memory_until_the_ttl() {
    let (defaults, script) = fixture();
    for _ in 0..5 {
        assert_eq!(
            env_from_of(&defaults, "default").await,
            some("of-namespace", "of-account")
        );
    }
    assert_eq!(script.calls(), 2);
    script.set("jobs", Some("default"), &[("env-from", "changed")]);
    let stored_for = TTL.saturating_sub(READ);
    advance(stored_for.saturating_sub(Duration::from_millis(1))).await;
    assert_eq!(
        env_from_of(&defaults, "default").await,
        some("of-namespace", "of-account")
    );
    advance(Duration::from_millis(1)).await;
    assert_eq!(
        env_from_of(&defaults, "default").await,
        some("of-namespace", "changed")
    );
}

/// A Deployment is applied before its ServiceAccount.
#[tokio::test(start_paused = true)]
async fn missing_account_is_never_stored() {
    let (defaults, script) = fixture();
    for _ in 0..3 {
        assert_eq!(env_from_of(&defaults, "late").await.1, None);
    }
    assert_eq!(
        (
            script.reads("jobs", Some("late")),
            script.reads("jobs", None)
        ),
        (3, 1)
    );
    script.set("jobs", Some("late"), &[("env-from", "late")]);
    assert_eq!(
        env_from_of(&defaults, "late").await,
        some("of-namespace", "late")
    );
    // An account that is deleted is not found by the next read.
    script.remove("jobs", Some("late"));
    advance(TTL).await;
    assert_eq!(env_from_of(&defaults, "late").await.1, None);
    script.behavior(ServerBehavior::Fails(ErrorKind::Unavailable));
    assert!(
        applied(&defaults, "late").await.is_err(),
        "a deleted account is not returned in an outage"
    );
}

/// Objects that exist and request no secret.
#[rstest::rstest]
#[case::no_annotations(&[])]
#[case::containers_only(&[("containers", "main")])]
#[case::opted_out(&[("inject", "false"), ("env-from", "a")])]
#[tokio::test(start_paused = true)]
async fn defaults_without_references_are_read_again(#[case] annotations: &[(&str, &str)]) {
    for account in [None, Some("default")] {
        let (defaults, script) = fixture();
        script.set("jobs", account, annotations);
        for reads in 1..=3 {
            applied(&defaults, "default").await.unwrap();
            assert_eq!(script.reads("jobs", account), reads);
        }
        script.set("jobs", account, &[("env-from", "added")]);
        let found = env_from_of(&defaults, "default").await;
        assert_eq!(
            if account.is_none() { found.0 } else { found.1 }.as_deref(),
            Some("added")
        );
    }
}

#[tokio::test(start_paused = true)]
async fn defaults_do_not_apply_without_the_label() {
    let (defaults, script) = fixture();
    script.label("jobs", false);
    for reads in 1..=3 {
        assert_eq!(env_from_of(&defaults, "default").await, (None, None));
        assert_eq!(
            script.reads("jobs", None),
            reads,
            "the namespace is read again"
        );
    }
    script.label("jobs", true);
    assert_eq!(
        env_from_of(&defaults, "default").await,
        some("of-namespace", "of-account")
    );
    // A namespace that does not exist has no label.
    let now = Instant::now();
    let nowhere = defaults
        .applied("nowhere", "default", now, now + TTL)
        .await
        .unwrap();
    assert!(nowhere.namespace.is_none() && nowhere.service_account.is_none());
}

#[tokio::test(start_paused = true)]
async fn invalid_names_are_neither_read_nor_stored() {
    let (defaults, script) = fixture();
    let long = "n".repeat(64);
    let huge = "n".repeat(4 << 20);
    for namespace in ["", "..", "Jobs", "a/b", &long, &huge] {
        let now = Instant::now();
        let applied = defaults
            .applied(namespace, "default", now, now + TTL)
            .await
            .unwrap();
        assert!(applied.namespace.is_none() && applied.confirmed().is_ok());
        assert!(
            defaults
                .namespace(namespace, now, now + TTL)
                .await
                .unwrap()
                .is_none()
        );
        defaults.forget(namespace, None);
    }
    assert_eq!(script.calls(), 0);
    // The defaults of the namespace apply to a pod whose account cannot exist.
    for account in ["..", "Bad", "a/b", &huge] {
        assert_eq!(
            env_from_of(&defaults, account).await,
            (Some("of-namespace".to_owned()), None)
        );
    }
    assert_eq!(script.calls(), 1);
    defaults.cache.objects.run_pending_tasks();
    assert_eq!(defaults.cache.objects.entry_count(), 1);
    // The longest valid name.
    let longest = "n".repeat(63);
    let now = Instant::now();
    assert!(
        defaults
            .applied(&longest, "default", now, now + TTL)
            .await
            .unwrap()
            .namespace
            .is_none()
    );
    assert_eq!(script.reads(&longest, None), 1);
}

#[tokio::test(start_paused = true)]
async fn cache_is_bounded_by_bytes() {
    let (defaults, script) = fixture();
    let value = "v".repeat(60_000);
    for at in 0..600 {
        let account = format!("account-{at}");
        script.set("jobs", Some(&account), &[("env-from", &value)]);
        applied(&defaults, &account).await.unwrap();
    }
    let stored = &defaults.cache.objects;
    stored.run_pending_tasks();
    assert!(
        (MAX_CACHE_BYTES / 2..=MAX_CACHE_BYTES).contains(&stored.weighted_size()),
        "{}",
        stored.weighted_size()
    );
    assert!(
        (100..300).contains(&stored.entry_count()),
        "{}",
        stored.entry_count()
    );
}

#[tokio::test(start_paused = true)]
async fn defaults_beyond_their_limit_are_a_mistake_and_not_stored() {
    let (defaults, script) = fixture();
    // Together with its name it has exactly the limit.
    let fits = "v".repeat(MAX_BYTES - "refs".len());
    script.set("jobs", Some("default"), &[("refs", &fits)]);
    let found = applied(&defaults, "default").await.unwrap();
    assert!(found.mistakes().is_empty() && found.service_account.is_some());
    let beyond = format!("{fits}v");
    script.set(
        "jobs",
        Some("large"),
        &[("refs", &beyond), ("reload", "off")],
    );
    script.set("jobs", None, &[("refs", &beyond)]);
    advance(TTL).await;
    let found = applied(&defaults, "large").await.unwrap();
    let sentences: Vec<String> = found.mistakes().iter().map(ToString::to_string).collect();
    let sentence = |whose: &str, bytes: usize| {
        format!(
            "annotation secrets.floe.dev/refs of {whose}: together the defaults of this object come to {bytes} bytes; at \
             most 65536 are read. Ask for fewer secrets here, or by shorter annotations"
        )
    };
    assert_eq!(
        sentences,
        [
            sentence("namespace \"jobs\"", 65_537),
            sentence("service account \"large\"", 65_546)
        ]
    );
    defaults.cache.objects.run_pending_tasks();
    assert!(
        defaults.cache.objects.weighted_size() < 2 * MAX_BYTES as u64,
        "the text is not stored"
    );
    // Corrected defaults apply at once.
    script.set("jobs", None, &[("env-from", "short")]);
    script.set("jobs", Some("large"), &[("env-from", "short")]);
    assert_eq!(
        env_from_of(&defaults, "large").await,
        some("short", "short")
    );
}

#[tokio::test(start_paused = true)]
async fn defaults_without_references_are_stored_for_background_callers() {
    let script = script();
    script.set("jobs", Some("default"), &[]);
    let background = Defaults::for_background_reads(Arc::new(Arc::clone(&script)));
    for _ in 0..5 {
        applied(&background, "default").await.unwrap();
    }
    assert_eq!(script.calls(), 2);
    advance(TTL).await;
    applied(&background, "default").await.unwrap();
    assert_eq!(script.calls(), 4);
}

#[tokio::test(start_paused = true)]
async fn forgotten_object_is_read_again() {
    let (defaults, script) = fixture();
    applied(&defaults, "default").await.unwrap();
    defaults.forget("jobs", Some("default"));
    script.set("jobs", Some("default"), &[("env-from", "changed")]);
    assert_eq!(
        env_from_of(&defaults, "default").await,
        some("of-namespace", "changed")
    );
    assert_eq!(
        (
            script.reads("jobs", None),
            script.reads("jobs", Some("default"))
        ),
        (1, 2)
    );
    defaults.forget("jobs", None);
    applied(&defaults, "default").await.unwrap();
    assert_eq!(
        (
            script.reads("jobs", None),
            script.reads("jobs", Some("default"))
        ),
        (2, 2)
    );
}
