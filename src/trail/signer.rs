//! Signing key in use: read from its Secret, made if the Secret is empty, replaced when a new one is wanted.
//!
//! A process announces a new key by a record under the key that it used before, and only then writes the new key into
//! the Secret and signs with it. So a key that signs was announced, unless no process knew the one before any more.

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use super::keys::{KeyError, KeySecret, NewKey, StoredKey};
use super::own::{OwnTrail, OwnTrailError};
use super::retry::{MAX_PAUSE, RetryState};
use crate::audit::signature::SigningKey;
use crate::telemetry::error_chain::ErrorChain;

/// Interval at which the Secret is read again, so that a rotation needs no restart.
pub const KEY_INTERVAL: Duration = Duration::from_mins(5);

/// Time limit of reading or replacing the key. A process that stops still has time to sign with the key that it has.
const REFRESH_TIMEOUT: Duration = Duration::from_secs(3);

/// Attempts to write a key while other processes change the Secret.
const MAX_ATTEMPTS: usize = 3;

/// Reason why a key could not be read, made or announced.
#[derive(Debug, Error)]
enum SignerError {
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error("a new key cannot be announced")]
    Announcement(#[from] OwnTrailError),
    #[error("the API server did not respond within {} s", REFRESH_TIMEOUT.as_secs())]
    Timeout,
}

/// Key of this process.
#[derive(Debug)]
pub struct Signer {
    /// Absent if nothing is to be signed.
    secret: Option<KeySecret>,
    trail: OwnTrail,
    state: Mutex<SignerState>,
}

#[derive(Debug, Default)]
struct SignerState {
    key: Option<Arc<SigningKey>>,
    /// Time of the next reading; absent before the first one.
    next: Option<Instant>,
    retries: RetryState,
}

impl Signer {
    #[must_use]
    pub fn new(secret: Option<KeySecret>, trail: OwnTrail) -> Self {
        Self {
            secret,
            trail,
            state: Mutex::default(),
        }
    }

    /// Whether there can be a key.
    #[must_use]
    pub fn is_configured(&self) -> bool {
        self.secret.is_some()
    }

    /// Key to sign with. Without one, the Secret could not be read: the caller retries later.
    pub async fn key(&self) -> Option<Arc<SigningKey>> {
        let secret = self.secret.as_ref()?;
        let mut state = self.state.lock().await;
        let now = Instant::now();
        if state.next.is_some_and(|next| now < next) {
            return state.key.clone();
        }
        let refreshed = timeout(REFRESH_TIMEOUT, self.refresh(secret, state.key.clone())).await;
        match refreshed.unwrap_or(Err(SignerError::Timeout)) {
            Ok(key) => {
                let public = key.public_key();
                if state.retries.succeed() || state.key.is_none() {
                    tracing::info!(key = %public, "signing checkpoints of the audit trail");
                }
                state.key = Some(key);
                state.next = Some(now + KEY_INTERVAL);
            }
            Err(error) => {
                if state.retries.fail() {
                    tracing::warn!(
                        error = %ErrorChain(&error),
                        "the key of checkpoints cannot be read or replaced; retrying"
                    );
                }
                let pause = state.retries.pause().unwrap_or(MAX_PAUSE);
                state.next = Some(now + pause);
            }
        }
        state.key.clone()
    }

    /// Reads the key, or makes one. `present` is the one that this process used before.
    async fn refresh(
        &self,
        secret: &KeySecret,
        present: Option<Arc<SigningKey>>,
    ) -> Result<Arc<SigningKey>, SignerError> {
        let mut before = present;
        let mut attempts = 0;
        loop {
            let mut stored = secret.read().await?;
            if let Some(key) = stored.key.take() {
                let key = Arc::new(key);
                self.announce(before.as_deref(), &key).await?;
                if !stored.rotates {
                    publish(secret, &stored, &key).await;
                    return Ok(key);
                }
                before = Some(key);
            }
            let new = NewKey::generate()?;
            self.announce(before.as_deref(), &new.key).await?;
            attempts += 1;
            match secret.write(&stored, &new).await {
                Ok(()) => {
                    tracing::info!(key = %new.key.public_key(), "made a key for checkpoints");
                    return Ok(Arc::new(new.key));
                }
                Err(error) if error.is_conflict() && attempts < MAX_ATTEMPTS => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Announces a key under the one before, unless they are the same.
    async fn announce(
        &self,
        before: Option<&SigningKey>,
        key: &SigningKey,
    ) -> Result<(), SignerError> {
        let public = key.public_key();
        if let Some(before) = before.filter(|before| before.public_key() != public) {
            let record = self.trail.emitter().key(public);
            self.trail.append_signed(vec![record], before).await?;
        }
        Ok(())
    }
}

/// Writes the public key beside a key that was restored by hand. Another process may do so first.
async fn publish(secret: &KeySecret, stored: &StoredKey, key: &SigningKey) {
    if !stored.is_published
        && let Err(error) = secret.publish(stored, key).await
    {
        tracing::debug!(error = %ErrorChain(&error), "the public key was not published");
    }
}
