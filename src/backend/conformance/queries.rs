//! Queries and data of the clauses.

use std::time::Duration;

use secrecy::SecretString;
use tokio::time::{Instant, sleep};

use super::fixture::Fixture;
use crate::backend::{BackendError, BindQuery, KeyQuery, SecretData};
use injection::{SecretBinding, SecretId, SecretName, SecretSource};

pub(super) fn name(text: &str) -> SecretName {
    text.parse().expect("a clause's Secret name")
}

/// Query that arrives now. Two seconds are long for a backend that responds, and short for a test of one that does not.
pub(super) fn query(namespace: &str, secret: &str, keys: KeyQuery) -> BindQuery {
    let arrived = Instant::now();
    BindQuery {
        namespace: namespace.to_owned(),
        secret: SecretId {
            source: SecretSource::Kubernetes,
            name: name(secret),
        },
        keys,
        arrived,
        deadline: arrived + Duration::from_secs(2),
    }
}

pub(super) async fn bind(
    fixture: &dyn Fixture,
    secret: &str,
    keys: KeyQuery,
) -> Result<SecretBinding, BackendError> {
    fixture
        .binder()
        .bind(&query(&fixture.namespace(), secret, keys))
        .await
}

pub(super) fn named_keys(keys: &[&str]) -> KeyQuery {
    KeyQuery::of(keys.iter().map(|key| key.parse().expect("a clause's key")))
}

pub(super) fn data(entries: &[(&str, &str)]) -> SecretData {
    let parsed = |(key, value): &(&str, &str)| {
        (
            key.parse().expect("a clause's key"),
            SecretString::from(*value),
        )
    };
    entries.iter().map(parsed).collect()
}

/// Waits until no call to the backend is under way.
pub(super) async fn wait_until_idle(fixture: &dyn Fixture) {
    for _ in 0..200 {
        match fixture.in_flight() {
            None | Some(0) => return,
            Some(_) => sleep(Duration::from_millis(10)).await,
        }
    }
    panic!(
        "calls still under way after their callers left: {:?}",
        fixture.in_flight()
    );
}
