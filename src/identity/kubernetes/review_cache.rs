//! Reviews of the last seconds, so that the API server is not asked for each request.
//!
//! A token is a key only as its HMAC under a key of this process: nothing here can be used as a token. Callers with the
//! same token share one review, which goes on when one of them leaves. A review without a verdict is not kept.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};
use moka::sync::Cache;
use secrecy::ExposeSecret as _;
use tokio::time::Instant;

use super::{BearerToken, ReviewError, ReviewedToken, TokenReviewer};

/// Time for which a verdict is used. The API server keeps its own for as long: the token of a deleted pod passes for at
/// most twice this time.
pub const REVIEW_LIFETIME: Duration = Duration::from_secs(10);
/// Verdicts that are kept.
pub const MAX_REVIEWS: u64 = 8_192;
/// Reviews that run at the same time.
pub const MAX_RUNNING_REVIEWS: usize = 256;

/// HMAC of a token.
type TokenDigest = Box<[u8]>;
type Verdict = Result<Arc<ReviewedToken>, ReviewError>;
type SharedReview = Shared<BoxFuture<'static, Verdict>>;

/// Reviewer with the verdicts of the last seconds. Clones are the same reviewer.
#[derive(Clone)]
pub(super) struct ReviewCache(Arc<CachedReviews>);

struct CachedReviews {
    reviewer: TokenReviewer,
    key: hmac::Key,
    verdicts: Cache<TokenDigest, DatedVerdict>,
    running: Mutex<HashMap<TokenDigest, SharedReview>>,
}

#[derive(Clone)]
struct DatedVerdict {
    /// Beginning of the review.
    began: Instant,
    verdict: Verdict,
}

impl fmt::Debug for ReviewCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReviewCache")
            .field("reviewer", &self.0.reviewer)
            .finish_non_exhaustive()
    }
}

impl CachedReviews {
    fn running(&self) -> MutexGuard<'_, HashMap<TokenDigest, SharedReview>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ReviewCache {
    pub(super) fn new(reviewer: TokenReviewer) -> Self {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new())
            .expect("the system has random numbers");
        Self(Arc::new(CachedReviews {
            reviewer,
            key,
            verdicts: Cache::builder()
                .max_capacity(MAX_REVIEWS)
                .time_to_live(REVIEW_LIFETIME)
                .build(),
            running: Mutex::default(),
        }))
    }

    /// Verdict on a token, at most [`REVIEW_LIFETIME`] old.
    pub(super) async fn review(&self, token: &BearerToken) -> Verdict {
        let digest = self.digest(token);
        let known = self.0.verdicts.get(&digest);
        if let Some(known) = known.filter(|known| known.began.elapsed() < REVIEW_LIFETIME) {
            return known.verdict;
        }
        let review = self.join_or_start(digest, token)?;
        review.await
    }

    fn digest(&self, token: &BearerToken) -> TokenDigest {
        let tag = hmac::sign(&self.0.key, token.expose_secret().as_bytes());
        tag.as_ref().into()
    }

    fn join_or_start(
        &self,
        digest: TokenDigest,
        token: &BearerToken,
    ) -> Result<SharedReview, ReviewError> {
        let mut running = self.0.running();
        if let Some(review) = running.get(&digest) {
            return Ok(review.clone());
        }
        if running.len() >= MAX_RUNNING_REVIEWS {
            return Err(ReviewError::Unavailable {
                reason: format!("{MAX_RUNNING_REVIEWS} reviews of other tokens are running"),
            });
        }
        let (cache, token) = (self.clone(), token.clone());
        let key = digest.clone();
        let task = tokio::spawn(async move { cache.run(key, &token).await });
        let review = async move {
            task.await.unwrap_or_else(|_| {
                Err(ReviewError::Unavailable {
                    reason: "the review was interrupted".to_owned(),
                })
            })
        };
        let review = review.boxed().shared();
        running.insert(digest, review.clone());
        Ok(review)
    }

    async fn run(&self, digest: TokenDigest, token: &BearerToken) -> Verdict {
        let _running = RunningReview {
            cache: self,
            digest: &digest,
        };
        let began = Instant::now();
        let verdict = self.0.reviewer.review(token).await.map(Arc::new);
        if !matches!(verdict, Err(ReviewError::Unavailable { .. })) {
            let verdict = verdict.clone();
            let dated = DatedVerdict { began, verdict };
            self.0.verdicts.insert(digest.clone(), dated);
        }
        verdict
    }
}

/// Entry of a running review, removed when it ends, however it ends.
struct RunningReview<'c> {
    cache: &'c ReviewCache,
    digest: &'c TokenDigest,
}

impl Drop for RunningReview<'_> {
    fn drop(&mut self) {
        self.cache.0.running().remove(self.digest);
    }
}
