//! Access to the API server: clients and proxies, and the objects that more than one room reads or writes.
//!
//! Secrets that pods request are read only by [`crate::backend::kubernetes`]. Of other Secrets, this room reads only
//! metadata, the webhook's own certificate, and the signing key of the audit trail.

pub mod cert_manager;
pub mod client;
pub mod cluster;
mod error;
pub mod events;
pub mod lease;
pub mod lookup;
pub mod objects;
mod pages;
pub mod proxy;
mod rate_limiter;
pub mod reviews;
mod selector;
pub mod tls_secret;
mod watch;

pub use client::{ClientSettings, ConnectError, connect, connect_for_long_calls};
pub use cluster::cluster_uid;
pub(crate) use error::parse;
pub use error::{ApiError, ApiErrorKind};
pub use lookup::Lookup;
pub use objects::{ObjectApi, Page, Representation};
pub use pages::Pages;
pub use rate_limiter::RateLimiter;
pub use selector::{InvalidSelector, Selector};
pub use watch::Watch;
