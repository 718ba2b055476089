//! Faults on the way of the audit trail, with exact bookkeeping: each answered admission is stored once, or counted in a
//! gap record.
//!
//! Real `serve` and `admin` processes and a real API server that reviews the tokens. Reviews are sent as an API server
//! sends them, on connections that stay open, because thousands are needed. `make audit-faults` lets the faults last
//! longer, and runs the tests that take minutes.

#![expect(clippy::indexing_slicing, reason = "a failing helper fails its test")]

mod collector;
mod database;
mod fixture;
mod spool;
mod stdout;
mod store;
