//! `audit import`: stores lines of container logs that a store lacks.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueHint};
use tokio::sync::mpsc;

use super::store::{StoreArgs, StoreExitStatus, opened};
use crate::audit::input::MAX_INPUT_LINE;
use crate::audit::stored::{InvalidLine, LineReader, StoredLine};
use crate::cli::output::{print_error, print_result};
use crate::commands::process::run_command;
use crate::store::{AuditStore, Import, ImportReport, MAX_IMPORT_BYTES, StoreSettings};

/// Examples of the help.
pub(super) const EXAMPLES: &str = "Examples:
  # Lines of a killed pod that its store lacks
  kubectl logs --previous floe-secrets-webhook-5b9c-x2x7d | floe-secrets-webhook audit import --store audit.db

  # A new store from an export
  floe-secrets-webhook audit import --store new.db --create audit.jsonl

Exit codes: 0 every line is stored; 1 lines were not imported; 2 something cannot be read or written.";

/// Ranges that are printed, at most.
const MAX_PRINTED_RANGES: usize = 100;

#[derive(Debug, Args)]
pub struct ImportArgs {
    #[command(flatten)]
    pub store: StoreArgs,
    /// Create the store if it does not exist.
    #[arg(long)]
    pub create: bool,
    /// Files with lines of the trail, or - for standard input, which is the default.
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub files: Vec<PathBuf>,
}

#[must_use]
pub(super) fn run(args: ImportArgs) -> ExitCode {
    run_command(import(args), StoreExitStatus::Failed)
}

async fn import(args: ImportArgs) -> Result<StoreExitStatus, String> {
    let settings = StoreSettings {
        create: args.create,
        holder: "audit import".to_owned(),
        ..args.store.settings()?
    };
    let store = opened(move || settings.open()).await?;
    let files = if args.files.is_empty() {
        vec![PathBuf::from("-")]
    } else {
        args.files
    };
    let (report, invalid) = import_files(store.as_ref(), files).await?;
    print_result(|out| write_report(&report, out))?;
    if invalid > 0 {
        print_error(format!(
            "{invalid} lines of the trail are too long or lack fields, and were not imported: look at them by audit verify"
        ));
    }
    Ok(if report.rejected.is_empty() && invalid == 0 {
        StoreExitStatus::Done
    } else {
        StoreExitStatus::Incomplete
    })
}

/// Lines that are read ahead of the store.
const READ_AHEAD: usize = 256;

/// Line of the trail, one that cannot be kept, or the sentence about a file that cannot be read.
type ReadLine = Result<Result<StoredLine, InvalidLine>, String>;

/// Imports the lines of files. Returns the number of lines of the trail that cannot be stored, too.
async fn import_files(
    store: &dyn AuditStore,
    files: Vec<PathBuf>,
) -> Result<(ImportReport, u64), String> {
    let (sender, mut lines) = mpsc::channel(READ_AHEAD);
    // A thread of its own: a terminal may never send a line, and Ctrl-C has to work.
    std::thread::spawn(move || {
        if let Err(error) = read_files(&files, &sender) {
            drop(sender.blocking_send(Err(error)));
        }
    });
    let mut import = Import::new(store, MAX_IMPORT_BYTES);
    let mut invalid = 0;
    while let Some(line) = lines.recv().await {
        match line? {
            Ok(line) => import.push(line).await.map_err(|error| error.to_string())?,
            Err(_) => invalid += 1,
        }
    }
    let report = import.finish().await.map_err(|error| error.to_string())?;
    Ok((report, invalid))
}

/// Reads the files, until they end or nobody wants more.
fn read_files(files: &[PathBuf], lines: &mpsc::Sender<ReadLine>) -> Result<(), String> {
    for file in files {
        let unreadable = |error: io::Error| {
            format!(
                "{} cannot be read: {error}. Correct the path or the permissions",
                file.display()
            )
        };
        let mut input = open(file).map_err(unreadable)?;
        let mut reader = LineReader::default();
        let mut line = Vec::new();
        while read_line(&mut input, &mut line).map_err(unreadable)? {
            if let Some(read) = reader.push(&line)
                && lines.blocking_send(Ok(read)).is_err()
            {
                return Ok(());
            }
        }
        for read in reader.finish() {
            drop(lines.blocking_send(Ok(read)));
        }
    }
    Ok(())
}

fn open(path: &Path) -> io::Result<Box<dyn BufRead>> {
    Ok(if path == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        Box::new(BufReader::new(File::open(path)?))
    })
}

/// Reads one line without its newline; false at the end. The rest of a line that is longer than any of the trail is
/// passed over.
fn read_line(input: &mut dyn BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    let mut bounded = (&mut *input).take(MAX_INPUT_LINE as u64);
    if bounded.read_until(b'\n', line)? == 0 {
        return Ok(false);
    }
    if line.pop_if(|byte| *byte == b'\n').is_none() && line.len() == MAX_INPUT_LINE {
        input.skip_until(b'\n')?;
    }
    Ok(true)
}

fn write_report(report: &ImportReport, out: &mut dyn io::Write) -> io::Result<()> {
    let ImportReport {
        added,
        one_sided,
        present,
        rejected,
    } = report;
    writeln!(
        out,
        "{added} lines were imported, of which {one_sided} are confirmed on one side only. {present} were stored before."
    )?;
    for range in rejected.iter().take(MAX_PRINTED_RANGES) {
        let (chain, first, last) = (&range.chain, range.first, range.last);
        match range.second_history {
            Some(seq) => writeln!(
                out,
                "Lines {first} to {last} of the chain {chain} were not imported: the store has another history at number {seq}. Keep both, and compare them by audit verify."
            )?,
            None => writeln!(
                out,
                "Lines {first} to {last} of the chain {chain} were not imported: no stored line confirms them. Import the lines before or after them, too."
            )?,
        }
    }
    match rejected.len().checked_sub(MAX_PRINTED_RANGES) {
        Some(more) if more > 0 => writeln!(out, "{more} more ranges were not imported."),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::RejectedRange;
    use crate::store::conformance::{Trail, chain_id};
    use tempfile::TempDir;

    fn args(folder: &TempDir, log: &str, create: bool) -> ImportArgs {
        let file = folder.path().join("pod.log");
        std::fs::write(&file, log).unwrap();
        ImportArgs {
            store: StoreArgs {
                store: folder.path().join("audit.db").display().to_string(),
                store_password_file: None,
                store_ca_file: None,
            },
            create,
            files: vec![file],
        }
    }

    #[tokio::test]
    async fn lines_of_a_log_are_imported() {
        let folder = tempfile::tempdir().unwrap();
        let lines = Trail::new("a").lines(5);
        let log = format!("{{\"level\":\"INFO\"}}\n{}\n", lines[..3].join("\n"));
        let missing = import(args(&folder, &log, false)).await.unwrap_err();
        assert!(missing.contains("does not exist"), "{missing}");
        let status = import(args(&folder, &log, true)).await;
        assert_eq!(status, Ok(StoreExitStatus::Done));
        let status = import(args(&folder, &lines[4], false)).await;
        assert_eq!(status, Ok(StoreExitStatus::Incomplete));
        let too_long = lines[3].replace("injected", &"x".repeat(9_000));
        let status = import(args(&folder, &too_long, false)).await;
        assert_eq!(status, Ok(StoreExitStatus::Incomplete));
        let unreadable = ImportArgs {
            files: vec![folder.path().join("no.log")],
            ..args(&folder, "", false)
        };
        assert!(import(unreadable).await.is_err());
    }

    #[test]
    fn lines_are_read_as_far_as_they_can_be_of_the_trail() {
        let long = "x".repeat(MAX_INPUT_LINE + 5);
        let text = format!("a\n\n{long}\nb");
        let (mut input, mut line, mut lengths) = (text.as_bytes(), Vec::new(), Vec::new());
        while read_line(&mut input, &mut line).unwrap() {
            lengths.push(line.len());
        }
        assert_eq!(lengths, [1, 0, MAX_INPUT_LINE, 1]);
    }

    #[test]
    fn report_states_what_was_not_imported() {
        let range = |second_history| RejectedRange {
            chain: chain_id("a"),
            first: 3,
            last: 9,
            second_history,
        };
        let mut report = ImportReport {
            added: 2,
            one_sided: 1,
            present: 4,
            rejected: vec![range(Some(3)), range(None)],
        };
        let text = |report: &ImportReport| {
            let mut out = Vec::new();
            write_report(report, &mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        let short = text(&report);
        assert!(
            short.starts_with("2 lines were imported, of which 1 are confirmed on one side only.")
        );
        assert!(
            short.contains("another history at number 3")
                && short.contains("no stored line confirms")
        );
        report
            .rejected
            .extend(std::iter::repeat_n(range(None), 150));
        let long = text(&report);
        assert_eq!(long.lines().count(), 102);
        assert!(
            long.ends_with("52 more ranges were not imported.\n"),
            "{long}"
        );
    }
}
