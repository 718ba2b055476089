//! `scan`: what runs without the secrets that it asks for, because the webhook was away when it was created or another
//! webhook changed it later.
//!
//! [`Scanner`] reads, [`judge`] decides, `output` shows. The controller runs the same scanner from time to time.

mod finding;
pub mod judge;
mod objects;
mod output;
mod scanner;

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use tokio::sync::mpsc;

pub use finding::{Finding, Found, Looked, Owner, Progress, Warned};
pub use scanner::{Rules, ScanError, Scanner, Scope, Task};

use crate::admission::mutator::CLUSTER_NAMESPACES;
use crate::api::ObjectApi;
use crate::backend::kubernetes::{ClientSettings, connect_patiently};
use crate::cli::{OutputFormat, ScanArgs};

/// Findings on their way.
const WAITING: usize = 64;

/// How often a person who looks on is told how far it is; the first time after as long.
const TELL: Duration = Duration::from_secs(2);

/// The same where it is written down, line by line.
const NOTE: Duration = Duration::from_secs(10);

/// How a run ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    /// Nothing is missing.
    Clean = 0,
    /// Something is.
    Found = 1,
    /// Not everything could be looked at.
    Failed = 2,
}

/// Runs `scan`.
#[must_use]
pub fn run(args: ScanArgs) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let ended = match runtime {
        Ok(runtime) => runtime.block_on(scan(args)),
        Err(error) => Err(format!("no runtime could be started: {error}")),
    };
    let status = ended.unwrap_or_else(|problem| {
        say(&format!("error: {problem}\n"));
        Status::Failed
    });
    ExitCode::from(status as u8)
}

async fn scan(args: ScanArgs) -> Result<Status, String> {
    let ScanArgs { kubernetes, namespace, all_namespaces, output, sidecar_containers, exempt_namespaces } = args;
    let settings =
        ClientSettings { kubeconfig: kubernetes.kubeconfig, context: kubernetes.context, ..ClientSettings::default() };
    let client = connect_patiently(&settings).await.map_err(|error| error.to_string())?;
    let scope = if all_namespaces {
        Scope::All
    } else {
        Scope::Namespace(namespace.unwrap_or_else(|| client.default_namespace().to_owned()))
    };
    let task = Task { scope, warned_since: None };
    let rules = Rules { sidecars: sidecar_containers, exempt: exempt(exempt_namespaces) };
    let scanner = Scanner::new(ObjectApi::new(client), rules);
    let progress = Progress::default();
    let (sender, mut receiver) = mpsc::channel(WAITING);
    let scanning = async {
        let ended = scanner.scan(&task, &progress, &sender).await;
        drop(sender);
        ended
    };
    let collecting = async {
        let mut findings = Vec::new();
        while let Some(found) = receiver.recv().await {
            match found {
                Found::Drifted(finding) => findings.push(finding),
                // Not asked for.
                Found::Warned(_) => {}
            }
        }
        findings
    };
    let both = futures::future::join(scanning, collecting);
    let (ended, mut findings) = tokio::select! {
        done = both => done,
        never = tell(&progress, io::stderr().is_terminal(), say) => match never {},
    };
    findings
        .sort_by(|one, other| (&one.namespace, one.kind, &one.name).cmp(&(&other.namespace, other.kind, &other.name)));
    let mut out = io::stdout().lock();
    let written = match output {
        OutputFormat::Table => output::table(&findings, &mut out),
        OutputFormat::Json => output::json(&findings, progress.looked(), &mut out),
    };
    match written {
        // Whoever reads has what they wanted.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        written => written.map_err(|error| format!("standard output cannot be written: {error}"))?,
    }
    let Looked { objects, read, found } = progress.looked();
    ended.map_err(|error| format!("{error}; {objects} objects were looked at until then"))?;
    if output == OutputFormat::Table {
        say(&format!("{objects} objects looked at, {read} of them whole; {found} run without what they ask for\n"));
    }
    Ok(if findings.is_empty() { Status::Clean } else { Status::Found })
}

/// The namespaces that no webhook's configuration may name, and those that the operator left out.
pub(crate) fn exempt(more: impl IntoIterator<Item = String>) -> BTreeSet<String> {
    CLUSTER_NAMESPACES.into_iter().map(str::to_owned).chain(more).collect()
}

/// Says how far it is for as long as it is polled: to a person in one line that changes, else in lines of their own.
pub(crate) async fn tell(progress: &Progress, person: bool, say: impl Fn(&str)) -> Infallible {
    /// Wipes the person's line when the scan is over.
    struct Line<S: Fn(&str)> {
        dirty: bool,
        say: S,
    }
    impl<S: Fn(&str)> Drop for Line<S> {
        fn drop(&mut self) {
            if self.dirty {
                (self.say)("\r\x1b[K");
            }
        }
    }
    let mut line = Line { dirty: false, say };
    loop {
        tokio::time::sleep(if person { TELL } else { NOTE }).await;
        let Looked { objects, read, found } = progress.looked();
        let far = format!("{objects} objects looked at, {read} of them whole, {found} found so far");
        if person {
            line.dirty = true;
            (line.say)(&format!("\r{far}"));
        } else {
            (line.say)(&format!("{far}\n"));
        }
    }
}

/// Tells whoever started the program.
pub(crate) fn say(text: &str) {
    // Nobody is left to be told that this failed.
    drop(io::stderr().lock().write_all(text.as_bytes()));
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use tokio::time::timeout;

    use super::*;

    /// What is said in so many seconds.
    async fn said(person: bool, seconds: f64) -> Vec<String> {
        let progress = Progress::default();
        let said = RefCell::new(Vec::new());
        let note = |text: &str| {
            said.borrow_mut().push(text.to_owned());
            progress.listed(500);
        };
        progress.listed(500);
        let told = timeout(Duration::from_secs_f64(seconds), tell(&progress, person, note)).await;
        assert!(told.is_err(), "it never ends by itself");
        said.into_inner()
    }

    #[tokio::test(start_paused = true)]
    async fn a_person_sees_one_line_move_and_vanish() {
        let line = |objects| format!("\r{objects} objects looked at, 0 of them whole, 0 found so far");
        assert_eq!(said(true, 5.0).await, [line(500), line(1000), "\r\x1b[K".to_owned()]);
        assert_eq!(said(true, 1.9).await, [""; 0], "a short run says nothing");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_written_down_has_lines_of_its_own() {
        let line = |objects| format!("{objects} objects looked at, 0 of them whole, 0 found so far\n");
        assert_eq!(said(false, 25.0).await, [line(500), line(1000)]);
    }
}
