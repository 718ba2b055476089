//! The annotation contract: which annotations there are, what they mean, and what a plan says about them.

pub(crate) mod annotations;
pub(crate) mod binding;
pub(crate) mod idle_defaults;
pub(crate) mod inherited;
pub(crate) mod input;
pub(crate) mod near;
pub(crate) mod near_prefix;
pub(crate) mod problem;
pub(crate) mod reference;
pub(crate) mod request;
pub(crate) mod secret_ref;
pub(crate) mod selector;
pub(crate) mod sidecar;
