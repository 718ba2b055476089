//! Standard streams that are closed, full, narrow or not a terminal; Ctrl-C; progress.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rstest::rstest;
use tempfile::TempDir;
use testbed::command_output::CommandOutput;
use testbed::tools::project_root;

use super::{program, run};

/// Commands that print much and need no cluster.
const PRINTING: [&[&str]; 5] = [
    &["--help"],
    &["completions", "zsh"],
    &["config", "schema"],
    &["config", "show"],
    &["inject", "-f", "job.yaml"],
];

#[test]
fn closed_pipe_is_success() {
    for args in PRINTING {
        let mut child = program(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // The reader is gone before anything is written, or while it is.
        drop(child.stdout.take());
        let output = CommandOutput::from(child.wait_with_output().unwrap());
        assert_eq!(output.code, 0, "{args:?}: {}", output.stderr);
        assert!(!output.stderr.contains("error"), "{}", output.stderr);
    }
}

#[test]
fn closed_standard_output_is_success() {
    for args in PRINTING {
        let mut shell = Command::new("sh");
        shell
            .args([
                "-c",
                "exec \"$@\" >&-",
                "sh",
                env!("CARGO_BIN_EXE_floe-secrets-webhook"),
            ])
            .args(args)
            .current_dir(program(&[]).get_current_dir().unwrap());
        let output = CommandOutput::run(shell, "");
        assert_eq!(output.code, 0, "{args:?}: {}", output.stderr);
        assert!(!output.stderr.contains("error"), "{}", output.stderr);
    }
}

#[rstest]
#[case(&["completions", "zsh"], 2)]
#[case(&["config", "schema"], 2)]
#[case(&["config", "show"], 2)]
#[case(&["inject", "-f", "job.yaml"], 2)]
fn full_disk_is_one_sentence(#[case] args: &[&str], #[case] code: i32) {
    let full = std::fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let child = program(args)
        .stdout(full)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let output = CommandOutput::from(child.wait_with_output().unwrap());
    assert_eq!(output.code, code, "{args:?}: {}", output.stderr);
    let sentence = output.stderr.lines().last().unwrap_or_default();
    assert!(
        sentence.starts_with("error: standard output cannot be written: No space left"),
        "{args:?}: {}",
        output.stderr
    );
}

#[rstest]
#[case::help(&["--help"])]
#[case::error_of_arguments(&["scan", "-o", "xml"])]
#[case::error(&["inject", "-f", "missing.yaml"])]
#[case::table(&["config", "show", "--origin"])]
fn files_and_pipes_have_no_colour(#[case] args: &[&str]) {
    assert!(!run(args).text().contains('\u{1b}'), "{args:?}");
    let mut plain = program(args);
    plain.env("NO_COLOR", "1");
    assert!(!CommandOutput::run(plain, "").text().contains('\u{1b}'));
}

#[rstest]
#[case::help(&["--help", "--color", "always"], true)]
#[case::error_of_arguments(&["--color=always", "scan", "-o", "xml"], true)]
#[case::error(&["inject", "-f", "missing.yaml", "--color=always"], true)]
#[case::never(&["inject", "-f", "missing.yaml", "--color=never"], false)]
fn color_flag_decides(#[case] args: &[&str], #[case] has_colour: bool) {
    let text = run(args).text();
    assert_eq!(text.contains('\u{1b}'), has_colour, "{args:?}: {text}");
}

#[test]
fn locale_and_width_do_not_change_the_output() {
    for args in [
        &["--help"][..],
        &["inject", "-f", "missing.yaml"],
        &["scan", "-o", "xml"],
    ] {
        let usual = run(args);
        let mut narrow = program(args);
        narrow
            .env("LANG", "C")
            .env("LC_ALL", "C")
            .env("COLUMNS", "20");
        let narrow = CommandOutput::run(narrow, "");
        assert_eq!(narrow.text(), usual.text(), "{args:?}");
        assert_eq!(narrow.code, usual.code);
    }
}

/// An API server that accepts connections and never responds, and a kubeconfig for it.
struct SilentServer {
    listener: TcpListener,
    _folder: TempDir,
    kubeconfig: PathBuf,
}

impl SilentServer {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let folder = TempDir::new().unwrap();
        let kubeconfig = folder.path().join("kubeconfig");
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\nclusters:\n- name: c\n  cluster: {{server: 'http://{address}'}}\n\
             users:\n- name: u\n  user: {{}}\ncontexts:\n- name: c\n  context: {{cluster: c, user: u}}\n"
        );
        std::fs::write(&kubeconfig, text).unwrap();
        Self {
            listener,
            _folder: folder,
            kubeconfig,
        }
    }
}

#[test]
fn interrupt_ends_a_command_with_130() {
    let server = SilentServer::start();
    let mut command = program(&["scan"]);
    command.env("KUBECONFIG", &server.kubeconfig);
    let mut child = command
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The request is under way once the connection is there.
    let (_connection, _) = server.listener.accept().unwrap();
    let kill = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .unwrap();
    assert!(kill.success());
    let deadline = Instant::now() + Duration::from_secs(20);
    while child.try_wait().unwrap().is_none() && Instant::now() < deadline {
        std::thread::park_timeout(Duration::from_millis(20));
    }
    drop(child.kill());
    let mut stderr = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut stderr)
        .unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{stderr}");
    assert_eq!(stderr, "", "no progress where stderr is a pipe");
}

/// Runs a command with standard error on a terminal of the given width, prints what it writes there until it has the
/// text, then interrupts it and prints its exit code.
const TERMINAL: &str = r#"
import fcntl, os, pty, select, signal, struct, subprocess, sys, termios, time
columns, wanted, command = int(sys.argv[1]), sys.argv[2].encode(), sys.argv[3:]
main, terminal = pty.openpty()
fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
child = subprocess.Popen(command, stderr=terminal, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
seen, deadline = b"", time.monotonic() + 30
def read():
    global seen
    if select.select([main], [], [], 0.1)[0]:
        seen += os.read(main, 4096)
while wanted not in seen and time.monotonic() < deadline:
    read()
child.send_signal(signal.SIGINT)
code = child.wait(20)
read()
print(repr(seen.decode()))
print(code)
"#;

#[rstest]
#[case(100, "0 objects looked at, 0 of them whole, 0 found so far")]
#[case(20, "0 objects looke")]
fn progress_is_one_line_of_the_terminals_width(#[case] columns: usize, #[case] text: &str) {
    let server = SilentServer::start();
    let mut python = Command::new("python3");
    python
        .args(["-c", TERMINAL, &columns.to_string(), text])
        .args([env!("CARGO_BIN_EXE_floe-secrets-webhook"), "scan"])
        .env("KUBECONFIG", &server.kubeconfig)
        .env("TERM", "xterm");
    let output = CommandOutput::run(python, "").expect_success();
    let mut lines = BufReader::new(output.stdout.as_bytes()).lines();
    let seen = lines.next().unwrap().unwrap();
    assert!(seen.contains(text), "{seen}");
    assert!(!seen.contains("\\n"), "one line is overwritten: {seen}");
    assert!(seen.contains("\\x1b[2K"), "the line is removed: {seen}");
    assert_eq!(lines.next().unwrap().unwrap(), "130");
}

/// Runs a command with standard output and error on one terminal, sends it an input once the terminal has a text, and
/// prints all of the terminal.
const RESULTS_TERMINAL: &str = r#"
import fcntl, os, pty, select, struct, subprocess, sys, termios, time
wanted, text, command = sys.argv[1].encode(), sys.argv[2].encode(), sys.argv[3:]
main, terminal = pty.openpty()
fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
child = subprocess.Popen(command, stderr=terminal, stdout=terminal, stdin=subprocess.PIPE)
seen, deadline = b"", time.monotonic() + 30
def read(wait):
    global seen
    if not select.select([main], [], [], wait)[0]:
        return False
    seen += os.read(main, 4096)
    return True
while wanted not in seen and time.monotonic() < deadline:
    read(0.1)
child.stdin.write(text)
child.stdin.close()
while child.poll() is None and time.monotonic() < deadline:
    read(0.1)
while read(0):
    pass
print(repr(seen.decode()))
"#;

#[rstest]
#[case::inject(&["inject", "-f", "-"], "reading manifests", "job.yaml", "apiVersion")]
#[case::lint(&["lint", "-"], "checking manifests", "refused.yaml", "vault")]
#[case::compile(&["compile", "-"], "compiling the manifest", "manifest.yaml", "dev:")]
fn progress_is_removed_before_results(
    #[case] args: &[&str],
    #[case] progress: &str,
    #[case] input: &str,
    #[case] result: &str,
) {
    let files = project_root().join("tests/cli/help/files");
    let text = std::fs::read_to_string(files.join(input)).unwrap();
    let mut python = Command::new("python3");
    python
        .args(["-c", RESULTS_TERMINAL, progress, &text])
        .arg(env!("CARGO_BIN_EXE_floe-secrets-webhook"))
        .args(args)
        .env("NO_COLOR", "1")
        .env("TERM", "xterm");
    let seen = CommandOutput::run(python, "").expect_success().stdout;
    let (before, after) = seen.split_once(result).unwrap_or_else(|| panic!("{seen}"));
    assert!(before.contains(progress), "{seen}");
    let line_end = before.rsplit_once("\\x1b[2K").map(|(_, end)| end);
    let line_end = line_end.unwrap_or_else(|| panic!("the line is removed: {seen}"));
    assert!(!line_end.contains(progress), "{seen}");
    assert!(!after.contains(progress), "{seen}");
}
