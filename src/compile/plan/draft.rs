//! The plan while it is made: demands, and what there is to report.

use injection::{EnvVarName, KeyChoice, SecretReference, SecretSource};

use super::options::PlanOptions;
use crate::compile::adapter::{FieldType, field_type, is_masked, is_printed, is_secret_field};
use crate::compile::demand::{Delivery, Demand, Elsewhere};
use crate::compile::mask::{DBT_SECRET_PREFIX, masked_name};
use crate::compile::model::{ConfigField, ConfigValue, TemplatePart};
use crate::compile::profile::{ProfileValue, template};
use crate::dbt::MAX_TEMPLATE;
use crate::finding::{FileFinding, FindingSeverity, Place, Rule};

pub(super) struct Draft<'a> {
    options: &'a PlanOptions,
    /// `type` of the plugin.
    pub kind: String,
    pub demands: Vec<Demand>,
    pub elsewhere: Vec<Elsewhere>,
    pub findings: Vec<FileFinding>,
    pub warnings: Vec<FileFinding>,
}

/// A field that is to come from a secret.
pub(super) struct Request {
    pub reference: SecretReference,
    /// Variable by its plain name, and the annotation for it.
    pub variable: EnvVarName,
    pub delivery: Delivery,
    /// Path of the field in `config`.
    pub path: String,
    pub place: Place,
}

impl<'a> Draft<'a> {
    pub(super) fn new(options: &'a PlanOptions) -> Self {
        Self {
            options,
            kind: String::new(),
            demands: Vec::new(),
            elsewhere: Vec::new(),
            findings: Vec::new(),
            warnings: Vec::new(),
        }
    }

    pub(super) fn refuse(&mut self, rule: Rule, place: &Place, message: String) {
        self.findings
            .push(finding(rule, FindingSeverity::Error, place, message));
    }

    pub(super) fn warn(&mut self, rule: Rule, place: &Place, message: String) {
        self.warnings
            .push(finding(rule, FindingSeverity::Warning, place, message));
    }

    /// Refuses text that dbt would render: the reader of the manifest lets only `env_var` through.
    pub(super) fn refuse_jinja(&mut self, text: &str, place: &Place) {
        if ["{{", "{%", "{#"].iter().any(|begin| text.contains(begin)) {
            let message =
                "dbt would run the Jinja in this text. Only {{ env_var('NAME') }} is allowed.";
            self.refuse(Rule::Template, place, message.to_owned());
        }
    }

    /// Value in the profile; `None` for a secret field that the author leaves out by null.
    pub(super) fn value(
        &mut self,
        path: &str,
        value: &ConfigValue,
        place: &Place,
        below_secret: bool,
    ) -> Option<ProfileValue> {
        let field_type = field_type(&self.kind, path);
        let is_secret =
            below_secret || (is_secret_field(&self.kind, path) && field_type != FieldType::Native);
        if let Some(problem) = literal_problem(value, field_type, is_secret) {
            let rule = if is_secret {
                Rule::LiteralSecret
            } else {
                Rule::AdapterField
            };
            self.refuse(rule, place, problem.to_owned());
            return None;
        }
        Some(match value {
            ConfigValue::Null if is_secret => return None,
            ConfigValue::Null => ProfileValue::Null,
            ConfigValue::Bool(value) => ProfileValue::Bool(*value),
            ConfigValue::Integer(value) => ProfileValue::Integer(*value),
            ConfigValue::Unsigned(value) => ProfileValue::Unsigned(*value),
            ConfigValue::Float(value) => ProfileValue::Float(*value),
            ConfigValue::Text(text) => {
                self.refuse_jinja(text, place);
                ProfileValue::Text(text.clone())
            }
            ConfigValue::Template(parts) => {
                self.template(path, parts, place, is_secret);
                ProfileValue::Template(parts.clone(), field_type)
            }
            ConfigValue::Reference(reference) => self.reference(path, reference, place)?,
            ConfigValue::List(items) => {
                let mut list = Vec::with_capacity(items.len());
                for (index, item) in items.iter().enumerate() {
                    let path = format!("{path}[{index}]");
                    let value = self.value(&path, &item.value, &item.place, is_secret);
                    // Items keep their places.
                    list.push(value.unwrap_or(ProfileValue::Null));
                }
                ProfileValue::List(list)
            }
            ConfigValue::Map(fields) => {
                let mut map = Vec::with_capacity(fields.len());
                for ConfigField { name, value, place } in fields {
                    let value = self.value(&format!("{path}.{name}"), value, place, is_secret);
                    map.extend(value.map(|value| (name.clone(), value)));
                }
                ProfileValue::Map(map)
            }
        })
    }

    /// Records variables that the author reads, and refuses what dbt would refuse.
    fn template(&mut self, path: &str, parts: &[TemplatePart], place: &Place, is_secret: bool) {
        let field_type = field_type(&self.kind, path);
        let mut hidden = 0;
        for part in parts {
            match part {
                TemplatePart::Text(text) => self.refuse_jinja(text, place),
                TemplatePart::EnvVar { name, default } => {
                    hidden += usize::from(name.as_str().starts_with(DBT_SECRET_PREFIX));
                    if is_secret && default.as_ref().is_some_and(|text| !text.is_empty()) {
                        let message = "the default of env_var is a literal in a field for a secret. Remove the default, or write {secretRef: {name: …, key: …}}.";
                        self.refuse(Rule::LiteralSecret, place, message.to_owned());
                    }
                    self.elsewhere.push(Elsewhere {
                        variable: name.clone(),
                        place: place.clone(),
                        default: default.is_some(),
                        field_type,
                    });
                }
            }
        }
        self.refuse_template(parts, field_type, place);
        if field_type != FieldType::Text && parts.len() > 1 {
            let message = "dbt wants a number, true or false, or a map here, and gets text. Write one env_var expression with nothing around it.";
            self.refuse(Rule::AdapterField, place, message.to_owned());
        }
        if hidden > 1 {
            let message = format!(
                "dbt ends with a KeyError when one value has two variables whose names begin with {DBT_SECRET_PREFIX}. Put the whole value into one variable."
            );
            self.refuse(Rule::AdapterField, place, message);
        }
        if hidden > 0 && field_type != FieldType::Text {
            let message = format!(
                "dbt cannot convert a variable whose name begins with {DBT_SECRET_PREFIX}, and this field is not text. Use a variable with another name."
            );
            self.refuse(Rule::AdapterField, place, message);
        }
        if hidden == 0 && is_printed(&self.kind, path) && is_secret {
            self.warn_printed(path, place, false);
        }
    }

    /// Refuses a text that Jinja would read in another way than it was written.
    fn refuse_template(&mut self, parts: &[TemplatePart], field_type: FieldType, place: &Place) {
        let before_others = parts.iter().take(parts.len().saturating_sub(1));
        let ends_in_brace =
            |part: &TemplatePart| matches!(part, TemplatePart::Text(text) if text.ends_with('{'));
        if before_others.into_iter().any(ends_in_brace) {
            let message = "a brace in front of an expression is part of it for dbt. Write a space between them.";
            self.refuse(Rule::Template, place, message.to_owned());
        }
        if template(parts, field_type).len() > MAX_TEMPLATE {
            let message = format!(
                "a text with env_var has at most {MAX_TEMPLATE} bytes. Shorten it, or put all of it into a variable."
            );
            self.refuse(Rule::Template, place, message);
        }
    }

    /// A reference in `config`.
    fn reference(
        &mut self,
        path: &str,
        reference: &SecretReference,
        place: &Place,
    ) -> Option<ProfileValue> {
        let variable = self.variable_of(reference, place)?;
        if reference.secret.source == SecretSource::Env {
            let field_type = field_type(&self.kind, path);
            self.elsewhere.push(Elsewhere {
                variable: variable.clone(),
                place: place.clone(),
                default: false,
                field_type,
            });
            let part = TemplatePart::EnvVar {
                name: variable,
                default: None,
            };
            return Some(ProfileValue::Template(vec![part], field_type));
        }
        let request = Request {
            reference: reference.clone(),
            variable,
            delivery: Delivery::Reference,
            path: path.to_owned(),
            place: place.clone(),
        };
        Some(self.demand(request))
    }

    /// Variable of a reference to one key; refuses references that no variable is for.
    fn variable_of(&mut self, reference: &SecretReference, place: &Place) -> Option<EnvVarName> {
        if reference.secret.source == SecretSource::Vault {
            let message =
                "source \"vault\" is not supported. Use kubernetes, infisical or external-secrets.";
            self.refuse(Rule::Reference, place, message.to_owned());
            return None;
        }
        let variable = reference.to_env_var_name();
        if variable.is_none() || reference.key == KeyChoice::All {
            let message = "a field of a config needs one key of the secret. Write the key's name.";
            self.refuse(Rule::Reference, place, message.to_owned());
        }
        variable
    }

    /// Adds a demand, under the name that dbt hides if that is wanted and possible.
    pub(super) fn demand(&mut self, request: Request) -> ProfileValue {
        let Request {
            reference,
            variable,
            delivery,
            path,
            place,
        } = request;
        let is_masked = self.options.mask && is_masked(&self.kind, &path);
        let (variable, delivery) = if is_masked {
            let delivery = match delivery {
                Delivery::Reference => Delivery::Alias,
                other => other,
            };
            (self.masked(&variable, &place), delivery)
        } else {
            (variable, delivery)
        };
        let reference = match delivery {
            // With env-from the key is the variable's name.
            Delivery::EnvFrom => SecretReference {
                key: variable
                    .as_str()
                    .parse()
                    .map_or(reference.key, KeyChoice::Key),
                ..reference
            },
            Delivery::Reference | Delivery::Alias => reference,
        };
        if is_printed(&self.kind, &path) && !is_masked {
            self.warn_printed(&path, &place, self.options.mask);
        }
        let field_type = field_type(&self.kind, &path);
        self.demands.push(Demand {
            variable,
            reference,
            delivery,
            field: path,
            field_type,
            place,
        });
        ProfileValue::Demand(self.demands.len() - 1)
    }

    fn masked(&mut self, variable: &EnvVarName, place: &Place) -> EnvVarName {
        match masked_name(variable) {
            Ok(masked) => {
                if masked.is_shortened {
                    let message = format!(
                        "the variable is named {}, because its full name is too long for an annotation",
                        masked.variable
                    );
                    self.warn(Rule::Reference, place, message);
                }
                masked.variable
            }
            Err(error) => {
                self.refuse(Rule::Reference, place, error.to_string());
                variable.clone()
            }
        }
    }

    fn warn_printed(&mut self, path: &str, place: &Place, mask: bool) {
        let advice = match (self.kind.as_str(), mask) {
            ("duckdb", false) => {
                " Move the secret to an entry of secrets, which dbt does not print, or compile with --mask."
            }
            ("duckdb", true) => {
                " --mask does not hide it, because its name is not that of a secret. Move it to an entry of secrets, which dbt does not print."
            }
            (_, false) => " Compile with --mask, and dbt hides it.",
            (_, true) => " --mask does not hide it, because the field is not one for secrets.",
        };
        let message =
            format!("dbt debug prints the field {path:?}, which comes from a secret.{advice}");
        self.warn(Rule::SecretPrinted, place, message);
    }

    /// Adds a demand for each reference in the config of a plugin that has no profile.
    pub(super) fn references_only(&mut self, fields: &[ConfigField]) {
        for ConfigField { name, value, place } in fields {
            self.references_in(name, value, place);
        }
    }

    fn references_in(&mut self, path: &str, value: &ConfigValue, place: &Place) {
        match value {
            ConfigValue::Reference(reference) => {
                let variable = self.variable_of(reference, place);
                if let Some(variable) = variable
                    && reference.secret.source != SecretSource::Env
                {
                    self.demands.push(Demand {
                        variable,
                        reference: reference.clone(),
                        delivery: Delivery::Reference,
                        field: path.to_owned(),
                        field_type: FieldType::Text,
                        place: place.clone(),
                    });
                }
            }
            ConfigValue::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.references_in(&format!("{path}[{index}]"), &item.value, &item.place);
                }
            }
            ConfigValue::Map(fields) => {
                for ConfigField { name, value, place } in fields {
                    self.references_in(&format!("{path}.{name}"), value, place);
                }
            }
            _ => {}
        }
    }
}

/// The problem of a value that is written out, if dbt would refuse it or it is a secret.
fn literal_problem(
    value: &ConfigValue,
    field_type: FieldType,
    is_secret: bool,
) -> Option<&'static str> {
    let is_scalar = matches!(
        value,
        ConfigValue::Integer(_) | ConfigValue::Unsigned(_) | ConfigValue::Float(_)
    ) || matches!(value, ConfigValue::Text(text) if !text.is_empty());
    if is_secret && is_scalar {
        return Some(
            "a secret is written out in this field. Put it into a Secret, write {secretRef: {name: …, key: …}} here, and replace the secret, because it was in a file.",
        );
    }
    let is_text = matches!(value, ConfigValue::Text(_));
    match field_type {
        FieldType::Number if is_text => {
            Some("dbt wants a number here, and gets text. Remove the quotes.")
        }
        FieldType::Boolean if is_text => {
            Some("dbt wants true or false here, and gets text. Remove the quotes.")
        }
        FieldType::Native if is_text => Some(
            "dbt takes keyfile_json only as a map, and its error for text prints the whole key. Write the map, with {secretRef: {name: …, key: …}} for private_key and private_key_id, or {secretRef: {name: …, key: …}} for the whole file.",
        ),
        _ => None,
    }
}

fn finding(rule: Rule, severity: FindingSeverity, place: &Place, message: String) -> FileFinding {
    FileFinding {
        rule,
        severity,
        place: place.clone(),
        message,
        excerpt: None,
    }
}
