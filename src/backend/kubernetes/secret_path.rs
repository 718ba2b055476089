//! Paths of Secrets below a namespace, and the errors of calls to them.

use super::transport::ExchangeFailure;
use crate::backend::{BackendError, BackendKind, ErrorKind};
use injection::SecretName;

/// Secret of one call, or all Secrets of the namespace.
#[derive(Clone, Copy)]
pub(super) struct SecretPath<'a> {
    pub(super) namespace: &'a str,
    pub(super) name: Option<&'a SecretName>,
}

impl SecretPath<'_> {
    pub(super) fn error(self, kind: ErrorKind) -> BackendError {
        BackendError::new(kind, BackendKind::Kubernetes, self.namespace, self.name)
    }

    pub(super) fn exchange_error(self, failure: ExchangeFailure) -> BackendError {
        let ExchangeFailure {
            kind,
            retry_after,
            cause,
        } = failure;
        BackendError {
            retry_after,
            ..self.error(kind).because(cause)
        }
    }

    pub(super) fn decode_error(self, cause: String) -> BackendError {
        self.error(ErrorKind::Protocol).because(cause)
    }

    /// Path of the URL: of the Secret, or of all Secrets of the namespace.
    pub(super) fn url_path(self) -> String {
        let Self { namespace, name } = self;
        match name {
            Some(name) => format!("/api/v1/namespaces/{namespace}/secrets/{name}"),
            None => format!("/api/v1/namespaces/{namespace}/secrets"),
        }
    }
}

/// Whether `text` can be a continue token: base64 for URLs. Any other text would change the query.
pub(super) fn is_continue_token(text: &str) -> bool {
    text.bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'=' | b'.'))
}
