//! Rules of single adapters that a table cannot have.

use super::draft::Draft;
use crate::compile::model::{ConfigValue, Plugin};
use crate::compile::profile::ProfileValue;
use crate::finding::{Place, Rule};

/// Threads of a DuckDB profile, as floe sets them.
const DUCKDB_THREADS: i64 = 4;

/// Fields of floe's DuckDB plugin that are settings of DuckDB, not fields of a dbt profile.
const DUCKDB_SETTINGS: [&str; 2] = ["memory_limit", "access_mode"];

/// Address for tokens in every key file that Google writes.
const GOOGLE_TOKEN_URI: &str = "https://oauth2.googleapis.com/token";

/// Applies the rules of the plugin's adapter to the output.
pub(super) fn apply(
    plugin: &Plugin,
    draft: &mut Draft<'_>,
    output: &mut Vec<(String, ProfileValue)>,
) {
    match plugin.kind.as_str() {
        "duckdb" => duckdb(plugin, draft, output),
        "bigquery" => bigquery(plugin, draft, output),
        _ => {}
    }
}

fn duckdb(plugin: &Plugin, draft: &mut Draft<'_>, output: &mut Vec<(String, ProfileValue)>) {
    let mut moved = Vec::new();
    for name in DUCKDB_SETTINGS {
        if let Some(index) = output.iter().position(|(field, _)| field == name) {
            moved.push(output.remove(index));
        }
    }
    if !output.iter().any(|(name, _)| name == "threads") {
        output.push(("threads".to_owned(), ProfileValue::Integer(DUCKDB_THREADS)));
    }
    if moved.is_empty() {
        return;
    }
    match output.iter_mut().find(|(name, _)| name == "settings") {
        None => output.push(("settings".to_owned(), ProfileValue::Map(moved))),
        Some((_, settings @ ProfileValue::Null)) => *settings = ProfileValue::Map(moved),
        Some((_, ProfileValue::Map(settings))) => {
            for (name, value) in moved {
                if settings.iter().any(|(setting, _)| *setting == name) {
                    let message =
                        "is a setting of DuckDB, and settings has it too. Remove one of them.";
                    draft.refuse(
                        Rule::AdapterField,
                        &place_of(plugin, &name),
                        message.to_owned(),
                    );
                } else {
                    settings.push((name, value));
                }
            }
        }
        Some(_) => {
            let message = "has to be a map of DuckDB's settings.";
            draft.refuse(
                Rule::AdapterField,
                &place_of(plugin, "settings"),
                message.to_owned(),
            );
        }
    }
    let first_name = |field: &str| {
        field
            .split(['.', '['])
            .next()
            .unwrap_or_default()
            .to_owned()
    };
    for demand in &mut draft.demands {
        if DUCKDB_SETTINGS.contains(&first_name(&demand.field).as_str()) {
            demand.field = format!("settings.{}", demand.field);
        }
    }
}

/// Adds the fields of a key file that are the same in every one, and warns of a whole file as a secret.
fn bigquery(plugin: &Plugin, draft: &mut Draft<'_>, output: &mut [(String, ProfileValue)]) {
    let is_json = plugin.config.iter().any(|field| {
        field.name == "method"
            && matches!(&field.value, ConfigValue::Text(text) if text == "service-account-json")
    });
    let key_file = output.iter_mut().find(|(name, _)| name == "keyfile_json");
    match key_file.map(|(_, value)| value) {
        Some(ProfileValue::Map(fields)) if is_json => {
            for (name, text) in [("type", "service_account"), ("token_uri", GOOGLE_TOKEN_URI)] {
                if !fields.iter().any(|(field, _)| field == name) {
                    fields.push((name.to_owned(), ProfileValue::Text(text.to_owned())));
                }
            }
        }
        Some(ProfileValue::Demand(_) | ProfileValue::Template(..)) => {
            let message = "a whole key file is read by as_native, which dbt 2 refuses, and which --mask cannot hide. Prefer a map, with secrets for private_key and private_key_id.";
            draft.warn(
                Rule::AdapterField,
                &place_of(plugin, "keyfile_json"),
                message.to_owned(),
            );
        }
        _ => {}
    }
}

/// Place of a field of the config.
fn place_of(plugin: &Plugin, name: &str) -> Place {
    let field = plugin.config.iter().find(|field| field.name == name);
    field.map_or_else(|| plugin.place.clone(), |field| field.place.clone())
}
