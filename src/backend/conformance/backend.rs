//! Clauses of the contract of [`crate::backend::SecretsBackend`].

use std::collections::BTreeMap;
use std::time::Duration;

use secrecy::ExposeSecret;
use tokio::time::timeout;

use super::fixture::{CANARY, Fixture, InjectedFailure, leaks};
use super::queries::{bind, data, name, named_keys, wait_until_idle};
use crate::backend::{BackendMetadata, ErrorKind, HealthState, OptionalSecret};
use injection::SecretName;

/// A secret or key that does not exist is not found.
pub async fn missing_values_are_not_found(fixture: &dyn Fixture) {
    let (backend, namespace) = (fixture.backend(), fixture.namespace());
    fixture
        .create(&namespace, "present", &[("user", "u")])
        .await;
    let key = "token".parse().expect("a key");
    let (present, absent) = (name("present"), name("absent"));
    assert!(
        backend
            .get_secret(&namespace, &present, &key)
            .await
            .optional()
            .expect("no failure")
            .is_none()
    );
    assert!(
        backend
            .get_secret(&namespace, &absent, &key)
            .await
            .optional()
            .expect("no failure")
            .is_none()
    );
    assert!(
        backend
            .get_all(&namespace, &absent)
            .await
            .optional()
            .expect("no failure")
            .is_none()
    );
}

/// Values are returned as they were stored.
pub async fn values_are_returned_unchanged(fixture: &dyn Fixture) {
    let (backend, namespace) = (fixture.backend(), fixture.namespace());
    fixture
        .create(&namespace, "present", &[("user", "ü\n\"'"), ("empty", "")])
        .await;
    let key = "user".parse().expect("a key");
    let user = backend
        .get_secret(&namespace, &name("present"), &key)
        .await
        .expect("the key exists");
    assert_eq!(user.expose_secret(), "ü\n\"'");
    let all = backend
        .get_all(&namespace, &name("present"))
        .await
        .expect("the secret exists");
    let all: Vec<_> = all
        .iter()
        .map(|(key, value)| (key.as_str(), value.expose_secret()))
        .collect();
    assert_eq!(all, [("empty", ""), ("user", "ü\n\"'")]);
}

/// `set_secret` creates a secret, which can then be read and bound.
pub async fn set_creates_a_secret(fixture: &dyn Fixture) {
    let (backend, namespace) = (fixture.backend(), fixture.namespace());
    let created = name("created");
    backend
        .set_secret(
            &namespace,
            &created,
            data(&[("user", "u")]),
            BTreeMap::new(),
        )
        .await
        .expect("the secret is new");
    let key = "user".parse().expect("a key");
    let user = backend
        .get_secret(&namespace, &created, &key)
        .await
        .expect("the secret was written");
    assert_eq!(user.expose_secret(), "u");
    bind(fixture, "created", named_keys(&["user"]))
        .await
        .expect("the secret was written");
}

/// `set_secret` updates the given keys, and keeps other keys and annotations.
pub async fn set_keeps_other_keys_and_annotations(fixture: &dyn Fixture) {
    let (backend, namespace) = (fixture.backend(), fixture.namespace());
    let kept = name("kept");
    let owner = BTreeMap::from([("owner".to_owned(), "ada".to_owned())]);
    let first = data(&[("user", "old"), ("token", "t")]);
    backend
        .set_secret(&namespace, &kept, first, owner)
        .await
        .expect("the secret is new");
    fixture
        .annotate(&namespace, "kept", "example.com/note", "n")
        .await;
    let second = data(&[("user", "new"), ("more", "m")]);
    backend
        .set_secret(&namespace, &kept, second, BTreeMap::new())
        .await
        .expect("the secret is managed by this program");
    let all = backend
        .get_all(&namespace, &kept)
        .await
        .expect("the secret exists");
    let all: Vec<_> = all
        .iter()
        .map(|(key, value)| (key.as_str(), value.expose_secret()))
        .collect();
    assert_eq!(all, [("more", "m"), ("token", "t"), ("user", "new")]);
    assert_eq!(
        fixture
            .annotation(&namespace, "kept", "example.com/note")
            .await
            .as_deref(),
        Some("n")
    );
}

/// `set_secret` refuses to write a secret that it does not manage.
pub async fn set_does_not_adopt_foreign_secrets(fixture: &dyn Fixture) {
    let (backend, namespace) = (fixture.backend(), fixture.namespace());
    fixture
        .create(&namespace, "foreign", &[("user", "foreign")])
        .await;
    let foreign = name("foreign");
    let answer = backend
        .set_secret(
            &namespace,
            &foreign,
            data(&[("user", CANARY)]),
            BTreeMap::new(),
        )
        .await;
    let error = answer.expect_err("the secret is not managed by this program");
    assert_eq!(error.kind, ErrorKind::Conflict);
    assert!(!leaks(&format!("{error} {error:?}")));
    let all = backend
        .get_all(&namespace, &foreign)
        .await
        .expect("the secret exists");
    assert_eq!(
        all.values()
            .map(ExposeSecret::expose_secret)
            .collect::<Vec<_>>(),
        ["foreign"]
    );
}

/// `list_secrets` returns names in order, all with the prefix, from that namespace alone.
pub async fn list_returns_names_in_order(fixture: &dyn Fixture) {
    let (backend, namespace) = (fixture.backend(), fixture.namespace());
    for secret in ["list-b", "list-a", "list-c.d", "lost"] {
        fixture
            .create(&namespace, secret, &[("user", CANARY)])
            .await;
    }
    fixture
        .create(&fixture.other_namespace(), "list-other", &[])
        .await;
    let listed = backend
        .list_secrets(&namespace, "list-")
        .await
        .expect("the list succeeds");
    assert_eq!(
        listed.iter().map(SecretName::as_str).collect::<Vec<_>>(),
        ["list-a", "list-b", "list-c.d"]
    );
    assert!(
        backend
            .list_secrets(&namespace, "none")
            .await
            .expect("the list succeeds")
            .is_empty()
    );
}

/// `health_check` reports a working backend as healthy, and returns in time if the backend does not respond.
pub async fn health_check_returns_in_time(fixture: &dyn Fixture) {
    let backend = fixture.backend();
    let limit = Duration::from_millis(500);
    assert_eq!(
        backend.health_check(limit).await.state,
        HealthState::Healthy
    );
    if fixture.fail_with(InjectedFailure::NoResponse).await {
        let status = timeout(Duration::from_secs(5), backend.health_check(limit))
            .await
            .expect("the health check returns in time");
        assert_eq!(status.state, HealthState::Unhealthy);
        assert!(!leaks(&status.message));
        wait_until_idle(fixture).await;
    }
}

/// Name and versions have the format of the floe spec.
#[expect(clippy::unused_async, reason = "all clauses have the same signature")]
pub async fn metadata_is_well_formed(fixture: &dyn Fixture) {
    let BackendMetadata {
        name,
        version,
        floe_api_version,
    } = fixture.backend().metadata();
    let numbers = |text: &str| {
        text.split('.')
            .filter(|part| part.parse::<u32>().is_ok())
            .count()
    };
    assert!(
        !name.is_empty()
            && name
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    );
    assert_eq!(numbers(version), 3);
    assert_eq!(numbers(floe_api_version), 2);
}
