//! Keys of an issuer, fetched when they are needed.
//!
//! Keys that rotate are found by the first token with a key that is not known: it leads to one fetch, if the last one
//! is old enough. A token with a known key and a wrong signature leads to none. So strangers, who may send any key id,
//! cause at most two fetches a minute for each issuer, and cannot keep a new key away.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::StatusCode;

use super::document::{
    CachedDocument, CurrentDocument, DocumentError, DocumentState, FetchedDocument, time_since,
};
use super::error::IdentityError;
use super::jose::limits::MAX_KEY_SET_BYTES;
use super::jose::{KeySet, SignatureAlgorithm};
use super::metrics::{IssuerDocument, IssuerMetrics};
use crate::http_client::{HttpClient, HttpRequest, HttpUrl};

/// Time after a fetch in which a key that is not known leads to no other fetch.
pub const UNKNOWN_KEY_INTERVAL: Duration = Duration::from_secs(30);

const DOCUMENT: IssuerDocument = IssuerDocument::Keys;

/// Keys of one issuer.
#[derive(Debug)]
pub struct KeyCache {
    document: CachedDocument<KeySet>,
    provider: String,
    metrics: IssuerMetrics,
}

/// Keys as they were at one time.
#[derive(Clone, Debug)]
pub struct KeySnapshot {
    pub keys: Arc<KeySet>,
    generation: u64,
}

impl KeySnapshot {
    fn of(current: &CurrentDocument<KeySet>) -> Self {
        Self {
            keys: Arc::clone(&current.value.value),
            generation: current.generation,
        }
    }
}

impl KeyCache {
    /// Creates a cache without keys, which `fetch` fetches. Keys that are no longer fresh are used for `stale` more
    /// while the issuer cannot be reached.
    pub fn new(
        provider: &str,
        stale: Duration,
        fetch: impl Fn() -> BoxFuture<'static, Result<FetchedDocument<KeySet>, DocumentError>>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        Self::with_metrics(provider, stale, IssuerMetrics::default(), fetch)
    }

    /// Creates a cache as [`KeyCache::new`] does, with metrics.
    pub fn with_metrics(
        provider: &str,
        stale: Duration,
        metrics: IssuerMetrics,
        fetch: impl Fn() -> BoxFuture<'static, Result<FetchedDocument<KeySet>, DocumentError>>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        let (counted, name) = (metrics.clone(), provider.to_owned());
        let fetch = move || {
            let (fetching, metrics, name) = (fetch(), counted.clone(), name.clone());
            async move {
                let fetched = fetching.await?;
                metrics.set_keys(&name, fetched.value.len(), fetched.value.skipped());
                Ok(fetched)
            }
            .boxed()
        };
        Self {
            document: CachedDocument::new(provider, DOCUMENT, stale, metrics.clone(), fetch),
            provider: provider.to_owned(),
            metrics,
        }
    }

    /// Keys to check a token with.
    ///
    /// # Errors
    ///
    /// There are no keys that may be used, and none arrive in time.
    pub async fn keys(&self) -> Result<KeySnapshot, IdentityError> {
        let current = self.document.get().await?;
        Ok(KeySnapshot::of(&current))
    }

    /// Newer keys, for a token whose key is not among `seen`. `None` if there are none, because the keys are not older
    /// than [`UNKNOWN_KEY_INTERVAL`]: the token is not valid.
    ///
    /// # Errors
    ///
    /// Newer keys cannot be fetched: nothing is known about the token.
    pub async fn newer_keys(
        &self,
        seen: &KeySnapshot,
    ) -> Result<Option<KeySnapshot>, IdentityError> {
        self.metrics.count_unknown_key(&self.provider);
        if let Some(current) = self.document.current() {
            if current.generation > seen.generation {
                return Ok(Some(KeySnapshot::of(&current)));
            }
            if time_since(&current) < UNKNOWN_KEY_INTERVAL {
                return Ok(None);
            }
        }
        let fetched = self.document.fetch().await?;
        Ok(Some(KeySnapshot::of(&fetched)))
    }

    /// Fetches the keys now, for an operator who knows that one of them must no longer be used.
    ///
    /// # Errors
    ///
    /// They cannot be fetched; the old ones remain.
    pub async fn refresh(&self) -> Result<KeySnapshot, IdentityError> {
        let fetched = self.document.fetch().await?;
        Ok(KeySnapshot::of(&fetched))
    }

    /// Keeps the keys fresh, from the start on, so that the first caller does not wait. Never returns.
    pub async fn keep_fresh(&self) {
        self.document.keep_fresh().await;
    }

    /// State of the keys.
    #[must_use]
    pub fn state(&self) -> DocumentState {
        self.document.state()
    }
}

/// Fetches the key set at `url`, without keys for other algorithms than these.
///
/// # Errors
///
/// There is no key set, or no usable key in it.
pub async fn fetch_keys(
    client: &HttpClient,
    url: &HttpUrl,
    algorithms: &[SignatureAlgorithm],
) -> Result<FetchedDocument<KeySet>, DocumentError> {
    let request = HttpRequest::get(url.clone()).with_max_body(MAX_KEY_SET_BYTES);
    let response = client.send(request).await?.expect_status(StatusCode::OK)?;
    let keys =
        KeySet::parse(response.body(), algorithms).map_err(|error| DocumentError::Unusable {
            document: DOCUMENT,
            url: url.to_string(),
            problem: error.to_string(),
        })?;
    if keys.has_published_secrets() {
        tracing::error!(
            url = %url,
            "an identity provider publishes a key that has to be secret: replace the key at the issuer"
        );
    }
    Ok(FetchedDocument {
        value: Arc::new(keys),
        max_age: response.max_age(),
    })
}

/// Function that fetches the key set at one URL, for [`KeyCache::new`].
pub fn key_fetcher(
    client: HttpClient,
    url: HttpUrl,
    algorithms: Arc<[SignatureAlgorithm]>,
) -> impl Fn() -> BoxFuture<'static, Result<FetchedDocument<KeySet>, DocumentError>>
+ Send
+ Sync
+ 'static {
    move || {
        let (client, url, algorithms) = (client.clone(), url.clone(), Arc::clone(&algorithms));
        async move { fetch_keys(&client, &url, &algorithms).await }.boxed()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::future::join_all;
    use serde_json::json;
    use tokio::time::{Instant, advance, sleep};

    use super::super::discovery::{MAX_DISCOVERY, MAX_ORIGINS};
    use super::super::document::{
        DEFAULT_STALE, FETCH_WAIT, FRESH, MAX_STALE, MIN_FRESH, REFRESH_AT_PERCENT,
        REFRESH_SPREAD_PERCENT,
    };
    use super::*;
    use crate::http_client::HttpError;

    /// Issuer with a number of keys, or none that can be reached.
    struct Issuer {
        fetches: AtomicUsize,
        /// Number of keys, or the time after which the fetch fails.
        keys: Mutex<Result<usize, Duration>>,
        max_age: Mutex<Option<Duration>>,
    }

    const LATENCY: Duration = Duration::from_millis(100);

    fn key_set(count: usize) -> KeySet {
        // The key of RFC 7515, appendix A.3.
        let key = |number| {
            json!({"kty": "EC", "crv": "P-256", "kid": format!("key-{number}"), "use": "sig",
                "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
                "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"})
        };
        let keys: Vec<_> = (0..count).map(key).collect();
        let body = json!({"keys": keys}).to_string();
        KeySet::parse(body.as_bytes(), &[SignatureAlgorithm::ES256]).unwrap()
    }

    fn away() -> DocumentError {
        DocumentError::Http(HttpError::Unresolved {
            target: "GET https://id.example.com/certs".to_owned(),
        })
    }

    impl Issuer {
        fn start(stale: Duration) -> (Arc<Self>, KeyCache) {
            let issuer = Arc::new(Self {
                fetches: AtomicUsize::new(0),
                keys: Mutex::new(Ok(1)),
                max_age: Mutex::new(None),
            });
            let fetching = Arc::clone(&issuer);
            let cache = KeyCache::new("main", stale, move || {
                let issuer = Arc::clone(&fetching);
                async move {
                    issuer.fetches.fetch_add(1, Ordering::Relaxed);
                    let keys = *issuer.keys.lock().unwrap();
                    sleep(*keys.as_ref().err().unwrap_or(&LATENCY)).await;
                    Ok(FetchedDocument {
                        value: Arc::new(key_set(keys.map_err(|_| away())?)),
                        max_age: *issuer.max_age.lock().unwrap(),
                    })
                }
                .boxed()
            });
            (issuer, cache)
        }

        fn fetches(&self) -> usize {
            self.fetches.load(Ordering::Relaxed)
        }

        fn set(&self, keys: Result<usize, Duration>) {
            *self.keys.lock().unwrap() = keys;
        }
    }

    fn is_unavailable(error: &IdentityError) -> bool {
        matches!(
            error,
            IdentityError::Unavailable {
                retry_after: Some(_),
                ..
            }
        )
    }

    #[tokio::test(start_paused = true)]
    async fn keys_are_fetched_once_for_all_callers() {
        let (issuer, cache) = Issuer::start(DEFAULT_STALE);
        assert_eq!(cache.state(), DocumentState::Absent);
        let keys = join_all((0..1000).map(|_| cache.keys())).await;
        assert!(
            keys.iter()
                .all(|keys| keys.as_ref().unwrap().keys.len() == 1)
        );
        assert_eq!((issuer.fetches(), cache.state()), (1, DocumentState::Fresh));
    }

    #[tokio::test(start_paused = true)]
    async fn keys_are_fetched_again_in_the_background_before_they_are_old() {
        let (issuer, cache) = Issuer::start(DEFAULT_STALE);
        cache.keys().await.unwrap();
        // 48 minutes, 10 % sooner or later.
        advance(Duration::from_mins(43)).await;
        cache.keys().await.unwrap();
        sleep(LATENCY * 2).await;
        assert_eq!(issuer.fetches(), 1);
        advance(Duration::from_mins(10)).await;
        let began = Instant::now();
        cache.keys().await.unwrap();
        assert_eq!(began.elapsed(), Duration::ZERO, "nobody waits");
        sleep(LATENCY * 2).await;
        assert_eq!(issuer.fetches(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn max_age_shortens_the_time_down_to_a_limit() {
        for (max_age, fresh) in [
            (0, MIN_FRESH),
            (600, Duration::from_mins(10)),
            (86_400, FRESH),
        ] {
            let (issuer, cache) = Issuer::start(DEFAULT_STALE);
            *issuer.max_age.lock().unwrap() = Some(Duration::from_secs(max_age));
            cache.keys().await.unwrap();
            advance(fresh.saturating_sub(Duration::from_secs(1))).await;
            assert_eq!(cache.state(), DocumentState::Fresh);
            advance(Duration::from_secs(1)).await;
            assert_eq!(cache.state(), DocumentState::Stale, "{max_age}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn row_43_random_key_ids_cause_one_fetch() {
        let (issuer, cache) = Issuer::start(DEFAULT_STALE);
        let keys = cache.keys().await.unwrap();
        for _ in 0..10_000 {
            assert!(cache.newer_keys(&keys).await.unwrap().is_none());
        }
        assert_eq!(issuer.fetches(), 1);
        // Two a minute at most, however many tokens there are.
        let began = Instant::now();
        while began.elapsed() < Duration::from_mins(10) {
            let keys = cache.keys().await.unwrap();
            cache.newer_keys(&keys).await.unwrap();
            sleep(Duration::from_millis(50)).await;
        }
        assert!(issuer.fetches() <= 21, "{}", issuer.fetches());
    }

    #[tokio::test(start_paused = true)]
    async fn row_44_known_key_causes_no_fetch() {
        let (issuer, cache) = Issuer::start(DEFAULT_STALE);
        for _ in 0..10_000 {
            cache.keys().await.unwrap();
            advance(Duration::from_millis(200)).await;
        }
        assert_eq!(issuer.fetches(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn row_45_rotation_is_found_by_one_fetch() {
        let (issuer, cache) = Issuer::start(DEFAULT_STALE);
        let old = cache.keys().await.unwrap();
        issuer.set(Ok(2));
        advance(UNKNOWN_KEY_INTERVAL).await;
        let newer = join_all((0..100).map(|_| cache.newer_keys(&old))).await;
        assert!(
            newer
                .into_iter()
                .all(|newer| newer.unwrap().unwrap().keys.len() == 2)
        );
        // A request that read the old keys before.
        let late = cache.newer_keys(&old).await.unwrap().unwrap();
        assert_eq!((late.keys.len(), issuer.fetches()), (2, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn row_46_removed_key_is_gone_after_a_refresh() {
        let (issuer, cache) = Issuer::start(DEFAULT_STALE);
        issuer.set(Ok(2));
        cache.keys().await.unwrap();
        issuer.set(Ok(1));
        assert_eq!(cache.refresh().await.unwrap().keys.len(), 1);
        assert_eq!(cache.keys().await.unwrap().keys.len(), 1);
        // Without it, when they are no longer fresh.
        issuer.set(Ok(2));
        advance(FRESH).await;
        assert_eq!(cache.keys().await.unwrap().keys.len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn row_47_issuer_that_is_away_is_bridged_for_a_while() {
        let (issuer, cache) = Issuer::start(DEFAULT_STALE);
        issuer.set(Err(LATENCY));
        let error = cache.keys().await.unwrap_err();
        assert!(is_unavailable(&error), "{error:?}");
        assert!(
            error
                .to_string()
                .contains("the name of the host has no address"),
            "{error}"
        );
        issuer.set(Ok(1));
        sleep(Duration::from_secs(2)).await;
        let keys = cache.keys().await.unwrap();
        let began = Instant::now() - LATENCY;
        issuer.set(Err(LATENCY));
        while began.elapsed() < FRESH + DEFAULT_STALE {
            assert!(cache.keys().await.is_ok(), "after {:?}", began.elapsed());
            sleep(Duration::from_secs(20)).await;
        }
        assert_eq!(cache.state(), DocumentState::Expired);
        let error = cache.keys().await.unwrap_err();
        assert!(is_unavailable(&error), "{error:?}");
        let error = cache.newer_keys(&keys).await.unwrap_err();
        assert!(is_unavailable(&error), "{error:?}");
        // Four hours and more with a pause of up to 30 s.
        assert!(issuer.fetches() < 1500, "{}", issuer.fetches());
        issuer.set(Ok(1));
        sleep(Duration::from_secs(31)).await;
        assert!(cache.keys().await.is_ok());
        assert_eq!(cache.state(), DocumentState::Fresh);
    }

    #[tokio::test(start_paused = true)]
    async fn row_48_issuer_that_hangs_delays_no_more_than_the_first_callers() {
        let (issuer, cache) = Issuer::start(DEFAULT_STALE);
        cache.keys().await.unwrap();
        issuer.set(Err(Duration::from_secs(3)));
        advance(FRESH).await;
        let began = Instant::now();
        cache.keys().await.unwrap();
        assert_eq!(began.elapsed(), FETCH_WAIT);
        sleep(Duration::from_secs(1)).await;
        let began = Instant::now();
        for _ in 0..1000 {
            cache.keys().await.unwrap();
        }
        assert_eq!(began.elapsed(), Duration::ZERO);
        assert_eq!(cache.state(), DocumentState::Stale);
    }

    #[tokio::test(start_paused = true)]
    async fn row_79_ages_do_not_depend_on_the_time_of_day() {
        let (_, cache) = Issuer::start(DEFAULT_STALE);
        let began = jiff::Timestamp::now();
        cache.keys().await.unwrap();
        advance(FRESH).await;
        assert_eq!(cache.state(), DocumentState::Stale);
        advance(DEFAULT_STALE).await;
        assert_eq!(cache.state(), DocumentState::Expired);
        // The time of day stood still beside the hours of the monotonic clock.
        assert!(jiff::Timestamp::now().as_second() - began.as_second() < 600);
    }

    #[tokio::test(start_paused = true)]
    async fn unknown_key_of_an_issuer_that_is_away_is_not_an_invalid_token() {
        let (issuer, cache) = Issuer::start(DEFAULT_STALE);
        let keys = cache.keys().await.unwrap();
        issuer.set(Err(LATENCY));
        advance(UNKNOWN_KEY_INTERVAL).await;
        for _ in 0..1000 {
            let error = cache.newer_keys(&keys).await.unwrap_err();
            assert!(is_unavailable(&error), "{error:?}");
        }
        assert_eq!(issuer.fetches(), 2);
        assert!(cache.keys().await.is_ok(), "known keys are used");
    }

    #[tokio::test(start_paused = true)]
    async fn strict_issuer_has_no_stale_keys() {
        let (issuer, cache) = Issuer::start(Duration::ZERO);
        cache.keys().await.unwrap();
        issuer.set(Err(LATENCY));
        advance(FRESH).await;
        assert_eq!(cache.state(), DocumentState::Expired);
        assert!(is_unavailable(&cache.keys().await.unwrap_err()));
    }

    #[tokio::test(start_paused = true)]
    async fn keeper_fetches_ahead_and_retries() {
        let (issuer, cache) = Issuer::start(DEFAULT_STALE);
        issuer.set(Err(LATENCY));
        let cache = Arc::new(cache);
        let keeping = Arc::clone(&cache);
        let keeper = tokio::spawn(async move { keeping.keep_fresh().await });
        sleep(Duration::from_mins(5)).await;
        let failed = issuer.fetches();
        assert!((10..60).contains(&failed), "{failed}");
        issuer.set(Ok(1));
        sleep(Duration::from_secs(31)).await;
        assert_eq!(cache.state(), DocumentState::Fresh);
        sleep(Duration::from_hours(10)).await;
        assert_eq!(cache.state(), DocumentState::Fresh);
        let fetches = issuer.fetches() - failed;
        assert!((11..=15).contains(&fetches), "{fetches}");
        keeper.abort();
    }

    #[test]
    fn docs_contain_the_limits_of_documents() {
        let docs = include_str!("../../docs/IDENTITY.md");
        let percent = |percent| u64::from(percent);
        for (limit, value) in [
            (
                "Minutes for which keys and endpoints are fresh",
                FRESH.as_secs() / 60,
            ),
            (
                "Least minutes of that, whatever `max-age` is",
                MIN_FRESH.as_secs() / 60,
            ),
            (
                "Hours for which they are used after that while the issuer is away",
                DEFAULT_STALE.as_secs() / 3600,
            ),
            ("Most hours of that", MAX_STALE.as_secs() / 3600),
            (
                "Percent of that time after which they are fetched again",
                percent(REFRESH_AT_PERCENT),
            ),
            (
                "Percent by which that is sooner or later",
                percent(REFRESH_SPREAD_PERCENT),
            ),
            (
                "Seconds that a caller waits for a fetch",
                FETCH_WAIT.as_secs(),
            ),
            (
                "Seconds after a fetch in which an unknown key leads to no other",
                UNKNOWN_KEY_INTERVAL.as_secs(),
            ),
            (
                "KiB of a discovery document",
                u64::try_from(MAX_DISCOVERY >> 10).unwrap(),
            ),
            (
                "Origins of endpoints that the settings may list",
                u64::try_from(MAX_ORIGINS).unwrap(),
            ),
            (
                "Most seconds of the pause after failures",
                crate::refresh::MAX_PAUSE.as_secs(),
            ),
            (
                "Most seconds of a pause that the issuer requests",
                crate::refresh::MAX_REQUESTED_PAUSE.as_secs(),
            ),
        ] {
            let row = format!("| {limit} | {value} |");
            assert!(docs.contains(&row), "docs/IDENTITY.md has no row {row:?}");
        }
    }
}
