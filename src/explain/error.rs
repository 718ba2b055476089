//! Errors of an explanation.

use crate::backend::BackendError;
use crate::consumers::ConsumersError;
use crate::kubernetes::ApiError;

/// Reason for which an object could not be explained.
#[derive(Debug, thiserror::Error)]
pub enum ExplainError {
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The defaults of the namespace or the service account could not be read.
    #[error(transparent)]
    Defaults(#[from] BackendError),
    #[error(transparent)]
    Secret(#[from] ConsumersError),
    #[error(
        "{kind} \"{name}\" not found in namespace \"{namespace}\". Correct the name, or select its namespace with -n."
    )]
    NotFound {
        kind: &'static str,
        name: String,
        namespace: String,
    },
    /// The response is not an object of the kind.
    #[error(
        "{kind} \"{name}\" in namespace \"{namespace}\" cannot be read: it is not an object of that kind. Try again."
    )]
    Unreadable {
        kind: &'static str,
        name: String,
        namespace: String,
    },
}
