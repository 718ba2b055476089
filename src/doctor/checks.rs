//! The checks, one file per subject. `read` does the IO that only this check needs; `evaluate` is pure.

pub(super) mod admission;
pub(super) mod api_server;
pub(super) mod audit_trail;
pub(super) mod callers;
pub(super) mod certificate;
pub(super) mod configuration;
pub(super) mod drift;
pub(super) mod integrations;
pub(super) mod permissions;
pub(super) mod service;
pub(super) mod trust;
pub(super) mod workloads;
