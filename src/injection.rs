//! The pure core: annotations in, a plan and its JSON patch out.
//!
//! Nothing here knows IO, a clock, the environment or a Kubernetes client, and nothing is `async`:
//! the same input gives the same patch, byte for byte.
//!
//! The path: [`parse`] annotations to an [`InjectionRequest`], [`plan`] it for a [`PodView`] with what the
//! backends said, [`render`] the plan as a patch.

mod annotations;
mod binding;
mod excerpt;
mod near;
mod patch;
mod plan;
mod pod;
mod problem;
mod record;
mod reference;
mod request;
mod resolve;
mod secret_ref;
mod selector;

pub use annotations::{Decision, INJECTED, InvalidAnnotation, PREFIX, Sources, parse};
pub use binding::SecretBinding;
pub use near::nearest;
pub use patch::render;
pub use plan::{Absent, Bound, ContainerList, ContainerPlan, EnvEntry, InjectionPlan, PlanInput, Surface, plan};
pub use pod::{
    Annotations, ContainerView, EnvView, Literal, MIRROR_ANNOTATION, MetadataView, OwnerView, PodSpecView, PodView,
    Text,
};
pub use problem::{PlanError, Warning};
pub use record::{Added, Record};
pub use request::{
    Bulk, Choice, InfisicalPath, InjectionRequest, Need, OnMissing, Origin, ReloadMode, Selection, Site, SkipReason,
    Variable,
};
pub use secret_ref::{
    DEFAULT_KEY, EnvVarName, KeyChoice, NameError, SecretId, SecretKey, SecretName, SecretReference, SecretSource,
};
pub use selector::{Pattern, PatternError};
