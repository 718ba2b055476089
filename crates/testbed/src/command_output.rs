//! Output of a program that ran to its end.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

/// Exit code and output of a program.
#[derive(Debug, Clone)]
pub struct CommandOutput {
    /// Exit code; -1 if a signal ended the program.
    pub code: i32,
    pub stdout: String,
    /// Messages and warnings.
    pub stderr: String,
}

impl CommandOutput {
    /// Runs a program with this standard input, to its end.
    pub fn run(mut command: Command, stdin: &str) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        // The program may exit before it has read all of its input.
        child
            .stdin
            .take()
            .expect("stdin is piped")
            .write_all(stdin.as_bytes())
            .ok();
        child
            .wait_with_output()
            .expect("the program is a child of this process")
            .into()
    }

    /// [`Self::run`] in a thread of its own.
    pub async fn run_async(command: Command, stdin: &str) -> Self {
        let stdin = stdin.to_owned();
        tokio::task::spawn_blocking(move || Self::run(command, &stdin))
            .await
            .expect("the thread does not panic")
    }

    /// Panics with all output unless the program succeeded.
    #[track_caller]
    pub fn expect_success(self) -> Self {
        assert_eq!(
            self.code, 0,
            "the command failed:\n{}{}",
            self.stdout, self.stderr
        );
        self
    }

    /// Standard output followed by standard error.
    pub fn text(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

impl From<Output> for CommandOutput {
    fn from(output: Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        }
    }
}
