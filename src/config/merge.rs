//! Values of the file as defaults of arguments, checked by the arguments' parsers.

use std::error::Error as _;

use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::error::ConfigError;
use super::file::{ConfigFile, FileValue};
use super::sections::SECTIONS;
use crate::finding::Place;

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

/// Checks the values with the parsers of the arguments of all subcommands.
pub(crate) fn check_values(command: &clap::Command, file: &ConfigFile) -> Vec<ConfigError> {
    let mut errors = Vec::new();
    for value in &file.values {
        let problem = command.get_subcommands().find_map(|subcommand| {
            let argument = value.setting.argument_of(subcommand)?;
            check_value(subcommand, argument, value)
        });
        if let Some(message) = problem {
            errors.push(ConfigError {
                place: Place {
                    file: file.name.clone(),
                    position: Some(value.position),
                    field: value.section.path(value.setting),
                },
                message,
            });
        }
    }
    errors
}

/// Problem of a value, as a sentence that does not quote it.
fn check_value(
    subcommand: &clap::Command,
    argument: &clap::Arg,
    value: &FileValue,
) -> Option<String> {
    let takes_values = argument.get_action().takes_values();
    let flag = argument.get_long().filter(|_| takes_values)?;
    let flags = value.texts.iter().map(|text| format!("--{flag}={text}"));
    let error = subcommand
        .clone()
        .no_binary_name(true)
        .try_get_matches_from(flags)
        .err()?;
    // A variable of the environment may be wrong as well; it is reported when the command is run.
    let is_about_flag = matches!(
        error.get(ContextKind::InvalidArg),
        Some(ContextValue::String(text)) if text.split([' ', '[', '=']).next() == Some(format!("--{flag}").as_str())
    );
    match error.kind() {
        _ if !is_about_flag => None,
        ErrorKind::InvalidValue => Some(match error.get(ContextKind::ValidValue) {
            Some(ContextValue::Strings(valid)) if !valid.is_empty() => {
                format!("expected one of {}", valid.join(", "))
            }
            _ => "the value is not valid".to_owned(),
        }),
        ErrorKind::ValueValidation => {
            let reason = error.source().map(ToString::to_string);
            let reason = reason.unwrap_or_else(|| "the value is not valid".to_owned());
            Some(without_value(&reason, &value.texts))
        }
        // The other arguments that the command requires are not checked here.
        _ => None,
    }
}

/// The reason without the value itself.
fn without_value(reason: &str, texts: &[String]) -> String {
    let mut reason = reason.to_owned();
    for text in texts.iter().filter(|text| !text.is_empty()) {
        reason = reason.replace(&format!("{text:?}"), "\"…\"");
    }
    reason
}
