//! A manifest that is read and valid in itself, with the place of everything that a later message may be about.

use std::collections::BTreeMap;
use std::fmt;

use injection::{EnvVarName, InfisicalPath, SecretName, SecretReference, SecretSource};

use crate::finding::Place;

/// A manifest with its parent merged into it, for one product.
#[derive(Clone, Debug)]
pub(crate) struct Manifest {
    /// The product's name; the profile's too, unless `dbt_project.yml` or a flag names another.
    pub product: String,
    /// Plugins by category, as in `compute`. Of a manifest and its parent, the manifest's selection.
    pub plugins: BTreeMap<String, Plugin>,
    /// Source of references that name none (`plugins.secrets.type`).
    pub default_source: SecretSource,
    /// Environment and path in Infisical, if `plugins.secrets` names them.
    pub infisical: Option<InfisicalPath>,
}

/// The selection of one category.
#[derive(Clone, Debug)]
pub(crate) struct Plugin {
    /// `type`, as in `snowflake`.
    pub kind: String,
    pub place: Place,
    /// Fields of `config`, in the order of the file.
    pub config: Vec<ConfigField>,
    /// `connection_secret_ref`.
    pub connection: Option<ConnectionSecret>,
}

/// `connection_secret_ref`: a Secret that has the connection's fields.
#[derive(Clone, Debug)]
pub(crate) struct ConnectionSecret {
    pub secret: SecretName,
    pub place: Place,
}

/// A field of a map in `config`.
#[derive(Clone, Debug)]
pub(crate) struct ConfigField {
    pub name: String,
    pub value: ConfigValue,
    /// Place of the value.
    pub place: Place,
}

/// A value in `config`. Placeholders such as `{product_name}` are expanded, and every Jinja expression is read.
/// `Debug` has no scalar: before literal secrets are refused, one may be here.
#[derive(Clone, PartialEq)]
pub(crate) enum ConfigValue {
    Null,
    Bool(bool),
    Integer(i64),
    Unsigned(u64),
    Float(f64),
    Text(String),
    /// Text with one or more `env_var` expressions of the author's.
    Template(Vec<TemplatePart>),
    /// `{secretRef: {source, name, key}}`. Its source is resolved.
    Reference(SecretReference),
    List(Vec<ConfigItem>),
    Map(Vec<ConfigField>),
}

impl fmt::Debug for ConfigValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(_) => f.write_str("boolean"),
            Self::Integer(_) | Self::Unsigned(_) | Self::Float(_) => f.write_str("number"),
            Self::Text(_) => f.write_str("text"),
            Self::Template(_) => f.write_str("template"),
            Self::Reference(reference) => reference.fmt(f),
            Self::List(items) => f.debug_list().entries(items).finish(),
            Self::Map(fields) => f.debug_list().entries(fields).finish(),
        }
    }
}

/// An item of a list in `config`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ConfigItem {
    pub value: ConfigValue,
    pub place: Place,
}

impl PartialEq for ConfigField {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.value == other.value
    }
}

/// A part of a text with expressions.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum TemplatePart {
    Text(String),
    /// `{{ env_var('NAME') }}`, or with a default as the second argument. The variable must come from elsewhere.
    EnvVar {
        name: EnvVarName,
        default: Option<String>,
    },
}
