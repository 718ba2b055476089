//! Webhook under hostile load, next to honest creates of a real API server: `make hostile` builds it optimised and runs
//! these tests one after the other.

mod concurrent;
mod one_by_one;
