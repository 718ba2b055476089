//! The annotation contract and the injection, by examples, through the public functions of the core.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a failing helper fails the test"
)]
#![expect(
    clippy::needless_pass_by_value,
    reason = "`json!({ … })` is more readable as an argument"
)]

#[path = "../support/additive.rs"]
mod additive;
mod admission;
mod bounds;
mod containers;
mod contract;
mod order;
mod platform;
mod precedence;
mod record;
mod reference;
mod reload;
mod secrets;
