//! Lines of files, without more memory than a line may have.

use std::fs::File;
use std::io::{self, BufRead, Read as _};
use std::path::Path;

use crate::audit::input::MAX_INPUT_LINE;

/// Limit of a file of keys or of checkpoints in bytes.
pub(super) const MAX_FILE_BYTES: u64 = 16 << 20;

/// Reads lines without their newlines, and returns their number. Bytes of a line beyond [`MAX_INPUT_LINE`] are read and
/// not kept.
pub(super) fn read_lines(mut input: impl BufRead, mut push: impl FnMut(&[u8])) -> io::Result<u64> {
    let (mut line, mut lines, mut has_bytes) = (Vec::new(), 0, false);
    loop {
        let chunk = match input.fill_buf() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            chunk => chunk?,
        };
        if chunk.is_empty() {
            if has_bytes {
                push(&line);
                lines += 1;
            }
            return Ok(lines);
        }
        let end = chunk.iter().position(|byte| *byte == b'\n');
        let content = chunk.get(..end.unwrap_or(chunk.len())).unwrap_or(chunk);
        let room = MAX_INPUT_LINE.saturating_sub(line.len());
        line.extend_from_slice(content.get(..room).unwrap_or(content));
        let consumed = content.len() + usize::from(end.is_some());
        has_bytes = end.is_none();
        input.consume(consumed);
        if end.is_some() {
            push(&line);
            lines += 1;
            line.clear();
        }
    }
}

/// Lines of a small file with their numbers, without empty ones and comments, which begin with `#`.
///
/// # Errors
/// A sentence: the file cannot be read, is not text, or is too large.
pub(super) fn lines_of_file(file: &Path) -> Result<Vec<(usize, String)>, String> {
    let mut text = String::new();
    let read = File::open(file)
        .and_then(|opened| opened.take(MAX_FILE_BYTES + 1).read_to_string(&mut text));
    let bytes = read.map_err(|error| format!("{} cannot be read: {error}", file.display()))?;
    if bytes as u64 > MAX_FILE_BYTES {
        return Err(format!(
            "{} is larger than {MAX_FILE_BYTES} bytes: keep fewer lines in it",
            file.display()
        ));
    }
    let lines = (1..)
        .zip(text.lines())
        .map(|(number, line)| (number, line.trim()));
    Ok(lines
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
        .map(|(number, line)| (number, line.to_owned()))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::BufReader;

    fn lines(input: &[u8], buffer: usize) -> Vec<Vec<u8>> {
        let mut found = Vec::new();
        let reader = BufReader::with_capacity(buffer, input);
        let count = read_lines(reader, |line| found.push(line.to_vec())).unwrap();
        assert_eq!(count, found.len() as u64);
        found
    }

    #[test]
    fn lines_are_read_across_the_ends_of_buffers() {
        for buffer in [1, 2, 3, 64] {
            assert_eq!(lines(b"", buffer), Vec::<Vec<u8>>::new());
            assert_eq!(lines(b"a\n\nbc", buffer), [&b"a"[..], b"", b"bc"]);
            assert_eq!(lines(b"abc\n", buffer), [b"abc"]);
        }
    }

    #[test]
    fn line_is_not_kept_beyond_its_limit() {
        let mut input = vec![b'x'; 3 * MAX_INPUT_LINE];
        input.extend_from_slice(b"\nnext");
        let found = lines(&input, 1 << 13);
        assert_eq!(found[0].len(), MAX_INPUT_LINE);
        assert_eq!(found[1], b"next");
    }
}
