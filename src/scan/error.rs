//! Error of a scan.

use crate::backend::BackendError;
use crate::kubernetes::ApiError;

/// Error that ends a scan: not everything in scope was read.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// A list or an object could not be read.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The defaults of a namespace or service account could not be read.
    #[error(transparent)]
    Defaults(#[from] BackendError),
}
