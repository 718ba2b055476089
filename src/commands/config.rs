//! `config`: checks a configuration file, shows the effective settings, prints the schema.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand, ValueHint};
use serde_json::{Value, json};

use super::program::{Invocation, PROGRAM, ParseFailure, first_line, read_file};
use crate::cli::color::{Stream, Tone, paint};
use crate::cli::output::{
    OutputArgs, OutputFormat, print_error, print_result, write_columns, write_structured,
};
use crate::config::{EffectiveSetting, FileKind, has_settings, read_content, schema};

/// Examples of the help.
pub(super) const EXAMPLES: &str = "Examples:
  floe-secrets-webhook config check floe-secrets-webhook.yaml
  floe-secrets-webhook config show --origin serve
  floe-secrets-webhook config schema

Exit codes: 0 valid, shown or printed; 2 not valid, or it cannot be read.";

#[derive(Debug, Args)]
pub struct ConfigArgs {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Check a configuration file: names, types and values. Every problem is reported with its line.
    #[command(after_help = "Examples:
  # In CI, before the file is deployed
  floe-secrets-webhook config check floe-secrets-webhook.yaml

Exit codes: 0 valid; 2 not valid, or it cannot be read.")]
    Check {
        /// Configuration file.
        #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
        file: PathBuf,
    },
    /// Show the settings that a command would use: a flag over the environment, over the file, over the default.
    #[command(after_help = "Examples:
  # Settings of the webhook, and where each comes from
  floe-secrets-webhook config show --origin --config floe-secrets-webhook.yaml serve

  # With a flag
  floe-secrets-webhook config show --origin serve --listen 127.0.0.1:9443

Exit codes: 0 shown; 2 the file or the arguments cannot be read.")]
    Show(ShowArgs),
    /// Print the JSON schema of the configuration file.
    #[command(after_help = "Examples:
  # For editors with a YAML language server
  floe-secrets-webhook config schema > config.schema.json

Exit codes: 0 printed; 2 it cannot be written.")]
    Schema,
}

#[derive(Debug, Args)]
struct ShowArgs {
    /// Also print where each value comes from.
    #[arg(long)]
    origin: bool,
    #[command(flatten)]
    output: OutputArgs,
    /// Command, and its arguments. By default, the settings of every command are shown.
    #[arg(
        value_name = "COMMAND",
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    command: Vec<OsString>,
}

/// Exit code of a file or of arguments that cannot be read.
const FAILED: u8 = 2;

/// Reason why nothing was shown.
enum ShowFailure {
    /// Request for the help of the command, or another output of the parser.
    Parser(ParseFailure),
    Errors(Vec<String>),
}

pub(super) fn run(args: &ConfigArgs, invocation: &Invocation, config: Option<&Path>) -> ExitCode {
    let result = match &args.command {
        ConfigCommand::Check { file } => check(invocation, file),
        ConfigCommand::Show(args) => match show(args, invocation, config) {
            Err(ShowFailure::Parser(failure)) => return failure.exit(),
            Err(ShowFailure::Errors(errors)) => Err(errors),
            Ok(()) => Ok(()),
        },
        ConfigCommand::Schema => {
            let schema = schema(&invocation.command());
            print_result(|out| write_structured(out, OutputFormat::Json, &schema))
                .map_err(|error| vec![error])
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(errors) => {
            for error in errors {
                print_error(error);
            }
            ExitCode::from(FAILED)
        }
    }
}

fn check(invocation: &Invocation, path: &Path) -> Result<(), Vec<String>> {
    let file = read_file(&invocation.command(), path)
        .map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    let settings = match file.values.len() {
        1 => "1 setting".to_owned(),
        count => format!("{count} settings"),
    };
    let valid = paint(Stream::Stdout, Tone::Good, "valid");
    print_result(|out| writeln!(out, "{}: {settings}, {valid}", file.name))
        .map_err(|error| vec![error])
}

/// Settings with the commands that use them.
type Rows = Vec<(EffectiveSetting, Vec<String>)>;

fn show(
    args: &ShowArgs,
    invocation: &Invocation,
    config: Option<&Path>,
) -> Result<(), ShowFailure> {
    let definition = invocation.command();
    // One read for all commands, because a pipe can be read only once.
    let content = config
        .filter(|_| args.command.is_empty())
        .map(|path| read_content(path, FileKind::Any))
        .transpose()
        .map_err(|error| ShowFailure::Errors(vec![error.to_string()]))?;
    let mut rows = Rows::new();
    for arguments in command_lines(args, &definition) {
        let name = arguments.first().cloned().unwrap_or_default();
        let mut line = vec![OsString::from(PROGRAM)];
        if let Some(path) = config {
            line.extend([OsString::from("--config"), path.as_os_str().to_owned()]);
        }
        line.extend(arguments);
        let invocation = invocation.with_arguments(line);
        let settings = invocation.settings(content.clone()).map_err(show_failure)?;
        for setting in settings {
            let name = name.to_string_lossy().into_owned();
            let is_same = |known: &EffectiveSetting| {
                (&known.path, &known.value, &known.origin)
                    == (&setting.path, &setting.value, &setting.origin)
            };
            match rows.iter_mut().find(|(known, _)| is_same(known)) {
                Some((_, commands)) => commands.push(name),
                None => rows.push((setting, vec![name])),
            }
        }
    }
    rows.sort_by(|(one, _), (other, _)| one.path.cmp(&other.path));
    print_result(|out| match args.output.output {
        OutputFormat::Table => write_table(out, args.origin, &rows),
        format => write_structured(out, format, &to_json(args.origin, &rows)),
    })
    .map_err(|error| ShowFailure::Errors(vec![error]))
}

fn show_failure(failure: ParseFailure) -> ShowFailure {
    match failure {
        ParseFailure::Arguments(error) if error.use_stderr() => {
            ShowFailure::Errors(vec![first_line(&error)])
        }
        ParseFailure::ConfigFile(errors) => {
            ShowFailure::Errors(errors.iter().map(ToString::to_string).collect())
        }
        ParseFailure::Arguments(_) => ShowFailure::Parser(failure),
    }
}

/// Command lines whose settings are shown.
fn command_lines(args: &ShowArgs, definition: &clap::Command) -> Vec<Vec<OsString>> {
    if !args.command.is_empty() {
        return vec![args.command.clone()];
    }
    definition
        .get_subcommands()
        .filter(|subcommand| has_settings(subcommand))
        .map(|subcommand| vec![OsString::from(subcommand.get_name())])
        .collect()
}

/// The value comes last, because it may be long.
fn write_table(out: &mut dyn Write, with_origin: bool, rows: &Rows) -> io::Result<()> {
    let mut table = vec![["SETTING", "ORIGIN", "COMMANDS", "VALUE"].map(str::to_owned)];
    table.extend(rows.iter().map(|(setting, commands)| {
        [
            setting.path.clone(),
            setting.origin.to_string(),
            commands.join(","),
            setting.value.clone().unwrap_or_else(|| "-".to_owned()),
        ]
    }));
    if with_origin {
        return write_columns(out, &table);
    }
    let without: Vec<_> = table
        .into_iter()
        .map(|[path, _, commands, value]| [path, commands, value])
        .collect();
    write_columns(out, &without)
}

fn to_json(with_origin: bool, rows: &Rows) -> Value {
    let settings: Vec<Value> = rows
        .iter()
        .map(|(setting, commands)| {
            let mut row = json!({
                "setting": setting.path,
                "value": setting.value,
                "commands": commands,
                "live": setting.is_live,
            });
            if let Some(row) = row.as_object_mut().filter(|_| with_origin) {
                row.insert("origin".to_owned(), setting.origin.to_string().into());
            }
            row
        })
        .collect();
    json!({ "settings": settings })
}

#[cfg(test)]
mod tests;
