//! Identity of callers: who a token belongs to.
//!
//! [`kubernetes`] reviews tokens of ServiceAccounts by the API server.

pub mod kubernetes;
