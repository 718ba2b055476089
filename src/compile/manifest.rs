//! Reading of manifests: a file and its parent in, a [`Manifest`] or every problem of them out.
//!
//! Problems are findings with a place and a masked source line. A value of the manifest is never in a message: before
//! literal secrets are refused, any value may be one.

mod config;
mod diagnostics;
mod literals;
mod plugins;
mod reference;
mod root;
mod schema;
mod secrets_plugin;
mod shape;
mod source;

use std::collections::BTreeMap;

pub(crate) use self::diagnostics::{Diagnostics, FieldReader};
#[cfg(test)]
pub(crate) use self::diagnostics::{MAX_FIELD_PATH, MAX_FINDINGS};
pub(crate) use self::plugins::CATEGORIES;
pub(crate) use self::root::is_product_name;
#[cfg(test)]
pub(crate) use self::root::{MAX_CUSTOM_PATTERNS, MAX_NAME};
pub(crate) use self::schema::manifest_schema;
pub(crate) use self::source::{SourceFile, shown_path, unreadable};

use self::config::ConfigReader;
use self::plugins::Selection;
use self::root::{ManifestScope, Root};
use super::model::Manifest;
use crate::finding::{FileFinding, Rule};
use crate::yaml::{Node, Position};

/// Files of one manifest.
pub(crate) struct ManifestFiles {
    pub manifest: SourceFile,
    /// Manifest that one of `scope: domain` inherits from.
    pub parent: Option<SourceFile>,
}

impl ManifestFiles {
    /// Adds the masked source line to findings about these files that have none.
    pub(crate) fn with_excerpts(&self, findings: Vec<FileFinding>) -> Vec<FileFinding> {
        let files = || std::iter::once(&self.manifest).chain(&self.parent);
        let add = |mut finding: FileFinding| {
            let file = files().find(|file| file.name == finding.place.file);
            if let (None, Some(file), Some(at)) = (&finding.excerpt, file, finding.place.position) {
                let field = finding.place.field.rsplit('.').next().unwrap_or_default();
                finding.excerpt = file.excerpt(at, field);
            }
            finding
        };
        findings.into_iter().map(add).collect()
    }
}

/// Reads a manifest. `product` is the name in the product's own spec, if one is read.
///
/// All problems are in `diagnostics`; `None` if one of them is an error that leaves nothing to go on with.
pub(crate) fn read(
    files: &ManifestFiles,
    product: Option<&str>,
    diagnostics: &mut Diagnostics,
) -> Option<Manifest> {
    let manifest = parse(&files.manifest, diagnostics);
    let parent = files.parent.as_ref().map(|file| parse(file, diagnostics));
    let manifest = manifest?;
    let parent = parent.map_or(Some(None), |parent| parent.map(Some))?;

    let root = Root::read(&manifest, &files.manifest, diagnostics);
    let parent_root = parent
        .as_ref()
        .zip(files.parent.as_ref())
        .map(|(node, file)| Root::read(node, file, diagnostics));
    check_scope(&root, parent_root.as_ref(), files, diagnostics);

    let own = ReadDocument {
        node: &manifest,
        file: &files.manifest,
        root: &root,
    };
    let inherited = parent.as_ref().zip(files.parent.as_ref());
    let inherited = inherited
        .zip(parent_root.as_ref())
        .map(|((node, file), root)| ReadDocument { node, file, root });
    let names_are_harmless = check_literals(&own, inherited.as_ref(), diagnostics);

    let selections = merge(root.selections, parent_root.map(|root| root.selections));
    if !selections.contains_key("compute") {
        FieldReader::new(&files.manifest, diagnostics).within("plugins", |reader| {
            reader.error(
                Rule::ManifestField,
                root.plugins_position,
                "has no compute plugin, so there is no profile to write; add compute: {type: …}",
            );
        });
    }
    let product_is_known = product.is_some();
    let product = product.map(str::to_owned).or(root.name);
    let manifest = build(selections, product, product_is_known, diagnostics);
    // Later messages have the names of Secrets.
    manifest.filter(|_| names_are_harmless)
}

/// A file that is read.
struct ReadDocument<'d> {
    node: &'d Node,
    file: &'d SourceFile,
    root: &'d Root<'d>,
}

/// Reports literal secrets. The custom patterns of a parent also hold for the manifest that inherits from it. Returns
/// whether names of Secrets are free of them.
fn check_literals(
    own: &ReadDocument<'_>,
    inherited: Option<&ReadDocument<'_>>,
    diagnostics: &mut Diagnostics,
) -> bool {
    let mut detector = |document: &ReadDocument<'_>| {
        literals::detector(&document.root.custom_patterns, document.file, diagnostics)
    };
    let own_detector = detector(own);
    let inherited = inherited.map(|document| (document, detector(document)));
    let of_parent = inherited.iter().map(|(_, detector)| detector);
    let detectors: Vec<_> = of_parent.chain([&own_detector]).collect();
    let own_names = literals::check(own.node, own.file, &detectors, diagnostics);
    let inherited_names = inherited.as_ref().is_none_or(|(document, detector)| {
        literals::check(document.node, document.file, &[detector], diagnostics)
    });
    own_names && inherited_names
}

fn parse(file: &SourceFile, diagnostics: &mut Diagnostics) -> Option<Node> {
    file.parse()
        .map_err(|finding| diagnostics.add(finding))
        .ok()
}

/// Checks that exactly a manifest of a domain has a parent.
fn check_scope(
    root: &Root<'_>,
    parent: Option<&Root<'_>>,
    files: &ManifestFiles,
    diagnostics: &mut Diagnostics,
) {
    let is_domain = root.scope == Some(ManifestScope::Domain);
    let mut at = |file, position: Position, message: &str| {
        FieldReader::new(file, diagnostics).within("scope", |reader| {
            reader.error(Rule::ManifestField, position, message);
        });
    };
    match parent {
        None if is_domain => at(
            &files.manifest,
            root.scope_position,
            "is domain, so the manifest needs the one that it inherits from; give it by --parent FILE",
        ),
        Some(_) if !is_domain => at(
            &files.manifest,
            root.scope_position,
            "is not domain, so the manifest has no parent; remove --parent, or write scope: domain",
        ),
        _ => {}
    }
    if let (Some(parent), Some(file)) = (parent, &files.parent)
        && parent.scope == Some(ManifestScope::Domain)
    {
        at(
            file,
            parent.scope_position,
            "is domain, and a domain cannot be the parent of another; name the enterprise's manifest by --parent",
        );
    }
}

/// Selections by category. The manifest's own win over those of its parent.
fn merge<'n>(
    own: BTreeMap<&'static str, Selection<'n>>,
    parent: Option<BTreeMap<&'static str, Selection<'n>>>,
) -> BTreeMap<&'static str, Selection<'n>> {
    let mut merged = parent.unwrap_or_default();
    merged.extend(own);
    merged
}

/// Reads the configuration of every selected plugin.
fn build(
    selections: BTreeMap<&'static str, Selection<'_>>,
    product: Option<String>,
    product_is_known: bool,
    diagnostics: &mut Diagnostics,
) -> Option<Manifest> {
    let secrets = secrets_plugin::read(selections.get("secrets"), diagnostics);
    let mut plugins = BTreeMap::new();
    for (category, selection) in selections {
        let mut reader = FieldReader::new(selection.file, diagnostics);
        let mut config = ConfigReader {
            product: product.as_deref(),
            product_is_known,
            is_rendered: category == "compute",
            default_source: secrets.default_source,
        };
        let plugin = reader.within("plugins", |reader| {
            reader.within(category, |reader| selection.read(&mut config, reader))
        });
        if let Some(plugin) = plugin {
            plugins.insert(category.to_owned(), plugin);
        }
    }
    Some(Manifest {
        product: product?,
        plugins,
        default_source: secrets.default_source,
        infisical: secrets.infisical,
    })
}

#[cfg(test)]
mod tests;
