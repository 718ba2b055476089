//! Results on standard output and messages on standard error.

use std::fmt::Display;
use std::io::{self, Write};

use clap::Args;
use serde::Serialize;

use super::color::{Stream, Tone, paint};
use crate::telemetry::console::print_message;

/// Format of printed results.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum OutputFormat {
    /// Columns, for people.
    Table,
    /// One JSON object, for programs.
    Json,
    /// The JSON object as YAML.
    Yaml,
}

/// Format of a command that lists something.
#[derive(Clone, Copy, Debug, Args)]
pub struct OutputArgs {
    /// Output format.
    #[arg(
        short,
        long,
        value_enum,
        value_name = "FORMAT",
        default_value = "table"
    )]
    pub output: OutputFormat,
}

/// Writes a result to standard output. A reader that closed the pipe, such as `head`, has read what it needs.
///
/// # Errors
/// A sentence: standard output cannot be written.
pub(crate) fn print_result(
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), String> {
    let mut out = io::stdout().lock();
    match write(&mut out).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.map_err(|error| format!("standard output cannot be written: {error}")),
    }
}

/// Writes JSON, or the same as YAML.
///
/// # Errors
/// The output cannot be written.
pub(crate) fn write_structured(
    out: &mut dyn Write,
    format: OutputFormat,
    value: &impl Serialize,
) -> io::Result<()> {
    if format == OutputFormat::Yaml {
        let value = serde_json::to_value(value)?;
        let text = serde_saphyr::to_string(&value).map_err(io::Error::other)?;
        write!(out, "{text}")
    } else {
        serde_json::to_writer_pretty(&mut *out, value)?;
        writeln!(out)
    }
}

/// Writes aligned columns. The last column is as long as its text.
///
/// # Errors
/// The output cannot be written.
pub(crate) fn write_columns<const N: usize>(
    out: &mut dyn Write,
    rows: &[[String; N]],
) -> io::Result<()> {
    let mut widths = [0; N];
    for row in rows {
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
    Ok(())
}

/// Prints an error to standard error.
pub(crate) fn print_error(message: impl Display) {
    let level = "error: ";
    let level = paint(Stream::Stderr, Tone::of_level(level), level);
    print_message(&format!("{level}{message}\n"));
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn json_and_yaml_have_the_same_content() {
        let value = json!({"findings": [{"name": "a: b", "count": 1}], "note": "no"});
        let text = |format| {
            let mut out = Vec::new();
            write_structured(&mut out, format, &value).unwrap();
            String::from_utf8(out).unwrap()
        };
        let yaml: serde_json::Value = serde_saphyr::from_str(&text(OutputFormat::Yaml)).unwrap();
        assert_eq!(yaml, value);
        let json: serde_json::Value = serde_json::from_str(&text(OutputFormat::Json)).unwrap();
        assert_eq!(json, value);
    }

    #[test]
    fn columns_are_aligned_without_spaces_at_the_end() {
        let mut out = Vec::new();
        let row = |one: &str, two: &str| [one.to_owned(), two.to_owned()];
        write_columns(&mut out, &[row("A", "B"), row("long", "")]).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "A      B\nlong\n");
    }
}
