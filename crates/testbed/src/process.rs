//! Child processes and folders that end with the test process, however it ends.
//!
//! Statics are never dropped and a killed process drops nothing, so each child has a small shell as its parent, which
//! holds the read end of a pipe. The end of the pipe makes it kill the child: the kernel closes the pipe when the test
//! process is gone. The shell also receives signals by name over that pipe, so that no signal is ever sent to a reused
//! process id.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::poll;

const WRAPPER: &str = r#"
log=$1; shift
exec 3<&0 </dev/null
"$@" >>"$log" 2>&1 3<&- &
program=$!
echo "$program"
exec >/dev/null 2>&1
(
  while read -r signal <&3; do kill -s "$signal" "$program"; done
  kill -s KILL 0
) &
watcher=$!
wait "$program"
code=$?
kill -s KILL "$watcher"
exit "$code"
"#;

/// Running program whose output goes to a file. Killed on drop.
#[derive(Debug)]
pub struct Process {
    name: String,
    log: PathBuf,
    pid: u32,
    wrapper: Mutex<Child>,
    control: ChildStdin,
}

impl Process {
    /// Starts `program`; its output goes to `NAME.log` in `folder`.
    pub fn start(
        name: &str,
        folder: &Path,
        program: &Path,
        args: &[String],
        env: &[(String, String)],
    ) -> Self {
        let log = folder.join(format!("{name}.log"));
        let mut wrapper = Command::new("sh")
            .args(["-c", WRAPPER, "sh"])
            .args([&log, program])
            .args(args)
            .envs(env.iter().cloned())
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("sh starts");
        let control = wrapper.stdin.take().expect("stdin is piped");
        let mut line = String::new();
        BufReader::new(wrapper.stdout.take().expect("stdout is piped"))
            .read_line(&mut line)
            .expect("sh prints a line");
        let pid = line.trim().parse().expect("sh prints the process id");
        Self {
            name: name.to_owned(),
            log,
            pid,
            wrapper: Mutex::new(wrapper),
            control,
        }
    }

    /// Process id, for `/proc`. For signals, see [`Process::signal`].
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Sends a signal by its name without SIG, as in `TERM`. A process that is gone ignores it.
    pub fn signal(&self, name: &str) {
        writeln!(&self.control, "{name}").ok();
    }

    /// Exit status once the program has ended; 128 + N if signal N ended it.
    pub fn exit_status(&self) -> Option<ExitStatus> {
        self.wrapper()
            .try_wait()
            .expect("the wrapper is a child of this process")
    }

    /// Kills the program and waits until it is gone.
    pub fn kill(&self) {
        self.signal("KILL");
        self.wrapper().wait().ok();
    }

    /// Sends SIGTERM and waits; `None` if the program did not end within the deadline.
    pub async fn stop(&self, deadline: Duration) -> Option<ExitStatus> {
        self.signal("TERM");
        poll(deadline, || async { self.exit_status() }).await
    }

    fn wrapper(&self) -> MutexGuard<'_, Child> {
        self.wrapper.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All output.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Name and last lines of output, for the message of a failing test.
    pub fn tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        let last = lines
            .get(lines.len().saturating_sub(25)..)
            .unwrap_or_default()
            .join("\n");
        format!("--- {} ({}) ---\n{last}", self.name, self.log.display())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Temporary folder that is removed when it is dropped or when the test process ends.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    remover: Child,
}

impl Folder {
    /// Creates an empty folder that only this user can read.
    pub fn new() -> Self {
        let path = tempfile::Builder::new()
            .prefix("floe-secrets-test-")
            .tempdir()
            .expect("a temporary folder")
            .keep();
        // Processes that still write into it are being killed at that moment, hence the loop.
        let remover = Command::new("sh")
            .args(["-c", r#"read -r _; for _ in 1 2 3 4 5 6 7 8 9; do rm -rf "$1" && break; sleep 0.2; done"#, "sh"])
            .arg(&path)
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("sh starts");
        Self { path, remover }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file that only this user can read, and returns its path.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let file = self.path.join(name);
        std::fs::write(&file, content).expect("the folder can be written");
        file
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(self.remover.stdin.take());
        self.remover.wait().ok();
    }
}
