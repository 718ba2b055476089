//! The built program under hostile load, beside honest creates of a real API server: `make hostile` builds it optimised
//! and runs these one after the other.

mod beside;
mod one_by_one;

use std::io::Write as _;

/// Said even when the test passes.
fn say(line: &str) {
    writeln!(std::io::stderr(), "{line}").ok();
}
