//! `--check`: files on disk against what would be written, and the difference as a unified diff.
//!
//! Files on disk may have anything, secrets included. Lines of them that would not be written as they are stand in the
//! diff with every value masked.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use similar::{ChangeTag, TextDiff};

use crate::yaml::masked_line;

/// Limit of bytes of a file on disk that is compared line by line.
pub(crate) const MAX_DIFF_BYTES: usize = 4 << 20;

/// Limit of lines of one diff.
pub(crate) const MAX_DIFF_LINES: usize = 400;

/// Time after which the search for the shortest difference is given up, and a longer one is shown.
const DIFF_TIMEOUT: Duration = Duration::from_secs(1);

/// State of one file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum FileState {
    Current,
    Missing,
    /// With the diff, or without if the file is not text or too large.
    Stale(Option<String>),
}

/// Compares a file with the text that it should have.
///
/// # Errors
/// The problem, to follow the file's name.
pub(crate) fn compare(path: &Path, name: &str, expected: &str) -> Result<FileState, String> {
    let cannot = |error| format!("cannot be read: {error}");
    // The kind is checked first, because opening a pipe waits for its writer.
    match std::fs::metadata(path) {
        Ok(found) if found.is_file() => {}
        Ok(_) => return Err("is not a regular file; remove it".to_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(FileState::Missing);
        }
        Err(error) => return Err(cannot(error)),
    }
    let file = std::fs::File::open(path).map_err(cannot)?;
    let mut bytes = Vec::new();
    let most = MAX_DIFF_BYTES.max(expected.len());
    let limit = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    file.take(limit).read_to_end(&mut bytes).map_err(cannot)?;
    if bytes == expected.as_bytes() {
        return Ok(FileState::Current);
    }
    let found = String::from_utf8(bytes).ok();
    let found = found.filter(|found| found.len().max(expected.len()) <= MAX_DIFF_BYTES);
    Ok(FileState::Stale(
        found.map(|found| diff(name, &found, expected)),
    ))
}

/// Unified diff from a file on disk to what would be written.
fn diff(name: &str, found: &str, expected: &str) -> String {
    let fields: BTreeSet<&str> = expected.lines().filter_map(field_of).collect();
    let diff = TextDiff::configure()
        .timeout(DIFF_TIMEOUT)
        .diff_lines(found, expected);
    let mut lines = vec![format!("--- {name}"), format!("+++ {name} (compiled)")];
    for hunk in diff.unified_diff().context_radius(3).iter_hunks() {
        lines.push(hunk.header().to_string());
        for change in hunk.iter_changes() {
            let line = change.value().trim_end_matches(['\n', '\r']);
            lines.push(match change.tag() {
                ChangeTag::Equal => format!(" {line}"),
                ChangeTag::Insert => format!("+{line}"),
                ChangeTag::Delete => {
                    format!("-{}", masked_line(line, &|field| fields.contains(field)))
                }
            });
        }
    }
    let omitted = lines.len().saturating_sub(MAX_DIFF_LINES);
    lines.truncate(MAX_DIFF_LINES);
    let mut text = lines.join("\n");
    text.push('\n');
    if omitted > 0 {
        let _ = writeln!(text, "… and {omitted} more lines");
    }
    text
}

/// Field that a line of ours begins with.
fn field_of(line: &str) -> Option<&str> {
    let content = line.trim_start_matches([' ', '-']);
    content
        .split_once(':')
        .map(|(field, _)| field)
        .filter(|field| !field.is_empty())
}

/// Files of earlier runs that are no longer written.
pub(crate) fn leftover(
    folder: &Path,
    possible: impl Iterator<Item = String>,
    written: &BTreeMap<String, String>,
) -> Vec<String> {
    possible
        .filter(|name| !written.contains_key(name) && folder.join(name).exists())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_on_disk_are_masked_and_ours_are_shown() {
        let found = "a: 1\npassword: hunter2\nextra: hunter2\n- hunter2\n";
        let expected = "a: 1\npassword: \"{{ env_var('P') }}\"\n";
        let text = diff("f", found, expected);
        assert_eq!(
            text,
            "--- f\n+++ f (compiled)\n@@ -1,4 +1,2 @@\n a: 1\n-password: …\n-…\n-- …\n+password: \"{{ env_var('P') }}\"\n"
        );
    }

    #[test]
    fn diff_is_cut_at_its_limit() {
        let text = diff("f", "", &"x: y\n".repeat(1000));
        assert_eq!(text.lines().count(), MAX_DIFF_LINES + 1);
        assert!(text.ends_with("… and 603 more lines\n"), "{text}");
    }

    #[test]
    fn file_is_current_missing_or_stale() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        assert_eq!(compare(&path, "f", "a\n"), Ok(FileState::Missing));
        std::fs::write(&path, "a\n").unwrap();
        assert_eq!(compare(&path, "f", "a\n"), Ok(FileState::Current));
        std::fs::write(&path, b"\xff").unwrap();
        assert_eq!(compare(&path, "f", "a\n"), Ok(FileState::Stale(None)));
        std::fs::write(&path, "x".repeat(MAX_DIFF_BYTES + 1)).unwrap();
        assert_eq!(compare(&path, "f", "a\n"), Ok(FileState::Stale(None)));
        assert!(compare(folder.path(), "f", "a\n").is_err());
    }

    #[test]
    fn pipe_is_refused_without_waiting_for_its_writer() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&path).status();
        assert!(made.unwrap().success());
        let compared = crate::compile::files::in_time(move || compare(&path, "f", "a\n"));
        assert!(compared.unwrap_err().contains("not a regular file"));
    }
}
