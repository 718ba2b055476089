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

mod annotations;
mod binding;
mod container_list;
mod copies;
mod env_entry;
mod excerpt;
mod idle_defaults;
mod inheritance;
mod inherited;
mod input;
mod keys;
mod limits;
mod near;
mod near_prefix;
mod operations;
mod patch;
mod plan;
mod pod;
mod problem;
mod record;
mod reference;
mod reload;
mod request;
mod resolve;
mod revise;
mod secret_ref;
mod selector;
mod sidecar;
mod statements;
mod taken_back;
mod template_edit;
mod template_patch;
mod workload;
mod workload_patch;
mod workload_plan;
mod wrong_type;

pub use annotations::{AnnotationLayers, Decision, InvalidAnnotation, parse};
pub use binding::{BindOutcome, SecretBinding};
pub use container_list::ContainerList;
pub use copies::inherit;
pub use env_entry::EnvEntry;
pub use idle_defaults::IdleDefaults;
pub use inheritance::Unreached;
pub use input::{PlanInput, PlanTarget};
pub use keys::{ENABLED_LABEL, INHERITED, INJECTED, PREFIX};
pub use limits::{MAX_LISTED, MAX_PATCH_BYTES, MAX_SECRETS};
pub use near::Suggestions;
pub use near_prefix::{ineffective_names, is_annotation_as_label, near_prefix};
pub use operations::{EnvFromSource, EnvVar, Operation, Patch, PatchValue};
pub use patch::render;
pub use plan::{ContainerPlan, InjectionPlan, MissingParents, plan};
pub use pod::{
    Annotations, ContainerView, CowStr, EnvValue, EnvView, Labels, MIRROR_ANNOTATION, MetadataView,
    OwnerView, PodSpecView, PodView,
};
pub use problem::{NoRestart, PlanError, Taken, Warning};
pub use record::{Added, Record, Restart};
pub use request::{
    AnnotationOwner, AnnotationRef, Bulk, Choice, InfisicalPath, InjectionRequest, KeyQuery,
    OnMissing, ReloadMode, Selection, SkipReason, Variable,
};
pub use resolve::restarting_secrets;
pub use secret_ref::{
    DEFAULT_KEY, EnvVarName, KeyChoice, NameError, SecretId, SecretKey, SecretName,
    SecretReference, SecretSource,
};
pub use selector::{Pattern, PatternError};
pub use sidecar::{Sidecar, SidecarError, Sidecars};
pub use workload::{
    JobTemplateView, TemplateView, WorkloadKind, WorkloadMetadataView, WorkloadSpecView,
    WorkloadView,
};
pub use workload_patch::render_workload;
pub use workload_plan::{ChangeScope, TemplatePolicy, WorkloadPlan, WorkloadUpdate};
pub use wrong_type::WrongType;
