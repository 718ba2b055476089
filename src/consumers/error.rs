//! Errors of reading the consumers of a Secret.

use crate::kubernetes::ApiError;

/// Reason for which the consumers of a Secret could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ConsumersError {
    /// A list or an object could not be read.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The Secret does not exist.
    #[error(
        "secret \"{name}\" not found in namespace \"{namespace}\". Correct the name, or select its namespace with -n."
    )]
    NotFound { name: String, namespace: String },
    /// A response is not metadata of a Secret.
    #[error(
        "the metadata of secret \"{name}\" in namespace \"{namespace}\" cannot be read. Try again."
    )]
    Unreadable { name: String, namespace: String },
}
