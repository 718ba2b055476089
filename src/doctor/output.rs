//! Output of the checks: a table, or JSON.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::{Value, json};

use super::check::{Check, Status};
use crate::cli::color::{Stream, Tone, paint};

/// Writes a table with one row per check, and below it the fix.
pub(crate) fn write_table(checks: &[Check], out: &mut dyn Write) -> io::Result<()> {
    let mut rows = vec![(
        "CHECK".to_owned(),
        "STATUS".to_owned(),
        "MESSAGE".to_owned(),
    )];
    for Check {
        check,
        status,
        message,
        fix,
    } in checks
    {
        rows.push((check.to_string(), status.to_string(), message.clone()));
        if let Some(fix) = fix {
            rows.push((String::new(), String::new(), format!("→ {fix}")));
        }
    }
    let width = |of: fn(&(String, String, String)) -> &String| {
        rows.iter()
            .map(|row| of(row).chars().count())
            .max()
            .unwrap_or_default()
    };
    let (first, second) = (width(|row| &row.0), width(|row| &row.1));
    for (check, status, message) in &rows {
        let padding = " ".repeat(second - status.chars().count());
        let status = match tone(status) {
            Some(tone) => paint(Stream::Stdout, tone, status).to_string(),
            None => status.clone(),
        };
        writeln!(out, "{check:<first$}   {status}{padding}   {message}")?;
    }
    out.flush()
}

/// Colour of a status; `None` for the heading, and for rows without one.
fn tone(status: &str) -> Option<Tone> {
    match status {
        "" | "STATUS" => None,
        "ok" => Some(Tone::Good),
        "FAILURE" => Some(Tone::Bad),
        _ => Some(Tone::Doubtful),
    }
}

/// The checks as one JSON object.
pub(crate) fn to_json(checks: &[Check], healthy: bool) -> Value {
    #[derive(Default, Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Counts {
        ok: usize,
        warning: usize,
        failure: usize,
        not_checked: usize,
    }
    let mut counts = Counts::default();
    for check in checks {
        *match check.status {
            Status::Ok => &mut counts.ok,
            Status::Warning => &mut counts.warning,
            Status::Failure => &mut counts.failure,
            Status::NotChecked => &mut counts.not_checked,
        } += 1;
    }
    json!({"version": env!("CARGO_PKG_VERSION"), "healthy": healthy, "counts": counts, "checks": checks})
}

#[cfg(test)]
mod tests {
    use super::super::check::CheckId;
    use super::*;

    #[test]
    fn table_shows_the_fix_below_the_failure() {
        let checks = [
            Check::ok(CheckId::ApiServer, "1.36"),
            Check::failure(CheckId::CaBundle, "it is empty", "kubectl patch"),
            Check::unchecked(CheckId::Drift, "not asked for"),
        ];
        let mut out = Vec::new();
        write_table(&checks, &mut out).unwrap();
        let expected = "\
CHECK        STATUS        MESSAGE
api-server   ok            1.36
ca-bundle    FAILURE       it is empty
                           → kubectl patch
drift        not checked   not asked for
";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
        let read = to_json(&checks, false);
        let expected = json!({
            "version": env!("CARGO_PKG_VERSION"), "healthy": false,
            "counts": {"ok": 1, "warning": 0, "failure": 1, "notChecked": 1},
            "checks": [
                {"check": "api-server", "status": "ok", "message": "1.36"},
                {"check": "ca-bundle", "status": "failure", "message": "it is empty", "fix": "kubectl patch"},
                {"check": "drift", "status": "not-checked", "message": "not asked for"},
            ],
        });
        assert_eq!(read, expected);
    }
}
