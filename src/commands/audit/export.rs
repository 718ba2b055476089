//! `audit export`: prints lines of a store as they were written.

use std::io::{self, IsTerminal as _, Write};
use std::process::ExitCode;

use clap::Args;
use jiff::Timestamp;

use super::events::escaped_json;
use super::store::{StoreArgs, StoreExitStatus};
use crate::commands::process::run_command;
use crate::store::{AuditStore, ExportRange, LinePosition};

/// Examples of the help.
pub(super) const EXAMPLES: &str = "Examples:
  # The whole trail, for audit verify and other systems
  floe-secrets-webhook audit export --store audit.db > audit.jsonl

  # A day
  floe-secrets-webhook audit export --store audit.db --from 2026-11-27T00:00:00Z --to 2026-11-28T00:00:00Z > day.jsonl

Exit codes: 0 exported; 2 the store cannot be read.";

#[derive(Debug, Args)]
pub struct ExportArgs {
    #[command(flatten)]
    pub store: StoreArgs,
    /// First time, in the format of RFC 3339. Default: the first line.
    #[arg(long, value_name = "TIME")]
    pub from: Option<Timestamp>,
    /// First time that is not included. Default: no end.
    #[arg(long, value_name = "TIME")]
    pub to: Option<Timestamp>,
}

#[must_use]
pub(super) fn run(args: ExportArgs) -> ExitCode {
    run_command(export(args), StoreExitStatus::Failed)
}

async fn export(args: ExportArgs) -> Result<StoreExitStatus, String> {
    let store = args.store.open_read_only().await?;
    let store = store.as_ref();
    let range = ExportRange {
        from: args.from.unwrap_or(Timestamp::MIN),
        to: args.to.unwrap_or(Timestamp::MAX),
    };
    // Lines are bytes for a file, and may be anything for a terminal.
    let is_terminal = io::stdout().is_terminal();
    write_lines(
        store,
        range,
        is_terminal,
        &mut io::BufWriter::new(io::stdout()),
    )
    .await?;
    Ok(StoreExitStatus::Done)
}

/// Writes all lines. A reader that closed the pipe has read what it needs.
async fn write_lines(
    store: &dyn AuditStore,
    range: ExportRange,
    is_terminal: bool,
    out: &mut impl Write,
) -> Result<(), String> {
    let mut after = LinePosition::default();
    loop {
        let (lines, next) = store
            .export(range, after)
            .await
            .map_err(|error| error.to_string())?;
        let write = || {
            for line in lines {
                if is_terminal {
                    writeln!(out, "{}", escaped_json(&line))?;
                } else {
                    writeln!(out, "{line}")?;
                }
            }
            out.flush()
        };
        match write() {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            written => {
                written.map_err(|error| format!("standard output cannot be written: {error}"))?;
            }
        }
        match next {
            Some(next) => after = next,
            None => return Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::conformance::{Trail, second, start};
    use crate::store::sqlite::{SqliteSettings, SqliteStore};

    #[tokio::test]
    async fn lines_are_exported_as_they_were_written() {
        let folder = tempfile::tempdir().unwrap();
        let settings = SqliteSettings {
            create: true,
            ..SqliteSettings::new(folder.path().join("audit.db"))
        };
        let store = SqliteStore::open(&settings).unwrap();
        let mut trail = Trail::new("a");
        let mut lines = trail.lines(1_200);
        store.append(trail.batch(&lines)).await.unwrap();
        let range = ExportRange {
            from: start(),
            to: second(9_999),
        };
        let mut out = Vec::new();
        write_lines(&store, range, false, &mut out).await.unwrap();
        lines.push(String::new());
        assert_eq!(String::from_utf8(out).unwrap(), lines.join("\n"));
    }
}
