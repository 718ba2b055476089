//! `doctor` on the real API server, with the chart installed by real Helm and the webhook running: a healthy
//! installation, and one fault at a time, each with the command that fixes it.

#![expect(
    clippy::too_many_lines,
    reason = "a test of one sequence, or a table of cases"
)]
#![expect(
    clippy::indexing_slicing,
    reason = "serde_json values are indexed; a panic fails the test"
)]

mod broken;
mod cert_manager;
mod endpoints;
mod fixture;
mod users;
mod variants;
