//! Builds without the feature `cluster`: there is no `--cluster`, and no value of these types.

use std::convert::Infallible;
use std::sync::Arc;

use super::manifest_store::ManifestStore;
use crate::admission::sources::Source;
use crate::defaults::DefaultsReader;

#[derive(Debug)]
pub(crate) enum NoCluster {}

impl NoCluster {
    #[expect(clippy::unused_async, reason = "the cluster's is async")]
    pub(crate) async fn connect(settings: &Infallible) -> Result<Self, Infallible> {
        match *settings {}
    }

    pub(crate) fn namespace(&self) -> &str {
        match *self {}
    }

    pub(crate) fn source(self, _: Arc<ManifestStore>) -> (Source, Arc<dyn DefaultsReader>) {
        match self {}
    }
}
