//! floe-secrets-webhook: pods ask for secrets by name, the webhook injects references to them.
//!
//! Modules, lower first; an upper one may use those below it, never the other way:
//! [`injection`] (pure) ← [`backend`] ← `admission` ← [`server`] ← `app`.

pub mod admission;
pub mod app;
pub mod backend;
pub mod certificates;
pub mod cli;
pub mod defaults;
pub mod inject;
pub mod injection;
pub mod metrics;
pub mod redact;
pub mod server;
pub mod telemetry;
