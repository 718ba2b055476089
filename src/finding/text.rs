//! Findings as text: place, severity, message and rule on one line, the masked source line below it.

use std::io::{self, Write};

use super::FileFinding;

pub(super) fn write(findings: &[FileFinding], out: &mut dyn Write) -> io::Result<()> {
    for finding in findings {
        let (severity, rule) = (finding.severity.as_str(), finding.rule.id());
        write!(out, "{}", finding.place.file)?;
        if let Some(at) = finding.place.position {
            write!(out, ":{}:{}", at.line, at.column)?;
        }
        writeln!(out, ": {severity}: {} [{rule}]", finding.message)?;
        if let (Some(at), Some(excerpt)) = (finding.place.position, &finding.excerpt) {
            writeln!(out, "{:>6} | {excerpt}", at.line)?;
        }
    }
    Ok(())
}
