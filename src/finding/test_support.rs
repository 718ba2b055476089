//! Findings for tests of their formats.

use super::{FileFinding, FindingSeverity, Place, Rule};
use crate::yaml::Position;

pub(crate) fn finding(file: &str, line: usize) -> FileFinding {
    FileFinding {
        rule: Rule::Annotation,
        severity: FindingSeverity::Error,
        place: Place {
            file: file.into(),
            position: Some(Position { line, column: 7 }),
            field: "metadata.annotations".to_owned(),
        },
        message: "annotation a: 100% wrong,\nbad: b".to_owned(),
        excerpt: Some("  a: …".to_owned()),
    }
}
