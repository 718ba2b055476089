//! What `inject` is asked to do.

use std::path::PathBuf;

use injection::Sidecar;

use crate::kubernetes::ClientSettings;

/// A format of manifests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum ManifestFormat {
    /// JSON objects, one after the other.
    Json,
    /// YAML documents.
    Yaml,
}

/// What to inject into, and how.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// Manifests to inject into: files, folders, `-` for standard input.
    pub(crate) filename: Vec<PathBuf>,
    /// Read the folders in a folder, too.
    pub(crate) recursive: bool,
    /// Files and folders of objects to check against.
    pub(crate) secrets: Vec<PathBuf>,
    /// The cluster to check against.
    pub(crate) cluster: Option<ClientSettings>,
    /// The namespace of objects that name none.
    pub(crate) namespace: Option<String>,
    /// Containers that get nothing unless an annotation names them.
    pub(crate) sidecars: Vec<Sidecar>,
    /// Report in plain sentences what is done and why.
    pub(crate) explain: bool,
    /// Warn about unknown annotations instead of rejecting them.
    pub(crate) allow_unknown: bool,
    /// Print every document in this format; each keeps its own if absent.
    pub(crate) output: Option<ManifestFormat>,
}
