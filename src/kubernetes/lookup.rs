//! Results of reading one thing in the cluster, where a missing permission is a result too.

use std::time::Duration;

use tokio::time::timeout;

use crate::kubernetes::ApiError;

const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// Result of reading one thing.
#[derive(Clone, Debug)]
pub enum Lookup<T> {
    Found(T),
    NotFound,
    /// It could not be read; the reason is a sentence.
    Unknown(String),
}

impl<T> Lookup<T> {
    pub fn found(&self) -> Option<&T> {
        match self {
            Self::Found(object) => Some(object),
            Self::NotFound | Self::Unknown(_) => None,
        }
    }

    pub fn map<U>(self, view: impl FnOnce(T) -> U) -> Lookup<U> {
        match self {
            Self::Found(object) => Lookup::Found(view(object)),
            Self::NotFound => Lookup::NotFound,
            Self::Unknown(reason) => Lookup::Unknown(reason),
        }
    }
}

/// Awaits one read of a single object.
pub async fn read_optional<T>(
    read: impl Future<Output = Result<Option<T>, kube::Error>>,
) -> Lookup<T> {
    match timeout(READ_TIMEOUT, read).await {
        Ok(Ok(Some(object))) => Lookup::Found(object),
        Ok(Ok(None)) => Lookup::NotFound,
        // If the kind itself is not served, the response has no Status, and kube does not map it to "not found".
        Ok(Err(kube::Error::Api(status))) if status.code == 404 => Lookup::NotFound,
        Ok(Err(error)) => Lookup::Unknown(describe_error(&error)),
        Err(_) => Lookup::Unknown("the API server did not answer in time".to_owned()),
    }
}

/// Describes the error of a call. For a missing permission, it is the API server's message.
#[must_use]
pub fn describe_error(error: &kube::Error) -> String {
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
