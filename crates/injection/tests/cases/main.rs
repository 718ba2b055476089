//! The annotation contract and the injection, case by case, through the public functions of the pure core.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a helper of a test fails as the test does"
)]
#![expect(
    clippy::needless_pass_by_value,
    reason = "`json!({ … })` as an argument reads better"
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
