//! The settings of one run of `inject`.

use std::path::PathBuf;

use injection::Sidecar;

/// Connection to the cluster to check against. Builds without the feature `cluster` have none.
#[cfg(feature = "cluster")]
pub(crate) type ClusterSettings = crate::kubernetes::ClientSettings;
#[cfg(not(feature = "cluster"))]
pub(crate) type ClusterSettings = std::convert::Infallible;

/// Format of printed manifests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum ManifestFormat {
    /// JSON objects, one after the other.
    Json,
    /// YAML documents.
    Yaml,
}

/// Settings of one run.
#[derive(Clone, Debug)]
pub(crate) struct InjectRequest {
    /// Manifests to inject into: files, folders, `-` for standard input.
    pub(crate) filename: Vec<PathBuf>,
    /// Whether subfolders are read.
    pub(crate) recursive: bool,
    /// Files and folders of objects to check against.
    pub(crate) secrets: Vec<PathBuf>,
    /// Cluster to check against.
    pub(crate) cluster: Option<ClusterSettings>,
    /// Namespace of objects that name none.
    pub(crate) namespace: Option<String>,
    /// Containers that get nothing unless an annotation names them.
    pub(crate) sidecars: Vec<Sidecar>,
    /// Whether to report what each container gets and why.
    pub(crate) explain: bool,
    /// Whether to warn about annotations that are not acted on, instead of refusing them.
    pub(crate) allow_unknown: bool,
    /// Format of all printed documents; if absent, each document keeps its own.
    pub(crate) output: Option<ManifestFormat>,
}
