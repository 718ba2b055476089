//! `inject`: the webhook's plan, offline: manifests in, patched manifests out.
//!
//! Patched manifests go to stdout and everything said to a person to stderr. All or nothing: a mistake in any
//! document leaves stdout empty.

mod cluster;
mod documents;
mod explain;
mod objects;
mod offline;

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use self::cluster::{Cluster, Layered};
use self::documents::{Input, Unreadable};
use self::objects::{Addition, Object, objects};
use self::offline::{Assumed, Known};
use crate::admission::error::{AdmissionError, Kind, Unbound};
use crate::admission::mutator::{
    Answering, Binders, CLUSTER_NAMESPACES, Injection, Mutator, Outcome, Policy, Surface, Window,
};
use crate::admission::response::sentences;
use crate::backend::ErrorKind;
use crate::cli::InjectArgs;
use crate::defaults::{Defaults, Governing, SourceReader};
use crate::injection::{self, Annotations, Pattern, PodView, SecretSource, SkipReason, Sources};

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
    // Without one, nothing could be asked and no time be kept.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            teller.error(Status::Unreadable, format_args!("no runtime could be started: {error}"));
            return teller.status;
        }
    };
    let Some((inputs, changed)) = runtime.block_on(plan(args, stdin, &mut teller)) else { return teller.status };
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

/// Reads everything and plans for every object; `None` when something cannot be read.
async fn plan(args: InjectArgs, stdin: impl Read, teller: &mut Teller<'_>) -> Option<(Vec<Input>, Changed)> {
    let InjectArgs { filename, secrets, cluster, kubernetes, namespace, sidecar_containers, explain } = args;
    let cluster = match cluster.then(|| Cluster::connect(kubernetes)) {
        None => None,
        Some(connected) => match connected.await {
            Ok(cluster) => Some(cluster),
            Err(error) => {
                teller.error(Status::Unreadable, error);
                return None;
            }
        },
    };
    let of_context = || cluster.as_ref().map_or("default", |cluster| cluster.namespace.as_str()).to_owned();
    let namespace = namespace.unwrap_or_else(of_context);

    let mut stdin = Some(stdin);
    let mut open = |paths: &[PathBuf]| -> Vec<Input> {
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
        return None;
    }

    let known = Arc::new(known);
    let unchecked = cluster.is_none() && checks.is_empty();
    let (answering, reader) = answering(cluster, Arc::clone(&known), unchecked);
    let injector = Injector::new(answering, reader, namespace, sidecar_containers, explain);
    for (place, annotations) in known.sources() {
        injector.check_source(place, annotations, teller);
    }
    let (changed, asked) = Box::pin(injector.inject_all(&inputs, teller)).await;
    if asked && unchecked {
        teller.note("no secret was looked for; check that they exist with --secrets FILE or --cluster");
    }
    Some((inputs, changed))
}

/// Who is asked about secrets, and about defaults.
fn answering(cluster: Option<Cluster>, known: Arc<Known>, unchecked: bool) -> (Answering, Arc<dyn SourceReader>) {
    if let Some(cluster) = cluster {
        let layered = Arc::new(Layered { cluster, known });
        return (Answering { binder: layered.clone(), names: Some(layered.clone()) }, layered);
    }
    let answering = if unchecked {
        Answering { binder: Arc::new(Assumed), names: None }
    } else {
        Answering { binder: known.clone(), names: Some(known.clone()) }
    };
    (answering, known)
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
    reader: Arc<dyn SourceReader>,
    namespace: String,
    sidecars: Vec<Pattern>,
    explain: bool,
}

impl Injector {
    fn new(
        answering: Answering,
        reader: Arc<dyn SourceReader>,
        namespace: String,
        sidecars: Vec<Pattern>,
        explain: bool,
    ) -> Self {
        let defaults = Arc::new(Defaults::new(Arc::clone(&reader)));
        let policy = Policy { sidecars: sidecars.clone(), ..Policy::default() };
        let binders = Binders::from([(SecretSource::Kubernetes, answering)]);
        let mutator = Mutator::new(binders, Arc::clone(&defaults), policy);
        Self { mutator, defaults, reader, namespace, sidecars, explain }
    }

    /// Refuses malformed defaults, as the webhook would where they are written.
    fn check_source(&self, place: &str, annotations: &Annotations<'_>, teller: &mut Teller<'_>) {
        if let Err(error) = self.mutator.validate(Some(annotations)) {
            refuse(place, &error, teller);
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
            match self.object(&object, &format!("{place}, {title}"), teller).await {
                Ok(None) => {}
                Ok(Some(patch)) => {
                    injected.asked = true;
                    patches.push(patch);
                }
                Err(problem) => {
                    teller.error(Status::Unreadable, input.unreadable(document, format!("{title}: {problem}")));
                }
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
        let carried = object.carried()?;
        let mut value = object.value().clone();
        json_patch::patch(&mut value, &additions(&[], &carried)).expect("the additions were made for this object");
        let object = &object.with(&value);
        let pod = object.pod(root)?;
        let namespace = object.namespace().unwrap_or(&self.namespace);
        let place = &format!("{place} in namespace \"{namespace}\"");
        let outcome = match gate(namespace, &pod) {
            Some(reason) => Ok(Outcome::Skipped(reason)),
            None => self.decide(namespace, place, &pod, root.is_empty(), teller).await,
        };
        match outcome {
            Ok(Outcome::Injected(injection)) => {
                let mut patch = additions(&object.pointer(&[]), &carried);
                let rendered = injection::render(&injection.plan, &object.pointer(root));
                patch.0.extend(json_patch::Patch::from(rendered).0);
                Ok(Some(patch))
            }
            Ok(Outcome::Skipped(reason)) => {
                // Whoever asks and gets nothing should hear it; whoever did not ask, only when they want to know.
                let asks = pod.annotations().is_some_and(|annotations| !annotations.is_empty());
                if self.explain || (asks && reason == SkipReason::ExemptNamespace) {
                    teller.note(format_args!("{place}: {}", explain::skipped(reason)));
                }
                Ok(None)
            }
            Ok(Outcome::Validated | Outcome::Prepared(_)) => Ok(None),
            Ok(Outcome::Degraded(error)) | Err(error) => {
                refuse(place, &error, teller);
                Ok(None)
            }
        }
    }

    /// What the webhook would say of a pod, or of a pod of a template, and what there is to tell about it.
    async fn decide(
        &self,
        namespace: &str,
        place: &str,
        pod: &PodView<'_>,
        is_pod: bool,
        teller: &mut Teller<'_>,
    ) -> Result<Outcome, AdmissionError> {
        let arrived = Instant::now();
        let window = Window::untraced(arrived, arrived + PATIENCE);
        let surface = self.surface(namespace, place, window, teller).await?;
        let outcome = if is_pod {
            self.mutator.inject_pod(surface, namespace, pod, window).await?
        } else {
            self.mutator.inject(surface, namespace, pod, window).await?
        };
        if let Outcome::Injected(injection) = &outcome {
            self.tell(place, surface, namespace, pod, injection, teller).await;
        }
        Ok(outcome)
    }

    /// Whether defaults apply in the namespace: where its label may not be read, they do not.
    ///
    /// # Errors
    /// When nobody knows: injecting less than the webhook would is no answer.
    async fn surface(
        &self,
        namespace: &str,
        place: &str,
        window: Window<'_>,
        teller: &mut Teller<'_>,
    ) -> Result<Surface, AdmissionError> {
        match self.reader.namespace(namespace, window.deadline).await {
            Ok(Some(source)) if source.enabled => Ok(Surface::DefaultsPods),
            Ok(_) => Ok(Surface::Pods),
            Err(error) if error.kind == ErrorKind::PermissionDenied => {
                teller.warning(format_args!(
                    "{place}: the namespace could not be read; if defaults are set there, they are not applied"
                ));
                Ok(Surface::Pods)
            }
            Err(error) => Err(AdmissionError::Backend(vec![Unbound { error, site: None }])),
        }
    }

    async fn tell(
        &self,
        place: &str,
        surface: Surface,
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
        let governing = match surface {
            // Read a moment ago, and kept.
            Surface::DefaultsPods | Surface::DefaultsWorkloads => self
                .defaults
                .governing(namespace, pod.service_account(), Instant::now(), Instant::now() + PATIENCE)
                .await
                .unwrap_or_default(),
            Surface::Pods | Surface::Workloads | Surface::Sources => Governing::default(),
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
    if CLUSTER_NAMESPACES.contains(&namespace) {
        Some(SkipReason::ExemptNamespace)
    } else if pod.annotations().is_some_and(|annotations| annotations.mirror) {
        Some(SkipReason::MirrorPod)
    } else {
        None
    }
}

/// What a workload's template gets from its own annotations, for a workload that stands at `root`.
fn additions(root: &[&str], carried: &[Addition]) -> json_patch::Patch {
    let add = |Addition { path, name, value }: &Addition| {
        let tokens = root.iter().copied().chain(path.iter().copied()).chain([name.as_str()]);
        let path = json_patch::jsonptr::PointerBuf::from_tokens(tokens);
        json_patch::PatchOperation::Add(json_patch::AddOperation { path, value: value.clone() })
    };
    json_patch::Patch(carried.iter().map(add).collect())
}

fn refuse(place: &str, error: &AdmissionError, teller: &mut Teller<'_>) {
    for sentence in sentences(error) {
        teller.error(Status::Refused, format_args!("{place}: {sentence}"));
    }
    if error.kind() == Kind::PermissionDenied {
        teller.note(format_args!("{place}: the cluster was asked with your own rights, not with the webhook's"));
    }
}
