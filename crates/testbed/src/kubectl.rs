//! Real kubectl.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use super::control_plane::ControlPlane;
use super::tools::project;

/// Output of kubectl, or of a script.
#[derive(Debug, Clone)]
pub struct Output {
    pub code: i32,
    pub stdout: String,
    /// Messages and warnings.
    pub stderr: String,
}

impl Output {
    /// Panics with all output unless the command succeeded.
    #[track_caller]
    pub fn succeeded(self) -> Self {
        assert_eq!(
            self.code, 0,
            "the command failed:\n{}{}",
            self.stdout, self.stderr
        );
        self
    }
}

impl ControlPlane {
    /// Runs kubectl as the administrator.
    pub async fn kubectl(&self, args: &[&str], stdin: &str) -> Output {
        self.kubectl_as(&self.kubeconfig, args, stdin).await
    }

    /// Runs kubectl with this kubeconfig.
    pub async fn kubectl_as(&self, kubeconfig: &Path, args: &[&str], stdin: &str) -> Output {
        let mut command = Command::new(&self.programs.kubectl);
        command.args(args);
        self.run(command, kubeconfig, stdin).await
    }

    /// Runs commands of a documentation page as the administrator, with kubectl in the PATH.
    pub async fn shell(&self, script: &str) -> Output {
        let mut command = Command::new("sh");
        command.args(["-euc", script]);
        self.run(command, &self.kubeconfig, "").await
    }

    pub(super) async fn run(&self, mut command: Command, kubeconfig: &Path, stdin: &str) -> Output {
        #[expect(clippy::disallowed_methods, reason = "the PATH to add kubectl to")]
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
            .current_dir(project())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let stdin = stdin.to_owned();
        let output = tokio::task::spawn_blocking(move || {
            let mut child = command.spawn().expect("the program starts");
            // The program may exit before it has read all of its input.
            child
                .stdin
                .take()
                .expect("stdin is piped")
                .write_all(stdin.as_bytes())
                .ok();
            child.wait_with_output().expect("the program is our child")
        });
        let output = output.await.expect("the program runs");
        Output {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}
