//! Documents of an issuer, kept for a while: its keys and its endpoints.
//!
//! A document is fresh for an hour, or for the issuer's `max-age`, if that is shorter. It is fetched again before that.
//! An issuer that cannot be reached does not end the identities at once: the old document is used for some hours more
//! ([`DEFAULT_STALE`]), then no longer. Ages are measured by the monotonic clock from the beginning of the fetch.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use thiserror::Error;
use tokio::time::{Instant, sleep};

use super::error::IdentityError;
use super::metrics::{IssuerDocument, IssuerMetrics};
use crate::http_client::HttpError;
use crate::refresh::{FetchFailure, FetchMissed, Fetched, Refresher};

/// Time for which a document is fresh.
pub const FRESH: Duration = Duration::from_hours(1);

/// Shortest time for which a document is fresh, whatever its `max-age` is. `no-cache` is ignored: Keycloak sends it
/// with its keys.
pub const MIN_FRESH: Duration = Duration::from_mins(5);

/// Time for which a document that is no longer fresh is used while the issuer cannot be reached.
pub const DEFAULT_STALE: Duration = Duration::from_hours(4);

/// Longest such time. With none, an issuer that is away for longer than [`FRESH`] ends the identities.
pub const MAX_STALE: Duration = Duration::from_hours(24);

/// Part of its fresh time after which a document is fetched again, in percent.
pub const REFRESH_AT_PERCENT: u32 = 80;

/// Spread of the time of that fetch, in percent of it, in both directions: replicas do not fetch together.
pub const REFRESH_SPREAD_PERCENT: u32 = 10;

/// Time for which a caller waits for a fetch.
pub const FETCH_WAIT: Duration = Duration::from_secs(2);

/// Reason why a document is not usable.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DocumentError {
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The issuer sent a document that breaks a rule. An operator has to act.
    #[error("{} of {url} is not usable: {problem}", document.name())]
    Unusable {
        document: IssuerDocument,
        url: String,
        problem: String,
    },
    /// The endpoint of the document is not known.
    #[error(transparent)]
    Endpoint(#[from] IdentityError),
}

impl FetchFailure for DocumentError {
    fn requested_pause(&self) -> Option<Duration> {
        match self {
            Self::Http(error) => error.retry_after(),
            Self::Endpoint(IdentityError::Unavailable { retry_after, .. }) => *retry_after,
            Self::Unusable { .. } | Self::Endpoint(_) => None,
        }
    }
}

/// A document as it was fetched.
#[derive(Debug)]
pub struct FetchedDocument<T> {
    pub value: Arc<T>,
    /// `max-age` of the response.
    pub max_age: Option<Duration>,
}

/// State of a cached document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DocumentState {
    /// Never fetched.
    Absent,
    Fresh,
    /// Used because the issuer cannot be reached.
    Stale,
    /// Too old to be used.
    Expired,
}

/// Document of an issuer, with the fetches of it.
#[derive(Debug)]
pub(super) struct CachedDocument<T> {
    refresher: Refresher<FetchedDocument<T>, DocumentError>,
    provider: Arc<str>,
    document: IssuerDocument,
    stale: Duration,
}

pub(super) type CurrentDocument<T> = Arc<Fetched<FetchedDocument<T>>>;

impl<T: Send + Sync + 'static> CachedDocument<T> {
    /// Creates a cache without a document; `stale` has at most [`MAX_STALE`].
    pub(super) fn new(
        provider: &str,
        document: IssuerDocument,
        stale: Duration,
        metrics: IssuerMetrics,
        fetch: impl Fn() -> BoxFuture<'static, Result<FetchedDocument<T>, DocumentError>>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        let provider: Arc<str> = provider.into();
        let name = Arc::clone(&provider);
        let is_reported = Arc::new(AtomicBool::new(false));
        let refresher = Refresher::new(move || {
            let (work, name, is_reported) = (fetch(), Arc::clone(&name), Arc::clone(&is_reported));
            let metrics = metrics.clone();
            async move {
                let result = work.await;
                metrics.count_fetch(&name, document, result.is_ok());
                report(&name, document, result.as_ref().err(), &is_reported);
                result
            }
            .boxed()
        });
        Self {
            refresher,
            provider,
            document,
            stale: stale.min(MAX_STALE),
        }
    }

    /// Document that may be used now. Waits for at most [`FETCH_WAIT`] if there is none.
    pub(super) async fn get(&self) -> Result<CurrentDocument<T>, IdentityError> {
        let Some(current) = self.refresher.current() else {
            return self.fetch().await;
        };
        match self.state_of(&current) {
            DocumentState::Fresh => {
                if current.began.elapsed() >= refresh_after(&current) {
                    self.refresher.start();
                }
                Ok(current)
            }
            // Nobody waits for an issuer that has just failed.
            DocumentState::Stale if self.refresher.is_failing() => {
                self.refresher.start();
                Ok(current)
            }
            DocumentState::Stale => Ok(self.fetch().await.unwrap_or(current)),
            DocumentState::Absent | DocumentState::Expired => self.fetch().await,
        }
    }

    /// Document of the last fetch that succeeded, however old it is.
    pub(super) fn current(&self) -> Option<CurrentDocument<T>> {
        self.refresher.current()
    }

    /// Document of a new fetch, or of the one that is running. Waits for at most [`FETCH_WAIT`].
    pub(super) async fn fetch(&self) -> Result<CurrentDocument<T>, IdentityError> {
        let fetched = self.refresher.fetch(FETCH_WAIT).await;
        fetched.map_err(|missed| self.unavailable(missed))
    }

    /// Keeps the document fresh, from the start on. Never returns.
    pub(super) async fn keep_fresh(&self) {
        loop {
            let pause = match self.refresher.current() {
                Some(current) if current.began.elapsed() < refresh_after(&current) => {
                    refresh_after(&current).saturating_sub(current.began.elapsed())
                }
                _ => match self.refresher.fetch(FETCH_WAIT).await {
                    Ok(_) => continue,
                    Err(missed) => missed.retry_in,
                },
            };
            sleep(pause).await;
        }
    }

    pub(super) fn state(&self) -> DocumentState {
        let current = self.refresher.current();
        current.map_or(DocumentState::Absent, |current| self.state_of(&current))
    }

    fn state_of(&self, current: &Fetched<FetchedDocument<T>>) -> DocumentState {
        let age = current.began.elapsed();
        let fresh = fresh_for(current.value.max_age);
        if age < fresh {
            DocumentState::Fresh
        } else if age < fresh + self.stale {
            DocumentState::Stale
        } else {
            DocumentState::Expired
        }
    }

    fn unavailable(&self, missed: FetchMissed<DocumentError>) -> IdentityError {
        let provider = self.provider.to_string();
        let reason = match missed.error {
            Some(DocumentError::Endpoint(error)) => return error,
            Some(error @ DocumentError::Unusable { .. }) => {
                let reason = error.to_string();
                return IdentityError::Misconfigured { provider, reason };
            }
            Some(error @ DocumentError::Http(_)) => error.to_string(),
            None => format!(
                "{} did not arrive within {FETCH_WAIT:?}",
                self.document.name()
            ),
        };
        IdentityError::Unavailable {
            provider,
            reason,
            retry_after: Some(missed.retry_in),
        }
    }
}

/// Reports the first failure after a success, and the first success after a failure.
fn report(
    provider: &str,
    document: IssuerDocument,
    error: Option<&DocumentError>,
    is_reported: &AtomicBool,
) {
    let document = document.as_str();
    let was_failing = is_reported.swap(error.is_some(), Ordering::Relaxed);
    match error {
        Some(error) if !was_failing => {
            tracing::warn!(provider, document, %error, "an identity provider's document cannot be fetched");
        }
        None if was_failing => {
            tracing::info!(
                provider,
                document,
                "an identity provider's document is fetched again"
            );
        }
        _ => {}
    }
}

/// Time for which a document with this `max-age` is fresh.
fn fresh_for(max_age: Option<Duration>) -> Duration {
    max_age.map_or(FRESH, |age| age.clamp(MIN_FRESH, FRESH))
}

/// Age at which a document is fetched again.
fn refresh_after<T>(current: &Fetched<FetchedDocument<T>>) -> Duration {
    let at = fresh_for(current.value.max_age) * REFRESH_AT_PERCENT / 100;
    let spread = at * REFRESH_SPREAD_PERCENT / 100;
    at.saturating_sub(spread) + (spread * 2).mul_f64(current.spread)
}

/// Time since a fetch ended.
pub(super) fn time_since<T>(current: &Fetched<T>) -> Duration {
    Instant::now().saturating_duration_since(current.ended)
}

#[cfg(test)]
mod tests;
