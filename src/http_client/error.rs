//! Errors of exchanges with services outside the cluster.

use std::error::Error;
use std::net::IpAddr;
use std::time::Duration;

use thiserror::Error;

use super::addresses::AddressClass;
use super::limits::CONNECT_TIMEOUT;
use super::resolver::{NoAddress, RefusedAnswer};
use crate::telemetry::error_chain::excerpt;

/// Bytes of a reason that comes from a library.
const MAX_REASON: usize = 200;

/// Reason why there is no usable response. `target` is the method and the URL without its query; there is no text of a
/// header or a body in any of them.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum HttpError {
    #[error(
        "{target}: the address {address} is {class}, and is not connected to: correct the URL, or allow the network of the address"
    )]
    RefusedAddress {
        target: String,
        address: IpAddr,
        class: AddressClass,
    },
    #[error("{target}: the name of the host has no address: check the URL and the resolver")]
    Unresolved { target: String },
    #[error(
        "{target}: no connection: {reason}. Check that the host listens and that no policy blocks the way"
    )]
    Unreachable { target: String, reason: String },
    #[error(
        "{target}: TLS failed: {reason}. Check the certificate of the server and the CA certificates of the settings"
    )]
    Tls { target: String, reason: String },
    #[error("{target}: no complete response within {limit:?}: check the load of the server")]
    Timeout { target: String, limit: Duration },
    #[error(
        "{target}: the response has more than {limit} bytes: check that the URL is the right one"
    )]
    TooLarge { target: String, limit: usize },
    #[error("{target}: the response is compressed, which was not requested: check what is between")]
    Encoded { target: String },
    #[error("{target}: the connection ended before the response: {reason}. Retry")]
    Broken { target: String, reason: String },
    #[error("{target}: HTTP {status}: check the URL and the rights of the client")]
    Status {
        target: String,
        status: u16,
        retry_after: Option<Duration>,
    },
    #[error(
        "{target}: the response is not the expected JSON (line {line}, column {column}): check that the URL is the right one"
    )]
    NotJson {
        target: String,
        line: usize,
        column: usize,
    },
}

impl HttpError {
    /// Meaning of an error of the client.
    pub(super) fn of_reqwest(target: &str, error: &reqwest::Error) -> Self {
        let target = target.to_owned();
        if let Some(refused) = find::<RefusedAnswer>(error) {
            return Self::RefusedAddress {
                target,
                address: refused.address,
                class: refused.class,
            };
        }
        if find::<NoAddress>(error).is_some() {
            return Self::Unresolved { target };
        }
        if let Some(reason) = tls_reason(error) {
            return Self::Tls { target, reason };
        }
        if error.is_timeout() {
            let limit = CONNECT_TIMEOUT;
            return Self::Timeout { target, limit };
        }
        let reason = last_cause(error);
        if error.is_connect() {
            Self::Unreachable { target, reason }
        } else {
            Self::Broken { target, reason }
        }
    }

    /// Time after which the server accepts the request again, as it reported.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

/// Causes of an error, outermost first.
fn causes<'e>(error: &'e (dyn Error + 'static)) -> impl Iterator<Item = &'e (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| cause_of(*error))
}

/// Cause of an error. That of an `io::Error` is the error that it wraps, which its `source` leaves out.
fn cause_of<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e (dyn Error + 'static)> {
    let wrapped = error.downcast_ref::<std::io::Error>();
    match wrapped.and_then(std::io::Error::get_ref) {
        Some(inner) => {
            let inner: &(dyn Error + 'static) = inner;
            Some(inner)
        }
        None => error.source(),
    }
}

fn find<'e, E: Error + 'static>(error: &'e (dyn Error + 'static)) -> Option<&'e E> {
    causes(error).find_map(<dyn Error>::downcast_ref)
}

fn tls_reason(error: &(dyn Error + 'static)) -> Option<String> {
    let error = find::<rustls::Error>(error)?;
    Some(excerpt(&error.to_string(), MAX_REASON).into_owned())
}

/// Text of the innermost cause: that of the system, not of the client, which names the URL.
fn last_cause(error: &(dyn Error + 'static)) -> String {
    let last = causes(error).last().map(ToString::to_string);
    excerpt(&last.unwrap_or_default(), MAX_REASON).into_owned()
}
