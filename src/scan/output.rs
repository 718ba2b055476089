//! Output of findings as a table or as JSON.

use std::io::{self, Write};

use serde_json::json;

use super::finding::{Finding, ScanStats};

const HEADER: [&str; 5] = ["NAMESPACE", "KIND", "NAME", "OWNER", "PROBLEM"];

/// Prints a table. Each further problem of an object is on its own line. Without findings, nothing is printed.
pub(crate) fn table(findings: &[Finding], out: &mut dyn Write) -> io::Result<()> {
    if findings.is_empty() {
        return Ok(());
    }
    let mut rows = vec![HEADER];
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

/// The findings as one JSON object.
pub(crate) fn to_json(findings: &[Finding], stats: ScanStats) -> serde_json::Value {
    json!({ "findings": findings, "looked": stats })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_columns_are_aligned() {
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
        let mut empty = Vec::new();
        table(&[], &mut empty).unwrap();
        assert!(empty.is_empty());
    }
}
