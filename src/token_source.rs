//! Tokens that this program sends to others, obtained by a login and kept until they are about to expire.
//!
//! All tasks that call one service as one client share a [`TokenSource`]: there is one login at a time, and it goes on
//! when the caller that caused it leaves. A token is replaced in the background before it expires. Its lifetime counts
//! from the beginning of the login, by the monotonic clock; nothing is read from the token itself.
//!
//! A login that fails keeps the old token until it expires. A login that is refused rests for a while, unless the
//! credential changes: repeated refusals lock accounts.

mod credential_file;
mod error;
mod limits;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt as _;
use secrecy::SecretString;
use tokio::time::Instant;

pub use self::credential_file::{CredentialFile, CredentialFileError, MAX_CREDENTIAL};
use self::error::LoginFailure;
pub use self::error::{InvalidRefreshBefore, LoginError, TokenSourceError};
pub use self::limits::{
    DEFAULT_REFRESH_BEFORE, DEFAULT_REFUSED_PAUSE, LOGIN_WAIT, MAX_LIFETIME, MAX_REFRESH_BEFORE,
    MAX_SPREAD, MIN_LIFETIME, MIN_REFRESH_BEFORE, REFRESH_AHEAD_PERCENT, REPLACE_INTERVAL,
};
use crate::refresh::{FetchMissed, Fetched, Refresher};

/// Time between two looks at the credential while a refused login rests.
const CREDENTIAL_INTERVAL: Duration = Duration::from_secs(1);

/// Login at a service.
#[async_trait]
pub trait TokenLogin: Send + Sync + 'static {
    /// Logs in. Reads the credential anew each time, and has a time limit of its own.
    async fn login(&self) -> Result<ObtainedToken, LoginError>;

    /// Number that is another one after the credential has changed.
    async fn credential_version(&self) -> u64 {
        0
    }
}

/// Token of a login.
#[derive(Clone, Debug)]
pub struct ObtainedToken {
    pub token: SecretString,
    /// Time from the login until the token expires.
    pub lifetime: Duration,
}

/// Token to send. `Debug` does not show it.
#[derive(Clone)]
pub struct SourceToken(Arc<Fetched<ObtainedToken>>);

impl SourceToken {
    /// The token.
    #[must_use]
    pub fn secret(&self) -> &SecretString {
        &self.0.value.token
    }

    /// Number of the token, which grows with each login.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.0.generation
    }
}

impl fmt::Debug for SourceToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SourceToken")
            .field("generation", &self.0.generation)
            .finish_non_exhaustive()
    }
}

/// Settings of a source.
#[derive(Clone, Copy, Debug)]
pub struct TokenSourceSettings {
    refresh_before: Duration,
    refused_pause: Duration,
}

impl Default for TokenSourceSettings {
    fn default() -> Self {
        Self {
            refresh_before: DEFAULT_REFRESH_BEFORE,
            refused_pause: DEFAULT_REFUSED_PAUSE,
        }
    }
}

impl TokenSourceSettings {
    /// Sets the time before its end at which a token is replaced.
    ///
    /// # Errors
    ///
    /// It is not between [`MIN_REFRESH_BEFORE`] and [`MAX_REFRESH_BEFORE`].
    pub fn with_refresh_before(mut self, time: Duration) -> Result<Self, InvalidRefreshBefore> {
        if !(MIN_REFRESH_BEFORE..=MAX_REFRESH_BEFORE).contains(&time) {
            return Err(InvalidRefreshBefore);
        }
        self.refresh_before = time;
        Ok(self)
    }

    /// Sets the pause after a login that was refused, which is at most five minutes.
    #[must_use]
    pub fn with_refused_pause(mut self, pause: Duration) -> Self {
        self.refused_pause = pause;
        self
    }
}

/// Source of tokens for one service, client, scope and audience. Share it; it is not cloned.
pub struct TokenSource {
    name: Arc<str>,
    login: Arc<dyn TokenLogin>,
    refresher: Refresher<ObtainedToken, LoginFailure>,
    settings: TokenSourceSettings,
    state: Mutex<SourceState>,
}

#[derive(Default)]
struct SourceState {
    /// Generation of the token that was rejected last, and when its replacement began.
    rejected: Option<(u64, Instant)>,
    /// Last look at the credential.
    looked_at: Option<Instant>,
}

/// Times at which a token is replaced.
struct TokenTimes {
    /// Replaced in the background from here on.
    refresh: Instant,
    /// Callers wait for another one from here on.
    wait: Instant,
    expiry: Instant,
}

impl fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenSource")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl TokenSource {
    /// Creates a source without a token. `name` is that of the service, in logs and errors.
    pub fn new(name: &str, login: Arc<dyn TokenLogin>, settings: TokenSourceSettings) -> Self {
        let name: Arc<str> = name.into();
        let (working, logged) = (Arc::clone(&login), Arc::clone(&name));
        let pause = settings.refused_pause;
        let is_failing = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let refresher = Refresher::new(move || {
            let (login, name) = (Arc::clone(&working), Arc::clone(&logged));
            let is_failing = Arc::clone(&is_failing);
            async move {
                let result = log_in(&*login, pause).await;
                error::report(&name, result.as_ref().err(), &is_failing);
                result
            }
            .boxed()
        });
        Self {
            name,
            login,
            refresher,
            settings,
            state: Mutex::default(),
        }
    }

    /// Token to send now. Waits for at most [`LOGIN_WAIT`] if there is none.
    ///
    /// # Errors
    ///
    /// There is no token that has not expired, and no login succeeds in time.
    pub async fn token(&self) -> Result<SourceToken, TokenSourceError> {
        let Some(current) = self.refresher.current() else {
            return self.obtain().await;
        };
        let (times, now) = (self.times_of(&current), Instant::now());
        if now >= times.expiry || self.is_rejected(current.generation) {
            return self.obtain().await;
        }
        if now < times.refresh {
            return Ok(SourceToken(current));
        }
        // Nobody waits for a service that has just failed, as long as the token has not expired.
        if now < times.wait || self.refresher.is_failing() {
            self.refresher.start();
            return Ok(SourceToken(current));
        }
        match self.obtain().await {
            Err(_) if Instant::now() < times.expiry => Ok(SourceToken(current)),
            result => result,
        }
    }

    /// Token in place of one that the service rejected. There is one login for each rejected token, however many
    /// callers there are, and one replacement within [`REPLACE_INTERVAL`].
    ///
    /// # Errors
    ///
    /// The token that was obtained a moment ago is rejected as well, or no login succeeds in time.
    pub async fn replace(&self, rejected: &SourceToken) -> Result<SourceToken, TokenSourceError> {
        if let Some(current) = self.refresher.current()
            && current.generation > rejected.generation()
        {
            return self.token().await;
        }
        self.set_rejected(rejected.generation())?;
        self.obtain().await
    }

    fn set_rejected(&self, generation: u64) -> Result<(), TokenSourceError> {
        let mut state = self.lock();
        match state.rejected {
            Some((last, _)) if last == generation => Ok(()),
            Some((_, at)) if at.elapsed() < REPLACE_INTERVAL => {
                Err(TokenSourceError::RejectedAgain {
                    name: self.name.to_string(),
                    retry_in: REPLACE_INTERVAL.saturating_sub(at.elapsed()),
                })
            }
            _ => {
                state.rejected = Some((generation, Instant::now()));
                Ok(())
            }
        }
    }

    fn is_rejected(&self, generation: u64) -> bool {
        matches!(self.lock().rejected, Some((last, _)) if last == generation)
    }

    async fn obtain(&self) -> Result<SourceToken, TokenSourceError> {
        match self.refresher.fetch(LOGIN_WAIT).await {
            Ok(fetched) => Ok(SourceToken(fetched)),
            Err(missed) if self.has_new_credential(&missed).await => {
                self.refresher.end_pause();
                let fetched = self.refresher.fetch(LOGIN_WAIT).await;
                fetched
                    .map(SourceToken)
                    .map_err(|missed| self.error_of(missed))
            }
            Err(missed) => Err(self.error_of(missed)),
        }
    }

    /// Whether the credential is another one than that of the refused login. Looks once a second.
    async fn has_new_credential(&self, missed: &FetchMissed<LoginFailure>) -> bool {
        let Some(LoginFailure {
            error: LoginError::Refused { .. },
            credential,
            ..
        }) = &missed.error
        else {
            return false;
        };
        {
            let mut state = self.lock();
            let is_due = |at: Instant| at.elapsed() >= CREDENTIAL_INTERVAL;
            if !state.looked_at.is_none_or(is_due) {
                return false;
            }
            state.looked_at = Some(Instant::now());
        }
        self.login.credential_version().await != *credential
    }

    fn error_of(&self, missed: FetchMissed<LoginFailure>) -> TokenSourceError {
        let (name, retry_in) = (self.name.to_string(), missed.retry_in);
        match missed.error.map(|failure| failure.error) {
            Some(LoginError::Refused { reason }) => TokenSourceError::Refused {
                name,
                reason,
                retry_in,
            },
            Some(LoginError::Unavailable { reason, .. }) => TokenSourceError::Unavailable {
                name,
                reason,
                retry_in,
            },
            None => TokenSourceError::Unavailable {
                name,
                reason: format!("no token within {LOGIN_WAIT:?}"),
                retry_in,
            },
        }
    }

    fn times_of(&self, current: &Fetched<ObtainedToken>) -> TokenTimes {
        let lifetime = current.value.lifetime.min(MAX_LIFETIME);
        let half = lifetime / 2;
        let spread = MAX_SPREAD.mul_f64(current.spread);
        let share = lifetime * REFRESH_AHEAD_PERCENT / 100;
        let ahead = share.max(self.settings.refresh_before + spread).min(half);
        let expiry = current.began + lifetime;
        TokenTimes {
            refresh: expiry - ahead,
            wait: expiry - self.settings.refresh_before.min(half),
            expiry,
        }
    }

    fn lock(&self) -> MutexGuard<'_, SourceState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn log_in(login: &dyn TokenLogin, pause: Duration) -> Result<ObtainedToken, LoginFailure> {
    // Before the login: a credential that changes during it counts as new.
    let credential = login.credential_version().await;
    let obtained = login.login().await.and_then(|obtained| {
        if obtained.lifetime >= MIN_LIFETIME {
            return Ok(obtained);
        }
        Err(LoginError::Unavailable {
            reason: format!(
                "the token lives {:?}, and has to live for at least {MIN_LIFETIME:?}: correct its lifetime at the service",
                obtained.lifetime
            ),
            retry_after: None,
        })
    });
    obtained.map_err(|error| LoginFailure {
        pause: match &error {
            LoginError::Refused { .. } => Some(pause),
            LoginError::Unavailable { retry_after, .. } => *retry_after,
        },
        error,
        credential,
    })
}
