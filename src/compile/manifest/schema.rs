//! JSON schema of manifests, for editors and other checkers, made from the types here.
//!
//! The types have no values: [`super::read`] reads nodes, because it reports positions and all problems at once. Tests
//! hold both against the same files.

#![expect(
    dead_code,
    reason = "the schema is made from the types, and no value is"
)]

use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema};
use serde_json::{Value, json};

use super::root::{ENVIRONMENTS, MAX_CUSTOM_PATTERNS, MAX_NAME};
use super::secrets_plugin::{MAX_ENVIRONMENT, MAX_PATH};

/// Schema of a manifest, as text of a file.
pub(crate) fn manifest_schema() -> String {
    let generator = schemars::generate::SchemaSettings::draft2020_12().into_generator();
    let schema = generator.into_root_schema_for::<ManifestDocument>();
    let mut text = serde_json::to_string_pretty(&schema).unwrap_or_default();
    text.push('\n');
    text
}

/// Platform manifest: the plugins of a platform and their settings.
#[derive(JsonSchema)]
#[schemars(title = "floe manifest", transform = refuse_environments)]
struct ManifestDocument {
    #[schemars(rename = "apiVersion", extend("const" = "floe.dev/v1"))]
    api_version: String,
    #[schemars(extend("const" = "Manifest"))]
    kind: String,
    metadata: Metadata,
    /// Place in a hierarchy. A domain inherits the selections of its parent that it does not make itself.
    scope: Option<ScopeDocument>,
    /// Location of the parent, for scope: domain.
    parent_manifest: Option<Value>,
    plugins: Plugins,
    governance: Option<Value>,
}

/// Identification of the manifest.
#[derive(JsonSchema)]
struct Metadata {
    #[schemars(length(min = 1, max = MAX_NAME), regex(pattern = "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"))]
    name: String,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
enum ScopeDocument {
    Enterprise,
    Domain,
}

/// Selections by category.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Plugins {
    /// Database that dbt connects to. A manifest without it needs a parent that has it.
    compute: Option<PluginDocument>,
    orchestrator: Option<PluginDocument>,
    catalog: Option<PluginDocument>,
    storage: Option<PluginDocument>,
    semantic_layer: Option<PluginDocument>,
    ingestion: Option<PluginDocument>,
    secrets: Option<SecretsDocument>,
    telemetry_backend: Option<PluginDocument>,
    lineage_backend: Option<PluginDocument>,
    identity: Option<PluginDocument>,
    dbt: Option<PluginDocument>,
    quality: Option<QualityDocument>,
}

/// A plugin and its settings.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct PluginDocument {
    #[schemars(
        rename = "type",
        length(max = 64),
        regex(pattern = "^[A-Za-z][A-Za-z0-9_-]*$")
    )]
    kind: String,
    #[schemars(regex(pattern = r"^\d{1,9}\.\d{1,9}\.\d{1,9}$"))]
    version: Option<String>,
    config: Option<ConfigMap>,
    connection_secret_ref: Option<SecretNameText>,
}

/// Backend of secrets, which is the default source of references.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct SecretsDocument {
    #[schemars(rename = "type")]
    kind: SecretsType,
    #[schemars(regex(pattern = r"^\d{1,9}\.\d{1,9}\.\d{1,9}$"))]
    version: Option<String>,
    config: Option<ConfigMap>,
    connection_secret_ref: Option<SecretNameText>,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "kebab-case")]
enum SecretsType {
    K8s,
    K8sSecrets,
    Infisical,
    Eso,
}

/// A selection, or the form that only this category has.
#[derive(JsonSchema)]
#[schemars(untagged)]
enum QualityDocument {
    Plugin(Box<PluginDocument>),
    Own(Box<QualityFields>),
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, extend("minProperties" = 1))]
struct QualityFields {
    provider: Option<Value>,
    quality_gates: Option<Value>,
    dimension_weights: Option<Value>,
    calculation: Option<Value>,
    thresholds: Option<Value>,
    check_timeout_seconds: Option<Value>,
    enabled: Option<Value>,
}

/// Value of a setting: a scalar, a list, a map, or a reference in place of any of them.
#[derive(JsonSchema)]
#[schemars(untagged)]
enum ConfigNode {
    Null(()),
    Boolean(bool),
    Number(f64),
    Text(String),
    List(Vec<ConfigNode>),
    Reference(ReferenceMap),
    Map(ConfigMap),
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct ReferenceMap {
    #[schemars(rename = "secretRef")]
    secret_ref: ReferenceDocument,
}

/// Reference to a secret, never its value.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct ReferenceDocument {
    /// Default: the source that plugins.secrets selects.
    source: Option<SourceDocument>,
    name: SecretNameText,
    /// Key in the Secret. Default: `value`.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^(?!\.$)(?!\.\.)[A-Za-z0-9._-]+$")
    )]
    key: Option<String>,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "kebab-case")]
enum SourceDocument {
    Kubernetes,
    Infisical,
    ExternalSecrets,
    Env,
}

/// Name of a Secret.
#[derive(JsonSchema)]
struct SecretNameText(
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$")
    )]
    String,
);

/// Map of settings. A map with `secretRef` is a reference.
#[derive(JsonSchema)]
#[schemars(extend("not" = json!({"required": ["secretRef"]})))]
struct ConfigMap(BTreeMap<String, ConfigNode>);

/// Adds what a struct cannot state: fields that are refused, and those that depend on others.
fn refuse_environments(schema: &mut Schema) {
    if let Some(Value::Object(properties)) = schema.get_mut("properties") {
        for field in ENVIRONMENTS {
            properties.insert(field.to_owned(), Value::Bool(false));
        }
        properties.insert("governance".to_owned(), governance());
    }
    let parent_needs_domain = json!({
        "if": {"required": ["parent_manifest"], "properties": {"parent_manifest": {"not": {"type": "null"}}}},
        "then": {"required": ["scope"], "properties": {"scope": {"const": "domain"}}},
    });
    let compute_or_parent = json!({
        "if": {"not": {"required": ["scope"], "properties": {"scope": {"const": "domain"}}}},
        "then": {"properties": {"plugins": {
            "required": ["compute"],
            "properties": {"compute": {"not": {"type": "null"}}},
        }}},
    });
    let infisical = json!({
        "if": {"properties": {"plugins": {
            "required": ["secrets"],
            "properties": {"secrets": {"required": ["type"], "properties": {"type": {"const": "infisical"}}}},
        }}},
        "then": {"properties": {"plugins": {"properties": {"secrets": {"properties": {"config": {
            "properties": {
                "environment": {"type": ["string", "null"], "pattern": "^[a-z0-9-]+$", "maxLength": MAX_ENVIRONMENT},
                "secret_path": {"type": ["string", "null"], "pattern": "^/", "maxLength": MAX_PATH},
            },
            "dependentRequired": {"secret_path": ["environment"]},
        }}}}}}},
    });
    schema.insert(
        "allOf".to_owned(),
        json!([parent_needs_domain, compute_or_parent, infisical]),
    );
}

/// The one part of `governance` that is read.
fn governance() -> Value {
    json!({
        "properties": {"secret_scanning": {"properties": {"custom_patterns": {
            "type": ["array", "null"],
            "maxItems": MAX_CUSTOM_PATTERNS,
            "items": {
                "type": "object",
                "properties": {
                    "name": {"type": "string", "minLength": 1},
                    "pattern": {"type": "string", "minLength": 1},
                    "severity": {"enum": ["error", "warning"]},
                },
                "required": ["name", "pattern"],
                "additionalProperties": false,
            },
        }}}},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `UPDATE_SCHEMAS=1` writes the file anew.
    #[test]
    #[expect(clippy::disallowed_methods, reason = "a setting of the test run")]
    fn shipped_schema_is_current() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/schemas/manifest.json");
        let schema = manifest_schema();
        if std::env::var_os("UPDATE_SCHEMAS").is_some() {
            std::fs::write(path, &schema).unwrap();
        }
        let shipped = std::fs::read_to_string(path).unwrap();
        assert!(
            shipped == schema,
            "schemas/manifest.json is not the schema of the types; write it with UPDATE_SCHEMAS=1"
        );
    }
}
