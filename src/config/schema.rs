//! JSON schema of the file, made from the types of its settings and the help of their arguments.

use schemars::SchemaGenerator;
use serde_json::{Map, Value, json};

use super::sections::SECTIONS;
use super::setting::Setting;

/// JSON schema (2020-12) of the configuration file. Descriptions are those of the arguments of `command`.
pub(crate) fn schema(command: &clap::Command) -> Value {
    let mut generator = SchemaGenerator::default();
    let mut sections = Map::new();
    for section in SECTIONS {
        let mut settings = Map::new();
        for setting in section.settings {
            let mut schema = (setting.schema)(&mut generator);
            if let Some(help) = help_of(setting, command) {
                schema.insert("description".to_owned(), help.into());
            }
            settings.insert(setting.name.to_owned(), schema.to_value());
        }
        sections.insert(
            section.name.to_owned(),
            json!({
                "description": section.summary,
                "type": ["object", "null"],
                "additionalProperties": false,
                "properties": settings,
            }),
        );
    }
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Configuration of floe-secrets-webhook",
        "type": ["object", "null"],
        "additionalProperties": false,
        "properties": sections,
    })
}

/// Help of the setting's argument, in the first subcommand that has it.
pub(crate) fn help_of(setting: &Setting, command: &clap::Command) -> Option<String> {
    let help = command
        .get_subcommands()
        .find_map(|subcommand| setting.argument_of(subcommand))?
        .get_help()?;
    Some(help.to_string())
}
