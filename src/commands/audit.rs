//! `audit`: reads the audit trail.

mod verify;

use std::process::ExitCode;

use clap::{Args, Subcommand};

use self::verify::VerifyArgs;

/// Examples of the help.
pub(super) const EXAMPLES: &str = "Examples:
  # Whether the lines of an export are those that were written
  floe-secrets-webhook audit verify --key audit.pub export.jsonl

Exit codes: 0 the trail is intact; 1 the trail is damaged; 2 something cannot be read, or there is no record.";

#[derive(Debug, Args)]
pub struct AuditArgs {
    #[command(subcommand)]
    command: AuditCommand,
}

#[derive(Debug, Subcommand)]
enum AuditCommand {
    /// Verify the lines of an audit trail: exports, container logs, and JSON that a pipeline wrapped or re-ordered.
    ///
    /// Lines are read once, in the order of the input, and none is kept. The report goes to stdout, errors to stderr.
    /// Exit code 0: intact, possibly with notes; 1: damaged; 2: something cannot be read, or there is no record.
    #[command(after_help = verify::EXAMPLES)]
    Verify(VerifyArgs),
}

#[must_use]
pub fn run(args: &AuditArgs) -> ExitCode {
    match &args.command {
        AuditCommand::Verify(args) => verify::run(args),
    }
}
