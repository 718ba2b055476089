//! How long certificates rotate under load: a few times in quick succession, or, by `make soak`, for minutes at the
//! pace of short-lived certificates.

/// Certificates in a row, and the time between two of them.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// How many certificates.
    pub rotations: usize,
    /// From one to the next, in seconds, where the test has a say in it.
    pub seconds: usize,
}

impl Pace {
    /// `quick`, unless `SOAK` says that there is time.
    #[expect(
        clippy::disallowed_methods,
        reason = "`make soak` asks for more time by the environment"
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
