//! The pure core: plans the injection of secrets from annotations, and renders it as a JSON patch.
//!
//! No IO, clock, environment, Kubernetes client or `async`: the same input results in the same patch, byte for byte.
//!
//! [`parse()`] reads annotations to an [`InjectionRequest`], [`plan()`] plans it for a [`PodView`] with the bindings of the
//! backends, and [`render`] renders the plan as a patch.
//!
//! Workloads take two steps more: [`WorkloadUpdate`] compares an update with the object before it, and [`inherit`]
//! propagates a workload's own annotations to its template.

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

pub use contract::binding::{BindOutcome, SecretBinding};
pub use contract::decision::{Decision, InvalidAnnotation, SkipReason};
pub use contract::idle_defaults::IdleDefaults;
pub use contract::input::{PlanInput, PlanTarget};
pub use contract::layers::{AnnotationLayers, DecidingAnnotation};
pub use contract::misspelled::{ineffective_names, is_annotation_as_label, suggested_name};
pub use contract::name_convention::{FLOE_CONVENTION, NameConvention, NameConventionError};
pub use contract::parse::parse;
pub use contract::plan_error::PlanError;
pub use contract::request::{
    AnnotationOwner, AnnotationRef, Bulk, Choice, InfisicalPath, InjectionRequest, KeyQuery,
    OnMissing, ReloadMode, Selection, Variable,
};
pub use contract::secret_ref::{
    DEFAULT_KEY, EnvVarName, KeyChoice, NameError, SecretId, SecretKey, SecretName,
    SecretReference, SecretSource,
};
pub use contract::selector::{Pattern, PatternError};
pub use contract::sidecar::{Sidecar, SidecarError, Sidecars};
pub use contract::suggestions::Suggestions;
pub use contract::warning::{NoRestart, RemovedFrom, Warning};
pub use keys::{ENABLED_LABEL, EVENT_ANNOTATION, INHERITED, INJECTED, MIRROR_ANNOTATION, PREFIX};
pub use limits::{
    MAX_ITEMS, MAX_LISTED, MAX_PATCH_BYTES, MAX_SECRETS, MAX_TOTAL_BYTES, MAX_VALUE_BYTES,
};
pub use patch::operations::{EnvFromSource, EnvVar, Operation, Patch, PatchValue};
pub use patch::render;
pub use plan::env_entry::EnvEntry;
pub use plan::injection_plan::{ContainerPlan, InjectionPlan, MissingParents};
pub use plan::plan;
pub use record::{Added, Record, Restart};
pub use reload::mechanism::{RestartMechanism, RestartQuery, restart_mechanism};
pub use reload::pod::restarting_secrets;
pub use view::annotations::Annotations;
pub use view::container::{ContainerView, EnvValue, EnvView};
pub use view::container_list::ContainerList;
pub use view::cow_str::CowStr;
pub use view::metadata::{Labels, MetadataView, OwnerView};
pub use view::pod::{PodSpecView, PodView};
pub use view::workload::{
    JobTemplateView, TemplateView, WorkloadKind, WorkloadMetadataView, WorkloadSpecView,
    WorkloadView,
};
pub use view::wrong_type::WrongType;
pub use workload::patch::render_workload;
pub use workload::plan::{TemplatePolicy, WorkloadPlan};
pub use workload::propagation::Unreached;
pub use workload::template_layers::inherit;
pub use workload::update::{ChangeScope, WorkloadUpdate};
