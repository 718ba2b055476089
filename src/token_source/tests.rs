use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use futures::future::join_all;
use secrecy::ExposeSecret as _;
use tokio::time::{advance, sleep, sleep_until};

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// Service whose logins take a second and succeed, except for the scripted ones.
struct Service {
    logins: AtomicUsize,
    lifetime: Duration,
    script: Mutex<VecDeque<Result<(), LoginError>>>,
    /// Result of every login after the script.
    always: Option<LoginError>,
    credential: AtomicU64,
}

impl Service {
    fn living(lifetime: Duration) -> Self {
        Self {
            logins: AtomicUsize::new(0),
            lifetime,
            script: Mutex::default(),
            always: None,
            credential: AtomicU64::new(1),
        }
    }

    fn with_script(self, script: impl IntoIterator<Item = Result<(), LoginError>>) -> Self {
        *self.script.lock().unwrap() = script.into_iter().collect();
        self
    }

    fn start(self) -> (Arc<Self>, TokenSource) {
        self.start_with(TokenSourceSettings::default())
    }

    fn start_with(self, settings: TokenSourceSettings) -> (Arc<Self>, TokenSource) {
        let service = Arc::new(self);
        let source = TokenSource::new("the vault", Arc::<Self>::clone(&service), settings);
        (service, source)
    }

    fn logins(&self) -> usize {
        self.logins.load(Ordering::Relaxed)
    }
}

#[async_trait]
impl TokenLogin for Service {
    async fn login(&self) -> Result<ObtainedToken, LoginError> {
        let number = self.logins.fetch_add(1, Ordering::Relaxed) + 1;
        sleep(SECOND).await;
        let scripted = self.script.lock().unwrap().pop_front();
        match (scripted, &self.always) {
            (Some(Err(error)), _) => return Err(error),
            (None, Some(error)) => return Err(error.clone()),
            _ => {}
        }
        Ok(ObtainedToken {
            token: format!("canary-{number}").into(),
            lifetime: self.lifetime,
        })
    }

    async fn credential_version(&self) -> u64 {
        self.credential.load(Ordering::Relaxed)
    }
}

fn away() -> LoginError {
    LoginError::Unavailable {
        reason: "no connection".to_owned(),
        retry_after: None,
    }
}

fn refused() -> LoginError {
    LoginError::Refused {
        reason: "wrong secret".to_owned(),
    }
}

async fn text(source: &TokenSource) -> String {
    let token = source.token().await.unwrap();
    assert!(!format!("{token:?} {source:?}").contains("canary"));
    token.secret().expose_secret().to_owned()
}

#[tokio::test(start_paused = true)]
async fn thousand_callers_cause_one_login() {
    let (service, source) = Service::living(Duration::from_mins(5)).start();
    let tokens = join_all((0..1000).map(|_| source.token())).await;
    assert!(
        tokens
            .iter()
            .all(|token| token.as_ref().unwrap().generation() == 1)
    );
    assert_eq!(service.logins(), 1);
}

#[tokio::test(start_paused = true)]
async fn token_is_replaced_in_the_background_before_it_expires() {
    let (service, source) = Service::living(Duration::from_mins(5)).start();
    let began = Instant::now();
    assert_eq!(text(&source).await, "canary-1");
    // 20 % of the lifetime, which is more than 30 s and the spread.
    sleep_until(began + Duration::from_secs(239)).await;
    assert_eq!(text(&source).await, "canary-1");
    sleep(SECOND).await;
    assert_eq!(service.logins(), 1);
    let at = Instant::now();
    assert_eq!(text(&source).await, "canary-1", "nobody waits");
    assert_eq!(at.elapsed(), Duration::ZERO);
    sleep(2 * SECOND).await;
    assert_eq!(
        (text(&source).await.as_str(), service.logins()),
        ("canary-2", 2)
    );
}

#[tokio::test(start_paused = true)]
async fn caller_waits_when_the_token_is_about_to_expire() {
    let (service, source) = Service::living(Duration::from_mins(5)).start();
    let began = Instant::now();
    text(&source).await;
    sleep_until(began + Duration::from_secs(271)).await;
    assert_eq!(text(&source).await, "canary-2", "30 s before the end");
    sleep(Duration::from_hours(1)).await;
    assert_eq!(text(&source).await, "canary-3", "after the end");
    assert_eq!(service.logins(), 3);
}

#[tokio::test(start_paused = true)]
async fn threshold_is_a_setting_within_limits() {
    for wrong in [
        MIN_REFRESH_BEFORE.saturating_sub(SECOND),
        MAX_REFRESH_BEFORE + SECOND,
    ] {
        let settings = TokenSourceSettings::default().with_refresh_before(wrong);
        assert_eq!(settings.unwrap_err(), InvalidRefreshBefore);
    }
    let settings = TokenSourceSettings::default().with_refresh_before(MAX_REFRESH_BEFORE);
    let (_, source) = Service::living(Duration::from_mins(20)).start_with(settings.unwrap());
    let began = Instant::now();
    text(&source).await;
    sleep_until(began + Duration::from_secs(901)).await;
    assert_eq!(text(&source).await, "canary-2");
}

#[tokio::test(start_paused = true)]
async fn short_lived_token_is_used_for_half_of_its_life() {
    let (service, source) = Service::living(MIN_LIFETIME).start();
    let began = Instant::now();
    for _ in 0..600 {
        source.token().await.unwrap();
        advance(Duration::from_millis(100)).await;
        tokio::task::yield_now().await;
    }
    let lives = began.elapsed().as_secs() / 2;
    let logins = u64::try_from(service.logins()).unwrap();
    assert!(
        (10..=lives).contains(&logins),
        "{logins} logins in {lives} half lives"
    );
    let (_, source) = Service::living(MIN_LIFETIME.saturating_sub(SECOND)).start();
    let error = source.token().await.unwrap_err().to_string();
    assert!(error.contains("the token lives 4s"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn failed_refresh_keeps_the_token_until_it_expires() {
    let mut service = Service::living(Duration::from_mins(5)).with_script([Ok(())]);
    service.always = Some(away());
    let (service, source) = service.start();
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(298) {
        assert_eq!(text(&source).await, "canary-1");
        sleep(Duration::from_millis(500)).await;
    }
    sleep(2 * SECOND).await;
    let error = source.token().await.unwrap_err();
    assert!(
        matches!(error, TokenSourceError::Unavailable { .. }),
        "{error}"
    );
    let logins = service.logins();
    assert!((3..30).contains(&logins), "{logins}");
}

#[tokio::test(start_paused = true)]
async fn caller_waits_for_a_slow_login_for_a_limited_time() {
    struct Slow;
    #[async_trait]
    impl TokenLogin for Slow {
        async fn login(&self) -> Result<ObtainedToken, LoginError> {
            sleep(Duration::from_secs(20)).await;
            Ok(ObtainedToken {
                token: "canary".into(),
                lifetime: Duration::from_mins(5),
            })
        }
    }
    let source = TokenSource::new("slow", Arc::new(Slow), TokenSourceSettings::default());
    let began = Instant::now();
    let error = source.token().await.unwrap_err().to_string();
    assert_eq!(began.elapsed(), LOGIN_WAIT);
    assert!(error.contains("no token within 5s"), "{error}");
    // The login goes on without the caller.
    sleep(Duration::from_secs(15)).await;
    assert_eq!(text(&source).await, "canary");
    assert_eq!(began.elapsed(), Duration::from_secs(20));
}

#[tokio::test(start_paused = true)]
async fn refused_login_rests() {
    let mut service = Service::living(Duration::from_mins(5));
    service.always = Some(refused());
    let settings = TokenSourceSettings::default().with_refused_pause(Duration::from_mins(5));
    let (service, source) = service.start_with(settings);
    let began = Instant::now();
    while began.elapsed() < Duration::from_mins(5) {
        let error = source.token().await.unwrap_err();
        assert!(matches!(error, TokenSourceError::Refused { .. }), "{error}");
        sleep(Duration::from_secs(3)).await;
    }
    assert_eq!(service.logins(), 1);
    sleep(2 * SECOND).await;
    source.token().await.unwrap_err();
    assert_eq!(service.logins(), 2);
}

#[tokio::test(start_paused = true)]
async fn changed_credential_ends_the_rest_of_a_refused_login() {
    let (service, source) = Service::living(Duration::from_mins(5))
        .with_script([Err(refused())])
        .start();
    let error = source.token().await.unwrap_err().to_string();
    assert!(
        error.starts_with("the vault refuses the login: wrong secret."),
        "{error}"
    );
    sleep(2 * SECOND).await;
    source.token().await.unwrap_err();
    service.credential.store(2, Ordering::Relaxed);
    // One look a second.
    source.token().await.unwrap_err();
    assert_eq!(service.logins(), 1);
    sleep(SECOND).await;
    assert_eq!(text(&source).await, "canary-2");
}

#[tokio::test(start_paused = true)]
async fn rejected_token_is_replaced_once_for_all_callers() {
    let (service, source) = Service::living(Duration::from_mins(5)).start();
    let first = source.token().await.unwrap();
    let replaced = join_all((0..1000).map(|_| source.replace(&first))).await;
    assert!(
        replaced
            .iter()
            .all(|token| token.as_ref().unwrap().generation() == 2)
    );
    // A caller that is late.
    assert_eq!(source.replace(&first).await.unwrap().generation(), 2);
    assert_eq!(service.logins(), 2);
}

#[tokio::test(start_paused = true)]
async fn service_that_rejects_every_token_does_not_get_a_login_for_each() {
    let (service, source) = Service::living(Duration::from_mins(5)).start();
    let began = Instant::now();
    while began.elapsed() < Duration::from_mins(1) {
        let token = source.token().await.unwrap();
        if let Ok(second) = source.replace(&token).await {
            let again = source.replace(&second).await.unwrap_err();
            assert!(
                matches!(again, TokenSourceError::RejectedAgain { .. }),
                "{again}"
            );
        }
        sleep(SECOND).await;
    }
    assert!(service.logins() <= 8, "{}", service.logins());
}

#[tokio::test(start_paused = true)]
async fn rejected_token_is_not_used_while_its_replacement_fails() {
    let (service, source) = Service::living(Duration::from_mins(5))
        .with_script([Ok(()), Err(away())])
        .start();
    let first = source.token().await.unwrap();
    source.replace(&first).await.unwrap_err();
    source.token().await.unwrap_err();
    sleep(SECOND).await;
    assert_eq!(text(&source).await, "canary-3");
    assert_eq!(service.logins(), 3);
}

#[test]
fn docs_contain_the_limits() {
    let docs = include_str!("../../docs/IDENTITY.md");
    let seconds = |time: Duration| time.as_secs();
    for (limit, value) in [
        (
            "Seconds before its end at which a token is replaced",
            seconds(DEFAULT_REFRESH_BEFORE),
        ),
        (
            "Least seconds before its end at which a token is replaced",
            seconds(MIN_REFRESH_BEFORE),
        ),
        (
            "Most seconds before its end at which a token is replaced",
            seconds(MAX_REFRESH_BEFORE),
        ),
        (
            "Percent of its lifetime before its end at which a token is replaced in the background",
            u64::from(REFRESH_AHEAD_PERCENT),
        ),
        (
            "Random seconds by which that is earlier",
            seconds(MAX_SPREAD),
        ),
        ("Least seconds that a token lives", seconds(MIN_LIFETIME)),
        (
            "Hours after which a token is replaced in any case",
            seconds(MAX_LIFETIME) / 3600,
        ),
        (
            "Seconds that a caller waits for a login",
            seconds(LOGIN_WAIT),
        ),
        (
            "Seconds between replacements of rejected tokens",
            seconds(REPLACE_INTERVAL),
        ),
        (
            "Seconds of rest after a login that was refused",
            seconds(DEFAULT_REFUSED_PAUSE),
        ),
        (
            "KiB of a file with a credential",
            u64::try_from(MAX_CREDENTIAL >> 10).unwrap(),
        ),
    ] {
        let row = format!("| {limit} | {value} |");
        assert!(docs.contains(&row), "docs/IDENTITY.md has no row {row:?}");
    }
}
