//! From the arguments of the process to a command: name of the program, colour, configuration file.
//!
//! The arguments are parsed twice if there is a configuration file: first without it, to find its path and what was
//! given by flag and environment, then with its values as defaults.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::ArgMatches;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;

use crate::cli::ColorWhen;
use crate::cli::output::print_error;
use crate::config::{self, ConfigError, ConfigFile, EffectiveSetting, FileKind};

/// Name of the program, as it is installed.
pub(super) const PROGRAM: &str = "floe-secrets-webhook";

/// Exit code of wrong arguments and configuration files.
const WRONG_ARGUMENTS: u8 = 2;

/// Configuration file of a command.
pub(super) struct ConfigInUse {
    pub path: PathBuf,
    /// Content that was parsed; `None` for a command without settings, which does not read the file.
    #[cfg_attr(
        not(feature = "cluster"),
        expect(dead_code, reason = "servers compare it with the file")
    )]
    pub content: Option<Vec<u8>>,
}

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
    /// Configuration file, if there is one.
    pub config: Option<ConfigInUse>,
    /// Settings of the command.
    pub settings: Vec<EffectiveSetting>,
}

/// Reason why a command line does not lead to a command.
pub(super) enum ParseFailure {
    /// Wrong arguments, or a request for help or the version. [`Self::arguments`] builds it.
    Arguments(clap::Error),
    ConfigFile(Vec<ConfigError>),
}

impl ParseFailure {
    /// Failure of the parser, without values that may have a password.
    pub(super) fn arguments(mut error: clap::Error, command: &clap::Command) -> Self {
        let is_hidden = |name: &str| {
            // The name is the flag with its value, as in `--otlp-endpoint <URL>`.
            let flag = name.split([' ', '[', '=']).next();
            let flag = flag.and_then(|flag| flag.strip_prefix("--"));
            let arguments = command
                .get_subcommands()
                .flat_map(clap::Command::get_arguments);
            arguments
                .filter(|argument| argument.is_hide_env_values_set())
                .filter_map(clap::Arg::get_long)
                .any(|hidden| flag == Some(hidden))
        };
        if let Some(ContextValue::String(name)) = error.get(ContextKind::InvalidArg)
            && is_hidden(name)
        {
            let masked = ContextValue::String("…".to_owned());
            error.insert(ContextKind::InvalidValue, masked);
        }
        Self::Arguments(error)
    }

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

    /// Value of `--color` in the arguments.
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
        self.parse_with(None, false)
    }

    /// Parses the arguments, with this content of the configuration file.
    #[cfg(feature = "cluster")]
    pub(super) fn parse_content(&self, content: Vec<u8>) -> Result<Parsed, ParseFailure> {
        self.parse_with(Some(content), false)
    }

    /// Settings of a command that is not run, with this content of the configuration file if it was read before.
    /// Arguments that the command requires may be missing.
    pub(super) fn settings(
        &self,
        content: Option<Vec<u8>>,
    ) -> Result<Vec<EffectiveSetting>, ParseFailure> {
        Ok(self.parse_with(content, true)?.settings)
    }

    fn parse_with(
        &self,
        content: Option<Vec<u8>>,
        may_be_incomplete: bool,
    ) -> Result<Parsed, ParseFailure> {
        let command = self.command();
        // The file may have what is missing.
        let explicit = self.matches(&command, true)?;
        let settings = settings_of(&command, &explicit, None);
        // A bad file does not stop the commands that check it and that complete a command line.
        let path = config_path(&explicit);
        let Some(path) = path.clone().filter(|_| !settings.is_empty()) else {
            let matches = self.matches(&command, may_be_incomplete)?;
            let config = path.map(|path| ConfigInUse {
                path,
                content: None,
            });
            return Ok(Parsed {
                matches,
                config,
                settings,
            });
        };
        let is_server = settings.iter().any(|setting| setting.is_live);
        let kind = if is_server && !may_be_incomplete {
            FileKind::Regular
        } else {
            FileKind::Any
        };
        let content = match content {
            Some(content) => content,
            None => config::read_content(&path, kind)
                .map_err(|error| ParseFailure::ConfigFile(vec![error]))?,
        };
        let file = parse_file(&command, &path, &content).map_err(ParseFailure::ConfigFile)?;
        let is_explicit = |argument: &str| is_explicit(&explicit, argument);
        let with_file = config::apply(command.clone(), &file, &is_explicit);
        let matches = self.matches(&with_file, may_be_incomplete)?;
        Ok(Parsed {
            settings: settings_of(&command, &matches, Some(&file)),
            matches,
            config: Some(ConfigInUse {
                path,
                content: Some(content),
            }),
        })
    }

    /// Parses the arguments strictly, except that required ones may be missing.
    fn matches(
        &self,
        command: &clap::Command,
        may_be_incomplete: bool,
    ) -> Result<ArgMatches, ParseFailure> {
        match command.clone().try_get_matches_from(&self.arguments) {
            // The parser checks values and conflicts first, so there is no other error.
            Err(error)
                if may_be_incomplete && error.kind() == ErrorKind::MissingRequiredArgument =>
            {
                let lenient = command.clone().ignore_errors(true);
                lenient.try_get_matches_from(&self.arguments)
            }
            parsed => parsed,
        }
        .map_err(|error| ParseFailure::arguments(error, command))
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
    path: &Path,
) -> Result<ConfigFile, Vec<ConfigError>> {
    let content = config::read_content(path, FileKind::Any).map_err(|error| vec![error])?;
    parse_file(command, path, &content)
}

fn parse_file(
    command: &clap::Command,
    path: &Path,
    content: &[u8],
) -> Result<ConfigFile, Vec<ConfigError>> {
    let name = path.display().to_string().into();
    ConfigFile::parse(&name, content, &|file| config::check_values(command, file))
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
