//! Values in `config`: references, Jinja and placeholders.

use injection::SecretSource;

use super::diagnostics::FieldReader;
use super::reference;
use crate::compile::jinja;
use crate::compile::model::{ConfigField, ConfigItem, ConfigValue, TemplatePart};
use crate::finding::Rule;
use crate::yaml::{Entry, Node, NodeValue};

/// Field that makes a map a reference.
const SECRET_REF: &str = "secretRef";

/// Suffix of fields that name a Secret by text, in older pages of floe.
const TEXT_REFERENCE: &str = "_secret_ref";

/// Reader of one plugin's `config`.
pub(super) struct ConfigReader<'r> {
    /// Name for placeholders.
    pub product: Option<&'r str>,
    /// Whether the name is that of the product, and not of the platform's manifest.
    pub product_is_known: bool,
    /// Whether dbt renders the values, because they become a part of the profile.
    pub is_rendered: bool,
    /// Source of references that name none.
    pub default_source: SecretSource,
}

impl ConfigReader<'_> {
    /// Fields of a map; none if it is not one.
    pub(super) fn fields(&mut self, node: &Node, reader: &mut FieldReader<'_>) -> Vec<ConfigField> {
        let entries = node.entries().unwrap_or_default();
        entries
            .iter()
            .filter_map(|entry| reader.within(&entry.key, |reader| self.field(entry, reader)))
            .collect()
    }

    /// A field; `None` for a text reference in a config that dbt reads.
    fn field(&mut self, entry: &Entry, reader: &mut FieldReader<'_>) -> Option<ConfigField> {
        if self.is_rendered && jinja::has_jinja(&entry.key) {
            reader.error(
                Rule::Template,
                entry.key_position,
                "is a field whose name has Jinja, which dbt would run; write the name itself",
            );
        }
        let is_text_reference = entry.key.ends_with(TEXT_REFERENCE) && entry.node.text().is_some();
        if is_text_reference {
            reader.warning(
                Rule::ReferenceAsText,
                entry.node.position,
                format!(
                    "is text, and not read as a reference; write {}: {{secretRef: {{name: …, key: …}}}} in its place",
                    field_of_text_reference(&entry.key)
                ),
            );
        }
        let value = self.value(&entry.node, reader);
        let is_left_out = is_text_reference && self.is_rendered;
        (!is_left_out).then(|| ConfigField {
            name: entry.key.clone(),
            value,
            place: reader
                .file
                .place(Some(entry.node.position), reader.path.to_string()),
        })
    }

    fn value(&mut self, node: &Node, reader: &mut FieldReader<'_>) -> ConfigValue {
        match &node.value {
            NodeValue::Null => ConfigValue::Null,
            NodeValue::Bool(value) => ConfigValue::Bool(*value),
            NodeValue::Integer(value) => ConfigValue::Integer(*value),
            NodeValue::Unsigned(value) => ConfigValue::Unsigned(*value),
            NodeValue::Float(value) => ConfigValue::Float(*value),
            NodeValue::Text(text) => self.text(text, node, reader),
            NodeValue::List(items) => ConfigValue::List(self.items(items, reader)),
            NodeValue::Map(entries) => match node.get(SECRET_REF) {
                None => ConfigValue::Map(self.fields(node, reader)),
                Some(_) if entries.len() > 1 => {
                    reader.error(
                        Rule::Reference,
                        node.position,
                        "has other fields beside secretRef, which stands in place of the whole value; remove them",
                    );
                    ConfigValue::Null
                }
                Some(reference) => reader
                    .within(SECRET_REF, |reader| {
                        reference::read(reference, self.default_source, reader)
                    })
                    .map_or(ConfigValue::Null, ConfigValue::Reference),
            },
        }
    }

    fn items(&mut self, items: &[Node], reader: &mut FieldReader<'_>) -> Vec<ConfigItem> {
        let items = items.iter().enumerate();
        items
            .map(|(index, item)| {
                reader.within_item(index, |reader| ConfigItem {
                    value: self.value(item, reader),
                    place: reader
                        .file
                        .place(Some(item.position), reader.path.to_string()),
                })
            })
            .collect()
    }

    /// Text, with its expressions read and its placeholders expanded.
    fn text(&mut self, text: &str, node: &Node, reader: &mut FieldReader<'_>) -> ConfigValue {
        if !text.contains('{') {
            return ConfigValue::Text(text.to_owned());
        }
        match jinja::parse(text) {
            Ok(Some(parts)) => {
                let expand = |part| match part {
                    TemplatePart::Text(text) => {
                        TemplatePart::Text(self.expand(&text, node, reader))
                    }
                    variable @ TemplatePart::EnvVar { .. } => variable,
                };
                ConfigValue::Template(parts.into_iter().map(expand).collect())
            }
            Ok(None) => ConfigValue::Text(self.expand(text, node, reader)),
            // Text for other programs, whose expressions dbt never sees.
            Err(_) if !self.is_rendered => ConfigValue::Text(self.expand(text, node, reader)),
            Err(error) => {
                reader.error(Rule::Template, node.position, error.to_string());
                ConfigValue::Null
            }
        }
    }

    fn expand(&self, text: &str, node: &Node, reader: &mut FieldReader<'_>) -> String {
        const NAME: &str = "{product_name}";
        const SLUG: &str = "{product_slug}";
        if !text.contains(NAME) && !text.contains(SLUG) {
            return text.to_owned();
        }
        if !self.product_is_known {
            reader.error(
                Rule::ManifestField,
                node.position,
                "has a placeholder for the product, whose name is not known; give the product's floe.yaml by --spec",
            );
        }
        let product = self.product.unwrap_or_default();
        text.replace(NAME, product).replace(SLUG, &slug(product))
    }
}

/// Field that a text reference is about: `password` of `password_secret_ref`.
fn field_of_text_reference(key: &str) -> &str {
    let field = key.strip_suffix(TEXT_REFERENCE).unwrap_or(key);
    match super::diagnostics::shown_key(field) {
        "" => "…",
        field => field,
    }
}

/// Name for file systems and databases: letters, digits and single underscores.
fn slug(product: &str) -> String {
    let is_safe = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut slug = String::new();
    for c in product.chars() {
        if is_safe(c) {
            slug.push(c);
        } else if !slug.ends_with(REPLACED) {
            slug.push(REPLACED);
        }
    }
    let slug = slug.replace(REPLACED, "_");
    match slug.trim_matches('_') {
        "" => "product".to_owned(),
        slug => slug.to_owned(),
    }
}

/// Stands for a run of replaced characters until the slug is complete. Not a safe character itself.
const REPLACED: char = '-';

#[cfg(test)]
mod tests {
    use super::*;

    #[rstest::rstest]
    #[case("customer-360", "customer_360")]
    #[case("a--b", "a_b")]
    #[case("a-_-b", "a___b")]
    #[case("-a-", "a")]
    #[case("--", "product")]
    #[case("", "product")]
    #[case("A b.c", "A_b_c")]
    fn slug_has_safe_characters(#[case] product: &str, #[case] expected: &str) {
        assert_eq!(slug(product), expected);
    }
}
