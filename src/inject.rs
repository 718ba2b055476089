//! `inject`: the webhook's plan, offline: manifests in, patched manifests out.
//!
//! Patched manifests go to stdout and everything said to a person to stderr. All or nothing: a mistake in any
//! document leaves stdout empty.

mod documents;
mod explain;
mod objects;
mod offline;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{self, Read, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use self::documents::{Input, Unreadable};
use self::objects::{Object, objects};
use self::offline::{Assumed, Known};
use crate::admission::defaults::{Defaults, Governing, SourceReader};
use crate::admission::error::AdmissionError;
use crate::admission::mutator::{Injection, Mutator, OnUnavailable, Outcome, Policy, Surface, Window};
use crate::admission::response::sentences;
use crate::backend::{Binders, SecretBinder};
use crate::cli::InjectArgs;
use crate::injection::{self, Pattern, PodView, SecretSource, SkipReason, Sources};

/// Namespaces whose pods the webhook never touches, whatever its configuration says.
const EXEMPT: [&str; 2] = ["kube-system", "kube-node-lease"];

/// How long one object may take: a cluster that does not answer by then will not.
const PATIENCE: Duration = Duration::from_secs(30);

/// How a run ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Status {
    /// Injected, or nothing to do.
    Done = 0,
    /// Refused; nothing was printed.
    Refused = 1,
    /// The call or its input cannot be read; nothing was printed.
    Unreadable = 2,
}

/// Runs `inject`.
#[must_use]
pub fn run(args: InjectArgs) -> ExitCode {
    let status = inject(args, io::stdin().lock(), &mut io::stdout().lock(), &mut io::stderr().lock());
    ExitCode::from(status as u8)
}

fn inject(args: InjectArgs, stdin: impl Read, out: &mut dyn Write, err: &mut dyn Write) -> Status {
    let mut teller = Teller { err, status: Status::Done };
    let InjectArgs { filename, secrets, cluster, kubernetes: _, namespace, sidecar_containers, explain } = args;
    if cluster {
        teller.error(Status::Unreadable, "--cluster is not built in yet");
        return teller.status;
    }
    let namespace = namespace.unwrap_or_else(|| "default".to_owned());

    let mut stdin = Some(stdin);
    let mut open = |paths: &[std::path::PathBuf]| -> Vec<Input> {
        let opened = paths.iter().map(|path| Input::open(path, &mut stdin));
        opened.filter_map(|input| input.map_err(|error| teller.error(Status::Unreadable, error)).ok()).collect()
    };
    let inputs = open(&filename);
    let checks = open(&secrets);
    let mut known = Known::default();
    for input in inputs.iter().chain(&checks) {
        for error in known.learn(input, &namespace) {
            teller.error(Status::Unreadable, error);
        }
    }
    if teller.status != Status::Done {
        return teller.status;
    }
    let checked = !checks.is_empty();

    let known = Arc::new(known);
    let binder: Arc<dyn SecretBinder> = if checked { known.clone() } else { Arc::new(Assumed) };
    let reader: Arc<dyn SourceReader> = known.clone();
    let defaults = Arc::new(Defaults::new(reader));
    let policy = Policy {
        sidecars: sidecar_containers.clone(),
        exempt_namespaces: BTreeSet::new(),
        on_unavailable: OnUnavailable::Deny,
    };
    let injector = Injector {
        mutator: Mutator::new(Binders::from([(SecretSource::Kubernetes, binder)]), defaults.clone(), policy),
        defaults,
        known,
        namespace,
        sidecars: sidecar_containers,
        explain,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            teller.error(Status::Unreadable, format_args!("no runtime could be started: {error}"));
            return teller.status;
        }
    };
    let (changed, asked) = runtime.block_on(async {
        injector.check_sources(&mut teller);
        injector.inject_all(&inputs, &mut teller).await
    });
    if asked && !checked {
        teller.note("no secret was looked for; check that they exist with --secrets FILE or --cluster");
    }
    if teller.status != Status::Done {
        return teller.status;
    }
    match documents::write(&inputs, &changed, out) {
        Ok(()) => Status::Done,
        // Whoever reads has what they wanted.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Status::Done,
        Err(error) => {
            teller.error(Status::Unreadable, format_args!("standard output cannot be written: {error}"));
            teller.status
        }
    }
}

/// Says things to a person, and remembers how bad they were.
struct Teller<'w> {
    err: &'w mut dyn Write,
    status: Status,
}

impl Teller<'_> {
    fn line(&mut self, word: &str, said: impl fmt::Display) {
        // Nobody is left to be told that this failed.
        drop(writeln!(self.err, "{word}{said}"));
    }

    fn error(&mut self, status: Status, said: impl fmt::Display) {
        self.status = self.status.max(status);
        self.line("error: ", said);
    }

    fn warning(&mut self, said: impl fmt::Display) {
        self.line("warning: ", said);
    }

    fn note(&mut self, said: impl fmt::Display) {
        self.line("note: ", said);
    }
}

/// Patched documents, by input and number.
type Changed = BTreeMap<(usize, usize), Value>;

/// Injects into documents.
struct Injector {
    mutator: Mutator,
    defaults: Arc<Defaults>,
    known: Arc<Known>,
    namespace: String,
    sidecars: Vec<Pattern>,
    explain: bool,
}

impl Injector {
    /// Refuses malformed defaults, as the webhook would where they are written.
    fn check_sources(&self, teller: &mut Teller<'_>) {
        for (place, annotations) in self.known.sources() {
            if let Err(error) = self.mutator.validate(Some(annotations)) {
                refuse(place, &error, teller);
            }
        }
    }

    /// Every document that changes, and whether any object asks for a secret.
    async fn inject_all(&self, inputs: &[Input], teller: &mut Teller<'_>) -> (Changed, bool) {
        let mut changed = Changed::new();
        let mut asked = false;
        for (index, input) in inputs.iter().enumerate() {
            for document in &input.documents {
                let place = format!("{}: document {}", input.name, document.number);
                match self.document(input, document, &place, teller).await {
                    Ok(injected) => {
                        asked |= injected.asked;
                        changed.extend(injected.value.map(|value| ((index, document.number), value)));
                    }
                    Err(error) => teller.error(Status::Unreadable, error),
                }
            }
        }
        (changed, asked)
    }

    async fn document(
        &self,
        input: &Input,
        document: &documents::Document,
        place: &str,
        teller: &mut Teller<'_>,
    ) -> Result<Injected, Unreadable> {
        let mut injected = Injected::default();
        // A Secret passes through without being built.
        if offline::is_secret(input, document)? {
            return Ok(injected);
        }
        let value: Value = input.read(document)?;
        if value.is_null() {
            return Ok(injected);
        }
        let mut patches = Vec::new();
        for object in objects(&value).map_err(|problem| input.unreadable(document, problem))? {
            let title = object.title();
            let patched = self.object(&object, &format!("{place}, {title}"), teller).await;
            match patched.map_err(|problem| input.unreadable(document, format!("{title}: {problem}")))? {
                Some(patch) => {
                    injected.asked = true;
                    patches.push(patch);
                }
                None => {}
            }
        }
        if patches.iter().any(|patch| !patch.0.is_empty()) {
            let mut value = value;
            for patch in patches {
                json_patch::patch(&mut value, &patch).expect("the plan was made for this document");
            }
            injected.value = Some(value);
        }
        Ok(injected)
    }
}

/// What became of a document.
#[derive(Debug, Default)]
struct Injected {
    /// The document as it is now; `None` when nothing changed.
    value: Option<Value>,
    /// Whether an object of it asks for a secret.
    asked: bool,
}

// === one object ===

impl Injector {
    /// The patch of an object that asks for secrets; or why it cannot be read.
    async fn object(
        &self,
        object: &Object<'_>,
        place: &str,
        teller: &mut Teller<'_>,
    ) -> Result<Option<json_patch::Patch>, String> {
        if object.is_core("Namespace") || object.is_core("ServiceAccount") {
            return object.own_metadata().map(|_| None);
        }
        for misplaced in object.misplaced() {
            teller.warning(format_args!("{place}: {misplaced}"));
        }
        let Some(root) = object.root() else { return Ok(None) };
        let pod = object.pod(root)?;
        let namespace = object.namespace().unwrap_or(&self.namespace);
        let place = &format!("{place} in namespace \"{namespace}\"");
        let outcome = match gate(namespace, &pod) {
            Some(reason) => Ok(Outcome::Skipped(reason)),
            None => {
                let arrived = Instant::now();
                let window = Window { arrived, deadline: arrived + PATIENCE };
                self.mutator.inject(self.surface(namespace), namespace, &pod, window).await
            }
        };
        match outcome {
            Ok(Outcome::Injected(injection)) => {
                self.tell(place, namespace, &pod, &injection, teller).await;
                Ok(Some(injection::render(&injection.plan, &object.pointer(root))))
            }
            Ok(Outcome::Skipped(reason)) => {
                // Whoever asks and gets nothing should hear it; whoever did not ask, only when they want to know.
                let asks = pod.annotations().is_some_and(|annotations| !annotations.is_empty());
                if self.explain || (asks && reason == SkipReason::ExemptNamespace) {
                    teller.note(format_args!("{place}: {}", explain::skipped(reason)));
                }
                Ok(None)
            }
            Ok(Outcome::Validated) => Ok(None),
            Ok(Outcome::Degraded(error)) | Err(error) => {
                refuse(place, &error, teller);
                Ok(None)
            }
        }
    }

    /// Whether defaults apply in the namespace.
    fn surface(&self, namespace: &str) -> Surface {
        if self.known.defaults_apply(namespace) { Surface::DefaultsPods } else { Surface::Pods }
    }

    async fn tell(
        &self,
        place: &str,
        namespace: &str,
        pod: &PodView<'_>,
        injection: &Injection,
        teller: &mut Teller<'_>,
    ) {
        for warning in &injection.plan.warnings {
            teller.warning(format_args!("{place}: {warning}"));
        }
        for note in &injection.notes {
            teller.warning(format_args!("{place}: {note}"));
        }
        if !self.explain {
            return;
        }
        let governing = match self.surface(namespace) {
            // Read a moment ago, and kept.
            Surface::DefaultsPods => self
                .defaults
                .governing(namespace, pod.service_account(), Instant::now() + PATIENCE)
                .await
                .unwrap_or_default(),
            Surface::Pods | Surface::Sources => Governing::default(),
        };
        let sources = Sources {
            object: pod.annotations(),
            service_account: governing.service_account.as_deref().map(|a| (pod.service_account(), &a.annotations)),
            namespace: governing.namespace.as_deref().map(|a| (namespace, &a.annotations)),
        };
        for line in explain::injected(&sources, pod, &injection.plan, &self.sidecars) {
            teller.note(format_args!("{place}: {line}"));
        }
    }
}

/// What the webhook would never touch.
fn gate(namespace: &str, pod: &PodView<'_>) -> Option<SkipReason> {
    if EXEMPT.contains(&namespace) {
        Some(SkipReason::ExemptNamespace)
    } else if pod.annotations().is_some_and(|annotations| annotations.mirror) {
        Some(SkipReason::MirrorPod)
    } else if pod.is_terminal() {
        Some(SkipReason::TerminalPod)
    } else {
        None
    }
}

fn refuse(place: &str, error: &AdmissionError, teller: &mut Teller<'_>) {
    for sentence in sentences(error) {
        teller.error(Status::Refused, format_args!("{place}: {sentence}"));
    }
}
