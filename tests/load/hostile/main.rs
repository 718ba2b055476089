//! Webhook under hostile load, next to honest creates of a real API server: `make hostile` builds it optimised and runs
//! these tests one after the other.

mod beside;
mod one_by_one;

use std::io::Write as _;

fn say(line: &str) {
    writeln!(std::io::stderr(), "{line}").ok();
}
