//! The sender of a review, as far as the connection shows it: the API server, or anybody who reaches the port.

use std::net::SocketAddr;

/// How much is known about who sent a review. Selects what an answer may tell, and stands in log, trace and metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Channel {
    /// The caller showed a certificate from the client CA.
    Verified,
    /// The operator declares that nobody but the API server reaches the port.
    Declared,
    /// Nothing tells the API server from any pod of the cluster.
    Unverified,
}

impl Channel {
    /// As labels and logs write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Verified => "verified",
            Self::Declared => "declared",
            Self::Unverified => "unverified",
        }
    }

    /// Whether answers may tell names that the author of the object did not write: keys of secrets, and names like those
    /// that are missing.
    #[must_use]
    pub fn discloses(self) -> bool {
        match self {
            Self::Verified | Self::Declared => true,
            Self::Unverified => false,
        }
    }
}

/// The other end of the connection that a review came by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Its address. Konnectivity and address translation hide the API server's own.
    pub address: Option<SocketAddr>,
    /// Its trust level.
    pub channel: Channel,
}

impl Caller {
    /// A caller inside the process: benchmarks, tests, and commands that plan for a person.
    pub const TRUSTED: Self = Self {
        address: None,
        channel: Channel::Declared,
    };

    /// A caller at `address`, with a verified certificate or without, where the operator declares the port closed or
    /// does not.
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
