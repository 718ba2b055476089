//! Duration for which certificates rotate under load: a few rotations in quick succession, or, by `make soak`, minutes
//! at the rate of short-lived certificates.

/// Number of rotations, and the time between two of them.
#[derive(Debug, Clone, Copy)]
pub struct RotationSchedule {
    pub rotations: usize,
    /// Seconds from one rotation to the next, where the test controls it.
    pub seconds: usize,
}

impl RotationSchedule {
    /// `quick`, or the long schedule if `SOAK` is set.
    #[expect(
        clippy::disallowed_methods,
        reason = "`make soak` sets the duration by the environment"
    )]
    pub fn or_soak(quick: Self) -> Self {
        let soak = std::env::var_os("SOAK").is_some_and(|value| !value.is_empty());
        if soak {
            Self {
                rotations: 8,
                seconds: 30,
            }
        } else {
            quick
        }
    }
}
