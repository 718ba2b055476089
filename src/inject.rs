//! `inject`: the webhook's plan, offline: manifests in, patched manifests out.
//!
//! Patched manifests go to stdout, messages to stderr. One error in any document leaves stdout empty.

pub(crate) mod argo;
mod assume_exists;
#[cfg(feature = "cluster")]
pub(crate) mod cluster;
pub(crate) mod documents;
mod encoding;
pub(crate) mod explain;
pub(crate) mod files;
mod flink;
pub(crate) mod ineffective;
mod injector;
pub(crate) mod input;
mod kustomize;
pub(crate) mod manifest_store;
#[cfg(not(feature = "cluster"))]
pub(crate) mod no_cluster;
pub(crate) mod objects;
mod output;
mod partial_object;
pub(crate) mod pod_planner;
pub(crate) mod propagation;
pub(crate) mod refusal;
mod reporter;
pub(crate) mod request;
pub(crate) mod template_site;
pub(crate) mod templates;
pub(crate) mod unreadable;

use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::sync::Arc;

use self::assume_exists::AssumeExists;
#[cfg(feature = "cluster")]
pub(crate) use self::cluster::Cluster;
use self::injector::Injector;
use self::input::Input;
use self::manifest_store::{ManifestStore, Purpose};
#[cfg(not(feature = "cluster"))]
pub(crate) use self::no_cluster::NoCluster as Cluster;
use self::output::{PatchedDocuments, RewrittenDocuments};
use self::pod_planner::{PlannerSettings, PodPlanner};
pub(crate) use self::reporter::InjectExitStatus;
use self::reporter::Reporter;
pub(crate) use self::request::{InjectRequest, ManifestFormat};
use crate::admission::sources::Source;
use crate::defaults::DefaultsReader;

/// Note of a run that looked for no secret. Builds without the feature `cluster` have no `--cluster`.
const UNCHECKED: &str = if cfg!(feature = "cluster") {
    "no secret was looked for; check that they exist with --secrets FILE or --cluster"
} else {
    "no secret was looked for; check that they exist with --secrets FILE"
};

/// Writes patched manifests to `out` and messages to `err`.
pub(crate) fn inject(
    request: InjectRequest,
    stdin: impl Read,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> InjectExitStatus {
    let mut reporter = Reporter::new(err);
    // Reads of a cluster and their deadlines need a runtime.
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            reporter.error(
                InjectExitStatus::Unreadable,
                format_args!("no runtime could be started: {error}"),
            );
            return reporter.status;
        }
    };
    let format = request.output;
    let Some((inputs, patched)) = runtime.block_on(plan(request, stdin, &mut reporter)) else {
        return reporter.status;
    };
    if reporter.status == InjectExitStatus::Done {
        print_manifests(&inputs, patched, format, out, &mut reporter);
    }
    reporter.status
}

/// Prints all documents, patched or as they were.
fn print_manifests(
    inputs: &[Input],
    patched: PatchedDocuments,
    format: Option<ManifestFormat>,
    out: &mut dyn Write,
    reporter: &mut Reporter<'_>,
) {
    let rewritten = match output::rewrite(inputs, patched, format) {
        Ok(rewritten) => rewritten,
        Err(error) => {
            reporter.error(InjectExitStatus::Unreadable, error);
            return;
        }
    };
    note_lost_comments(inputs, &rewritten, format, reporter);
    let written = match format {
        Some(ManifestFormat::Json) => output::write_json(inputs, &rewritten, out),
        Some(ManifestFormat::Yaml) | None => output::write(inputs, &rewritten, out),
    };
    match written {
        Ok(()) => {}
        // A reader that closes the pipe, such as `head`, has read what it needs.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        Err(error) => reporter.error(
            InjectExitStatus::Unreadable,
            format_args!("standard output cannot be written: {error}"),
        ),
    }
}

/// Reports documents whose comments are not in the output: inner comments of rewritten documents, and in JSON all.
fn note_lost_comments(
    inputs: &[Input],
    rewritten: &RewrittenDocuments,
    format: Option<ManifestFormat>,
    reporter: &mut Reporter<'_>,
) {
    for (index, input) in inputs.iter().enumerate() {
        for document in &input.documents {
            let location = input.location(document);
            let is_rewritten = rewritten.contains_key(&(index, document.number));
            if format == Some(ManifestFormat::Json) {
                if input.has_head_comments(document) || input.has_inner_comments(document) {
                    reporter.note(format_args!(
                        "{location}: its comments are not in the output, because JSON has none"
                    ));
                }
            } else if is_rewritten && input.has_inner_comments(document) {
                reporter.note(format_args!(
                    "{location}: the document was written anew, and comments inside it are not in the output"
                ));
            }
        }
    }
}

/// Reads all inputs and plans for every object; `None` if an input or the kubeconfig cannot be read.
async fn plan(
    request: InjectRequest,
    stdin: impl Read,
    reporter: &mut Reporter<'_>,
) -> Option<(Vec<Input>, PatchedDocuments)> {
    let cluster = match &request.cluster {
        None => None,
        Some(settings) => match Cluster::connect(settings).await {
            Ok(cluster) => Some(cluster),
            Err(error) => {
                reporter.error(InjectExitStatus::Unreadable, error);
                return None;
            }
        },
    };
    let namespace = default_namespace(&request, cluster.as_ref());

    let mut stdin = Some(stdin);
    let inputs = open(&request.filename, request.recursive, &mut stdin, reporter);
    let checks = open(&request.secrets, request.recursive, &mut stdin, reporter);
    let manifests = Arc::new(index(&inputs, &checks, &namespace, reporter));
    if reporter.status != InjectExitStatus::Done {
        return None;
    }

    let unchecked = cluster.is_none() && checks.is_empty();
    let (source, reader) = secret_source(cluster, Arc::clone(&manifests), unchecked);
    let settings = PlannerSettings {
        sidecars: request.sidecars.clone(),
        secret_names: None,
        explain: request.explain,
    };
    let planner = PodPlanner::new(source, reader, Arc::clone(&manifests), settings);
    for defaults in manifests.defaults() {
        planner.check_defaults(defaults, reporter).await;
    }
    let injector = Injector::new(planner, namespace, request.allow_unknown);
    let (patched, requested) = Box::pin(injector.inject_all(&inputs, reporter)).await;
    if requested && unchecked {
        reporter.note(UNCHECKED);
    }
    Some((inputs, patched))
}

/// Namespace of objects that name none.
fn default_namespace(request: &InjectRequest, cluster: Option<&Cluster>) -> String {
    let of_context = || cluster.map_or("default", |cluster| cluster.namespace());
    request
        .namespace
        .clone()
        .unwrap_or_else(|| of_context().to_owned())
}

/// Inputs behind paths. Those that cannot be read are reported.
fn open<R: Read>(
    paths: &[PathBuf],
    recursive: bool,
    stdin: &mut Option<R>,
    reporter: &mut Reporter<'_>,
) -> Vec<Input> {
    let (files, errors) = files::expand(paths, recursive);
    let mut inputs = Vec::new();
    for error in errors {
        reporter.error(InjectExitStatus::Unreadable, error);
    }
    for file in files {
        match Input::open(&file, stdin) {
            Ok(input) => inputs.push(input),
            Err(error) => reporter.error(InjectExitStatus::Unreadable, error),
        }
    }
    inputs
}

/// Secrets and defaults in the inputs. Documents that cannot be read are reported.
fn index(
    inputs: &[Input],
    checks: &[Input],
    namespace: &str,
    reporter: &mut Reporter<'_>,
) -> ManifestStore {
    let mut manifests = ManifestStore::default();
    for (purpose, inputs) in [(Purpose::Inject, inputs), (Purpose::Check, checks)] {
        for error in inputs
            .iter()
            .flat_map(|input| manifests.add(input, purpose, namespace))
        {
            reporter.error(InjectExitStatus::Unreadable, error);
        }
    }
    manifests
}

/// Binder of secrets and reader of defaults: the cluster with the manifests, or the manifests alone.
fn secret_source(
    cluster: Option<Cluster>,
    manifests: Arc<ManifestStore>,
    unchecked: bool,
) -> (Source, Arc<dyn DefaultsReader>) {
    if let Some(cluster) = cluster {
        return cluster.source(manifests);
    }
    let source = if unchecked {
        Source {
            binder: Arc::new(AssumeExists(manifests.clone())),
            recent_names: None,
        }
    } else {
        Source {
            binder: manifests.clone(),
            recent_names: Some(manifests.clone()),
        }
    };
    (source, manifests)
}

#[cfg(test)]
mod tests {
    use super::{files, ineffective, input, template_site};

    #[test]
    fn docs_contain_the_bounds() {
        let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/INJECT.md"))
            .unwrap();
        for (bound, number) in [
            (
                "Bytes of one file, or of standard input",
                files::MAX_INPUT_BYTES.to_string(),
            ),
            (
                "Files behind all `-f`, and behind all `--secrets`",
                files::MAX_FILES.to_string(),
            ),
            (
                "Levels of maps and lists in each other",
                input::MAX_DEPTH.to_string(),
            ),
            (
                "Pod templates in one object",
                template_site::MAX_TEMPLATES.to_string(),
            ),
            (
                "Sentences about annotations of one object that are not acted on",
                ineffective::MAX_SENTENCES.to_string(),
            ),
        ] {
            let row = page
                .lines()
                .find(|line| line.starts_with(&format!("| {bound} |")));
            let documented = row.map(|row| {
                row.rsplit('|')
                    .nth(1)
                    .unwrap_or_default()
                    .trim()
                    .replace(',', "")
            });
            assert_eq!(documented, Some(number), "{bound}");
        }
    }
}
