//! What a look at the cluster gave, when not being allowed to look is an answer too.

use std::time::Duration;

use tokio::time::timeout;

use crate::kubernetes::ApiError;

/// How long one look may take.
const LOOK: Duration = Duration::from_secs(30);

/// One thing that was looked for.
#[derive(Clone, Debug)]
pub enum Lookup<T> {
    /// It is there.
    Found(T),
    /// It is not.
    NotFound,
    /// Nobody knows, and why: a sentence.
    Unknown(String),
}

impl<T> Lookup<T> {
    /// What is there.
    pub fn there(&self) -> Option<&T> {
        match self {
            Self::Found(object) => Some(object),
            Self::NotFound | Self::Unknown(_) => None,
        }
    }

    /// Another view of what is there.
    pub fn map<U>(self, view: impl FnOnce(T) -> U) -> Lookup<U> {
        match self {
            Self::Found(object) => Lookup::Found(view(object)),
            Self::NotFound => Lookup::NotFound,
            Self::Unknown(why) => Lookup::Unknown(why),
        }
    }
}

/// Awaits one read of a single object.
pub async fn look<T>(read: impl Future<Output = Result<Option<T>, kube::Error>>) -> Lookup<T> {
    match timeout(LOOK, read).await {
        Ok(Ok(Some(object))) => Lookup::Found(object),
        Ok(Ok(None)) => Lookup::NotFound,
        // Where the kind itself is not served, the answer is no Status, which kube does not take for "not found".
        Ok(Err(kube::Error::Api(status))) if status.code == 404 => Lookup::NotFound,
        Ok(Err(error)) => Lookup::Unknown(said(&error)),
        Err(_) => Lookup::Unknown("the API server did not answer in time".to_owned()),
    }
}

/// Why a call failed, in the API server's own words where it says who may not do what.
#[must_use]
pub fn said(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if status.code == 403 => status.message.clone(),
        kube::Error::Api(status) => format!(
            "the API server answered HTTP {}: {}",
            status.code, status.message
        ),
        kube::Error::Auth(_) => "no credential for the API server could be obtained".to_owned(),
        _ => "the API server gave no readable answer".to_owned(),
    }
}

impl<T> From<Result<Option<T>, ApiError>> for Lookup<T> {
    fn from(read: Result<Option<T>, ApiError>) -> Self {
        match read {
            Ok(Some(object)) => Self::Found(object),
            Ok(None) => Self::NotFound,
            Err(error) => Self::Unknown(error.to_string()),
        }
    }
}
