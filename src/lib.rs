//! floe-secrets-webhook: pods request secrets by name, and the webhook injects references to them.
//!
//! Rooms, lowest first. A room uses only rooms above it in this list, which `tests/pure/module_graph.rs` checks:
//!
//! 1. [`clock`], [`plugin`], [`telemetry`], [`tls`], `refresh`, `stack`: the time of day; members that backends and
//!    identity providers share; logs, metrics and traces; certificates without IO; values that are fetched again; large
//!    stacks for parsers.
//! 2. [`kubernetes`]: access to the API server. [`http_client`]: access to services outside the cluster.
//!    [`token_source`]: tokens that are sent to them. `yaml`: YAML with positions.
//! 3. `finding`: problems in files.
//! 4. [`backend`]: secrets backends and the layers around them. [`injection`] is the pure core, a separate crate.
//!    `literals`: a detector for literal secrets. `dbt`: profiles, rendered as dbt does. [`audit`]: records of the audit
//!    trail, and their verification. [`identity`]: owners of tokens, and providers that know them.
//! 5. [`defaults`]: annotations of Namespaces and ServiceAccounts. [`recorder`]: the audit trail of this process.
//!    [`store`]: stored lines of the audit trail. [`authz`]: access of callers of the admin API.
//! 6. [`trail`]: the trail of `admin` itself, with checkpoints and retention. [`attribution`]: who asked for the secrets
//!    of records.
//! 7. [`admission`]: from an `AdmissionReview` to its response. [`server`]: listeners, limits, certificates, shutdown.
//! 8. [`collector`]: lines of replicas, checked and stored.
//! 9. [`cli`]: the command line that commands share. `config`: the configuration file.
//! 10. [`scan`]. [`consumers`]: pods and workloads that use a Secret.
//! 11. [`inject`], [`doctor`], [`controller`], [`rotation`]. `compile`: dbt profiles from floe manifests.
//!     `mutating_policy`: injection by the API server itself.
//! 12. `lint`: manifests and profiles, checked with the rules of admission. [`explain`]: reasons for what a live pod got.
//! 13. [`commands`]: one composition root for each subcommand. `fuzzing`: entries of fuzz targets.

pub mod admission;
#[cfg(feature = "cluster")]
pub mod attribution;
#[cfg(feature = "cluster")]
pub mod audit;
#[cfg(feature = "cluster")]
pub mod authz;
pub mod backend;
pub mod cli;
#[cfg(feature = "cluster")]
pub mod clock;
#[cfg(feature = "cluster")]
pub mod collector;
pub mod commands;
mod compile;
mod config;
#[cfg(feature = "cluster")]
pub mod consumers;
#[cfg(feature = "cluster")]
pub mod controller;
mod dbt;
pub mod defaults;
#[cfg(feature = "cluster")]
pub mod doctor;
#[cfg(feature = "cluster")]
pub mod explain;
mod finding;
#[cfg(fuzzing)]
pub mod fuzzing;
#[cfg(feature = "cluster")]
pub mod http_client;
#[cfg(any(feature = "cluster", fuzzing))]
pub mod identity;
pub mod inject;
#[cfg(feature = "cluster")]
pub mod kubernetes;
mod lint;
mod literals;
mod mutating_policy;
pub mod plugin;
#[cfg(feature = "cluster")]
pub mod recorder;
#[cfg(feature = "cluster")]
mod refresh;
#[cfg(feature = "cluster")]
pub mod rotation;
#[cfg(feature = "cluster")]
pub mod scan;
#[cfg(feature = "cluster")]
pub mod server;
mod stack;
#[cfg(feature = "cluster")]
pub mod store;
pub mod telemetry;
#[cfg(feature = "cluster")]
pub mod tls;
#[cfg(feature = "cluster")]
pub mod token_source;
#[cfg(feature = "cluster")]
pub mod trail;
mod yaml;
