//! `lint`: manifests, profiles and their Secrets, checked with the rules of admission.
//!
//! Pods are planned by the planner of `inject`, which is that of admission. Findings go to stdout, in the format that
//! the user chose; notes and the number of findings go to stderr. Every readable file is checked, also if others are
//! not readable.

mod annotations;
mod binder;
mod manifests;
mod pods;
mod profile;
mod report;
mod request;
mod source;
mod values;
mod variables;

use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::sync::Arc;

use self::binder::{KnownOrAssumed, KnownOrNamed};
use self::manifests::ManifestLinter;
use self::report::Report;
pub(crate) use self::request::{LintRequest, ProfileRequest};
use self::source::FileSource;
use self::variables::KeySources;
use crate::admission::policy::{SecretNameMode, SecretNamePolicy};
use crate::admission::sources::Source;
use crate::defaults::DefaultsReader;
use crate::finding::{self, FindingCounts};
use crate::inject::Cluster;
use crate::inject::files;
use crate::inject::input::Input;
use crate::inject::manifest_store::{ManifestStore, Purpose};
use crate::inject::pod_planner::{PlannerSettings, PodPlanner};
use crate::literals::Detector;

/// Exit status of `lint`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum LintExitStatus {
    /// No findings, or only warnings.
    Clean = 0,
    /// Findings: errors, or with `--strict` any.
    Findings = 1,
    /// Some input, or the cluster, cannot be read.
    Unreadable = 2,
}

/// Note of a run that looked for no secret. Builds without the feature `cluster` have no `--cluster`.
const UNCHECKED: &str = if cfg!(feature = "cluster") {
    "secrets that are not in the files were not looked for; check that they exist with --secrets FILE or --cluster"
} else {
    "secrets that are not in the files were not looked for; check that they exist with --secrets FILE"
};

/// Writes findings to `out` and notes to `err`.
pub(crate) fn lint(
    request: &LintRequest,
    stdin: impl Read,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> LintExitStatus {
    // Reads of a cluster and their deadlines need a runtime.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let mut report = Report::default();
    match runtime {
        Ok(runtime) => runtime.block_on(check(request, stdin, &mut report)),
        Err(error) => report.failure(format!("no runtime could be started: {error}")),
    }
    let findings = report.take_findings();
    let written = finding::write(&findings, report.counts, request.format, out);
    match written.and_then(|()| out.flush()) {
        Ok(()) => {}
        // A reader that closes the pipe, such as `head`, has read what it needs.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        Err(error) => report.failure(format!("standard output cannot be written: {error}")),
    }
    conclude(&report, request.strict, err)
}

/// Writes notes and the number of findings, and returns the status.
fn conclude(report: &Report, strict: bool, err: &mut dyn Write) -> LintExitStatus {
    // A failure to write to standard error cannot be reported anywhere.
    let mut line = |text: &str| drop(writeln!(err, "{}", finding::printable(text)));
    for note in report.notes() {
        line(&format!("note: {note}"));
    }
    for failure in &report.failures {
        line(&format!("error: {failure}"));
    }
    let FindingCounts { errors, warnings } = report.counts;
    if errors + warnings > 0 {
        let plural = |count: usize| if count == 1 { "" } else { "s" };
        let (e, w) = (plural(errors), plural(warnings));
        line(&format!("{errors} error{e}, {warnings} warning{w}"));
    }
    if report.is_incomplete() {
        LintExitStatus::Unreadable
    } else if errors > 0 || (strict && warnings > 0) {
        LintExitStatus::Findings
    } else {
        LintExitStatus::Clean
    }
}

/// Reads all inputs and checks them.
async fn check(request: &LintRequest, stdin: impl Read, report: &mut Report) {
    let cluster = match &request.cluster {
        None => None,
        Some(settings) => match Cluster::connect(settings).await {
            Ok(cluster) => Some(cluster),
            Err(error) => return report.failure(error.to_string()),
        },
    };
    let of_context = || {
        cluster
            .as_ref()
            .map_or("default", |cluster| cluster.namespace())
    };
    let namespace = request
        .namespace
        .clone()
        .unwrap_or_else(|| of_context().to_owned());

    let mut stdin = Some(stdin);
    let inputs = open(&request.filename, request.recursive, &mut stdin, report);
    let checks = open(&request.secrets, request.recursive, &mut stdin, report);
    let store = Arc::new(index(&inputs, &checks, &namespace, report));

    let unchecked = cluster.is_none() && checks.is_empty();
    let secrets = secret_source(cluster, &store, unchecked);
    let linter = linter(request, &mut stdin, store, (namespace, secrets), report);
    for input in &inputs {
        let source = FileSource::new(input);
        for document in &input.documents {
            Box::pin(linter.document(&source.document(document), report)).await;
        }
    }
    if linter.profile.is_some() && !report.has_pods {
        report.note("the files have no pod to check the profile against".to_owned());
    }
    if report.has_requests && unchecked {
        report.note(UNCHECKED.to_owned());
    }
}

/// Linter with the settings of a run. Reads the profile.
fn linter(
    request: &LintRequest,
    stdin: &mut Option<impl Read>,
    store: Arc<ManifestStore>,
    (namespace, (source, reader)): (String, (Source, Arc<dyn DefaultsReader>)),
    report: &mut Report,
) -> ManifestLinter {
    let settings = PlannerSettings {
        sidecars: request.sidecars.clone(),
        // Warnings do not hide the plan; they are reported as errors.
        secret_names: request
            .secret_names
            .clone()
            .map(|convention| SecretNamePolicy {
                convention,
                mode: SecretNameMode::Warn,
            }),
        explain: false,
    };
    let detector = Detector::default();
    let profile = request.profile.as_ref();
    let profile = profile.and_then(|request| profile::read(request, stdin, &detector, report));
    let key_sources = KeySources::new(Arc::clone(&store), Arc::clone(&source.binder));
    let planner = |source, settings| {
        PodPlanner::new(source, Arc::clone(&reader), Arc::clone(&store), settings)
    };
    let named_keys = Source {
        binder: Arc::new(KnownOrNamed(Arc::clone(&store))),
        recent_names: None,
    };
    ManifestLinter {
        named_keys_planner: planner(named_keys, settings.clone()),
        planner: planner(source, settings),
        store,
        namespace,
        secret_names: request.secret_names.clone(),
        allow_unknown: request.allow_unknown,
        detector,
        profile,
        key_sources,
    }
}

/// Inputs behind paths. Those that cannot be read are reported.
fn open<R: Read>(
    paths: &[PathBuf],
    recursive: bool,
    stdin: &mut Option<R>,
    report: &mut Report,
) -> Vec<Input> {
    let (files, errors) = files::expand(paths, recursive);
    for error in errors {
        report.unreadable(error);
    }
    let mut inputs = Vec::new();
    for file in files {
        match Input::open(&file, stdin) {
            Ok(input) => inputs.push(input),
            Err(error) => report.unreadable(error),
        }
    }
    inputs
}

/// Secrets, ConfigMaps and defaults in the inputs. Documents of `checks` that cannot be read are reported here, those of
/// `inputs` when they are checked.
fn index(
    inputs: &[Input],
    checks: &[Input],
    namespace: &str,
    report: &mut Report,
) -> ManifestStore {
    let mut store = ManifestStore::default();
    for input in inputs {
        drop(store.add(input, Purpose::Inject, namespace));
    }
    for input in checks {
        for error in store.add(input, Purpose::Check, namespace) {
            report.unreadable(error);
        }
    }
    store
}

/// Binder of secrets and reader of defaults: the cluster with the manifests, or the manifests alone.
fn secret_source(
    cluster: Option<Cluster>,
    store: &Arc<ManifestStore>,
    unchecked: bool,
) -> (Source, Arc<dyn DefaultsReader>) {
    if let Some(cluster) = cluster {
        return cluster.source(Arc::clone(store));
    }
    let source = if unchecked {
        Source {
            binder: Arc::new(KnownOrAssumed(Arc::clone(store))),
            recent_names: Some(Arc::clone(store) as _),
        }
    } else {
        Source {
            binder: Arc::clone(store) as _,
            recent_names: Some(Arc::clone(store) as _),
        }
    };
    (source, Arc::clone(store) as _)
}

#[cfg(test)]
mod tests;
