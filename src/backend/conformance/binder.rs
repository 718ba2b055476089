//! Clauses of the contract of [`crate::backend::SecretBinder`].

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::fixture::{CANARY, Fixture, InjectedFailure, leaks};
use super::queries::{bind, name, named_keys, query, wait_until_idle};
use crate::backend::{ErrorKind, KeyQuery};

/// `bind` of a secret that exists returns the name of its Kubernetes Secret.
pub async fn existing_secret_is_bound_by_name(fixture: &dyn Fixture) {
    fixture
        .create(&fixture.namespace(), "present", &[("user", CANARY)])
        .await;
    let binding = bind(fixture, "present", KeyQuery::default())
        .await
        .expect("the secret exists");
    assert_eq!(binding.secret_name, "present");
}

/// If the query needs keys, the keys of the binding are present and complete.
pub async fn requested_keys_are_complete(fixture: &dyn Fixture) {
    fixture
        .create(
            &fixture.namespace(),
            "keyed",
            &[("user", CANARY), ("pass.word", CANARY), ("A_b", "")],
        )
        .await;
    for wanted in [named_keys(&["user"]), KeyQuery::all()] {
        let keys = bind(fixture, "keyed", wanted)
            .await
            .expect("the secret exists")
            .keys;
        assert_eq!(
            keys,
            Some(BTreeSet::from(
                ["A_b", "pass.word", "user"].map(ToOwned::to_owned)
            ))
        );
    }
}

/// A requested key that is missing is not an error here.
pub async fn missing_key_is_not_an_error(fixture: &dyn Fixture) {
    fixture
        .create(&fixture.namespace(), "keyless", &[("user", CANARY)])
        .await;
    let keys = bind(fixture, "keyless", named_keys(&["token"]))
        .await
        .expect("the secret exists")
        .keys;
    assert_eq!(keys, Some(BTreeSet::from(["user".to_owned()])));
}

/// A secret without data has an empty set of keys.
pub async fn empty_secret_has_no_keys(fixture: &dyn Fixture) {
    fixture.create(&fixture.namespace(), "empty", &[]).await;
    let keys = bind(fixture, "empty", KeyQuery::all())
        .await
        .expect("the secret exists")
        .keys;
    assert_eq!(keys, Some(BTreeSet::new()));
}

/// A secret that does not exist in that namespace is not found, whatever other namespaces have.
pub async fn missing_secret_is_not_found(fixture: &dyn Fixture) {
    fixture
        .create(&fixture.other_namespace(), "elsewhere", &[("user", CANARY)])
        .await;
    for wanted in [KeyQuery::default(), named_keys(&["user"]), KeyQuery::all()] {
        let error = bind(fixture, "elsewhere", wanted)
            .await
            .expect_err("the secret exists only in another namespace");
        assert_eq!(error.kind, ErrorKind::NotFound);
        assert_eq!(
            (error.namespace, error.secret),
            (fixture.namespace(), Some(name("elsewhere")))
        );
    }
}

/// A secret that is created after one review is found by the next.
pub async fn created_secret_is_found_by_the_next_review(fixture: &dyn Fixture) {
    let error = bind(fixture, "late", KeyQuery::default())
        .await
        .expect_err("the secret does not exist yet");
    assert_eq!(error.kind, ErrorKind::NotFound);
    fixture.create(&fixture.namespace(), "late", &[]).await;
    bind(fixture, "late", KeyQuery::default())
        .await
        .expect("the secret was created");
}

/// A read that is denied has the same error whether or not the secret exists.
pub async fn denied_read_does_not_disclose_existence(fixture: &dyn Fixture) {
    fixture
        .create(&fixture.namespace(), "present", &[("user", CANARY)])
        .await;
    if !fixture.fail_with(InjectedFailure::Denied).await {
        return;
    }
    let mut messages = Vec::new();
    for secret in ["present", "absent"] {
        let error = bind(fixture, secret, KeyQuery::all())
            .await
            .expect_err("reads are denied");
        assert_eq!(error.kind, ErrorKind::PermissionDenied);
        messages.push(format!("{error} {error:?}").replace(secret, "it"));
    }
    assert_eq!(messages.first(), messages.last());
}

/// Every failure has its kind, and none becomes "not found".
pub async fn failures_keep_their_kind(fixture: &dyn Fixture) {
    fixture
        .create(&fixture.namespace(), "present", &[("user", CANARY)])
        .await;
    // Unavailable last: it may open a circuit breaker.
    for failure in [
        InjectedFailure::Unreadable,
        InjectedFailure::RateLimited,
        InjectedFailure::Unauthenticated,
        InjectedFailure::Unavailable,
    ] {
        if fixture.fail_with(failure).await {
            for secret in ["present", "absent"] {
                let error = bind(fixture, secret, KeyQuery::all())
                    .await
                    .expect_err("the backend fails");
                assert_eq!(error.kind, failure.kind(), "{failure:?}");
            }
        }
    }
}

/// No response before the deadline is an error of its own, and no work continues in the background.
pub async fn missing_response_fails_at_the_deadline(fixture: &dyn Fixture) {
    if !fixture.fail_with(InjectedFailure::NoResponse).await {
        return;
    }
    let mut short_query = query(&fixture.namespace(), "present", KeyQuery::all());
    short_query.deadline = short_query.arrived + Duration::from_millis(300);
    let answer = timeout(Duration::from_secs(5), fixture.binder().bind(&short_query)).await;
    let error = answer
        .expect("the call ends soon after the deadline")
        .expect_err("the backend does not respond");
    assert_eq!(error.kind, ErrorKind::Deadline);
    wait_until_idle(fixture).await;
}

/// Dropping the future cancels the work.
pub async fn dropped_call_is_cancelled(fixture: &dyn Fixture) {
    if !fixture.fail_with(InjectedFailure::NoResponse).await {
        return;
    }
    let long_query = query(&fixture.namespace(), "present", KeyQuery::all());
    let binder = fixture.binder();
    assert!(
        timeout(Duration::from_millis(200), binder.bind(&long_query))
            .await
            .is_err()
    );
    wait_until_idle(fixture).await;
}

/// Dropping one future does not affect another caller.
pub async fn dropped_call_does_not_affect_other_callers(fixture: &dyn Fixture) {
    fixture
        .create(&fixture.namespace(), "shared", &[("user", CANARY)])
        .await;
    let query = query(&fixture.namespace(), "shared", KeyQuery::all());
    let binder = fixture.binder();
    let waiting = tokio::spawn({
        let (binder, query) = (Arc::clone(&binder), query.clone());
        async move { binder.bind(&query).await }
    });
    for _ in 0..10 {
        drop(timeout(Duration::ZERO, binder.bind(&query)).await);
    }
    waiting
        .await
        .expect("the task ends")
        .expect("the secret exists");
}

/// All of many concurrent callers get a result.
pub async fn concurrent_callers_all_get_a_result(fixture: &dyn Fixture) {
    fixture
        .create(&fixture.namespace(), "busy", &[("user", CANARY)])
        .await;
    let callers = (0..50).map(|at| {
        let keys = if at % 2 == 0 {
            KeyQuery::default()
        } else {
            named_keys(&["user"])
        };
        bind(fixture, if at % 5 == 0 { "absent" } else { "busy" }, keys)
    });
    for (at, answer) in futures::future::join_all(callers)
        .await
        .into_iter()
        .enumerate()
    {
        match answer {
            Ok(binding) => assert!(at % 5 != 0 && (at % 2 == 0 || binding.keys.is_some())),
            Err(error) => assert!(at % 5 == 0 && error.kind == ErrorKind::NotFound, "{error}"),
        }
    }
}

/// No error contains a value or any text that the backend sent.
pub async fn errors_contain_no_text_of_the_backend(fixture: &dyn Fixture) {
    fixture
        .create(
            &fixture.namespace(),
            "present",
            &[("user", CANARY), (CANARY, CANARY)],
        )
        .await;
    let found = bind(fixture, "absent", KeyQuery::all())
        .await
        .expect_err("the secret does not exist");
    let mut errors = vec![found];
    for failure in InjectedFailure::ALL {
        if fixture.fail_with(failure).await {
            for wanted in [KeyQuery::default(), KeyQuery::all()] {
                let mut query = query(&fixture.namespace(), "present", wanted);
                query.deadline = query.arrived + Duration::from_millis(500);
                errors.push(
                    fixture
                        .binder()
                        .bind(&query)
                        .await
                        .expect_err("the backend fails"),
                );
            }
        }
    }
    for error in errors {
        let text = format!(
            "{error}\n{error:?}\n{}",
            crate::telemetry::error_chain::ErrorChain(&error)
        );
        assert!(!leaks(&text), "{text}");
    }
}
