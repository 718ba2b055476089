//! Responses of the collector: each failure with its reason, its status and its sentence.

use std::fmt;

use axum::body::Body;
use axum::response::Response;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, StatusCode};
use serde::Serialize;

use crate::audit::delivery::{InvalidHead, MAX_BODY, Receipt, RejectedBatch, Rejection};
use crate::audit::stored::InvalidLine;
use crate::identity::kubernetes::{InvalidBearer, ReviewError};
use crate::server::limits::BodyRejection;
use crate::store::{AppendError, Appended, InvalidBatch, StoreError};

/// Seconds after which a sender should try again.
const RETRY_AFTER_SECONDS: &str = "5";

/// Rejection with its sentence.
pub(super) fn reject(reason: Rejection, message: &dyn fmt::Display) -> RejectedBatch {
    RejectedBatch {
        reason,
        message: message.to_string(),
        wanted: None,
    }
}

/// Rejection after a defect of this program.
pub(super) fn failed() -> RejectedBatch {
    reject(
        Rejection::Unavailable,
        &"the collector failed at this batch: its log has the reason. Retry",
    )
}

/// Whether an append failed because of the store, and not because of the batch.
pub(super) fn is_failure_of_store(appended: &Result<Appended, AppendError>) -> bool {
    matches!(appended, Err(AppendError::Store(_)))
}

pub(super) fn accepted(receipt: Receipt) -> Response {
    response(StatusCode::OK, &receipt)
}

pub(super) fn rejected(rejected: &RejectedBatch) -> Response {
    let status = StatusCode::from_u16(rejected.reason.status());
    let status = status.unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
    let mut response = response(status, rejected);
    if status == StatusCode::SERVICE_UNAVAILABLE {
        let seconds = HeaderValue::from_static(RETRY_AFTER_SECONDS);
        response.headers_mut().insert(RETRY_AFTER, seconds);
    }
    response
}

fn response(status: StatusCode, body: &impl Serialize) -> Response {
    let body = serde_json::to_vec(body).unwrap_or_default();
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}

impl From<InvalidBearer> for RejectedBatch {
    fn from(error: InvalidBearer) -> Self {
        reject(Rejection::Unauthenticated, &error)
    }
}

impl From<ReviewError> for RejectedBatch {
    fn from(error: ReviewError) -> Self {
        let reason = match error {
            ReviewError::Unauthenticated { .. } => Rejection::Unauthenticated,
            ReviewError::Unavailable { .. } => Rejection::Unavailable,
        };
        reject(reason, &error)
    }
}

impl From<BodyRejection> for RejectedBatch {
    fn from(error: BodyRejection) -> Self {
        match error {
            BodyRejection::TooLarge => reject(
                Rejection::TooLarge,
                &format!("the batch is longer than {MAX_BODY} bytes: send fewer lines"),
            ),
            BodyRejection::Broken => reject(
                Rejection::InvalidBatch,
                &"the batch could not be read to its end: send it again",
            ),
            BodyRejection::Overloaded | BodyRejection::TooSlow => {
                reject(Rejection::Unavailable, &format!("{error}: retry"))
            }
        }
    }
}

impl From<InvalidHead> for RejectedBatch {
    fn from(error: InvalidHead) -> Self {
        reject(
            Rejection::InvalidBatch,
            &format!("{error}: send the head as the first line"),
        )
    }
}

impl From<InvalidBatch> for RejectedBatch {
    fn from(error: InvalidBatch) -> Self {
        let reason = match error {
            InvalidBatch::TooLarge { .. }
            | InvalidBatch::Line {
                error: InvalidLine::TooLong,
                ..
            } => Rejection::TooLarge,
            InvalidBatch::Line { .. }
            | InvalidBatch::OtherChain { .. }
            | InvalidBatch::Gap { .. }
            | InvalidBatch::Unlinked { .. } => Rejection::InvalidBatch,
        };
        reject(reason, &error)
    }
}

impl From<AppendError> for RejectedBatch {
    fn from(error: AppendError) -> Self {
        match &error {
            AppendError::OutOfOrder { wanted, .. } => Self {
                wanted: Some(*wanted),
                ..reject(Rejection::OutOfOrder, &error)
            },
            AppendError::SecondHistory { .. } => reject(Rejection::SecondHistory, &error),
            AppendError::Store(error) => error.clone().into(),
        }
    }
}

impl From<StoreError> for RejectedBatch {
    fn from(error: StoreError) -> Self {
        reject(Rejection::Unavailable, &error)
    }
}
