//! Certificates: checks of a pair before it serves, issuing, and renewal.
//!
//! No module here does IO: input and output are PEM, and the time is an argument.

mod bundle;
mod error;
mod issue;
mod leaf;
mod pair;
mod renewal;

pub use bundle::Bundle;
pub use error::TlsError;
pub use issue::{IssueError, Issued, issue};
pub use leaf::Leaf;
pub use pair::{ServingPair, client_roots, common_name};
pub use renewal::{RenewalReason, renewal_reason};
