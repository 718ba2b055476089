//! The plan while it is made: demands, and what there is to report.

use injection::{EnvVarName, KeyChoice, SecretReference, SecretSource};

use super::literal::{self, ProfileField};
use super::options::PlanOptions;
use crate::compile::adapter::{FieldType, field_type, is_masked, is_printed, is_secret_field};
use crate::compile::demand::{Delivery, Demand, Elsewhere};
use crate::compile::mask::{DBT_SECRET_PREFIX, masked_name};
use crate::compile::model::{ConfigField, ConfigItem, ConfigValue, TemplatePart};
use crate::compile::profile::{ProfileValue, template};
use crate::dbt::MAX_TEMPLATE;
use crate::finding::{FileFinding, FindingSeverity, Place, Rule};

/// Limit of a field's path below `config`, in bytes. Each demand has one, and so has each check of it.
pub(crate) const MAX_PATH: usize = 4096;

/// Limit of a field's name in the profile, in bytes. YAML reads keys of up to 1024 characters, and an escape of one byte
/// has six.
pub(crate) const MAX_NAME: usize = 160;

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
        if self.refuse_long(path, place) {
            return None;
        }
        let field_type = field_type(&self.kind, path);
        let is_secret =
            below_secret || (is_secret_field(&self.kind, path) && field_type != FieldType::Native);
        let field = ProfileField {
            kind: &self.kind,
            path,
            field_type,
            is_secret,
        };
        if let Some((rule, message)) = literal::problem(field, value) {
            self.refuse(rule, place, message.to_owned());
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
            ConfigValue::List(items) => ProfileValue::List(self.items(path, items, is_secret)),
            ConfigValue::Map(fields) => ProfileValue::Map(self.fields(path, fields, is_secret)),
        })
    }

    fn items(&mut self, path: &str, items: &[ConfigItem], is_secret: bool) -> Vec<ProfileValue> {
        let items = items.iter().enumerate();
        items
            .map(|(index, item)| {
                let path = format!("{path}[{index}]");
                let value = self.value(&path, &item.value, &item.place, is_secret);
                // Items keep their places.
                value.unwrap_or(ProfileValue::Null)
            })
            .collect()
    }

    fn fields(
        &mut self,
        path: &str,
        fields: &[ConfigField],
        is_secret: bool,
    ) -> Vec<(String, ProfileValue)> {
        let mut map = Vec::with_capacity(fields.len());
        for ConfigField { name, value, place } in fields {
            if self.refuse_name(name, place) {
                continue;
            }
            let value = self.value(&format!("{path}.{name}"), value, place, is_secret);
            map.extend(value.map(|value| (name.clone(), value)));
        }
        map
    }

    /// Refuses a name beyond the limit; whether it did.
    pub(super) fn refuse_name(&mut self, name: &str, place: &Place) -> bool {
        let is_long = name.len() > MAX_NAME;
        if is_long {
            let message = format!(
                "the name of this field has more than {MAX_NAME} bytes. Use a shorter one."
            );
            self.refuse(Rule::AdapterField, place, message);
        }
        is_long
    }

    /// Refuses a path beyond the limit; whether it did.
    pub(super) fn refuse_long(&mut self, path: &str, place: &Place) -> bool {
        let is_long = path.len() > MAX_PATH;
        if is_long {
            let message = format!(
                "the path of this field has more than {MAX_PATH} bytes. Use shorter names, or fewer levels."
            );
            self.refuse(Rule::AdapterField, place, message);
        }
        is_long
    }

    /// Records variables that the author reads, and refuses what dbt would refuse.
    fn template(&mut self, path: &str, parts: &[TemplatePart], place: &Place, is_secret: bool) {
        let field_type = field_type(&self.kind, path);
        let mut hidden = 0;
        for part in parts {
            match part {
                TemplatePart::Text(text) => {
                    self.refuse_jinja(text, place);
                    if is_secret && !text.trim().is_empty() {
                        let message = "the text beside env_var is a literal in a field for a secret. Put the whole secret into the variable, or write {secretRef: {name: …, key: …}}.";
                        self.refuse(Rule::LiteralSecret, place, message.to_owned());
                    }
                }
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
    pub(super) fn variable_of(
        &mut self,
        reference: &SecretReference,
        place: &Place,
    ) -> Option<EnvVarName> {
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
            Delivery::Reference | Delivery::Alias | Delivery::Whole => reference,
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
