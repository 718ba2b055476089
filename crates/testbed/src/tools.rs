//! Paths of the programs that tests run. `hack/tools/tools.sh` has them, and builds missing ones.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Folder of the project.
pub fn project_root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// Paths of the programs, in the requested order. Builds missing ones and logs that to stderr: it takes minutes.
pub fn program_paths<const N: usize>(names: [&str; N]) -> [PathBuf; N] {
    let script = project_root().join("hack/tools/tools.sh");
    let output = Command::new(&script)
        .arg("path")
        .args(names)
        .stderr(Stdio::inherit())
        .output()
        .unwrap_or_else(|error| panic!("{} does not run: {error}", script.display()));
    assert!(
        output.status.success(),
        "{} path {names:?}: {}",
        script.display(),
        output.status
    );
    let found: Vec<PathBuf> = String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(PathBuf::from)
        .collect();
    found
        .try_into()
        .unwrap_or_else(|found| panic!("{} path {names:?} printed {found:?}", script.display()))
}
