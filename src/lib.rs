//! floe-secrets-webhook: pods request secrets by name, and the webhook injects references to them.
//!
//! Rooms, lowest first. A room uses only rooms above it in this list, which `tests/pure/module_graph.rs` checks:
//!
//! 1. [`telemetry`], [`tls`]: logs, metrics and traces; certificates without IO.
//! 2. [`kubernetes`]: access to the API server.
//! 3. [`backend`]: secrets backends and the layers around them. [`injection`] is the pure core, a separate crate.
//! 4. [`defaults`]: annotations of Namespaces and ServiceAccounts.
//! 5. [`admission`]: from an `AdmissionReview` to its response. [`server`]: listeners, limits, certificates, shutdown.
//! 6. [`cli`]: arguments that commands share. [`scan`].
//! 7. [`inject`], [`doctor`], [`controller`].
//! 8. [`commands`]: one composition root for each subcommand.

pub mod admission;
pub mod backend;
pub mod cli;
pub mod commands;
pub mod controller;
pub mod defaults;
pub mod doctor;
pub mod inject;
pub mod kubernetes;
pub mod scan;
pub mod server;
pub mod telemetry;
pub mod tls;
