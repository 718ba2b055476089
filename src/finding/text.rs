//! Findings as text: place, severity, message and rule on one line, the masked source line below it.

use std::io::{self, Write};

use super::{FileFinding, printable};

pub(super) fn write(findings: &[FileFinding], out: &mut dyn Write) -> io::Result<()> {
    for finding in findings {
        let (severity, rule) = (finding.severity.as_str(), finding.rule.id());
        write!(out, "{}", printable(&finding.place.file))?;
        if let Some(at) = finding.place.position {
            write!(out, ":{}:{}", at.line, at.column)?;
        }
        let message = printable(&finding.message);
        writeln!(out, ": {severity}: {message} [{rule}]")?;
        if let (Some(at), Some(excerpt)) = (finding.place.position, &finding.excerpt) {
            writeln!(out, "{:>6} | {}", at.line, printable(excerpt))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::test_support::finding;

    #[test]
    fn names_begin_no_line_and_control_no_terminal() {
        let mut hostile = finding("a\n::error::b.yaml", 3);
        hostile.message = "Pod \"s\n::error file=x::forged\u{1b}[31m\"".to_owned();
        hostile.excerpt = Some("a\u{1b}[31m: …".to_owned());
        let mut out = Vec::new();
        write(&[hostile], &mut out).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "a\\n::error::b.yaml:3:7: error: Pod \"s\\n::error file=x::forged\\u{1b}[31m\" [annotation]\n     3 | a\\u{1b}[31m: …\n"
        );
    }
}
