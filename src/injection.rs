//! The pure core: annotations in, a plan and its JSON patch out.
//!
//! Nothing here knows IO, a clock, the environment or a Kubernetes client, and nothing is `async`:
//! the same input gives the same patch, byte for byte.

mod binding;
mod secret_ref;

pub use binding::SecretBinding;
pub use secret_ref::{
    DEFAULT_KEY, EnvVarName, KeyChoice, NameError, SecretId, SecretKey, SecretName, SecretReference, SecretSource,
};
