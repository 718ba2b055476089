//! `compile` as a person calls it: the built program, files and standard input, and the real kubectl and a real checker
//! of schemas to read its output.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests, which clippy does not recognise"
)]

mod arguments;
mod canary;
mod files;
mod golden;
mod inputs;
mod schema;

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

const HEAD: &str = "apiVersion: floe.dev/v1\nkind: Manifest\nmetadata: {name: acme}\n";

/// Output of a run, and how it ended.
#[derive(Debug)]
struct Compiled {
    code: i32,
    stdout: String,
    stderr: String,
}

/// Runs `compile` in a folder, with this on standard input.
fn compile_in(folder: &Path, stdin: &[u8], args: &[&str]) -> Compiled {
    let mut program = program();
    let mut child = program
        .arg("compile")
        .args(args)
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let stdin = stdin.to_vec();
    let writer = std::thread::spawn(move || {
        // A program that does not need its input may have exited already.
        drop(input.write_all(&stdin));
    });
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    Compiled {
        code: output.status.code().expect("the program exits"),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_floe-secrets-webhook"))
}

/// Runs `compile` in a folder of the given files.
fn compile(files: &[(&str, &str)], args: &[&str]) -> Compiled {
    let folder = folder_of(files);
    compile_in(folder.path(), b"", args)
}

fn folder_of(files: &[(&str, &str)]) -> TempDir {
    let folder = TempDir::new().unwrap();
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

/// A manifest for PostgreSQL, with this password field.
fn postgres(password: &str) -> String {
    format!(
        "{HEAD}plugins:\n  compute:\n    type: postgres\n    config:\n      host: db.example\n      port: 5432\n      user: dbt\n      password: {password}\n      dbname: analytics\n      schema: public\n"
    )
}

const REFERENCE: &str = "{secretRef: {name: db, key: password}}";

fn checkout() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Folder of manifests.
fn testdata() -> PathBuf {
    checkout().join("tests/testdata/compile")
}

/// Path of a program that a script of the checkout builds or installs.
fn tool(script: &str, args: &[&str]) -> PathBuf {
    let script = checkout().join(script);
    let output = Command::new(&script)
        .args(args)
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(output.status.success(), "{} {args:?}", script.display());
    PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
}
