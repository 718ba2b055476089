//! Demands: what the profile needs from secrets. The profile and the annotations are both written from one list of
//! them, and from nothing else.

use injection::{EnvVarName, SecretReference};

use super::adapter::FieldType;
use crate::finding::Place;

/// One field of the profile that comes from a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Demand {
    /// Variable that the profile reads.
    pub variable: EnvVarName,
    /// Secret and key that the variable has to come from.
    pub reference: SecretReference,
    pub delivery: Delivery,
    /// Path of the field below the profile's output, as in `keyfile_json.private_key`.
    pub field: String,
    pub field_type: FieldType,
    /// Place in the manifest that the demand comes from.
    pub place: Place,
}

/// Annotation by which a variable gets into the pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// `refs`: the variable is named after the reference.
    Reference,
    /// `env.<VAR>`.
    Alias,
    /// `env-from`: the variable is named after the key.
    EnvFrom,
    /// `env-from` of a secret whose keys are not known. Variable and key are stand-ins.
    Whole,
}

/// A variable that an author reads by `env_var` or by a reference of source `env`. Nothing is injected for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Elsewhere {
    pub variable: EnvVarName,
    pub place: Place,
    /// Whether the expression has a default.
    pub default: bool,
    pub field_type: FieldType,
}
