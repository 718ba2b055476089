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
pub(crate) struct DidYouMean<'a>(pub &'a Option<String>);

impl fmt::Display for DidYouMean<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .as_ref()
            .map_or(Ok(()), |near| write!(f, " Did you mean \"{near}\"?"))
    }
}
