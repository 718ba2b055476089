//! Delivery of lines: what a recorder sends to the collector, and what the collector responds.
//!
//! A batch is the body of a `POST` to [`PATH`]: one line of JSON, the [`BatchHead`], and then lines of one chain as they
//! were written, each with its newline. A batch without lines carries only the state of the replica.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::link::ChainId;

/// Path of the collector.
pub const PATH: &str = "/v1/lines";

/// Audience of the ServiceAccount token that a batch is sent with.
pub const AUDIENCE: &str = "floe-secrets-audit";

/// Media type of a batch.
pub const MEDIA_TYPE: &str = "application/x-ndjson";

/// Bytes of the head, without its newline.
pub const MAX_HEAD: usize = 4 << 10;

/// Bytes of all lines of a batch, with their newlines.
pub const MAX_LINES: usize = 2 << 20;

/// Bytes of a body: the head, its newline, and the lines.
pub const MAX_BODY: usize = MAX_HEAD + 1 + MAX_LINES;

/// Bytes of a response.
pub const MAX_RESPONSE: usize = 4 << 10;

/// Head of a batch. Fields of a newer sender are ignored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchHead {
    /// Chain of the lines.
    pub chain: ChainId,
    /// Whether the sender lacks the lines between the stored ones and the first of this batch.
    #[serde(default)]
    pub lost_before: bool,
    pub replica: ReplicaState,
}

/// State of the sender when it sent the batch. Counters are since its start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ReplicaState {
    /// Name of the pod.
    pub pod: String,
    pub version: String,
    /// End of the serving certificate's validity.
    pub certificate_end: Option<Timestamp>,
    pub admissions: u64,
    pub refusals: u64,
    /// Records that were dropped, because nothing took them.
    pub dropped: u64,
    /// Lines that the collector has not acknowledged, those of this batch included.
    pub unshipped: u64,
}

/// Response to a batch that is stored, status 200.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// Number of the chain's last durable line; 0 if there is none.
    pub durable: u64,
}

/// Reason why a batch is not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rejection {
    /// The token is missing, not valid, or of another audience: 401.
    Unauthenticated,
    /// The token is not of a pod that may write this chain: 403.
    Forbidden,
    /// The head or a line is not valid: 400.
    InvalidBatch,
    /// The body is longer than [`MAX_BODY`], or a line is too long: 413.
    TooLarge,
    /// A line before the first of the batch is missing; `wanted` is its number: 409.
    OutOfOrder,
    /// A line is stored with the same number and another hash: 409.
    SecondHistory,
    /// The store cannot be written at the moment, or the sender cannot be checked: 503.
    Unavailable,
    /// A reason of a newer collector.
    #[serde(other)]
    Other,
}

impl Rejection {
    /// Word of the reason, as it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unauthenticated => "unauthenticated",
            Self::Forbidden => "forbidden",
            Self::InvalidBatch => "invalid_batch",
            Self::TooLarge => "too_large",
            Self::OutOfOrder => "out_of_order",
            Self::SecondHistory => "second_history",
            Self::Unavailable => "unavailable",
            Self::Other => "other",
        }
    }

    /// Status of the response.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::Unauthenticated => 401,
            Self::Forbidden => 403,
            Self::InvalidBatch => 400,
            Self::TooLarge => 413,
            Self::OutOfOrder | Self::SecondHistory => 409,
            Self::Unavailable | Self::Other => 503,
        }
    }
}

/// Response to a batch that is not stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RejectedBatch {
    pub reason: Rejection,
    /// Sentence that states what to do.
    pub message: String,
    /// Number of the line that the collector wants next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wanted: Option<u64>,
}

/// Reason why a body is not a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum InvalidHead {
    #[error("the head of the batch is longer than {MAX_HEAD} bytes")]
    TooLong,
    #[error("the head of the batch is not JSON with a chain and a replica")]
    NotJson,
}

impl BatchHead {
    /// Splits a body into its head and the lines.
    ///
    /// # Errors
    ///
    /// The first line is not a head.
    pub fn split(body: &[u8]) -> Result<(Self, &[u8]), InvalidHead> {
        let end = body.iter().take(MAX_HEAD + 1).position(|b| *b == b'\n');
        let (head, lines) = match end {
            Some(end) => body.split_at(end),
            None if body.len() > MAX_HEAD => return Err(InvalidHead::TooLong),
            None => (body, &[][..]),
        };
        let head = serde_json::from_slice(head).map_err(|_| InvalidHead::NotJson)?;
        Ok((head, lines.strip_prefix(b"\n").unwrap_or(lines)))
    }

    /// Head with its newline, to which lines are appended.
    #[must_use]
    pub fn to_line(&self) -> Vec<u8> {
        let mut line = serde_json::to_vec(self).unwrap_or_default();
        line.push(b'\n');
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::test_support::id;

    fn head() -> BatchHead {
        BatchHead {
            chain: id("a"),
            lost_before: true,
            replica: ReplicaState {
                pod: "webhook-1".to_owned(),
                unshipped: 3,
                ..ReplicaState::default()
            },
        }
    }

    #[test]
    fn head_is_read_as_it_was_written() {
        let mut body = head().to_line();
        assert_eq!(BatchHead::split(&body), Ok((head(), &[][..])));
        body.extend_from_slice(b"{}\n");
        assert_eq!(BatchHead::split(&body), Ok((head(), &b"{}\n"[..])));
        let newer = br#"{"chain":"a/1","replica":{"zone":"b"},"more":[1]}"#;
        let (read, _) = BatchHead::split(newer).unwrap();
        assert_eq!((read.chain.as_str(), read.lost_before), ("a/1", false));
    }

    #[test]
    fn other_heads_are_rejected() {
        for wrong in [
            "",
            "\n{}",
            "[]",
            r#"{"chain":"a"}"#,
            r#"{"chain":"a b/1","replica":{}}"#,
        ] {
            let split = BatchHead::split(wrong.as_bytes());
            assert_eq!(split, Err(InvalidHead::NotJson), "{wrong}");
        }
        let long = format!("{{\"chain\":\"{}", "x".repeat(MAX_HEAD));
        assert_eq!(BatchHead::split(long.as_bytes()), Err(InvalidHead::TooLong));
    }

    #[test]
    fn rejection_of_a_newer_collector_is_read() {
        let text = r#"{"reason":"on_holiday","message":"later"}"#;
        let read: RejectedBatch = serde_json::from_str(text).unwrap();
        assert_eq!((read.reason, read.wanted), (Rejection::Other, None));
        assert_eq!(read.reason.status(), 503);
        for reason in [Rejection::OutOfOrder, Rejection::Other] {
            let written = serde_json::to_value(reason).unwrap();
            assert_eq!(written, reason.as_str());
        }
    }
}
