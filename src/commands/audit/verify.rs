//! `audit verify`: reads lines of the audit trail, and reports what happened to them since they were written.

mod input;
mod report;

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum, ValueHint};

use self::input::{lines_of_file, read_lines};
use self::report::{InputName, write_json, write_text};
use crate::audit::signature::PublicKey;
use crate::audit::verify::{MAX_KEYS, TrailReport, Verdict, Verifier, VerifyOptions};
use crate::cli::output::{print_error, print_result};

/// Examples of the help.
pub(super) const EXAMPLES: &str = "Examples:
  # An export, with the public key that was kept outside of the cluster
  floe-secrets-webhook audit verify --key audit.pub export.jsonl

  # The log of one pod, which has its own chain alone
  kubectl logs POD | floe-secrets-webhook audit verify --partial

  # Container logs of a node, with checkpoints that were kept outside of the cluster
  floe-secrets-webhook audit verify --partial --checkpoints checkpoints.jsonl 0.log

Exit codes: 0 the trail is intact; 1 the trail is damaged; 2 something cannot be read, or there is no record.";

#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// Files with lines of the trail, or - for standard input, which is the default. Files are read in this order.
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub files: Vec<PathBuf>,
    /// File of trusted public keys, one a line in base64. Without it, the key of the first signature is trusted.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub key: Option<PathBuf>,
    /// File of checkpoints that were kept outside of the trail. The trail has to agree with them.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub checkpoints: Option<PathBuf>,
    /// The input is a part of a trail, such as one container's log: it need not have all chains, or begin with the
    /// first line of each.
    #[arg(long)]
    pub partial: bool,
    /// Format of the report.
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value = "text")]
    pub output: ReportFormat,
}

/// Format of the report of a verification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ReportFormat {
    Text,
    Json,
}

#[must_use]
pub(super) fn run(args: &VerifyArgs) -> ExitCode {
    let verdict = verify(args, io::stdin()).and_then(|(report, inputs)| {
        print_result(|out| match args.output {
            ReportFormat::Text => write_text(&report, &inputs, out),
            ReportFormat::Json => write_json(&report, &inputs, out),
        })?;
        Ok(report.verdict())
    });
    match verdict {
        Ok(verdict) => {
            if verdict == Verdict::NoRecords {
                print_error(
                    "the input has no record of the audit trail: pass an export, or the log of a container that \
                     serves admissions",
                );
            }
            ExitCode::from(verdict as u8)
        }
        Err(message) => {
            print_error(message);
            ExitCode::from(Verdict::NoRecords as u8)
        }
    }
}

/// Verifies all inputs as one trail.
///
/// # Errors
/// A sentence: something cannot be read, or a key or a checkpoint cannot be used.
fn verify(args: &VerifyArgs, stdin: impl Read) -> Result<(TrailReport, Vec<InputName>), String> {
    let keys = match &args.key {
        Some(file) => read_keys(file)?,
        None => Vec::new(),
    };
    let mut verifier = Verifier::new(VerifyOptions {
        keys,
        partial: args.partial,
    });
    if let Some(file) = &args.checkpoints {
        for (number, line) in lines_of_file(file)? {
            verifier
                .trust(line.as_bytes())
                .map_err(|error| format!("{}: line {number}: {error}", file.display()))?;
        }
    }
    let mut stdin = Some(stdin);
    let standard_input = [PathBuf::from("-")];
    let files = match &args.files[..] {
        [] => &standard_input,
        files => files,
    };
    let mut inputs = Vec::new();
    let mut before = 0;
    for file in files {
        let lines = read_input(file, &mut stdin, &mut verifier)?;
        let name = file.display().to_string();
        inputs.push(InputName { name, before });
        before += lines;
    }
    Ok((verifier.finish(), inputs))
}

/// Reads one input into the verifier, and returns its number of lines.
fn read_input(
    file: &Path,
    stdin: &mut Option<impl Read>,
    verifier: &mut Verifier,
) -> Result<u64, String> {
    let push = |line: &[u8]| verifier.push(line);
    let read = if file == Path::new("-") {
        let stdin = stdin.take().ok_or(
            "standard input is named twice: it can be read once, so remove one of the two \"-\"",
        )?;
        read_lines(BufReader::new(stdin), push)
    } else {
        File::open(file).and_then(|opened| read_lines(BufReader::new(opened), push))
    };
    read.map_err(|error| format!("{} cannot be read: {error}", file.display()))
}

/// Reads public keys, one a line. Empty lines and lines that begin with `#` are passed over.
fn read_keys(file: &Path) -> Result<Vec<PublicKey>, String> {
    let lines = lines_of_file(file)?;
    let keys = lines.iter().map(|(number, line)| {
        PublicKey::parse(line).ok_or_else(|| {
            format!(
                "{}: line {number} is not a public key: each line has the 32 bytes of an Ed25519 key in base64",
                file.display()
            )
        })
    });
    let keys: Vec<PublicKey> = keys.collect::<Result<_, _>>()?;
    if keys.is_empty() || keys.len() > MAX_KEYS {
        return Err(format!(
            "{} has {} public keys: pass 1 to {MAX_KEYS}, one a line in base64",
            file.display(),
            keys.len()
        ));
    }
    Ok(keys)
}

#[cfg(test)]
mod tests;
