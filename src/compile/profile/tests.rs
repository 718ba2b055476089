//! Tests of scalars and keys: what `PyYAML` and the YAML parser here read from them.

use super::*;

#[rstest::rstest]
#[case(1.0, "1.0")]
#[case(0.1, "0.1")]
#[case(1e16, "1.0e+16")]
#[case(-1.5e300, "-1.5e+300")]
#[case(1e-7, "1.0e-7")]
fn floats_are_numbers_of_yaml_1_1(#[case] value: f64, #[case] expected: &str) {
    assert_eq!(float(value), expected);
}

#[rstest::rstest]
#[case("password", "password")]
#[case("y", "\"y\"")]
#[case("off", "\"off\"")]
#[case("null", "\"null\"")]
#[case("customer-360", "\"customer-360\"")]
#[case("1a", "\"1a\"")]
#[case("", "\"\"")]
#[case("a: b", "\"a: b\"")]
fn keys_are_quoted_unless_they_are_words(#[case] name: &str, #[case] expected: &str) {
    assert_eq!(key(name), expected);
}

#[test]
fn quoted_text_is_one_printable_line_and_reads_back() {
    let text = "\u{0}\u{7f}\u{85}\u{a0}\u{2028}\u{feff}\u{fffe}\u{1f600}é\"\\\n\r\t#: ";
    let yaml = quoted(text);
    assert!(
        yaml.chars()
            .all(|c| (' '..='~').contains(&c) || c.is_alphanumeric()),
        "{yaml}"
    );
    let node = crate::yaml::parse(&yaml, crate::yaml::YamlLimits::HAND_WRITTEN).unwrap();
    assert_eq!(node.text(), Some(text));
}

#[test]
fn strings_of_expressions_cannot_end_early() {
    assert_eq!(
        jinja_string("it's \\ }} {{\n"),
        r"'it\'s \\ \u007d\u007d \u007b\u007b\n'"
    );
}
