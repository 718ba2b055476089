//! Messages of a run on standard error: findings, and the summary.

use std::fmt::{self, Write as _};
use std::io::Write;

use super::demand::{Delivery, Demand, Elsewhere};
use super::manifest::Diagnostics;
use super::plan::Compiled;
use crate::finding::{FileFinding, FindingSeverity};

/// Limit of names that the summary lists of one kind.
pub(crate) const MAX_LISTED: usize = 50;

/// Writes a line. A failure to write to standard error cannot be reported anywhere.
pub(super) fn line(err: &mut dyn Write, message: impl fmt::Display) {
    drop(writeln!(err, "{message}"));
}

/// Writes all findings, each with its masked line.
pub(super) fn findings(diagnostics: &Diagnostics, err: &mut dyn Write) {
    for finding in diagnostics.sorted() {
        line(err, finding_text(finding));
    }
    let (errors, warnings) = diagnostics.omitted();
    for (count, kind) in [(errors, "error"), (warnings, "warning")] {
        if count > 0 {
            line(err, format_args!("{kind}: {count} more are not shown"));
        }
    }
}

fn finding_text(finding: &FileFinding) -> String {
    let level = match finding.severity {
        FindingSeverity::Error => "error",
        FindingSeverity::Warning => "warning",
    };
    let mut text = format!("{level}: {finding} [{}]", finding.rule.id());
    if let Some(excerpt) = &finding.excerpt {
        let number = finding.place.position.map_or(0, |at| at.line);
        let _ = write!(text, "\n  {number} | {excerpt}");
    }
    text
}

/// Writes what was compiled: the profile, the annotations, and the variables that must come from elsewhere.
pub(super) fn summary(profile: &str, from: &str, compiled: &Compiled, err: &mut dyn Write) {
    line(err, format_args!("profile {profile:?} ({from})"));
    names("variables", compiled.demands.iter().map(demanded), err);
    names("annotations", compiled.annotations.keys(), err);
    for (category, output) in &compiled.plugins {
        let variables = output.demands.iter().map(demanded);
        names(&format!("variables of {category}"), variables, err);
        let annotations = output.annotations.keys();
        names(&format!("annotations of {category}"), annotations, err);
    }
    let of_plugins = compiled
        .plugins
        .values()
        .flat_map(|output| &output.elsewhere);
    let elsewhere: Vec<_> = compiled.elsewhere.iter().chain(of_plugins).collect();
    names(
        "variables that must come from elsewhere",
        elsewhere.into_iter().map(from_elsewhere),
        err,
    );
}

fn demanded(demand: &Demand) -> String {
    match demand.delivery {
        Delivery::Whole => format!("all keys of secret {}", demand.reference.secret),
        _ => format!("{} (secret {})", demand.variable, demand.reference),
    }
}

fn from_elsewhere(variable: &Elsewhere) -> String {
    let default = if variable.default {
        ", has a default"
    } else {
        ""
    };
    format!("{} ({}{default})", variable.variable, variable.place)
}

fn names<T: fmt::Display>(
    title: &str,
    names: impl ExactSizeIterator<Item = T>,
    err: &mut dyn Write,
) {
    let count = names.len();
    if count == 0 {
        return;
    }
    line(err, format_args!("{title}: {count}"));
    for name in names.take(MAX_LISTED) {
        line(err, format_args!("  {name}"));
    }
    if count > MAX_LISTED {
        line(err, format_args!("  and {} more", count - MAX_LISTED));
    }
}
