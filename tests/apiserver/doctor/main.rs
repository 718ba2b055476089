//! `doctor` on the real API server, with the chart installed by real Helm and the webhook running: a healthy
//! installation, and one fault at a time, each with the command that fixes it.

#![expect(
    clippy::too_many_lines,
    reason = "a test that follows one story, or a table of cases"
)]
#![expect(
    clippy::indexing_slicing,
    reason = "a serde_json::Value is indexed; in a test, a panic is an answer too"
)]

mod broken;
mod cert_manager;
mod endpoints;
mod fixture;
mod users;
mod variants;
