//! The settings of one run of `lint`.

use std::path::PathBuf;

use crate::finding::FindingFormat;
use crate::inject::request::ClusterSettings;
use injection::{NameConvention, Sidecar};

/// A target of a profile.
#[derive(Clone, Debug)]
pub(crate) struct ProfileRequest {
    /// `-` for standard input, if `filename` and `secrets` do not read it.
    pub(crate) file: PathBuf,
    /// Name of the profile; `None` for the only one of the file.
    pub(crate) profile: Option<String>,
    /// `None` for the profile's own.
    pub(crate) target: Option<String>,
}

/// Settings of one run.
#[derive(Clone, Debug)]
pub(crate) struct LintRequest {
    /// Manifests to check: files, folders, `-` for standard input.
    pub(crate) filename: Vec<PathBuf>,
    /// Whether subfolders are read.
    pub(crate) recursive: bool,
    /// Files and folders of objects to check against.
    pub(crate) secrets: Vec<PathBuf>,
    /// Cluster to check against.
    pub(crate) cluster: Option<ClusterSettings>,
    /// Profile whose variables the pods have to get.
    pub(crate) profile: Option<ProfileRequest>,
    /// Namespace of objects that name none.
    pub(crate) namespace: Option<String>,
    /// Containers that get nothing unless an annotation names them.
    pub(crate) sidecars: Vec<Sidecar>,
    /// Convention for the names of secrets.
    pub(crate) secret_names: Option<NameConvention>,
    /// Whether annotations that are not acted on are warnings.
    pub(crate) allow_unknown: bool,
    /// Whether warnings alone are a failure.
    pub(crate) strict: bool,
    pub(crate) format: FindingFormat,
}
