//! Names of chains, and positions of lines in them.

use std::fmt;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use thiserror::Error;

use super::digest::Digest;

/// Bytes of a chain's id: a pod's uid, a slash, and the start of its process.
pub const MAX_CHAIN_ID: usize = 96;

/// Name of a chain, `<pod uid>/<start>`: one for each start of a process.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct ChainId(Box<str>);

/// Reason why a text is not the id of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "the id of a chain has at most {MAX_CHAIN_ID} letters, digits, dots and hyphens, with a slash between the uid of \
     the pod and the start of its process"
)]
pub struct InvalidChainId;

impl ChainId {
    /// Id of a chain from its written form.
    ///
    /// # Errors
    ///
    /// The text is not a pod's uid, a slash and a start.
    pub fn parse(text: &str) -> Result<Self, InvalidChainId> {
        let is_plain = |part: &str| {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
            !part.is_empty() && part.bytes().all(plain)
        };
        match text.split_once('/') {
            Some((pod, start))
                if text.len() <= MAX_CHAIN_ID && is_plain(pod) && is_plain(start) =>
            {
                Ok(Self(text.into()))
            }
            _ => Err(InvalidChainId),
        }
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Uid of the pod that wrote the chain.
    #[must_use]
    pub fn pod_uid(&self) -> &str {
        self.0.split_once('/').map_or("", |(pod, _)| pod)
    }

    /// `prev` of the first record.
    #[must_use]
    pub fn root(&self) -> Digest {
        Digest::of(self.0.as_bytes())
    }
}

impl fmt::Display for ChainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for ChainId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(D::Error::custom)
    }
}

/// Position of a record in its chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ChainLink {
    pub id: ChainId,
    pub prev: Digest,
    pub seq: u64,
}

/// A line of a chain by its number and hash, such as the last one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Tip {
    pub chain: ChainId,
    pub hash: Digest,
    pub seq: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn id_is_checked() {
        let longest = format!("{}/1", "p".repeat(MAX_CHAIN_ID - 2));
        assert_eq!(
            ChainId::parse(&longest).unwrap().pod_uid().len(),
            MAX_CHAIN_ID - 2
        );
        for wrong in [
            "",
            "a",
            "/1",
            "a/",
            "a/b/c",
            "a b/1",
            "a/é",
            &format!("{longest}2"),
        ] {
            assert_eq!(ChainId::parse(wrong), Err(InvalidChainId), "{wrong}");
        }
    }
}
