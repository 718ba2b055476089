//! Failures of shipping, each with its label of the metric.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::audit::delivery::Rejection;
use crate::recorder::spool::SpoolError;
use crate::telemetry::metrics::label_enum;
use crate::tls::TlsError;

label_enum! {
    /// Reason for which a batch was not stored.
    ShippingFailureReason {
        /// The collector cannot be reached, or has closed the connection.
        Connection => "connection",
        /// The collector's certificate is not accepted.
        Tls => "tls",
        /// A step has taken too long.
        Timeout => "timeout",
        /// The token or the CA cannot be read.
        Credentials => "credentials",
        /// The collector does not accept the token.
        Unauthenticated => "unauthenticated",
        /// The collector does not accept lines of this pod.
        Forbidden => "forbidden",
        /// The collector lacks lines before the batch; it gets them next.
        OutOfOrder => "out_of_order",
        /// The collector has other lines with these numbers.
        SecondHistory => "second_history",
        /// The collector cannot read the batch.
        InvalidBatch => "invalid_batch",
        /// The collector cannot store lines at the moment.
        Unavailable => "unavailable",
        /// The response is not that of a collector.
        InvalidResponse => "invalid_response",
        /// The spool cannot be read.
        Spool => "spool",
    }
}

/// Failure of an attempt to ship. The messages have nothing of a token, nor of what the collector sent.
#[derive(Debug, Error)]
pub(super) enum ShippingFailure {
    #[error("the collector cannot be reached, or has closed the connection")]
    Connection(#[source] io::Error),
    #[error("the request to the collector failed")]
    Exchange(#[source] hyper::Error),
    #[error(
        "the certificate of the collector is not accepted. Check that the CA file has the CA of it, and that the \
         certificate has the name of the URL"
    )]
    Tls(#[source] io::Error),
    #[error("{0} has taken too long")]
    Timeout(&'static str),
    #[error("{path} cannot be read. Check the mount.")]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{path} has no usable CA certificate. Check the mount.")]
    Ca {
        path: PathBuf,
        #[source]
        source: Option<TlsError>,
    },
    #[error("{path} has no token, or one that is too long. Check the mount.")]
    Token { path: PathBuf },
    #[error("{}", sentence(*.0))]
    Rejected(Rejection),
    #[error("status {0} is not one of a collector. Check the URL.")]
    Status(u16),
    #[error("the response is not that of a collector. Check the URL.")]
    InvalidResponse,
    #[error("the spool cannot be read")]
    Spool(#[source] SpoolError),
}

/// Reason of a rejection, and what to do about it. The collector's own sentence is not repeated: it is foreign text.
fn sentence(rejection: Rejection) -> &'static str {
    match rejection {
        Rejection::Unauthenticated => {
            "the collector does not accept the token. Check that it is for the audience floe-secrets-audit"
        }
        Rejection::Forbidden => {
            "the collector does not accept lines of this pod. Check --senders of admin, and --pod-name and --pod-uid"
        }
        Rejection::InvalidBatch | Rejection::TooLarge => {
            "the collector cannot read the batch. Check that its version is not older"
        }
        Rejection::OutOfOrder => "the collector lacks lines before the batch, and gets them next",
        Rejection::SecondHistory => "the collector has another history of the chain",
        Rejection::Unavailable | Rejection::Other => {
            "the collector cannot store lines at the moment. Its log has the reason"
        }
    }
}

impl ShippingFailure {
    pub(super) fn reason(&self) -> ShippingFailureReason {
        use ShippingFailureReason as Reason;
        match self {
            Self::Exchange(error) if error.is_parse() => Reason::InvalidResponse,
            Self::Connection(_) | Self::Exchange(_) => Reason::Connection,
            Self::Tls(_) => Reason::Tls,
            Self::Timeout(_) => Reason::Timeout,
            Self::File { .. } | Self::Ca { .. } | Self::Token { .. } => Reason::Credentials,
            Self::Rejected(rejection) => match rejection {
                Rejection::Unauthenticated => Reason::Unauthenticated,
                Rejection::Forbidden => Reason::Forbidden,
                Rejection::InvalidBatch | Rejection::TooLarge => Reason::InvalidBatch,
                Rejection::OutOfOrder => Reason::OutOfOrder,
                Rejection::SecondHistory => Reason::SecondHistory,
                Rejection::Unavailable | Rejection::Other => Reason::Unavailable,
            },
            Self::Status(_) | Self::InvalidResponse => Reason::InvalidResponse,
            Self::Spool(_) => Reason::Spool,
        }
    }

    /// Whether the next attempt needs another connection, with credentials that are read again.
    pub(super) fn ends_connection(&self) -> bool {
        match self {
            Self::Rejected(rejection) => {
                matches!(rejection, Rejection::Unauthenticated | Rejection::Forbidden)
            }
            Self::Spool(_) => false,
            _ => true,
        }
    }
}
