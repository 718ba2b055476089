//! Pods, workloads and their metadata, read from JSON as far as an injection needs them.

pub(crate) mod container_list;
pub(crate) mod pod;
pub(crate) mod workload;
pub(crate) mod wrong_type;
