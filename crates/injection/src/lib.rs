//! The pure core: annotations in, a plan and its JSON patch out.
//!
//! Nothing here knows IO, a clock, the environment or a Kubernetes client, and nothing is `async`:
//! the same input gives the same patch, byte for byte.
//!
//! Workloads go the same way, with two steps more: [`Review`] says what an update changes, [`inherit`] brings a
//! workload's own annotations to its template.
//!
//! The path: [`parse`] annotations to an [`InjectionRequest`], [`plan`] it for a [`PodView`] with what the
//! backends said, [`render`] the plan as a patch.

#![warn(missing_docs)]

mod contract;
mod excerpt;
mod keys;
mod limits;
mod patch;
mod plan;
mod record;
mod reload;
mod view;
mod workload;

pub use contract::annotations::{AnnotationLayers, Decision, InvalidAnnotation, parse};
pub use contract::binding::{BindOutcome, SecretBinding};
pub use contract::idle_defaults::IdleDefaults;
pub use contract::input::{PlanInput, PlanTarget};
pub use contract::near::Suggestions;
pub use contract::near_prefix::{ineffective_names, is_annotation_as_label, near_prefix};
pub use contract::problem::{NoRestart, PlanError, Taken, Warning};
pub use contract::request::{
    AnnotationOwner, AnnotationRef, Bulk, Choice, InfisicalPath, InjectionRequest, KeyQuery,
    OnMissing, ReloadMode, Selection, SkipReason, Variable,
};
pub use contract::secret_ref::{
    DEFAULT_KEY, EnvVarName, KeyChoice, NameError, SecretId, SecretKey, SecretName,
    SecretReference, SecretSource,
};
pub use contract::selector::{Pattern, PatternError};
pub use contract::sidecar::{Sidecar, SidecarError, Sidecars};
pub use keys::{ENABLED_LABEL, INHERITED, INJECTED, PREFIX};
pub use limits::{MAX_LISTED, MAX_PATCH_BYTES, MAX_SECRETS};
pub use patch::operations::{EnvFromSource, EnvVar, Operation, Patch, PatchValue};
pub use patch::render;
pub use plan::env_entry::EnvEntry;
pub use plan::{ContainerPlan, InjectionPlan, MissingParents, plan};
pub use record::{Added, Record, Restart};
pub use reload::restarting_secrets;
pub use view::container_list::ContainerList;
pub use view::pod::{
    Annotations, ContainerView, CowStr, EnvValue, EnvView, Labels, MIRROR_ANNOTATION, MetadataView,
    OwnerView, PodSpecView, PodView,
};
pub use view::workload::{
    JobTemplateView, TemplateView, WorkloadKind, WorkloadMetadataView, WorkloadSpecView,
    WorkloadView,
};
pub use view::wrong_type::WrongType;
pub use workload::copies::inherit;
pub use workload::inheritance::Unreached;
pub use workload::patch::render_workload;
pub use workload::plan::{TemplatePolicy, WorkloadPlan};
pub use workload::update::{ChangeScope, WorkloadUpdate};
