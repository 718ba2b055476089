//! Server: everything between a socket and a router.
//!
//! [`listener`] accepts and drains, `table` assigns its places, [`connection`] serves one connection, [`activity`] has
//! its state and time limits, [`cert_store`] the certificate. [`limits`] and `budget` limit bodies and responses,
//! [`open_files`] raises the system's limit, [`ops`] responds to the kubelet and Prometheus, [`shutdown`] handles
//! signals, and [`panics`] confines a panic to its request.

pub mod activity;
mod budget;
pub mod cert_store;
pub mod connection;
pub mod limits;
pub mod listener;
pub mod metrics;
pub mod open_files;
pub mod ops;
pub mod panics;
pub mod shutdown;
mod table;
