//! Sender of a review, as far as the connection identifies it: the API server, or anybody who can reach the port.

use std::net::SocketAddr;

/// Trust in the sender of a review. Selects what a response may disclose; recorded in logs, traces and metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Channel {
    /// The caller has a certificate from the client CA.
    Verified,
    /// The operator has declared that only the API server can reach the port.
    Declared,
    /// The API server cannot be distinguished from any pod of the cluster.
    Unverified,
}

impl Channel {
    /// Value of the label in metrics, and of the field in logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Verified => "verified",
            Self::Declared => "declared",
            Self::Unverified => "unverified",
        }
    }

    /// Whether responses may contain names that the author of the object did not write: keys of secrets, and names
    /// similar to those that do not exist.
    #[must_use]
    pub fn discloses(self) -> bool {
        match self {
            Self::Verified | Self::Declared => true,
            Self::Unverified => false,
        }
    }
}

/// Peer of the connection over which a review was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Address of the peer. Konnectivity and address translation hide that of the API server.
    pub address: Option<SocketAddr>,
    pub channel: Channel,
}

impl Caller {
    /// Caller inside the process: benchmarks, tests, and commands that plan for a person.
    pub const TRUSTED: Self = Self {
        address: None,
        channel: Channel::Declared,
    };

    /// Caller at `address`. `verified`: it has a certificate from the client CA. `declared`: the operator has declared
    /// that only the API server can reach the port.
    #[must_use]
    pub fn new(address: SocketAddr, verified: bool, declared: bool) -> Self {
        let channel = match (verified, declared) {
            (true, _) => Channel::Verified,
            (false, true) => Channel::Declared,
            (false, false) => Channel::Unverified,
        };
        Self {
            address: Some(address),
            channel,
        }
    }
}
