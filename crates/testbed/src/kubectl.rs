//! Real kubectl.

use std::path::Path;
use std::process::Command;

use super::command_output::CommandOutput;
use super::control_plane::ControlPlane;
use super::tools::project_root;

impl ControlPlane {
    /// Runs kubectl as the administrator.
    pub async fn kubectl(&self, args: &[&str], stdin: &str) -> CommandOutput {
        self.kubectl_as(&self.kubeconfig, args, stdin).await
    }

    /// Runs kubectl with this kubeconfig.
    pub async fn kubectl_as(&self, kubeconfig: &Path, args: &[&str], stdin: &str) -> CommandOutput {
        let mut command = Command::new(&self.programs.kubectl);
        command.args(args);
        self.run(command, kubeconfig, stdin).await
    }

    /// Runs commands of a documentation page as the administrator, with kubectl in the PATH.
    pub async fn shell(&self, script: &str) -> CommandOutput {
        let mut command = Command::new("sh");
        command.args(["-euc", script]);
        self.run(command, &self.kubeconfig, "").await
    }

    pub(super) async fn run(
        &self,
        mut command: Command,
        kubeconfig: &Path,
        stdin: &str,
    ) -> CommandOutput {
        #[expect(clippy::disallowed_methods, reason = "kubectl is added to the PATH")]
        let path = std::env::var("PATH").unwrap_or_default();
        let kubectl = self
            .programs
            .kubectl
            .parent()
            .expect("kubectl is in a folder")
            .display();
        command
            .env("PATH", format!("{kubectl}:{path}"))
            .env("KUBECONFIG", kubeconfig)
            .env("HOME", self.folder.path())
            .current_dir(project_root());
        CommandOutput::run_async(command, stdin).await
    }
}
