//! Source lines for messages, with every scalar replaced.

/// Limit of a line in a message, in characters.
const MAX_LINE: usize = 120;

/// A source line in which everything but indentation, list dashes and known field names is `…`.
///
/// Works on the text of the line alone, so that a file with a syntax error can be shown too: what a parser took for
/// a key there may be the rest of a secret. `is_field` has the field names that may be shown.
pub(crate) fn masked_line(line: &str, is_field: &dyn Fn(&str) -> bool) -> String {
    let content = line.trim_start_matches([' ', '\t']);
    let indent = line.chars().count() - content.chars().count();
    let mut masked = " ".repeat(indent.min(MAX_LINE));
    let mut rest = content.trim_end();
    while let Some(after) = rest.strip_prefix('-')
        && (after.is_empty() || after.starts_with(' '))
    {
        let item = after.trim_start_matches(' ');
        masked.push('-');
        masked.push_str(&" ".repeat((after.len() - item.len()).min(MAX_LINE)));
        rest = item;
    }
    if let Some((key, value)) = rest.split_once(':')
        && (value.is_empty() || value.starts_with(' '))
        && is_field(key)
    {
        masked.push_str(key);
        masked.push(':');
        rest = value.trim_start();
        if !rest.is_empty() {
            masked.push(' ');
        }
    }
    if !rest.is_empty() {
        masked.push('…');
    }
    masked.chars().take(MAX_LINE).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[rstest::rstest]
    #[case("  password: hunter2  # hunter2", "  password: …")]
    #[case("  password:", "  password:")]
    #[case("- - password: hunter2", "- - password: …")]
    #[case("hunter2: password", "…")]
    #[case("password:hunter2", "…")]
    #[case("\"password\": hunter2", "…")]
    #[case("{password: hunter2}", "…")]
    #[case("-hunter2", "…")]
    #[case("   ", "   ")]
    #[case("\thunter2", " …")]
    fn scalars_are_masked(#[case] line: &str, #[case] masked: &str) {
        assert_eq!(masked_line(line, &|key| key == "password"), masked);
    }

    #[test]
    fn long_lines_are_cut() {
        let line = format!("{}password: x", " ".repeat(1_000_000));
        assert_eq!(masked_line(&line, &|_| true).len(), MAX_LINE);
    }
}
