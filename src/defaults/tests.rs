use async_trait::async_trait;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use futures::future::join_all;
use tokio::time::{advance, sleep};

use super::*;
use crate::backend::limits::{LimitSettings, Limits};
use crate::backend::registry::DecoratorSettings;

const READ: Duration = Duration::from_millis(20);

/// What a scripted API server does with every call.
#[derive(Clone, Copy, Debug)]
enum Mood {
    Answers,
    Slow(Duration),
    Fails(ErrorKind),
    Silent,
}

/// Namespaces and ServiceAccounts by script, with counts of what was asked.
#[derive(Debug)]
struct Script {
    sources: Mutex<BTreeMap<(String, Option<String>), DefaultsObject>>,
    mood: Mutex<Mood>,
    asked: Mutex<Vec<(String, Option<String>)>>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Script {
    fn set(&self, namespace: &str, account: Option<&str>, annotations: &[(&str, &str)]) {
        let pairs = annotations
            .iter()
            .map(|(key, value)| (format!("secrets.floe.dev/{key}"), (*value).to_owned()));
        let source = DefaultsObject {
            annotations: Annotations::from_pairs(pairs),
            enabled: true,
            ..DefaultsObject::default()
        };
        lock(&self.sources).insert((namespace.to_owned(), account.map(str::to_owned)), source);
    }

    fn label(&self, namespace: &str, enabled: bool) {
        lock(&self.sources)
            .get_mut(&(namespace.to_owned(), None))
            .unwrap()
            .enabled = enabled;
    }

    fn remove(&self, namespace: &str, account: Option<&str>) {
        lock(&self.sources).remove(&(namespace.to_owned(), account.map(str::to_owned)));
    }

    fn mood(&self, mood: Mood) {
        *lock(&self.mood) = mood;
    }

    /// How often this object was asked for.
    fn asked(&self, namespace: &str, account: Option<&str>) -> usize {
        let key = (namespace.to_owned(), account.map(str::to_owned));
        lock(&self.asked)
            .iter()
            .filter(|asked| **asked == key)
            .count()
    }

    fn calls(&self) -> usize {
        lock(&self.asked).len()
    }

    async fn answer(
        &self,
        namespace: &str,
        account: Option<&str>,
    ) -> Result<Option<DefaultsObject>, BackendError> {
        let key = (namespace.to_owned(), account.map(str::to_owned));
        lock(&self.asked).push(key.clone());
        let found = lock(&self.sources).get(&key).cloned();
        let mood = *lock(&self.mood);
        match mood {
            Mood::Answers => sleep(READ).await,
            Mood::Slow(pause) => sleep(pause).await,
            Mood::Fails(kind) => {
                return Err(BackendError::new(
                    kind,
                    BackendKind::Kubernetes,
                    namespace,
                    None,
                ));
            }
            Mood::Silent => std::future::pending().await,
        }
        Ok(found)
    }
}

#[async_trait]
impl DefaultsReader for Arc<Script> {
    async fn namespace(
        &self,
        name: &str,
        _: Instant,
    ) -> Result<Option<DefaultsObject>, BackendError> {
        self.answer(name, None).await
    }

    async fn service_account(
        &self,
        namespace: &str,
        name: &str,
        _: Instant,
    ) -> Result<Option<DefaultsObject>, BackendError> {
        self.answer(namespace, Some(name)).await
    }
}

/// A labelled namespace `jobs` and its account `default`, both asking.
fn script() -> Arc<Script> {
    let script = Arc::new(Script {
        sources: Mutex::default(),
        mood: Mutex::new(Mood::Answers),
        asked: Mutex::default(),
    });
    script.set("jobs", None, &[("env-from", "of-namespace")]);
    script.set("jobs", Some("default"), &[("env-from", "of-account")]);
    script
}

fn subject() -> (Arc<Defaults>, Arc<Script>) {
    let script = script();
    (
        Arc::new(Defaults::new(Arc::new(Arc::clone(&script)))),
        script,
    )
}

/// The same with retries, limits and a breaker, as `serve` has it.
fn guarded() -> (Arc<Defaults>, Arc<Script>) {
    let script = script();
    let limits = Limits::new(LimitSettings::default());
    let guarded = Guarded::new(Arc::clone(&script), limits, DecoratorSettings::default());
    (Arc::new(Defaults::new(Arc::new(guarded))), script)
}

async fn within(
    defaults: &Defaults,
    account: &str,
    time: Duration,
) -> Result<AppliedDefaults, BackendError> {
    let now = Instant::now();
    defaults.applied("jobs", account, now, now + time).await
}

async fn applied(defaults: &Defaults, account: &str) -> Result<AppliedDefaults, BackendError> {
    within(defaults, account, Duration::from_secs(9)).await
}

fn of(source: Option<&Arc<DefaultsObject>>) -> Option<&str> {
    source?.annotations.get("env-from")
}

/// What namespace and account ask for.
async fn asked(defaults: &Defaults, account: &str) -> (Option<String>, Option<String>) {
    let applied = applied(defaults, account).await.unwrap();
    let text = |source: &Option<Arc<DefaultsObject>>| of(source.as_ref()).map(str::to_owned);
    (text(&applied.namespace), text(&applied.service_account))
}

fn some(namespace: &str, account: &str) -> (Option<String>, Option<String>) {
    (Some(namespace.to_owned()), Some(account.to_owned()))
}

#[tokio::test(start_paused = true)]
async fn defaults_that_ask_answer_from_memory_until_the_ttl() {
    let (defaults, script) = subject();
    for _ in 0..5 {
        assert_eq!(
            asked(&defaults, "default").await,
            some("of-namespace", "of-account")
        );
    }
    assert_eq!(script.calls(), 2);
    script.set("jobs", Some("default"), &[("env-from", "changed")]);
    let remembered = TTL.saturating_sub(READ);
    advance(remembered.saturating_sub(Duration::from_millis(1))).await;
    assert_eq!(
        asked(&defaults, "default").await,
        some("of-namespace", "of-account")
    );
    advance(Duration::from_millis(1)).await;
    assert_eq!(
        asked(&defaults, "default").await,
        some("of-namespace", "changed")
    );
}

/// A Deployment is applied before its ServiceAccount.
#[tokio::test(start_paused = true)]
async fn account_that_does_not_exist_is_never_remembered() {
    let (defaults, script) = subject();
    for _ in 0..3 {
        assert_eq!(asked(&defaults, "late").await.1, None);
    }
    assert_eq!(
        (
            script.asked("jobs", Some("late")),
            script.asked("jobs", None)
        ),
        (3, 1)
    );
    script.set("jobs", Some("late"), &[("env-from", "late")]);
    assert_eq!(asked(&defaults, "late").await, some("of-namespace", "late"));
    // And one that went is gone as soon as somebody looks.
    script.remove("jobs", Some("late"));
    advance(TTL).await;
    assert_eq!(asked(&defaults, "late").await.1, None);
    script.mood(Mood::Fails(ErrorKind::Unavailable));
    assert!(
        applied(&defaults, "late").await.is_err(),
        "it must not come back in an outage"
    );
}

/// Objects that exist, and say nothing that asks for a secret.
#[rstest::rstest]
#[case::nothing(&[])]
#[case::who_gets_them(&[("containers", "main")])]
#[case::opted_out(&[("inject", "false"), ("env-from", "a")])]
#[tokio::test(start_paused = true)]
async fn silence_is_not_remembered_either(#[case] silent: &[(&str, &str)]) {
    for account in [None, Some("default")] {
        let (defaults, script) = subject();
        script.set("jobs", account, silent);
        for reads in 1..=3 {
            applied(&defaults, "default").await.unwrap();
            assert_eq!(script.asked("jobs", account), reads);
        }
        script.set("jobs", account, &[("env-from", "added")]);
        let found = asked(&defaults, "default").await;
        assert_eq!(
            if account.is_none() { found.0 } else { found.1 }.as_deref(),
            Some("added")
        );
    }
}

#[tokio::test(start_paused = true)]
async fn absence_never_rests_on_a_read_that_began_before_the_review() {
    let (defaults, script) = subject();
    let early = tokio::spawn({
        let defaults = Arc::clone(&defaults);
        async move { asked(&defaults, "late").await.1 }
    });
    sleep(READ / 2).await;
    // The first read has looked already.
    script.set("jobs", Some("late"), &[("env-from", "late")]);
    assert_eq!(asked(&defaults, "late").await.1.as_deref(), Some("late"));
    assert_eq!(early.await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn five_hundred_reviews_at_once_share_their_reads() {
    let (defaults, script) = subject();
    script.set("jobs", None, &[]);
    let found = join_all((0..500).map(|_| applied(&defaults, "default"))).await;
    assert!(found.iter().all(Result::is_ok));
    assert!(script.calls() <= 4, "{} reads", script.calls());
    assert_eq!(defaults.flights.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn without_the_label_no_defaults_apply() {
    let (defaults, script) = subject();
    script.label("jobs", false);
    for reads in 1..=3 {
        assert_eq!(asked(&defaults, "default").await, (None, None));
        assert_eq!(script.asked("jobs", None), reads, "it is looked for again");
    }
    script.label("jobs", true);
    assert_eq!(
        asked(&defaults, "default").await,
        some("of-namespace", "of-account")
    );
    // A namespace that does not exist carries no label.
    let now = Instant::now();
    let nowhere = defaults
        .applied("nowhere", "default", now, now + TTL)
        .await
        .unwrap();
    assert!(nowhere.namespace.is_none() && nowhere.service_account.is_none());
}

#[tokio::test(start_paused = true)]
async fn names_that_no_object_has_are_neither_read_nor_kept() {
    let (defaults, script) = subject();
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
    // The namespace's defaults apply to a pod whose account cannot be.
    for account in ["..", "Bad", "a/b", &huge] {
        assert_eq!(
            asked(&defaults, account).await,
            (Some("of-namespace".to_owned()), None)
        );
    }
    assert_eq!(script.calls(), 1);
    defaults.memory.stored.run_pending_tasks();
    assert_eq!(defaults.memory.stored.entry_count(), 1);
    // As long as a name may be.
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
    assert_eq!(script.asked(&longest, None), 1);
}

#[tokio::test(start_paused = true)]
async fn memory_is_bounded_by_bytes() {
    let (defaults, script) = subject();
    let value = "v".repeat(60_000);
    for at in 0..600 {
        let account = format!("account-{at}");
        script.set("jobs", Some(&account), &[("env-from", &value)]);
        applied(&defaults, &account).await.unwrap();
    }
    let stored = &defaults.memory.stored;
    stored.run_pending_tasks();
    assert!(
        (CAPACITY / 2..=CAPACITY).contains(&stored.weighted_size()),
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
async fn defaults_beyond_their_limit_are_a_mistake_and_not_kept() {
    let (defaults, script) = subject();
    // With its name it fits exactly.
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
    defaults.memory.stored.run_pending_tasks();
    assert!(
        defaults.memory.stored.weighted_size() < 2 * MAX_BYTES as u64,
        "the text is not kept"
    );
    // Mended, it counts at once.
    script.set("jobs", None, &[("env-from", "short")]);
    script.set("jobs", Some("large"), &[("env-from", "short")]);
    assert_eq!(asked(&defaults, "large").await, some("short", "short"));
}

#[rstest::rstest]
#[case(Mood::Fails(ErrorKind::Unavailable))]
#[case(Mood::Fails(ErrorKind::RateLimited))]
#[case(Mood::Fails(ErrorKind::Unauthenticated))]
#[case(Mood::Silent)]
#[tokio::test(start_paused = true)]
async fn older_defaults_stand_in_for_ten_minutes_and_only_say_yes(#[case] mood: Mood) {
    for subject in [subject(), guarded()] {
        let (defaults, script) = subject;
        script.set("jobs", Some("quiet"), &[]);
        applied(&defaults, "default").await.unwrap();
        applied(&defaults, "quiet").await.unwrap();
        script.mood(mood);
        advance(STALE.saturating_sub(Duration::from_mins(1))).await;
        for account in ["default", "quiet"] {
            let found = applied(&defaults, account).await.unwrap();
            assert_eq!(of(found.namespace.as_ref()), Some("of-namespace"));
            assert!(
                found.confirmed().unwrap_err().kind.is_unavailable(),
                "it may not say no"
            );
        }
        // Nothing is known of this one.
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
        script.mood(Mood::Answers);
        advance(Duration::from_secs(2)).await;
        // One call tries whether the server is back; the others wait for its word.
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
async fn a_verdict_is_not_papered_over(#[case] kind: ErrorKind) {
    let (defaults, script) = subject();
    applied(&defaults, "default").await.unwrap();
    advance(TTL).await;
    script.mood(Mood::Fails(kind));
    assert_eq!(applied(&defaults, "default").await.unwrap_err().kind, kind);
    script.mood(Mood::Fails(ErrorKind::Unavailable));
    let denied = kind == ErrorKind::PermissionDenied;
    assert_eq!(applied(&defaults, "default").await.is_err(), denied);
}

/// Whoever has little time has it for himself.
#[tokio::test(start_paused = true)]
async fn caller_in_a_hurry_harms_nobody_else() {
    for subject in [subject(), guarded()] {
        let (defaults, script) = subject;
        script.mood(Mood::Slow(Duration::from_millis(500)));
        let began = Instant::now();
        let (hurried, patient) = tokio::join!(
            async {
                (
                    within(&defaults, "default", Duration::from_millis(8)).await,
                    began.elapsed(),
                )
            },
            applied(&defaults, "default"),
        );
        assert_eq!(hurried.0.unwrap_err().kind, ErrorKind::Deadline);
        assert_eq!(hurried.1, Duration::from_millis(8));
        assert_eq!(
            of(patient.unwrap().service_account.as_ref()),
            Some("of-account")
        );
    }
}

/// A loop of reviews with too little time for any read, and one that has enough.
#[tokio::test(start_paused = true)]
async fn a_row_of_callers_in_a_hurry_keeps_nobody_from_an_answer() {
    let (defaults, script) = guarded();
    script.mood(Mood::Slow(Duration::from_millis(100)));
    let hurried = async {
        loop {
            let told = within(&defaults, "default", Duration::from_millis(90)).await;
            if told.is_ok() {
                break;
            }
        }
    };
    let patient = async {
        sleep(Duration::from_millis(45)).await;
        let began = Instant::now();
        applied(&defaults, "default").await.unwrap();
        began.elapsed()
    };
    let ((), took) = tokio::join!(hurried, patient);
    assert!(took <= Duration::from_millis(300), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn one_read_takes_no_longer_than_its_own_limit() {
    let (defaults, script) = subject();
    script.mood(Mood::Silent);
    let began = Instant::now();
    let told = within(&defaults, "default", Duration::from_secs(29)).await;
    assert_eq!(
        (told.unwrap_err().kind, began.elapsed()),
        (ErrorKind::Deadline, READ_LIMIT)
    );
    // Nobody waits for these: they have the time that they bring.
    let patient = Defaults::patient(Arc::new(Arc::clone(&script)));
    let began = Instant::now();
    assert!(
        within(&patient, "default", Duration::from_secs(29))
            .await
            .is_err()
    );
    assert_eq!(began.elapsed(), Duration::from_secs(29));
}

#[tokio::test(start_paused = true)]
async fn silence_is_remembered_for_those_who_admit_nothing() {
    let script = script();
    script.set("jobs", Some("default"), &[]);
    let patient = Defaults::patient(Arc::new(Arc::clone(&script)));
    for _ in 0..5 {
        applied(&patient, "default").await.unwrap();
    }
    assert_eq!(script.calls(), 2);
    advance(TTL).await;
    applied(&patient, "default").await.unwrap();
    assert_eq!(script.calls(), 4);
}

#[tokio::test(start_paused = true)]
async fn what_is_about_to_change_is_forgotten() {
    let (defaults, script) = subject();
    applied(&defaults, "default").await.unwrap();
    defaults.forget("jobs", Some("default"));
    script.set("jobs", Some("default"), &[("env-from", "changed")]);
    assert_eq!(
        asked(&defaults, "default").await,
        some("of-namespace", "changed")
    );
    assert_eq!(
        (
            script.asked("jobs", None),
            script.asked("jobs", Some("default"))
        ),
        (1, 2)
    );
    defaults.forget("jobs", None);
    applied(&defaults, "default").await.unwrap();
    assert_eq!(
        (
            script.asked("jobs", None),
            script.asked("jobs", Some("default"))
        ),
        (2, 2)
    );
}

#[tokio::test(start_paused = true)]
async fn passing_failures_are_asked_again_and_a_dead_server_is_left_alone() {
    let (defaults, script) = guarded();
    script.mood(Mood::Fails(ErrorKind::Unavailable));
    assert!(applied(&defaults, "default").await.is_err());
    // Three attempts for the first of both that fails for good; the breaker ends them after five.
    assert!((3..=5).contains(&script.calls()), "{}", script.calls());
    for _ in 0..50 {
        assert_eq!(
            applied(&defaults, "default").await.unwrap_err().kind,
            ErrorKind::Unavailable
        );
    }
    assert!(script.calls() < 60, "{}", script.calls());
    script.mood(Mood::Answers);
    advance(Duration::from_secs(2)).await;
    drop(applied(&defaults, "default").await);
    applied(&defaults, "default").await.unwrap();
}

/// The shares of secrets and defaults are the same.
#[tokio::test(start_paused = true)]
async fn reads_of_defaults_take_their_turn() {
    let (defaults, script) = guarded();
    script.mood(Mood::Slow(Duration::from_millis(500)));
    let accounts: Vec<String> = (0..50).map(|at| format!("account-{at}")).collect();
    let calls = join_all(accounts.iter().map(|account| applied(&defaults, account)));
    let first = async {
        sleep(Duration::from_millis(100)).await;
        script.calls()
    };
    let (_, first) = tokio::join!(calls, first);
    assert_eq!(first, 8);
}
