//! Parsing of one document.

use super::error::{YamlError, YamlProblem};
use super::limits::YamlLimits;
use super::node::{Node, NodeValue, Position};
use crate::stack::on_large_stack;

/// Parses the one document of a text. An empty text is null.
///
/// # Errors
/// The first syntax error, or the limit that the text exceeds.
pub(crate) fn parse(text: &str, limits: YamlLimits) -> Result<Node, YamlError> {
    if text.len() > limits.bytes {
        return Err(YamlError {
            position: None,
            problem: YamlProblem::TooLarge(limits.bytes),
        });
    }
    let parsed = on_large_stack(STACK_BYTES, || {
        let text = text.trim_start_matches('\u{feff}');
        let parsed: Result<Option<Node>, _> =
            serde_saphyr::from_str_with_options(text, options(limits));
        let parsed = parsed.map_err(|error| YamlError::new(error.without_snippet(), limits))?;
        let node = parsed.unwrap_or(Node {
            position: Position { line: 1, column: 1 },
            value: NodeValue::Null,
        });
        match node.long_key(limits.key_bytes) {
            None => Ok(node),
            position => Err(YamlError {
                position,
                problem: YamlProblem::LongKey(limits.key_bytes),
            }),
        }
    });
    parsed.unwrap_or(Err(YamlError {
        position: None,
        problem: YamlProblem::NotRead,
    }))
}

/// Bytes of the parser's stack, which holds all levels that [`YamlLimits`] allow. A level of a document takes up to 40 KiB of it in builds without optimization.
const STACK_BYTES: usize = 16 * 1024 * 1024;

/// Options of the parser: the scalars of YAML 1.1. Duplicate keys are an error.
fn options(limits: YamlLimits) -> serde_saphyr::Options {
    serde_saphyr::options! {
        legacy_octal_numbers: true,
        strict_booleans: false,
        ignore_binary_tag_for_string: true,
        with_snippet: false,
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: limits.nodes,
        },
        budget: serde_saphyr::budget! {
            max_events: 4 * limits.nodes,
            max_nodes: limits.nodes,
            max_depth: limits.depth,
            flow_nesting_limit: limits.depth,
            max_aliases: limits.aliases,
            max_anchors: limits.aliases,
            max_documents: 1,
            max_total_scalar_bytes: limits.bytes,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_have_the_type_and_position_that_python_reads() {
        let node = parse(
            "a: 1\nb:\n  - \"007\"\n  - yes\n  - 1.5\nc: {d: ~, e: 012}\n",
            YamlLimits::HAND_WRITTEN,
        )
        .unwrap();
        assert_eq!(node.get("a").unwrap().value, NodeValue::Integer(1));
        let items = node.get("b").unwrap().items().unwrap();
        assert_eq!(items[0].text(), Some("007"));
        assert_eq!(items[0].position, Position { line: 3, column: 5 });
        assert_eq!(items[1].value, NodeValue::Bool(true));
        assert_eq!(items[2].value, NodeValue::Float(1.5));
        let map = node.get("c").unwrap();
        assert_eq!(map.get("d").unwrap().value, NodeValue::Null);
        assert_eq!(map.get("e").unwrap().value, NodeValue::Integer(10));
        assert_eq!(
            map.entries().unwrap()[1].key_position,
            Position {
                line: 6,
                column: 11
            }
        );
    }

    #[test]
    fn single_letters_are_text_as_in_python() {
        let node = parse("a: y\nb: &n n\nc: *n\nd: off\n", YamlLimits::HAND_WRITTEN).unwrap();
        let text = |key: &str| node.get(key).unwrap().text().map(str::to_owned);
        assert_eq!(text("a").as_deref(), Some("y"));
        assert_eq!(text("b").as_deref(), Some("n"));
        assert_eq!(text("c").as_deref(), Some("n"));
        assert_eq!(node.get("d").unwrap().value, NodeValue::Bool(false));
    }

    #[test]
    fn empty_text_is_null() {
        assert_eq!(
            parse("", YamlLimits::HAND_WRITTEN).unwrap().value,
            NodeValue::Null
        );
        assert_eq!(
            parse("# only\n", YamlLimits::HAND_WRITTEN).unwrap().value,
            NodeValue::Null
        );
    }

    #[test]
    fn errors_have_a_position_and_no_text_of_the_document() {
        for (text, line, problem) in [
            ("a: hunter2\na: hunter2\n", Some(2), "twice"),
            ("a: *hunter2\n", Some(1), "alias"),
            ("a: [hunter2\nb: c\n", Some(2), "not valid YAML"),
            ("a: \"hunter2\n", Some(1), "not valid YAML"),
            ("a: hunter2\n---\nb: c\n", Some(2), "second document"),
            ("a: .inf\n", None, "infinite"),
        ] {
            let error = parse(text, YamlLimits::HAND_WRITTEN).unwrap_err();
            let message = error.to_string();
            assert!(message.contains(problem), "{text:?}: {message}");
            assert!(!message.contains("hunter2"), "{message}");
            if line.is_some() {
                assert_eq!(error.position.map(|at| at.line), line, "{text:?}");
            }
        }
    }

    #[test]
    fn limits_are_enforced() {
        let problem = |text: &str| parse(text, YamlLimits::HAND_WRITTEN).unwrap_err().problem;
        let deep = "[".repeat(65) + &"]".repeat(65);
        assert_eq!(problem(&deep), YamlProblem::TooDeep(64));
        let nested: String = (0..65).map(|at| "  ".repeat(at) + "a:\n").collect();
        assert_eq!(problem(&nested), YamlProblem::TooDeep(64));
        assert!(matches!(
            problem(&"a: b # \n".repeat(200_000)),
            YamlProblem::TooLarge(_)
        ));
        let long = format!("a:\n- {}: x\n", "k".repeat(254));
        assert_eq!(problem(&long), YamlProblem::LongKey(253));
        let limits = YamlLimits {
            key_bytes: 254,
            ..YamlLimits::HAND_WRITTEN
        };
        assert!(parse(&long, limits).is_ok());
        assert_eq!(
            parse(&long, YamlLimits::HAND_WRITTEN).unwrap_err().position,
            Some(Position { line: 2, column: 3 })
        );
        let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
        for level in 1..9 {
            let before = level - 1;
            let items = vec![format!("*a{before}"); 10].join(",");
            bomb.push_str(
                &[
                    "a",
                    &level.to_string(),
                    ": &a",
                    &level.to_string(),
                    " [",
                    &items,
                    "]\n",
                ]
                .concat(),
            );
        }
        assert_eq!(problem(&bomb), YamlProblem::TooManyNodes);
    }
}
