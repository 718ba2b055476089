//! Real cert-manager: its controllers and its CA injector, as one program next to the control plane.

use super::control_plane::ControlPlane;
use super::process::{Folder, Process};
use super::tools::program_paths;

/// Controllers of cert-manager, with their CRDs. Killed on drop.
pub struct CertManager {
    _process: Process,
    _folder: Folder,
}

impl CertManager {
    /// Installs the CRDs and starts the controllers.
    pub async fn start(cp: &ControlPlane) -> Self {
        let [program] = program_paths(["certmanager"]);
        let definitions = program
            .parent()
            .expect("a folder")
            .join("crds")
            .display()
            .to_string();
        // The CRDs are too large for the annotation of a client-side apply.
        cp.kubectl(&["create", "--filename", &definitions], "")
            .await
            .expect_success();
        let established = [
            "wait",
            "--for=condition=Established",
            "--timeout=60s",
            "--filename",
            &definitions,
        ];
        cp.kubectl(&established, "").await.expect_success();
        let folder = Folder::new();
        let args = [
            "-kubeconfig".to_owned(),
            cp.kubeconfig.display().to_string(),
        ];
        let process = Process::start("certmanager", folder.path(), &program, &args, &[]);
        Self {
            _process: process,
            _folder: folder,
        }
    }
}
