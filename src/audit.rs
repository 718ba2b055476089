//! Audit trail: records of who used which secret, chained so that a lost or changed one is found (docs/AUDIT.md).
//!
//! Pure: times, ids and keys are passed in, and lines are read from an iterator. Programs make records with an
//! [`Emitter`](emitter::Emitter), split them ([`parts::parts`]), and write them with a [`Chain`](chain::Chain).
//! [`verify`] reads them back, wherever they were kept. The types have names alone: no field can have a secret's value,
//! and there is no free text.

#[macro_use]
mod words;

pub mod asked_by;
mod canonical;
pub mod chain;
pub mod delivery;
pub mod digest;
pub mod emitter;
pub mod floe_view;
pub mod input;
mod json;
mod line;
pub mod link;
pub mod parts;
pub mod record;
pub mod second_pass;
pub mod signature;
pub mod stored;
pub mod target;
#[cfg(test)]
mod test_support;
pub mod text;
pub mod unlinked;
pub mod verify;

use jiff::SignedDuration;

/// Bytes of a line. Container runtimes split lines at 16 KiB, and add fields of their own.
pub const MAX_LINE: usize = 8 << 10;

/// Time by which the clocks of two programs may differ.
pub const CLOCK_TOLERANCE: SignedDuration = SignedDuration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docs_contain_the_limits() {
        let docs = include_str!("../docs/AUDIT.md");
        let limits = [
            ("Bytes of a line", MAX_LINE),
            ("Targets of a line", parts::MAX_TARGETS),
            ("Targets of a record", parts::MAX_RECORD_TARGETS),
            ("Entries of a list", text::MAX_LIST),
            ("Lines in a checkpoint", emitter::MAX_TIPS),
            ("Bytes of a chain's id", link::MAX_CHAIN_ID),
            ("Bytes of a line that `verify` reads", input::MAX_INPUT_LINE),
            ("Chains that `verify` reads", verify::MAX_CHAINS),
            ("Open gaps of a chain", verify::MAX_GAPS),
            ("Lines that `verify` remembers", verify::MAX_RECENT),
            ("Findings of damage, and notes", verify::MAX_FINDINGS),
            ("Trusted keys", verify::MAX_KEYS),
        ];
        let delay = usize::try_from(second_pass::MAX_PASS_DELAY.as_secs()).unwrap();
        let delay = ("Seconds between the two passes of a pod", delay);
        let limits = limits.into_iter().chain([delay]);
        for (name, limit) in limits {
            let row = format!("| {name} | {limit} |");
            assert!(docs.contains(&row), "docs/AUDIT.md lacks {row}");
        }
        for kind in verify::TrailFindingKind::ALL {
            let row = format!("| `{}` |", kind.as_str());
            assert!(docs.contains(&row), "docs/AUDIT.md lacks {row}");
        }
        for reason in asked_by::UnknownReason::ALL {
            let row = format!("| `{}` |", reason.as_str());
            assert!(docs.contains(&row), "docs/AUDIT.md lacks {row}");
        }
        for action in record::Action::ALL {
            let row = format!("| `{}` |", action.as_str());
            assert!(docs.contains(&row), "docs/AUDIT.md lacks {row}");
        }
    }
}
