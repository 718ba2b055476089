//! The contract of [`SecretBinder`] and [`SecretsBackend`] as tests: one function per clause.
//!
//! Every backend, decorator and fake runs them through [`crate::binder_conformance`] and
//! [`crate::backend_conformance`], with a [`Fixture`] that says how to put a secret there and how to make the
//! backend fail. Each clause wants a fixture of its own, and panics where the contract is broken.
#![expect(
    clippy::missing_panics_doc,
    reason = "a clause panics when the contract is broken: that is its use"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret, SecretString};
use tokio::time::{Instant, sleep, timeout};

use super::{
    BackendError, BindQuery, ErrorKind, HealthState, KeyQuery, OptionalSecret, SecretBinder,
    SecretData, SecretsBackend,
};
use injection::{SecretBinding, SecretId, SecretName, SecretSource};

/// A value that must never be seen outside of a secret.
pub const CANARY: &str = "canary-2f9d0c47";

/// Whether `text` shows [`CANARY`], plain or in base64.
#[must_use]
pub fn leaks(text: &str) -> bool {
    text.contains(CANARY) || text.contains(&STANDARD.encode(CANARY))
}

/// A way in which a backend fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// It refuses this reader.
    Refused,
    /// It answers what cannot be read: half of a secret that holds [`CANARY`], where it sends secrets at all.
    Unreadable,
    /// It says "not now".
    Unavailable,
    /// It says "slow down", and for a minute.
    RateLimited,
    /// It refuses our credential.
    Unauthenticated,
    /// It never answers.
    Silent,
}

impl Trouble {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Refused,
        Self::Unreadable,
        Self::Unavailable,
        Self::RateLimited,
        Self::Unauthenticated,
        Self::Silent,
    ];

    /// What a call in this trouble fails as.
    #[must_use]
    pub fn kind(self) -> ErrorKind {
        match self {
            Self::Refused => ErrorKind::PermissionDenied,
            Self::Unreadable => ErrorKind::Protocol,
            Self::Unavailable => ErrorKind::Unavailable,
            Self::RateLimited => ErrorKind::RateLimited,
            Self::Unauthenticated => ErrorKind::Unauthenticated,
            Self::Silent => ErrorKind::Deadline,
        }
    }
}

/// A backend under test and the world behind it.
#[async_trait]
pub trait Fixture: Send + Sync {
    /// The subject, as admission sees it.
    fn binder(&self) -> Arc<dyn SecretBinder>;

    /// The subject, as the admin API sees it. Only [`crate::backend_conformance`] asks.
    fn backend(&self) -> Arc<dyn SecretsBackend> {
        panic!("this subject is a binder only")
    }

    /// A namespace to work in.
    fn namespace(&self) -> String {
        "jobs".to_owned()
    }

    /// Another one.
    fn other_namespace(&self) -> String {
        "other".to_owned()
    }

    /// Makes a secret as another program would, not through the subject.
    async fn create(&self, namespace: &str, name: &str, data: &[(&str, &str)]);

    /// Notes something beside a stored secret, as another program would. Only [`crate::backend_conformance`]
    /// asks.
    async fn annotate(&self, _namespace: &str, _name: &str, _key: &str, _value: &str) {
        panic!("this subject is a binder only")
    }

    /// Reads such a note.
    async fn annotation(&self, _namespace: &str, _name: &str, _key: &str) -> Option<String> {
        panic!("this subject is a binder only")
    }

    /// Makes every further call fail so; `false` when this world cannot, and the clause is passed over.
    async fn trouble(&self, trouble: Trouble) -> bool;

    /// How many calls the backend is working on; `None` when nobody can tell.
    fn in_flight(&self) -> Option<usize>;
}

// === asking ===

fn name(text: &str) -> SecretName {
    text.parse().expect("a clause's Secret name")
}

/// A query that arrives now. Two seconds are long for a backend that works, and short for a test of one that
/// does not.
fn query(namespace: &str, secret: &str, keys: KeyQuery) -> BindQuery {
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

async fn bind(
    fixture: &dyn Fixture,
    secret: &str,
    keys: KeyQuery,
) -> Result<SecretBinding, BackendError> {
    fixture
        .binder()
        .bind(&query(&fixture.namespace(), secret, keys))
        .await
}

fn these(keys: &[&str]) -> KeyQuery {
    KeyQuery::of(keys.iter().map(|key| key.parse().expect("a clause's key")))
}

fn data(entries: &[(&str, &str)]) -> SecretData {
    let parsed = |(key, value): &(&str, &str)| {
        (
            key.parse().expect("a clause's key"),
            SecretString::from(*value),
        )
    };
    entries.iter().map(parsed).collect()
}

/// Waits until the backend works on nothing any more.
async fn comes_to_rest(fixture: &dyn Fixture) {
    for _ in 0..200 {
        match fixture.in_flight() {
            None | Some(0) => return,
            Some(_) => sleep(Duration::from_millis(10)).await,
        }
    }
    panic!(
        "the backend still works on {:?} calls that nobody waits for",
        fixture.in_flight()
    );
}

// === SecretBinder ===

/// `bind` of a secret that exists answers its Kubernetes Secret's name.
pub async fn existing_secret_is_bound_by_name(fixture: &dyn Fixture) {
    fixture
        .create(&fixture.namespace(), "present", &[("user", CANARY)])
        .await;
    let binding = bind(fixture, "present", KeyQuery::default())
        .await
        .expect("the secret exists");
    assert_eq!(binding.secret_name, "present");
}

/// When the query wants keys, the answer's keys are there and complete.
pub async fn wanted_keys_are_complete(fixture: &dyn Fixture) {
    fixture
        .create(
            &fixture.namespace(),
            "keyed",
            &[("user", CANARY), ("pass.word", CANARY), ("A_b", "")],
        )
        .await;
    for wanted in [these(&["user"]), KeyQuery::all()] {
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

/// A key that is wanted and missing is not an error here.
pub async fn missing_key_is_no_error(fixture: &dyn Fixture) {
    fixture
        .create(&fixture.namespace(), "keyless", &[("user", CANARY)])
        .await;
    let keys = bind(fixture, "keyless", these(&["token"]))
        .await
        .expect("the secret exists")
        .keys;
    assert_eq!(keys, Some(BTreeSet::from(["user".to_owned()])));
}

/// A secret without data has no keys, and says so.
pub async fn empty_secret_has_no_keys(fixture: &dyn Fixture) {
    fixture.create(&fixture.namespace(), "empty", &[]).await;
    let keys = bind(fixture, "empty", KeyQuery::all())
        .await
        .expect("the secret exists")
        .keys;
    assert_eq!(keys, Some(BTreeSet::new()));
}

/// A secret that does not exist in that namespace is not found, whatever other namespaces hold.
pub async fn missing_secret_is_not_found(fixture: &dyn Fixture) {
    fixture
        .create(&fixture.other_namespace(), "elsewhere", &[("user", CANARY)])
        .await;
    for wanted in [KeyQuery::default(), these(&["user"]), KeyQuery::all()] {
        let error = bind(fixture, "elsewhere", wanted)
            .await
            .expect_err("it is elsewhere");
        assert_eq!(error.kind, ErrorKind::NotFound);
        assert_eq!(
            (error.namespace, error.secret),
            (fixture.namespace(), Some(name("elsewhere")))
        );
    }
}

/// A secret is found as soon as it exists, and not found as soon as a review after that asks.
pub async fn creation_is_seen_by_the_next_review(fixture: &dyn Fixture) {
    let error = bind(fixture, "late", KeyQuery::default())
        .await
        .expect_err("it is not there yet");
    assert_eq!(error.kind, ErrorKind::NotFound);
    fixture.create(&fixture.namespace(), "late", &[]).await;
    bind(fixture, "late", KeyQuery::default())
        .await
        .expect("now it is there");
}

/// A refused read is denied, the same whether or not the secret exists.
pub async fn refusal_does_not_tell_what_exists(fixture: &dyn Fixture) {
    fixture
        .create(&fixture.namespace(), "present", &[("user", CANARY)])
        .await;
    if !fixture.trouble(Trouble::Refused).await {
        return;
    }
    let mut told = Vec::new();
    for secret in ["present", "absent"] {
        let error = bind(fixture, secret, KeyQuery::all())
            .await
            .expect_err("reading is refused");
        assert_eq!(error.kind, ErrorKind::PermissionDenied);
        told.push(format!("{error} {error:?}").replace(secret, "it"));
    }
    assert_eq!(told.first(), told.last());
}

/// Every failure has its kind, and none is taken for "not found".
pub async fn failures_keep_their_kind(fixture: &dyn Fixture) {
    fixture
        .create(&fixture.namespace(), "present", &[("user", CANARY)])
        .await;
    // Unavailable last: who was told that often enough may stop asking.
    for trouble in [
        Trouble::Unreadable,
        Trouble::RateLimited,
        Trouble::Unauthenticated,
        Trouble::Unavailable,
    ] {
        if fixture.trouble(trouble).await {
            for secret in ["present", "absent"] {
                let error = bind(fixture, secret, KeyQuery::all())
                    .await
                    .expect_err("the backend is in trouble");
                assert_eq!(error.kind, trouble.kind(), "in trouble {trouble:?}");
            }
        }
    }
}

/// No answer before the deadline is an error of its own, and nothing goes on in the background.
pub async fn silence_ends_at_the_deadline(fixture: &dyn Fixture) {
    if !fixture.trouble(Trouble::Silent).await {
        return;
    }
    let mut hasty = query(&fixture.namespace(), "present", KeyQuery::all());
    hasty.deadline = hasty.arrived + Duration::from_millis(300);
    let answer = timeout(Duration::from_secs(5), fixture.binder().bind(&hasty)).await;
    let error = answer
        .expect("an end soon after the deadline")
        .expect_err("nobody answered");
    assert_eq!(error.kind, ErrorKind::Deadline);
    comes_to_rest(fixture).await;
}

/// Dropping the future cancels the work.
pub async fn dropping_cancels_the_work(fixture: &dyn Fixture) {
    if !fixture.trouble(Trouble::Silent).await {
        return;
    }
    let patient = query(&fixture.namespace(), "present", KeyQuery::all());
    let binder = fixture.binder();
    assert!(
        timeout(Duration::from_millis(200), binder.bind(&patient))
            .await
            .is_err()
    );
    comes_to_rest(fixture).await;
}

/// Dropping one future does not disturb another caller's.
pub async fn dropping_disturbs_no_other_caller(fixture: &dyn Fixture) {
    fixture
        .create(&fixture.namespace(), "shared", &[("user", CANARY)])
        .await;
    let query = query(&fixture.namespace(), "shared", KeyQuery::all());
    let binder = fixture.binder();
    let stays = tokio::spawn({
        let (binder, query) = (Arc::clone(&binder), query.clone());
        async move { binder.bind(&query).await }
    });
    for _ in 0..10 {
        drop(timeout(Duration::ZERO, binder.bind(&query)).await);
    }
    stays
        .await
        .expect("the task ends")
        .expect("the secret exists");
}

/// Many callers at once are all answered.
pub async fn many_callers_are_all_answered(fixture: &dyn Fixture) {
    fixture
        .create(&fixture.namespace(), "busy", &[("user", CANARY)])
        .await;
    let callers = (0..50).map(|at| {
        let keys = if at % 2 == 0 {
            KeyQuery::default()
        } else {
            these(&["user"])
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

/// No error carries a value or any text that the backend sent.
pub async fn errors_quote_nothing(fixture: &dyn Fixture) {
    fixture
        .create(
            &fixture.namespace(),
            "present",
            &[("user", CANARY), (CANARY, CANARY)],
        )
        .await;
    let found = bind(fixture, "absent", KeyQuery::all())
        .await
        .expect_err("it is absent");
    let mut errors = vec![found];
    for trouble in Trouble::ALL {
        if fixture.trouble(trouble).await {
            for wanted in [KeyQuery::default(), KeyQuery::all()] {
                let mut query = query(&fixture.namespace(), "present", wanted);
                query.deadline = query.arrived + Duration::from_millis(500);
                errors.push(
                    fixture
                        .binder()
                        .bind(&query)
                        .await
                        .expect_err("the backend is in trouble"),
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

// === SecretsBackend ===

/// What does not exist is not found: the secret, and the key.
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

/// Values come back as they were stored.
pub async fn values_come_back(fixture: &dyn Fixture) {
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

/// `set_secret` creates, and what it wrote is read and bound.
pub async fn set_creates(fixture: &dyn Fixture) {
    let (backend, namespace) = (fixture.backend(), fixture.namespace());
    let made = name("made");
    backend
        .set_secret(&namespace, &made, data(&[("user", "u")]), BTreeMap::new())
        .await
        .expect("it is new");
    let key = "user".parse().expect("a key");
    let user = backend
        .get_secret(&namespace, &made, &key)
        .await
        .expect("it was written");
    assert_eq!(user.expose_secret(), "u");
    bind(fixture, "made", these(&["user"]))
        .await
        .expect("it was written");
}

/// `set_secret` updates the given keys and keeps all others, and what others noted beside them.
pub async fn set_keeps_what_it_is_not_given(fixture: &dyn Fixture) {
    let (backend, namespace) = (fixture.backend(), fixture.namespace());
    let kept = name("kept");
    let owner = BTreeMap::from([("owner".to_owned(), "ada".to_owned())]);
    let first = data(&[("user", "old"), ("token", "t")]);
    backend
        .set_secret(&namespace, &kept, first, owner)
        .await
        .expect("it is new");
    fixture
        .annotate(&namespace, "kept", "example.com/note", "n")
        .await;
    let second = data(&[("user", "new"), ("more", "m")]);
    backend
        .set_secret(&namespace, &kept, second, BTreeMap::new())
        .await
        .expect("it is ours");
    let all = backend.get_all(&namespace, &kept).await.expect("it exists");
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
pub async fn set_adopts_nothing(fixture: &dyn Fixture) {
    let (backend, namespace) = (fixture.backend(), fixture.namespace());
    fixture
        .create(&namespace, "foreign", &[("user", "theirs")])
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
    let error = answer.expect_err("it is not ours");
    assert_eq!(error.kind, ErrorKind::Conflict);
    assert!(!leaks(&format!("{error} {error:?}")));
    let all = backend
        .get_all(&namespace, &foreign)
        .await
        .expect("it exists");
    assert_eq!(
        all.values()
            .map(ExposeSecret::expose_secret)
            .collect::<Vec<_>>(),
        ["theirs"]
    );
}

/// `list_secrets` answers names in order, all with the prefix, from that namespace alone.
pub async fn list_answers_names_in_order(fixture: &dyn Fixture) {
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
        .expect("a list");
    assert_eq!(
        listed.iter().map(SecretName::as_str).collect::<Vec<_>>(),
        ["list-a", "list-b", "list-c.d"]
    );
    assert!(
        backend
            .list_secrets(&namespace, "none")
            .await
            .expect("a list")
            .is_empty()
    );
}

/// `health_check` says healthy when all is well, and answers in time when nothing is.
pub async fn health_answers_in_time(fixture: &dyn Fixture) {
    let backend = fixture.backend();
    let limit = Duration::from_millis(500);
    assert_eq!(
        backend.health_check(limit).await.state,
        HealthState::Healthy
    );
    if fixture.trouble(Trouble::Silent).await {
        let status = timeout(Duration::from_secs(5), backend.health_check(limit))
            .await
            .expect("an answer in time");
        assert_eq!(status.state, HealthState::Unhealthy);
        assert!(!leaks(&status.message));
        comes_to_rest(fixture).await;
    }
}

/// Its name and versions have the shape that the floe spec wants.
#[expect(clippy::unused_async, reason = "all clauses are called alike")]
pub async fn metadata_is_well_formed(fixture: &dyn Fixture) {
    let super::BackendMetadata {
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

/// A module of tests: every clause of [`SecretBinder`], each with a fixture from `$fixture`, an expression to
/// be awaited.
#[macro_export]
macro_rules! binder_conformance {
    ($module:ident, $fixture:expr) => {
        $crate::conformance_clauses! { $module, $fixture,
            existing_secret_is_bound_by_name, wanted_keys_are_complete, missing_key_is_no_error,
            empty_secret_has_no_keys, missing_secret_is_not_found, creation_is_seen_by_the_next_review,
            refusal_does_not_tell_what_exists, failures_keep_their_kind, silence_ends_at_the_deadline,
            dropping_cancels_the_work, dropping_disturbs_no_other_caller,
            many_callers_are_all_answered, errors_quote_nothing
        }
    };
}

/// The same for the clauses that [`SecretsBackend`] adds.
#[macro_export]
macro_rules! backend_conformance {
    ($module:ident, $fixture:expr) => {
        $crate::conformance_clauses! { $module, $fixture,
            missing_values_are_not_found, values_come_back, set_creates, set_keeps_what_it_is_not_given,
            set_adopts_nothing, list_answers_names_in_order, health_answers_in_time, metadata_is_well_formed
        }
    };
}

/// What both are made of.
#[doc(hidden)]
#[macro_export]
macro_rules! conformance_clauses {
    ($module:ident, $fixture:expr, $($clause:ident),+) => {
        mod $module {
            use super::*;
            $(
                #[tokio::test]
                async fn $clause() {
                    let fixture = $fixture.await;
                    $crate::backend::conformance::$clause(&fixture).await;
                }
            )+
        }
    };
}
