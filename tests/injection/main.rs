//! The annotation contract and the injection, case by case, through the public functions of the pure core.

#[path = "../support/additive.rs"]
mod additive;
mod admission;
mod containers;
mod contract;
mod order;
mod platform;
mod precedence;
mod record;
mod reference;
mod secrets;
