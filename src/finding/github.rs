//! Findings as workflow commands of GitHub Actions: `::error file=…,line=…,col=…,title=…::message`.

use std::io::{self, Write};

use super::{FileFinding, artifact, help, printable};

pub(super) fn write(findings: &[FileFinding], out: &mut dyn Write) -> io::Result<()> {
    for finding in findings {
        write!(out, "::{}", finding.severity.as_str())?;
        let path = artifact::relative_path(&finding.place.file);
        write!(out, " file={}", property(&path))?;
        if let Some(at) = finding.place.position {
            write!(out, ",line={},col={}", at.line, at.column)?;
        }
        write!(out, ",title={}", property(finding.rule.id()))?;
        let message = format!("{} ({})", finding.message, help::page(finding.rule));
        writeln!(out, "::{}", data(&message))?;
    }
    Ok(())
}

/// Escapes the message of a command.
fn data(text: &str) -> String {
    let text = text
        .replace('%', "%25")
        .replace('\r', "%0D")
        .replace('\n', "%0A");
    printable(&text).into_owned()
}

/// Escapes a property of a command, which ends at a comma or colon.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::test_support::finding;

    fn written(finding: FileFinding) -> String {
        let mut out = Vec::new();
        write(&[finding], &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn command_is_one_line_with_escapes() {
        assert_eq!(
            written(finding("a,b:c%\n\u{1b}.yaml", 3)),
            "::error file=a%2Cb%3Ac%25%0A\\u{1b}.yaml,line=3,col=7,title=annotation::annotation a: 100%25 wrong,%0Abad: b (docs/LINT.md#annotations)\n"
        );
        let mut whole = finding("a.yaml", 1);
        whole.place.position = None;
        assert!(written(whole).starts_with("::error file=a.yaml,title=annotation::"));
    }
}
