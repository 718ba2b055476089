//! `audit`: reads the audit trail.

mod asked_by;
mod events;
mod export;
mod fields;
mod import;
mod query;
mod store;
mod verify;

use std::process::ExitCode;

use clap::{Args, Subcommand};

use self::export::ExportArgs;
use self::import::ImportArgs;
use self::query::QueryArgs;
use self::verify::VerifyArgs;

/// Examples of the help.
pub(super) const EXAMPLES: &str = "Examples:
  # Uses of a secret in the last two hours
  floe-secrets-webhook audit query --store audit.db --since 2h --secret jobs/db

  # A copy of the trail for another system, and whether its lines are those that were written
  floe-secrets-webhook audit export --store audit.db > audit.jsonl
  floe-secrets-webhook audit verify --key audit.pub audit.jsonl

Exit codes: 0 done, or the trail is intact; 1 the trail is damaged, or lines were not imported; 2 something cannot be read or written, or there is no record.";

#[derive(Debug, Args)]
pub struct AuditArgs {
    #[command(subcommand)]
    command: AuditCommand,
}

#[derive(Debug, Subcommand)]
enum AuditCommand {
    /// Find events in a store: by secret, actor, namespace, action, outcome and time.
    ///
    /// Events go to stdout, newest first. The store may be in use: it is only read. Exit code 0: printed; 2: the
    /// arguments or the store cannot be read.
    #[command(after_help = query::EXAMPLES)]
    Query(Box<QueryArgs>),
    /// Export lines of a store as they were written, for verification and other systems.
    ///
    /// Lines go to stdout in the order in which they became durable. The store may be in use: it is only read. Exit
    /// code 0: exported; 2: the store cannot be read.
    #[command(after_help = export::EXAMPLES)]
    Export(ExportArgs),
    /// Import lines that a store lacks, from container logs or an export.
    ///
    /// Only lines that hashes of stored lines confirm are stored. Lines that only one side confirms, such as those after
    /// the last one of a killed process, are marked so. The process that writes a file has to be stopped. Exit code
    /// 0: every line is stored; 1: lines were not imported; 2: something cannot be read or written.
    #[command(after_help = import::EXAMPLES)]
    Import(ImportArgs),
    /// Verify the lines of an audit trail: exports, container logs, and JSON that a pipeline wrapped or re-ordered.
    ///
    /// Lines are read once, in the order of the input, and none is kept. The report goes to stdout, errors to stderr.
    /// Exit code 0: intact, possibly with notes; 1: damaged; 2: something cannot be read, or there is no record.
    #[command(after_help = verify::EXAMPLES)]
    Verify(VerifyArgs),
}

#[must_use]
pub fn run(args: AuditArgs) -> ExitCode {
    match args.command {
        AuditCommand::Query(args) => query::run(*args),
        AuditCommand::Export(args) => export::run(args),
        AuditCommand::Import(args) => import::run(args),
        AuditCommand::Verify(args) => verify::run(&args),
    }
}
