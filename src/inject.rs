//! `inject`: the webhook's plan, offline: manifests in, patched manifests out.
//!
//! Patched manifests go to stdout and everything said to a person to stderr. All or nothing: a mistake in any
//! document leaves stdout empty.

mod argo;
mod cluster;
mod documents;
mod encoding;
mod explain;
mod files;
mod flink;
mod head;
mod injector;
mod kustomize;
mod objects;
mod offline;
mod output;
mod reporter;
mod request;
mod template_site;
mod templates;
mod unread;
mod unreadable;

use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::sync::Arc;

use self::cluster::{Cluster, ClusterWithManifests};
use self::documents::Input;
use self::injector::Injector;
use self::offline::{AssumeExists, ManifestStore, Purpose};
use self::output::{Changed, Rewritten};
use self::reporter::Reporter;
pub(crate) use self::reporter::Status;
pub(crate) use self::request::{ManifestFormat, Request};
use crate::admission::sources::Source;
use crate::defaults::DefaultsReader;

/// Injects, and writes manifests to `out` and messages to `err`.
pub(crate) fn inject(
    request: Request,
    stdin: impl Read,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Status {
    let mut reporter = Reporter::new(err);
    // Without one, nothing could be asked and no time be kept.
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            reporter.error(
                Status::Unreadable,
                format_args!("no runtime could be started: {error}"),
            );
            return reporter.status;
        }
    };
    let format = request.output;
    let Some((inputs, changed)) = runtime.block_on(plan(request, stdin, &mut reporter)) else {
        return reporter.status;
    };
    if reporter.status != Status::Done {
        return reporter.status;
    }
    let rewritten = match output::rewrite(&inputs, changed, format) {
        Ok(rewritten) => rewritten,
        Err(error) => {
            reporter.error(Status::Unreadable, error);
            return reporter.status;
        }
    };
    note_lost_comments(&inputs, &rewritten, format, &mut reporter);
    let written = match format {
        Some(ManifestFormat::Json) => output::write_json(&inputs, &rewritten, out),
        Some(ManifestFormat::Yaml) | None => output::write(&inputs, &rewritten, out),
    };
    match written {
        Ok(()) => Status::Done,
        // Whoever reads has what they wanted.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Status::Done,
        Err(error) => {
            reporter.error(
                Status::Unreadable,
                format_args!("standard output cannot be written: {error}"),
            );
            reporter.status
        }
    }
}

/// Reports documents whose comments are not in the output: those inside what is written anew, and in JSON all of them.
fn note_lost_comments(
    inputs: &[Input],
    rewritten: &Rewritten,
    format: Option<ManifestFormat>,
    reporter: &mut Reporter<'_>,
) {
    for (index, input) in inputs.iter().enumerate() {
        for document in &input.documents {
            let place = format!("{}: document {}", input.name, document.number);
            let is_rewritten = rewritten.contains_key(&(index, document.number));
            if format == Some(ManifestFormat::Json) {
                if input.has_head_comments(document) || input.has_inner_comments(document) {
                    reporter.note(format_args!(
                        "{place}: its comments are not in the output, because JSON has none"
                    ));
                }
            } else if is_rewritten && input.has_inner_comments(document) {
                reporter.note(format_args!(
                    "{place}: the document was written anew, and comments inside it are not in the output"
                ));
            }
        }
    }
}

/// Reads everything and plans for every object; `None` when something cannot be read.
async fn plan(
    request: Request,
    stdin: impl Read,
    reporter: &mut Reporter<'_>,
) -> Option<(Vec<Input>, Changed)> {
    let cluster = match &request.cluster {
        None => None,
        Some(settings) => match Cluster::connect(settings).await {
            Ok(cluster) => Some(cluster),
            Err(error) => {
                reporter.error(Status::Unreadable, error);
                return None;
            }
        },
    };
    let of_context = || {
        cluster
            .as_ref()
            .map_or("default", |cluster| cluster.namespace.as_str())
            .to_owned()
    };
    let namespace = request.namespace.clone().unwrap_or_else(of_context);

    let mut stdin = Some(stdin);
    let inputs = open(&request.filename, request.recursive, &mut stdin, reporter);
    let checks = open(&request.secrets, request.recursive, &mut stdin, reporter);
    let mut known = ManifestStore::default();
    for (purpose, inputs) in [(Purpose::Inject, &inputs), (Purpose::Check, &checks)] {
        for error in inputs
            .iter()
            .flat_map(|input| known.learn(input, purpose, &namespace))
        {
            reporter.error(Status::Unreadable, error);
        }
    }
    if reporter.status != Status::Done {
        return None;
    }

    let known = Arc::new(known);
    let unchecked = cluster.is_none() && checks.is_empty();
    let (answering, reader) = answering(cluster, Arc::clone(&known), unchecked);
    let injector = Injector::new(answering, reader, Arc::clone(&known), namespace, &request);
    for source in known.sources() {
        injector.check_source(source, &known, reporter).await;
    }
    let (changed, asked) = Box::pin(injector.inject_all(&inputs, reporter)).await;
    if asked && unchecked {
        reporter.note(
            "no secret was looked for; check that they exist with --secrets FILE or --cluster",
        );
    }
    Some((inputs, changed))
}

/// The inputs behind paths; what cannot be read is reported.
fn open<R: Read>(
    paths: &[PathBuf],
    recursive: bool,
    stdin: &mut Option<R>,
    reporter: &mut Reporter<'_>,
) -> Vec<Input> {
    let (files, errors) = files::expand(paths, recursive);
    let mut inputs = Vec::new();
    for error in errors {
        reporter.error(Status::Unreadable, error);
    }
    for file in files {
        match Input::open(&file, stdin) {
            Ok(input) => inputs.push(input),
            Err(error) => reporter.error(Status::Unreadable, error),
        }
    }
    inputs
}

/// Who is asked about secrets, and about defaults.
fn answering(
    cluster: Option<Cluster>,
    known: Arc<ManifestStore>,
    unchecked: bool,
) -> (Source, Arc<dyn DefaultsReader>) {
    if let Some(cluster) = cluster {
        let layered = Arc::new(ClusterWithManifests { cluster, known });
        return (
            Source {
                binder: layered.clone(),
                recent_names: Some(layered.clone()),
            },
            layered,
        );
    }
    let answering = if unchecked {
        Source {
            binder: Arc::new(AssumeExists(known.clone())),
            recent_names: None,
        }
    } else {
        Source {
            binder: known.clone(),
            recent_names: Some(known.clone()),
        }
    };
    (answering, known)
}

#[cfg(test)]
mod tests {
    use super::{documents, files, template_site, unread};

    #[test]
    fn bounds_stand_in_the_docs() {
        let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/INJECT.md"))
            .unwrap();
        for (what, number) in [
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
                documents::MAX_DEPTH.to_string(),
            ),
            (
                "Pod templates in one object",
                template_site::MAX_TEMPLATES.to_string(),
            ),
            (
                "Sentences about annotations of one object that are not acted on",
                unread::MAX_SENTENCES.to_string(),
            ),
        ] {
            let row = page
                .lines()
                .find(|line| line.starts_with(&format!("| {what} |")));
            let documented = row.map(|row| {
                row.rsplit('|')
                    .nth(1)
                    .unwrap_or_default()
                    .trim()
                    .replace(',', "")
            });
            assert_eq!(documented, Some(number), "{what}");
        }
    }
}
