//! floe-secrets-webhook: pods ask for secrets by name, the webhook injects references to them.
//!
//! Modules, lower first; a module may use those below it, never those above:
//! [`injection`] (pure) ← [`backend`], [`defaults`] ← [`admission`] ← [`app`]. [`server`] uses none of these. [`scan`],
//! [`doctor`], [`inject`] and [`controller`] are outside of the request path and reach the cluster by [`api`]. All
//! modules but [`injection`] may use [`metrics`] and [`traces`]. [`proxy`] is used by all clients of the API server.

pub mod admission;
pub mod api;
pub mod app;
pub mod backend;
pub mod cert_manager;
pub mod certificates;
pub mod cli;
mod command;
pub mod controller;
pub mod defaults;
pub mod doctor;
pub mod inject;
pub mod injection;
pub mod metrics;
pub mod proxy;
pub mod redact;
pub mod scan;
pub mod server;
pub mod telemetry;
pub mod tls_secret;
pub mod traces;
