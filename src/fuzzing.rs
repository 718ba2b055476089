//! Entries of fuzz targets into rooms that are private otherwise. Compiled only for them.

use std::path::PathBuf;

use crate::compile::plan::ConnectionKeys;
use crate::compile::{CompileExitStatus, CompileRequest, OutputForm, compile};
use crate::finding::FindingFormat;
use crate::lint::{LintRequest, lint};

/// Bytes that a run may print for an input of at most 64 KiB.
const MAX_OUTPUT: usize = 4 << 20;

/// Result of a run: its exit code, and what it wrote to standard output and standard error.
type Run = (u8, Vec<u8>, Vec<u8>);

/// Compiles a floe manifest, in the form that the first byte selects.
///
/// # Panics
/// The run has a bug: profile and annotations disagree, something is printed for a refused manifest, a second run
/// differs, or the output is too long.
pub fn compile_manifest(data: &[u8]) {
    let Some((&options, manifest)) = data.split_first() else {
        return;
    };
    let forms = [
        OutputForm::Profile,
        OutputForm::Annotations,
        OutputForm::Patch,
        OutputForm::Kustomize,
        OutputForm::Namespace,
        OutputForm::Serviceaccount,
    ];
    let is_set = |bit: u8| options & (1 << bit) != 0;
    let request = CompileRequest {
        manifest: PathBuf::from("-"),
        spec: None,
        parent: None,
        project_dir: Some(PathBuf::from("/nonexistent")),
        profile: Some("fuzz".to_owned()),
        targets: vec!["dev".to_owned()],
        target: None,
        out: None,
        form: forms.get(usize::from(options & 7)).copied(),
        plugin: None,
        connection_keys: if is_set(3) {
            ConnectionKeys::Field
        } else {
            ConnectionKeys::Variable
        },
        env_from: is_set(4) && !is_set(3),
        mask: is_set(5),
        check: false,
        secrets: Vec::new(),
        cluster: None,
        secret_names: None,
    };
    let run = || -> Run {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let status = compile(&request, manifest, &mut out, &mut err);
        assert!(
            status != CompileExitStatus::Bug,
            "{}",
            String::from_utf8_lossy(&err)
        );
        (status as u8, out, err)
    };
    let first = run();
    assert!(first.0 == 0 || first.1.is_empty());
    check(&first, &run());
}

/// Checks manifests, and reports in the format that the first byte selects.
///
/// # Panics
/// The run has a bug: a second one differs, or the output is too long.
pub fn lint_manifests(data: &[u8]) {
    let Some((&options, manifests)) = data.split_first() else {
        return;
    };
    let formats = [
        FindingFormat::Text,
        FindingFormat::Json,
        FindingFormat::Sarif,
        FindingFormat::Github,
    ];
    let request = LintRequest {
        filename: vec![PathBuf::from("-")],
        recursive: false,
        secrets: Vec::new(),
        cluster: None,
        profile: None,
        namespace: None,
        sidecars: Vec::new(),
        secret_names: None,
        allow_unknown: options & 4 != 0,
        strict: false,
        format: formats
            .get(usize::from(options & 3))
            .copied()
            .unwrap_or(FindingFormat::Text),
    };
    let run = || -> Run {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let status = lint(&request, manifests, &mut out, &mut err);
        (status as u8, out, err)
    };
    check(&run(), &run());
}

/// Reads a token, a header, claims or a key set, as the first byte selects.
///
/// # Panics
/// Something was accepted that is beyond its limits, or that `serde_json` reads as something else.
pub fn read_identity(data: &[u8]) {
    crate::identity::jose::fuzzing::read(data);
}

fn check(first: &Run, second: &Run) {
    assert_eq!(first, second, "the second run differs");
    assert!(
        first.1.len() + first.2.len() <= MAX_OUTPUT,
        "the output is too long"
    );
}
