//! `completions`: prints the completion script of a shell; and the completion that kubectl calls.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Args;
use clap_complete::Shell;

use super::program::{Invocation, PROGRAM};
use crate::cli::output::{print_error, print_result};

/// Examples of the help.
pub(super) const EXAMPLES: &str = "Examples:
  # Bash
  floe-secrets-webhook completions bash > ~/.local/share/bash-completion/completions/floe-secrets-webhook

  # Zsh, in a folder of $fpath
  floe-secrets-webhook completions zsh > ~/.zfunc/_floe-secrets-webhook

Exit codes: 0 printed; 2 wrong arguments, or it cannot be written.";

#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// Shell.
    #[arg(value_enum, value_name = "SHELL")]
    pub shell: Shell,
}

/// First argument with which kubectl's script calls the program.
pub(super) const COMPLETE: &str = "__complete";

/// Directives of cobra's protocol, which kubectl passes to the shell.
const COMPLETE_FILES: u8 = 0;
const NO_FILES: u8 = 4;

pub(super) fn run(args: &CompletionsArgs, invocation: &Invocation) -> ExitCode {
    let mut script = Vec::new();
    // Scripts complete the program under its own name; kubectl completes its plugins itself.
    let mut command = invocation.command().name(PROGRAM).bin_name(PROGRAM);
    clap_complete::generate(args.shell, &mut command, PROGRAM, &mut script);
    exit_code(print_result(|out| out.write_all(&script)))
}

/// Prints the candidates for the last word, one a line with its help after a tab, and the directive.
pub(super) fn complete(typed: &[OsString], invocation: &Invocation) -> ExitCode {
    let mut words = vec![OsString::from(PROGRAM)];
    words.extend_from_slice(typed);
    if words.len() == 1 {
        words.push(OsString::new());
    }
    let last = words.len() - 1;
    let mut command = invocation.command();
    // A word that cannot be completed has no candidates.
    let folder = std::env::current_dir().ok();
    let candidates = clap_complete::engine::complete(&mut command, words, last, folder.as_deref())
        .unwrap_or_default();
    let visible = || {
        candidates
            .iter()
            .filter(|candidate| !candidate.is_hide_set())
    };
    let directive = if visible().next().is_none() {
        COMPLETE_FILES
    } else {
        NO_FILES
    };
    exit_code(print_result(|out| {
        for candidate in visible() {
            let value = candidate.get_value().to_string_lossy();
            let help = candidate.get_help().map(ToString::to_string);
            let help = help.as_deref().and_then(|help| help.lines().next());
            match help {
                Some(help) => writeln!(out, "{value}\t{help}")?,
                None => writeln!(out, "{value}")?,
            }
        }
        writeln!(out, ":{directive}")
    }))
}

fn exit_code(printed: Result<(), String>) -> ExitCode {
    match printed {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            print_error(error);
            ExitCode::from(2)
        }
    }
}
