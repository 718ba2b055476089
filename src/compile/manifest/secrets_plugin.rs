//! `plugins.secrets`: the default source of references, and the place of secrets in Infisical.

use injection::{InfisicalPath, SecretSource};

use super::diagnostics::{Diagnostics, FieldReader};
use super::plugins::Selection;
use super::shape::is_null;
use crate::finding::Rule;
use crate::yaml::Node;

/// Settings of the secrets plugin.
#[derive(Default)]
pub(super) struct SecretsPlugin {
    pub default_source: SecretSource,
    pub infisical: Option<InfisicalPath>,
}

/// Reads the selection; without one, secrets are Kubernetes Secrets.
pub(super) fn read(
    selection: Option<&Selection<'_>>,
    diagnostics: &mut Diagnostics,
) -> SecretsPlugin {
    let Some(selection) = selection else {
        return SecretsPlugin::default();
    };
    let mut reader = FieldReader::new(selection.file, diagnostics);
    reader.within("plugins", |reader| {
        reader.within("secrets", |reader| read_selection(selection, reader))
    })
}

fn read_selection(selection: &Selection<'_>, reader: &mut FieldReader<'_>) -> SecretsPlugin {
    let kind = selection.kind().and_then(|node| Some((node.text()?, node)));
    let default_source = match kind {
        // A missing type, and one that is not text, are reported with the other fields of the selection.
        None => SecretSource::default(),
        Some(("k8s" | "k8s-secrets", _)) => SecretSource::Kubernetes,
        Some(("infisical", _)) => SecretSource::Infisical,
        Some(("eso", _)) => SecretSource::ExternalSecrets,
        Some((other, node)) => {
            let message = if other == "vault" {
                "is vault, which is not supported; use k8s, infisical or eso"
            } else {
                "is not a supported secrets plugin; the types are k8s, k8s-secrets, infisical and eso"
            };
            reader.within("type", |reader| {
                reader.error(Rule::Reference, node.position, message);
            });
            SecretSource::default()
        }
    };
    let infisical = (default_source == SecretSource::Infisical)
        .then(|| selection.config())
        .flatten()
        .and_then(|config| reader.within("config", |reader| read_path(config, reader)));
    SecretsPlugin {
        default_source,
        infisical,
    }
}

/// `environment` and `secret_path`. Without a path, secrets are in the root folder.
fn read_path(config: &Node, reader: &mut FieldReader<'_>) -> Option<InfisicalPath> {
    let field = |name| config.get(name).filter(|node| !is_null(node));
    let (environment, path) = (field("environment"), field("secret_path"));
    let Some(environment) = environment else {
        if let Some(path) = path {
            reader.within("secret_path", |reader| {
                reader.error(
                    Rule::ManifestField,
                    path.position,
                    "needs the field environment beside it; add the slug of the environment",
                );
            });
        }
        return None;
    };
    let slug = reader.within("environment", |reader| {
        let slug = environment.text().filter(|text| is_environment(text));
        if slug.is_none() {
            reader.error(
                Rule::ManifestField,
                environment.position,
                format!(
                    "is not the slug of an environment: lower-case letters, digits and '-', at most {MAX_ENVIRONMENT} characters"
                ),
            );
        }
        slug
    });
    let folder = match path {
        None => Some("/"),
        Some(path) => reader.within("secret_path", |reader| {
            let folder = path.text().filter(|text| is_folder(text));
            if folder.is_none() {
                reader.error(
                    Rule::ManifestField,
                    path.position,
                    format!(
                        "is not the path of a folder: it starts with '/', has no '.' and '..' segments and no control characters, at most {MAX_PATH} bytes"
                    ),
                );
            }
            folder
        }),
    };
    Some(InfisicalPath {
        environment: slug?.to_owned(),
        path: folder?.to_owned(),
    })
}

/// Limit of an environment's slug, in characters.
pub(super) const MAX_ENVIRONMENT: usize = 64;

/// Limit of a folder's path in Infisical, in bytes. It stands in an annotation for each secret.
pub(super) const MAX_PATH: usize = 512;

fn is_environment(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !text.is_empty() && text.len() <= MAX_ENVIRONMENT && text.bytes().all(inner)
}

fn is_folder(text: &str) -> bool {
    text.len() <= MAX_PATH
        && text.starts_with('/')
        && text.trim() == text
        && !text.chars().any(char::is_control)
        && !text
            .split('/')
            .any(|segment| segment == "." || segment == "..")
}
