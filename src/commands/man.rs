//! `man`: writes manual pages, one for each command.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueHint};
use clap_mangen::Man;

use super::program::{Invocation, PROGRAM};
use crate::cli::output::print_error;

/// Examples of the help.
pub(super) const EXAMPLES: &str = "Examples:
  floe-secrets-webhook man --out ~/.local/share/man/man1

Exit codes: 0 written; 2 wrong arguments, or a page cannot be written.";

#[derive(Debug, Args)]
pub struct ManArgs {
    /// Folder that the pages are written to. It is created if it does not exist.
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub out: PathBuf,
}

pub(super) fn run(args: &ManArgs, invocation: &Invocation) -> ExitCode {
    match write_pages(&args.out, invocation.command()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            print_error(error);
            ExitCode::from(2)
        }
    }
}

/// Writes a page for the program and for each visible subcommand, as in `floe-secrets-webhook-scan.1`.
fn write_pages(folder: &Path, command: clap::Command) -> Result<(), String> {
    std::fs::create_dir_all(folder)
        .map_err(|error| format!("{} cannot be created: {error}", folder.display()))?;
    let mut command = command
        .name(PROGRAM)
        .bin_name(PROGRAM)
        .disable_help_subcommand(true);
    command.build();
    write_page(folder, &command, PROGRAM)
}

fn write_page(folder: &Path, command: &clap::Command, name: &str) -> Result<(), String> {
    let path = folder.join(format!("{name}.1"));
    let mut page = Vec::new();
    let renamed = command.clone().name(name.to_owned());
    Man::new(renamed)
        .render(&mut page)
        .and_then(|()| std::fs::write(&path, page))
        .map_err(|error| format!("{} cannot be written: {error}", path.display()))?;
    for subcommand in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        write_page(
            folder,
            subcommand,
            &format!("{name}-{}", subcommand.get_name()),
        )?;
    }
    Ok(())
}
