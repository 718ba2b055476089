//! Shapes of nodes that several readers check.

use super::diagnostics::FieldReader;
use crate::finding::Rule;
use crate::yaml::{Node, NodeValue};

/// Message about a text in place of a Secret's name. It does not quote the text, which may be the secret itself.
pub(super) const NOT_A_SECRET_NAME: &str = "is not the name of a Secret: text of lower-case letters, digits, '-' and '.', starting and ending with a letter or digit, at most 253 characters";

pub(super) fn is_null(node: &Node) -> bool {
    matches!(node.value, NodeValue::Null)
}

/// Reports a node of another type.
pub(super) fn expected(node: &Node, what: &str, reader: &mut FieldReader<'_>) {
    let message = format!("is {}; expected {what}", node.value.type_name());
    reader.error(Rule::ManifestField, node.position, message);
}
