//! `connection_secret_ref`: which fields come from the Secret, and fields that nothing gives a value.

use injection::{EnvVarName, KeyChoice, SecretId, SecretReference, SecretSource};

use super::config::{Found, lookup, method, selecting_fields};
use super::draft::{Draft, Request};
use super::options::{ConnectionKeys, PlanOptions};
use crate::compile::adapter::{Adapter, FieldType, field_type, variable_part};
use crate::compile::demand::{Delivery, Demand, Elsewhere};
use crate::compile::model::{ConfigValue, ConnectionSecret, Manifest, Plugin, TemplatePart};
use crate::compile::profile::ProfileValue;
use crate::finding::{Place, Rule};

/// Adds the fields that come from the connection's Secret, or refuses a config that lacks required ones.
pub(super) fn expand(
    adapter: &'static Adapter,
    plugin: &Plugin,
    manifest: &Manifest,
    options: &PlanOptions,
    draft: &mut Draft<'_>,
    output: &mut Vec<(String, ProfileValue)>,
) {
    if !check_method(adapter, plugin, draft) {
        if plugin.connection.is_none() {
            let selecting = selecting_fields(adapter);
            let others = adapter.required.iter().copied();
            refuse_missing(
                adapter,
                plugin,
                others.filter(|field| !selecting.contains(field)),
                draft,
            );
        }
        return;
    }
    let method = method(adapter, &plugin.config);
    let of_method = method.map_or(&[][..], |method| method.required);
    let required = adapter.required.iter().chain(of_method);
    let Some(connection) = &plugin.connection else {
        refuse_missing(adapter, plugin, required.copied(), draft);
        return;
    };
    let secret = method.map_or(&[][..], |method| method.secret);
    let mut fields: Vec<&'static str> = Vec::new();
    for field in required.chain(secret).copied() {
        let is_absent = matches!(lookup(adapter, &plugin.config, field), Found::Absent);
        if is_absent && !is_replaced(adapter, plugin, field) && !fields.contains(&field) {
            fields.push(field);
        }
    }
    if fields.is_empty() {
        let message = "the config has every field that this type needs, so nothing is read from the secret. Remove connection_secret_ref, or the fields that the secret has.";
        draft.warn(Rule::AdapterField, &connection.place, message.to_owned());
    }
    let nulls = adapter.required.iter().chain(of_method).copied();
    refuse_missing(
        adapter,
        plugin,
        nulls.filter(|field| !fields.contains(field)),
        draft,
    );
    for field in fields {
        let value = from_connection(field, connection, plugin, manifest, options, draft);
        if let Some(value) = value {
            insert(output, field, value);
        }
    }
}

/// Whether the fields that select a method are written out: the profile is written before dbt reads a variable.
fn check_method(adapter: &Adapter, plugin: &Plugin, draft: &mut Draft<'_>) -> bool {
    let mut is_known = true;
    for field in selecting_fields(adapter) {
        let found = lookup(adapter, &plugin.config, field);
        let is_computed = matches!(
            found,
            Found::Value(ConfigValue::Reference(_) | ConfigValue::Template(_))
        );
        let is_missing = adapter.required.contains(&field) && !matches!(found, Found::Value(_));
        if is_missing || (is_computed && plugin.connection.is_some()) {
            let message = "selects which fields are secrets. Write its value in the manifest.";
            draft.refuse(
                Rule::AdapterField,
                &field_place(plugin, field),
                message.to_owned(),
            );
            is_known = false;
        }
    }
    is_known
}

/// Whether another field stands in for a secret one, such as the path of a key file.
fn is_replaced(adapter: &Adapter, plugin: &Plugin, field: &str) -> bool {
    adapter.replaced.iter().any(|(replaced, by)| {
        *replaced == field && matches!(lookup(adapter, &plugin.config, by), Found::Value(_))
    })
}

fn refuse_missing(
    adapter: &Adapter,
    plugin: &Plugin,
    required: impl Iterator<Item = &'static str>,
    draft: &mut Draft<'_>,
) {
    for field in required {
        if matches!(
            lookup(adapter, &plugin.config, field),
            Found::Absent | Found::Null
        ) {
            let message = format!(
                "dbt refuses a profile of type {} without this field. Add it to config, as a value or as {{secretRef: {{name: …, key: …}}}}, or name a Secret that has it in connection_secret_ref.",
                adapter.kind
            );
            draft.refuse(Rule::AdapterField, &field_place(plugin, field), message);
        }
    }
}

/// Place of a field that is not in the file: that of the plugin.
fn field_place(plugin: &Plugin, field: &str) -> Place {
    Place {
        field: format!("plugins.compute.config.{field}"),
        ..plugin.place.clone()
    }
}

/// Demands one field of the connection's Secret.
fn from_connection(
    field: &'static str,
    connection: &ConnectionSecret,
    plugin: &Plugin,
    manifest: &Manifest,
    options: &PlanOptions,
    draft: &mut Draft<'_>,
) -> Option<ProfileValue> {
    let name = format!("{}_{}", variable_part(&plugin.kind), variable_part(field));
    let variable: EnvVarName = match name.parse() {
        Ok(variable) => variable,
        Err(error) => {
            draft.refuse(Rule::AdapterField, &connection.place, format!("{error}"));
            return None;
        }
    };
    if manifest.default_source == SecretSource::Env {
        let field_type = field_type(&plugin.kind, field);
        draft.elsewhere.push(Elsewhere {
            variable: variable.clone(),
            place: connection.place.clone(),
            default: false,
            field_type,
        });
        let part = TemplatePart::EnvVar {
            name: variable,
            default: None,
        };
        return Some(ProfileValue::Template(vec![part], field_type));
    }
    let key = match options.connection_keys {
        ConnectionKeys::Variable => name.as_str(),
        ConnectionKeys::Field => field.rsplit('.').next().unwrap_or(field),
    };
    let reference = reference(connection, manifest, draft, key)?;
    let delivery = if options.env_from {
        Delivery::EnvFrom
    } else {
        Delivery::Alias
    };
    Some(draft.demand(Request {
        reference,
        variable,
        delivery,
        path: field.to_owned(),
        place: connection.place.clone(),
    }))
}

fn reference(
    connection: &ConnectionSecret,
    manifest: &Manifest,
    draft: &mut Draft<'_>,
    key: &str,
) -> Option<SecretReference> {
    let secret = SecretId {
        source: manifest.default_source,
        name: connection.secret.clone(),
    };
    if secret.source == SecretSource::Vault {
        let message =
            "source \"vault\" is not supported. Use kubernetes, infisical or external-secrets.";
        draft.refuse(Rule::Reference, &connection.place, message.to_owned());
        return None;
    }
    match key.parse() {
        Ok(key) => Some(SecretReference {
            secret,
            key: KeyChoice::Key(key),
        }),
        Err(error) => {
            draft.refuse(Rule::Reference, &connection.place, error.to_string());
            None
        }
    }
}

/// Writes a value into the output, and the maps above it.
fn insert(output: &mut Vec<(String, ProfileValue)>, path: &str, value: ProfileValue) {
    let Some((first, rest)) = path.split_once('.') else {
        output.push((path.to_owned(), value));
        return;
    };
    let index = output.iter().position(|(name, _)| name == first);
    let index = index.unwrap_or_else(|| {
        output.push((first.to_owned(), ProfileValue::Map(Vec::new())));
        output.len() - 1
    });
    if let Some((_, ProfileValue::Map(fields))) = output.get_mut(index) {
        insert(fields, rest, value);
    }
}

/// `connection_secret_ref` of a plugin that has no profile: all keys of the secret.
pub(super) fn whole_secret(plugin: &Plugin, manifest: &Manifest, draft: &mut Draft<'_>) {
    let Some(connection) = &plugin.connection else {
        return;
    };
    if manifest.default_source == SecretSource::Env {
        return;
    }
    // The variable is a stand-in: only the annotation is written, and it names the secret alone.
    let Some(reference) = reference(connection, manifest, draft, "_") else {
        return;
    };
    let Ok(variable) = "_".parse() else { return };
    draft.demands.push(Demand {
        variable,
        reference,
        delivery: Delivery::Whole,
        field: String::new(),
        field_type: FieldType::Text,
        place: connection.place.clone(),
    });
}
