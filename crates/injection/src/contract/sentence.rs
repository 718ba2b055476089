//! Parts of sentences that errors and warnings share.

use std::fmt;

/// Writes `"a", "b"`.
pub(crate) fn quoted(names: &[String]) -> String {
    names
        .iter()
        .map(|name| format!("\"{name}\""))
        .collect::<Vec<_>>()
        .join(", ")
}

/// Writes `a, b and 2 more`.
#[derive(Clone, Copy)]
pub(crate) struct Listed<'a>(pub &'a [String], pub usize);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(", "))?;
        if self.1 == 0 {
            Ok(())
        } else {
            write!(f, " and {} more", self.1)
        }
    }
}

/// Writes ` Did you mean "x"?`, or nothing.
#[derive(Clone, Copy)]
pub(crate) struct DidYouMean<'a>(pub Option<&'a str>);

impl fmt::Display for DidYouMean<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .map_or(Ok(()), |near| write!(f, " Did you mean \"{near}\"?"))
    }
}
