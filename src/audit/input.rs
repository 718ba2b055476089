//! Lines of an input, put together where a container runtime split one or a pipeline wrote one on several lines.

use std::borrow::Cow;

use super::line::is_time;

/// Bytes of a line that is read, wrappers included. The rest of a longer one is not kept, so it is a broken line.
pub const MAX_INPUT_LINE: usize = 256 << 10;

/// Joins the lines of an input that are one.
#[derive(Debug, Default)]
pub(super) struct LineJoiner {
    /// Beginnings of lines of a CRI file, of stdout and of stderr.
    partial: [Vec<u8>; 2],
    /// JSON that began with a lone brace, and the brace's indentation.
    indented: Option<(usize, Vec<u8>)>,
}

impl LineJoiner {
    /// Adds a line without its newline. Returns a complete one.
    pub(super) fn push<'a>(&mut self, line: &'a [u8]) -> Option<Cow<'a, [u8]>> {
        let line = line.get(..MAX_INPUT_LINE).unwrap_or(line);
        if let Some((stream, is_complete, content)) = cri(line) {
            let partial = self.partial.get_mut(usize::from(stream))?;
            if is_complete && partial.is_empty() {
                return Some(Cow::Borrowed(content));
            }
            append(partial, content);
            return is_complete.then(|| Cow::Owned(std::mem::take(partial)));
        }
        let indentation = line.iter().take_while(|byte| **byte == b' ').count();
        let text = line.trim_ascii();
        let begins = text == b"{";
        match &mut self.indented {
            None if begins => {
                self.indented = Some((indentation, text.to_vec()));
                None
            }
            None => Some(Cow::Borrowed(line)),
            // The end of the object before is lost.
            Some((before, _)) if begins && *before == indentation => {
                let next = Some((indentation, text.to_vec()));
                let (_, json) = std::mem::replace(&mut self.indented, next)?;
                Some(Cow::Owned(json))
            }
            Some((before, json)) => {
                let is_end = *before == indentation && matches!(text, b"}" | b"},");
                append(json, if is_end { b"}" } else { text });
                let (_, json) = self.indented.take_if(|_| is_end)?;
                Some(Cow::Owned(json))
            }
        }
    }

    /// Lines that never ended.
    pub(super) fn finish(self) -> impl Iterator<Item = Vec<u8>> {
        let indented = self.indented.map(|(_, json)| json);
        let rest = self.partial.into_iter().chain(indented);
        rest.filter(|line| !line.is_empty())
    }
}

fn append(line: &mut Vec<u8>, more: &[u8]) {
    let room = MAX_INPUT_LINE.saturating_sub(line.len());
    line.extend_from_slice(more.get(..room).unwrap_or(more));
}

/// Stream, whether the line is complete, and content of a line of a CRI file: `TIME stdout F CONTENT`.
fn cri(line: &[u8]) -> Option<(bool, bool, &[u8])> {
    let mut fields = line.splitn(4, |byte| *byte == b' ');
    let (time, stream, tags) = (fields.next()?, fields.next()?, fields.next()?);
    let is_stderr = match stream {
        b"stdout" => false,
        b"stderr" => true,
        _ => return None,
    };
    let is_complete = match tags.split(|byte| *byte == b':').next()? {
        b"F" => true,
        b"P" => false,
        _ => return None,
    };
    let is_cri = std::str::from_utf8(time).is_ok_and(is_time);
    is_cri.then(|| (is_stderr, is_complete, fields.next().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(input: &str) -> Vec<String> {
        let mut joiner = LineJoiner::default();
        let mut lines: Vec<Vec<u8>> = Vec::new();
        for line in input.lines() {
            lines.extend(joiner.push(line.as_bytes()).map(Cow::into_owned));
        }
        lines.extend(joiner.finish());
        let text = |line| String::from_utf8(line).unwrap();
        lines.into_iter().map(text).collect()
    }

    #[test]
    fn cri_lines_are_joined_by_stream() {
        let input = "2026-11-28T12:00:00.1Z stdout P {\"a\":\n\
                     2026-11-28T12:00:00.2Z stderr F a warning\n\
                     2026-11-28T12:00:00.3+01:00 stdout F:tag  1}\n\
                     2026-11-28T12:00:00.4Z stdout F {}\n\
                     2026-11-28T12:00:00.5Z stdout P torn";
        assert_eq!(joined(input), ["a warning", "{\"a\": 1}", "{}", "torn"]);
    }

    #[test]
    fn indented_json_is_joined() {
        assert_eq!(
            joined("{\n  \"a\": {\n    \"b\": 1\n  }\n}\nx"),
            ["{\"a\": {\"b\": 1}}", "x"]
        );
        assert_eq!(
            joined("[\n  {\n    \"a\": 1\n  },\n  {\n  }\n]"),
            ["[", "{\"a\": 1}", "{}", "]"]
        );
        assert_eq!(joined("{\n  \"a\": 1\n{\n}\n{"), ["{\"a\": 1", "{}", "{"]);
    }

    #[test]
    fn long_lines_are_cut() {
        let long = "x".repeat(MAX_INPUT_LINE + 1);
        assert_eq!(joined(&long)[0].len(), MAX_INPUT_LINE);
        let parts = format!("2026-11-28T12:00:00.1Z stdout P {}\n", &long[..9 << 10]).repeat(40);
        let cri = parts + "2026-11-28T12:00:00.1Z stdout F x";
        assert_eq!(joined(&cri)[0].len(), MAX_INPUT_LINE);
        let indented = format!("{{\n{}}}", format!("  {}\n", &long[..9 << 10]).repeat(40));
        assert_eq!(joined(&indented)[0].len(), MAX_INPUT_LINE);
    }
}
