//! Findings for people, and for programs.

use std::io::{self, Write};

use serde_json::json;

use super::finding::{Finding, ScanStats};

const HEAD: [&str; 5] = ["NAMESPACE", "KIND", "NAME", "OWNER", "PROBLEM"];

/// A table; each further problem of an object stands in a line of its own. Nothing found is nothing printed.
pub(crate) fn table(findings: &[Finding], out: &mut dyn Write) -> io::Result<()> {
    if findings.is_empty() {
        return Ok(());
    }
    let mut rows = vec![HEAD];
    for finding in findings {
        let owner = finding.owner.as_deref().unwrap_or("-");
        for (index, problem) in finding.problems.iter().enumerate() {
            rows.push(if index == 0 {
                [
                    finding.namespace.as_str(),
                    finding.kind,
                    &finding.name,
                    owner,
                    problem,
                ]
            } else {
                ["", "", "", "", problem]
            });
        }
    }
    let mut widths = [0; 5];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    for row in rows {
        let cells: Vec<String> = row
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        writeln!(out, "{}", cells.join("   ").trim_end())?;
    }
    out.flush()
}

/// One JSON object.
pub(crate) fn json(findings: &[Finding], looked: ScanStats, out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer_pretty(
        &mut *out,
        &json!({ "findings": findings, "looked": looked }),
    )?;
    writeln!(out)?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_under_each_other() {
        let finding = |name: &str, owner: Option<&str>, problems: &[&str]| Finding {
            namespace: "jobs".to_owned(),
            api_version: "v1",
            kind: "Pod",
            name: name.to_owned(),
            uid: "u".to_owned(),
            owner: owner.map(str::to_owned),
            problems: problems.iter().map(|text| (*text).to_owned()).collect(),
        };
        let mut out = Vec::new();
        table(
            &[
                finding("a", None, &["x"]),
                finding("long-name", Some("Job/b"), &["y", "z"]),
            ],
            &mut out,
        )
        .unwrap();
        let expected = "\
NAMESPACE   KIND   NAME        OWNER   PROBLEM
jobs        Pod    a           -       x
jobs        Pod    long-name   Job/b   y
                                       z
";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
        let mut nothing = Vec::new();
        table(&[], &mut nothing).unwrap();
        assert!(nothing.is_empty());
    }
}
