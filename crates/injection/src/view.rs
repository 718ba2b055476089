//! Pods, workloads and their metadata: the fields that an injection reads, decoded from JSON.

pub(crate) mod annotations;
pub(crate) mod container;
pub(crate) mod container_list;
pub(crate) mod cow_str;
pub(crate) mod metadata;
pub(crate) mod pod;
pub(crate) mod workload;
pub(crate) mod wrong_type;
