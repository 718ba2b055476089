//! Values of the file as defaults of arguments, checked by the arguments' parsers.

use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::certificate_source;
use super::error::ConfigError;
use super::file::{ConfigFile, FileValue};
use super::sections::SECTIONS;

/// Makes the values of the file the defaults of the arguments of every subcommand. `is_explicit` is whether an argument
/// was given by flag or environment.
pub(crate) fn apply(
    command: clap::Command,
    file: &ConfigFile,
    is_explicit: &dyn Fn(&str) -> bool,
) -> clap::Command {
    command.mut_subcommands(|mut subcommand| {
        for value in &file.values {
            if value.setting.argument_of(&subcommand).is_none() || is_replaced(value, is_explicit) {
                continue;
            }
            let texts = value.texts.clone();
            subcommand = subcommand.mut_arg(value.setting.argument, |argument| {
                argument.default_values(texts)
            });
        }
        subcommand
    })
}

/// Whether another setting of its group was given explicitly.
fn is_replaced(value: &FileValue, is_explicit: &dyn Fn(&str) -> bool) -> bool {
    value.setting.group.is_some()
        && SECTIONS
            .iter()
            .flat_map(|section| section.settings)
            .filter(|setting| setting.group == value.setting.group)
            .any(|setting| is_explicit(setting.argument))
}

/// Checks the values with the parsers of the arguments of all subcommands, and the values of a group with each other.
pub(crate) fn check_values(command: &clap::Command, file: &ConfigFile) -> Vec<ConfigError> {
    let mut errors = certificate_source::check(file);
    for value in &file.values {
        let is_invalid = command.get_subcommands().any(|subcommand| {
            let argument = value.setting.argument_of(subcommand);
            argument.is_some_and(|argument| !is_valid(subcommand, argument, value))
        });
        if is_invalid {
            // The parser's own message would quote the value, or a part of it.
            let form = value.setting.form;
            errors.push(value.error(file, format!("the value is not valid: expected {form}")));
        }
    }
    errors
}

/// Whether an argument's parser accepts a value.
fn is_valid(subcommand: &clap::Command, argument: &clap::Arg, value: &FileValue) -> bool {
    let takes_values = argument.get_action().takes_values();
    let Some(flag) = argument.get_long().filter(|_| takes_values) else {
        return true;
    };
    let flags = value.texts.iter().map(|text| format!("--{flag}={text}"));
    let parsed = subcommand
        .clone()
        .no_binary_name(true)
        .try_get_matches_from(flags);
    let Err(error) = parsed else {
        return true;
    };
    // A variable of the environment may be wrong as well; it is reported when the command is run.
    let is_about_flag = matches!(
        error.get(ContextKind::InvalidArg),
        Some(ContextValue::String(text)) if text.split([' ', '[', '=']).next() == Some(format!("--{flag}").as_str())
    );
    // The other arguments that the command requires are not checked here.
    !is_about_flag
        || !matches!(
            error.kind(),
            ErrorKind::InvalidValue | ErrorKind::ValueValidation
        )
}
