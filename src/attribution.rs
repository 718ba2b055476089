//! Attribution: who really asked for the secrets of a controller's object, found by the records of its owners.
//!
//! The requester of a Deployment's pod is a controller. [`rules`] derives from records and owners who asked for each
//! secret; [`task`] follows the store, reads owners ([`owners`]) and writes what is found. What is derived is no part of
//! a chain. It is never a guess: where records do not show who asked, the reason is kept instead.

mod asking_record;
mod controllers;
mod metrics;
pub mod owners;
mod resolver;
pub mod rules;
pub mod task;
#[cfg(test)]
mod test_support;

pub use controllers::{Controllers, DEFAULT_CONTROLLERS};
pub use metrics::AttributionMetrics;
pub use task::run;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::MAX_UNATTRIBUTED;

    #[test]
    fn docs_contain_the_limits_and_the_controllers() {
        let docs = include_str!("../docs/AUDIT.md");
        let seconds = |limit: std::time::Duration| limit.as_secs();
        let limits = [
            (
                "Owners between a pod and who asked",
                owners::MAX_OWNERS as u64,
            ),
            (
                "Reads of owners in a second",
                owners::MAX_CALLS_PER_SECOND.into(),
            ),
            (
                "Seconds of a read of an owner",
                seconds(owners::CALL_TIMEOUT),
            ),
            (
                "Seconds for which an owner is remembered",
                seconds(owners::MEMORY),
            ),
            ("Owners that are remembered", owners::MAX_REMEMBERED),
            (
                "Seconds in which attribution is repeated",
                task::GIVE_UP_AFTER.unsigned_abs().as_secs(),
            ),
            (
                "Records that attribution reads at a time",
                MAX_UNATTRIBUTED as u64,
            ),
            (
                "Seconds by which clocks may differ",
                rules::CLOCK_TOLERANCE.unsigned_abs().as_secs(),
            ),
        ];
        for (name, limit) in limits {
            let row = format!("| {name} | {limit} |");
            assert!(docs.contains(&row), "docs/AUDIT.md lacks {row}");
        }
        for name in DEFAULT_CONTROLLERS {
            assert!(
                docs.contains(&format!("`{name}`")),
                "docs/AUDIT.md lacks {name}"
            );
        }
    }
}
