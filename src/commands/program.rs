//! From the arguments of the process to a command: name of the program, colour, configuration file.
//!
//! The arguments are parsed twice if there is a configuration file: first without it, to find its path and what was
//! given by flag and environment, then with its values as defaults.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::ArgMatches;
use clap::error::ErrorKind;
use clap::parser::ValueSource;

use crate::cli::ColorWhen;
use crate::cli::output::print_error;
use crate::config::{self, ConfigError, ConfigFile, EffectiveSetting};

/// Name of the program, as it is installed.
pub(super) const PROGRAM: &str = "floe-secrets-webhook";

/// Exit code of wrong arguments and configuration files.
const WRONG_ARGUMENTS: u8 = 2;

/// Configuration file of a command, and the settings that it was started with.
pub(super) type ConfigInUse = Option<(PathBuf, Vec<EffectiveSetting>)>;

/// Name of the program as a plugin of kubectl, and how it is called then.
const PLUGIN: (&str, &str) = ("kubectl-floe_secrets", "kubectl floe-secrets");

/// Arguments of a process, which can be parsed again when the configuration file changes.
#[derive(Clone, Debug)]
pub(super) struct Invocation {
    /// Definition of the command line.
    definition: fn() -> clap::Command,
    arguments: Vec<OsString>,
}

/// A parsed command line.
pub(super) struct Parsed {
    pub matches: ArgMatches,
    /// Path of the configuration file, if there is one.
    pub config: Option<PathBuf>,
    /// Settings of the command.
    pub settings: Vec<EffectiveSetting>,
}

/// Reason why a command line does not lead to a command.
pub(super) enum ParseFailure {
    /// Wrong arguments, or a request for help or the version.
    Arguments(clap::Error),
    ConfigFile(Vec<ConfigError>),
}

impl ParseFailure {
    /// Prints it, and returns the exit code.
    pub(super) fn exit(self) -> ExitCode {
        match self {
            Self::Arguments(error) => {
                // A closed stream cannot be reported anywhere, and a closed pipe has read what it needs.
                drop(error.print());
                ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(WRONG_ARGUMENTS))
            }
            Self::ConfigFile(errors) => {
                for error in errors {
                    print_error(error);
                }
                ExitCode::from(WRONG_ARGUMENTS)
            }
        }
    }
}

impl Invocation {
    pub(super) fn new(definition: fn() -> clap::Command, arguments: Vec<OsString>) -> Self {
        Self {
            definition,
            arguments,
        }
    }

    /// Program of the same name, with other arguments.
    pub(super) fn with_arguments(&self, arguments: Vec<OsString>) -> Self {
        Self::new(self.definition, arguments)
    }

    /// Colour that the arguments ask for.
    pub(super) fn color(&self) -> ColorWhen {
        ColorWhen::of_arguments(&self.arguments)
    }

    /// Whether the program is called as a plugin of kubectl.
    fn is_plugin(&self) -> bool {
        let program = self.arguments.first().map(PathBuf::from);
        let name = program.as_ref().and_then(|path| path.file_stem());
        name.is_some_and(|name| name == PLUGIN.0)
    }

    /// The command line's definition, with the name that the program is called by.
    pub(super) fn command(&self) -> clap::Command {
        let command = (self.definition)().color(self.color().into());
        if self.is_plugin() {
            rename(command, PLUGIN.1)
                .name(PLUGIN.0)
                .bin_name(PLUGIN.1)
                .display_name(PLUGIN.1)
        } else {
            command.bin_name(PROGRAM)
        }
    }

    /// Parses the arguments, with the configuration file that they name.
    pub(super) fn parse(&self) -> Result<Parsed, ParseFailure> {
        let command = self.command();
        let strict = command.clone().try_get_matches_from(&self.arguments);
        let explicit = match strict {
            Ok(matches) => matches,
            // The file may have what is missing.
            Err(error) if error.kind() == ErrorKind::MissingRequiredArgument => {
                let lenient = command.clone().ignore_errors(true);
                match lenient.try_get_matches_from(&self.arguments) {
                    Ok(matches) if config_path(&matches).is_some() => matches,
                    _ => return Err(ParseFailure::Arguments(error)),
                }
            }
            Err(error) => return Err(ParseFailure::Arguments(error)),
        };
        let path = config_path(&explicit);
        let file = match &path {
            // A bad file does not stop the commands that check it and that complete a command line.
            Some(_) if settings_of(&command, &explicit, None).is_empty() => None,
            Some(path) => Some(read_file(&command, path).map_err(ParseFailure::ConfigFile)?),
            None => None,
        };
        let matches = match &file {
            Some(file) => {
                let is_explicit = |argument: &str| is_explicit(&explicit, argument);
                config::apply(command.clone(), file, &is_explicit)
                    .try_get_matches_from(&self.arguments)
                    .map_err(ParseFailure::Arguments)?
            }
            None => explicit,
        };
        let settings = settings_of(&command, &matches, file.as_ref());
        Ok(Parsed {
            matches,
            config: path,
            settings,
        })
    }

    /// Settings of a command that is not run, whose arguments may be incomplete.
    pub(super) fn settings(&self) -> Result<Vec<EffectiveSetting>, ParseFailure> {
        let command = self.command().ignore_errors(true);
        let parse = |command: clap::Command| {
            command
                .try_get_matches_from(&self.arguments)
                .map_err(ParseFailure::Arguments)
        };
        let explicit = parse(command.clone())?;
        let Some(path) = config_path(&explicit) else {
            return Ok(settings_of(&command, &explicit, None));
        };
        let file = read_file(&command, &path).map_err(ParseFailure::ConfigFile)?;
        let is_explicit = |argument: &str| is_explicit(&explicit, argument);
        let matches = parse(config::apply(command.clone(), &file, &is_explicit))?;
        Ok(settings_of(&command, &matches, Some(&file)))
    }
}

impl std::fmt::Display for ParseFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Arguments(error) => f.write_str(&first_line(error)),
            Self::ConfigFile(errors) => {
                let errors: Vec<_> = errors.iter().map(ToString::to_string).collect();
                f.write_str(&errors.join("; "))
            }
        }
    }
}

/// First line of a parser's error, without its level.
pub(super) fn first_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}

/// Reads a configuration file and checks its values.
pub(super) fn read_file(
    command: &clap::Command,
    path: &std::path::Path,
) -> Result<ConfigFile, Vec<ConfigError>> {
    ConfigFile::read(path, &|file| config::check_values(command, file))
}

/// Replaces the program's name in the examples of all subcommands.
fn rename(command: clap::Command, name: &str) -> clap::Command {
    let renamed = |help: &clap::builder::StyledStr| help.to_string().replace(PROGRAM, name);
    let after = command.get_after_help().map(renamed);
    let command = match after {
        Some(text) => command.after_help(text),
        None => command,
    };
    command.mut_subcommands(|subcommand| rename(subcommand, name))
}

/// Arguments of the subcommand.
#[cfg(feature = "cluster")]
pub(super) fn subcommand_args<A: clap::FromArgMatches>(matches: &ArgMatches) -> Result<A, String> {
    let subcommand = matches.subcommand().map(|(_, matches)| matches);
    A::from_arg_matches(subcommand.unwrap_or(matches)).map_err(|error| error.to_string())
}

fn config_path(matches: &ArgMatches) -> Option<PathBuf> {
    matches.try_get_one::<PathBuf>("config").ok()?.cloned()
}

/// Whether an argument of the subcommand was given by flag or environment.
fn is_explicit(matches: &ArgMatches, argument: &str) -> bool {
    let Some((_, matches)) = matches.subcommand() else {
        return false;
    };
    matches.try_contains_id(argument).is_ok()
        && matches!(
            matches.value_source(argument),
            Some(ValueSource::CommandLine | ValueSource::EnvVariable)
        )
}

fn settings_of(
    command: &clap::Command,
    matches: &ArgMatches,
    file: Option<&ConfigFile>,
) -> Vec<EffectiveSetting> {
    let Some((name, matches)) = matches.subcommand() else {
        return Vec::new();
    };
    match command.find_subcommand(name) {
        Some(subcommand) => config::effective_settings(subcommand, matches, file),
        None => Vec::new(),
    }
}
