//! The real kubectl.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::control_plane::ControlPlane;

/// What kubectl said.
#[derive(Debug, Clone)]
pub struct Output {
    /// Its exit code.
    pub code: i32,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error: messages and warnings.
    pub stderr: String,
}

impl Output {
    /// Panics with all that kubectl said unless it succeeded.
    #[track_caller]
    pub fn succeeded(self) -> Self {
        assert_eq!(self.code, 0, "kubectl failed:\n{}{}", self.stdout, self.stderr);
        self
    }
}

impl ControlPlane {
    /// Runs kubectl as the administrator.
    pub async fn kubectl(&self, args: &[&str], stdin: &str) -> Output {
        self.kubectl_as(&self.kubeconfig, args, stdin).await
    }

    /// Runs kubectl with this kubeconfig.
    pub async fn kubectl_as(&self, kubeconfig: &std::path::Path, args: &[&str], stdin: &str) -> Output {
        let (program, home): (PathBuf, PathBuf) = (self.programs.kubectl.clone(), self.folder.path().to_owned());
        let mut command = Command::new(program);
        command
            .args(args)
            .env("KUBECONFIG", kubeconfig)
            .env("HOME", home)
            .current_dir(super::tools::project())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let stdin = stdin.to_owned();
        let output = tokio::task::spawn_blocking(move || {
            let mut child = command.spawn().expect("kubectl starts");
            // It may end without reading all of it.
            child.stdin.take().expect("stdin is piped").write_all(stdin.as_bytes()).ok();
            child.wait_with_output().expect("kubectl is our child")
        });
        let output = output.await.expect("kubectl runs");
        Output {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}
