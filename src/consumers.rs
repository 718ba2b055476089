//! Consumers of a Secret: the pods and workloads of its namespace that use it, the program that restarts each when it
//! changes, and the pods that still run with an older value.
//!
//! Everything is read with the caller's permissions. Of the Secret, only metadata are read: the time of its last change
//! is that of the managed fields that own its data. [`ConsumerReader`] reads, `pod_use` and `staleness` evaluate.

mod error;
mod found;
mod kinds;
mod limits;
mod managed_fields;
mod namespace_read;
mod owners;
mod pod_object;
mod pod_spec;
mod pod_use;
mod progress;
mod reader;
mod secret_head;
mod staleness;
mod workload_use;

pub use error::ConsumersError;
pub use found::{
    ConsumerCounts, ConsumerUse, Consumers, ContainerUse, Effect, PodConsumer, UseKind, ValueAge,
    WorkloadConsumer,
};
pub(crate) use kinds::{WORKLOAD_LISTS, WorkloadList, intermediate_list};
pub(crate) use limits::MAX_KEYS;
pub use limits::MAX_LISTED_PODS;
pub(crate) use managed_fields::ManagedFields;
pub(crate) use owners::{PodOwner, PodOwners};
pub(crate) use pod_object::PodObject;
pub use progress::ReadProgress;
pub use reader::ConsumerReader;
pub use secret_head::{DataChange, SecretHead};
pub(crate) use workload_use::effect_on_stored;
