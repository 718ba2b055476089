//! Requesters who asked for a secret: those of a controller's pod, and why they are not known.

use serde::Serialize;

words! {
    /// Reason why it is not known who asked for a secret.
    UnknownReason {
        /// Records of several requesters are possible.
        Ambiguous = "ambiguous",
        /// The API server cannot be read.
        ApiUnavailable = "api-unavailable",
        /// The requester is a controller, and the object has no controller as its owner.
        NoOwner = "no-owner",
        /// The object that asks has no record since its creation.
        NoRecord = "no-record",
        /// The records of the object that asks do not name the secret.
        NotNamed = "not-named",
        /// The owner was deleted, or another object has its name.
        OwnerGone = "owner-gone",
        /// The API server does not permit to read the owner.
        OwnerForbidden = "owner-forbidden",
        /// The owner is of a kind that leaves no records.
        OwnerKind = "owner-kind",
        /// Owners have owners beyond the limit.
        TooManyOwners = "too-many-owners",
        /// The object has more records than are read.
        TooManyRecords = "too-many-records",
    }
}

impl UnknownReason {
    /// Reason by its word.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|word| word.as_str() == text)
    }

    /// Whether the reason may go: records of other processes may still arrive, and an API server may respond again.
    #[must_use]
    pub fn may_change(self) -> bool {
        match self {
            Self::ApiUnavailable | Self::NoRecord | Self::NotNamed | Self::OwnerForbidden => true,
            Self::Ambiguous
            | Self::NoOwner
            | Self::OwnerGone
            | Self::OwnerKind
            | Self::TooManyOwners
            | Self::TooManyRecords => false,
        }
    }
}

/// Requester, as a record names it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Requester {
    pub username: String,
    pub uid: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_read_as_they_are_written() {
        for reason in UnknownReason::ALL {
            assert_eq!(UnknownReason::parse(reason.as_str()), Some(*reason));
        }
        assert_eq!(UnknownReason::parse("other"), None);
    }
}
