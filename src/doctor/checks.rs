//! The checks. Each `look` reads what only this check needs; each `judge` decides from what was read.

pub(super) mod admission;
pub(super) mod api_server;
pub(super) mod callers;
pub(super) mod certificate;
pub(super) mod configuration;
pub(super) mod drift;
pub(super) mod neighbours;
pub(super) mod permissions;
pub(super) mod service;
pub(super) mod trust;
pub(super) mod workloads;
