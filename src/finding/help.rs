//! Sections of the documentation that describe rules.

use super::Rule;

/// Page that describes every rule, in the repository.
const PAGE: &str = "docs/LINT.md";

/// Page and section of a rule, as in `docs/LINT.md#literal-secrets`.
pub(super) fn page(rule: Rule) -> String {
    let section = rule.section().to_lowercase().replace(' ', "-");
    format!("{PAGE}#{section}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documentation_has_every_section_and_rule() {
        let root = env!("CARGO_MANIFEST_DIR");
        let text = std::fs::read_to_string(format!("{root}/{PAGE}")).unwrap();
        for rule in Rule::ALL {
            let heading = format!("\n## {}\n", rule.section());
            assert!(text.contains(&heading), "no section for {}", rule.id());
            let section = text.split(&heading).nth(1).unwrap();
            let section = section.split("\n## ").next().unwrap();
            let row = format!("| `{}` |", rule.id());
            assert!(section.contains(&row), "no row for {}", rule.id());
        }
        assert_eq!(page(Rule::LiteralSecret), "docs/LINT.md#literal-secrets");
    }
}
