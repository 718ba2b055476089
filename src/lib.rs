//! floe-secrets-webhook: pods ask for secrets by name, the webhook injects references to them.
//!
//! Modules, lower first; an upper one may use those below it, never the other way:
//! [`injection`] (pure) ← [`backend`] ← `admission` ← [`server`] ← `app`. Beside the request path stand [`scan`],
//! [`doctor`] and [`controller`], which see the cluster through [`api`]; [`certificates`] and [`tls_secret`] serve whoever
//! needs a certificate, [`metrics`] and [`traces`] whoever has something to tell. [`proxy`] is on the way of all clients
//! to the API server.

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
