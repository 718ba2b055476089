//! Certificates: what a pair must be before it serves, how one is made, and when the next one is due.
//!
//! Nothing here does IO: PEM comes in and PEM goes out, and the time is an argument.

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
pub use pair::{Pair, client_roots, common_name};
pub use renewal::{Due, due};
