//! What a look at the cluster gave, when not being allowed to look is an answer too.

use std::time::Duration;

use tokio::time::timeout;

use super::ApiError;

/// How long one look may take.
const LOOK: Duration = Duration::from_secs(30);

/// One thing that was looked for.
#[derive(Clone, Debug)]
pub enum Seen<T> {
    /// It is there.
    There(T),
    /// It is not.
    Absent,
    /// Nobody knows, and why: a sentence.
    Hidden(String),
}

impl<T> Seen<T> {
    /// What is there.
    pub fn there(&self) -> Option<&T> {
        match self {
            Self::There(object) => Some(object),
            Self::Absent | Self::Hidden(_) => None,
        }
    }

    /// Another view of what is there.
    pub fn map<U>(self, view: impl FnOnce(T) -> U) -> Seen<U> {
        match self {
            Self::There(object) => Seen::There(view(object)),
            Self::Absent => Seen::Absent,
            Self::Hidden(why) => Seen::Hidden(why),
        }
    }
}

/// Awaits one read of a single object.
pub async fn look<T>(read: impl Future<Output = Result<Option<T>, kube::Error>>) -> Seen<T> {
    match timeout(LOOK, read).await {
        Ok(Ok(Some(object))) => Seen::There(object),
        Ok(Ok(None)) => Seen::Absent,
        // Where the kind itself is not served, the answer is no Status, which kube does not take for "not found".
        Ok(Err(kube::Error::Api(status))) if status.code == 404 => Seen::Absent,
        Ok(Err(error)) => Seen::Hidden(said(&error)),
        Err(_) => Seen::Hidden("the API server did not answer in time".to_owned()),
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

impl<T> From<Result<Option<T>, ApiError>> for Seen<T> {
    fn from(read: Result<Option<T>, ApiError>) -> Self {
        match read {
            Ok(Some(object)) => Self::There(object),
            Ok(None) => Self::Absent,
            Err(error) => Self::Hidden(error.to_string()),
        }
    }
}
