//! Colour of messages and tables.
//!
//! `auto` is colour on a terminal, unless `NO_COLOR` is set or `TERM` is `dumb`. Texts are coloured where they are
//! written, so that files and pipes never get escape sequences.

use std::ffi::OsStr;
use std::fmt::{self, Display};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use anstream::{AutoStream, ColorChoice};

/// Condition for colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum ColorWhen {
    /// On a terminal, unless `NO_COLOR` is set.
    #[default]
    Auto,
    /// In files and pipes as well.
    Always,
    /// Nowhere.
    Never,
}

impl ColorWhen {
    /// Finds `--color` in arguments that are not parsed yet, because errors of the parser have colour too.
    pub(crate) fn of_arguments<S: AsRef<OsStr>>(arguments: &[S]) -> Self {
        let mut texts = arguments
            .iter()
            .map(|argument| argument.as_ref().to_str().unwrap_or_default())
            .take_while(|text| *text != "--");
        let mut found = Self::Auto;
        while let Some(text) = texts.next() {
            let value = match text.strip_prefix("--color") {
                Some("") => texts.next(),
                Some(rest) => rest.strip_prefix('='),
                None => None,
            };
            found = match value {
                Some("always") => Self::Always,
                Some("never") => Self::Never,
                _ => found,
            };
        }
        found
    }

    /// Applies it to messages and tables of this process.
    pub(crate) fn apply(self) {
        let choice = self.choice();
        choice.write_global();
        let enabled = |automatic: ColorChoice| match choice {
            ColorChoice::Auto => automatic != ColorChoice::Never,
            choice => choice != ColorChoice::Never,
        };
        STDOUT.store(
            enabled(AutoStream::choice(&io::stdout())),
            Ordering::Relaxed,
        );
        STDERR.store(
            enabled(AutoStream::choice(&io::stderr())),
            Ordering::Relaxed,
        );
    }

    fn choice(self) -> ColorChoice {
        match self {
            Self::Auto => ColorChoice::Auto,
            Self::Always => ColorChoice::Always,
            Self::Never => ColorChoice::Never,
        }
    }
}

impl From<ColorWhen> for clap::ColorChoice {
    fn from(when: ColorWhen) -> Self {
        match when {
            ColorWhen::Auto => Self::Auto,
            ColorWhen::Always => Self::Always,
            ColorWhen::Never => Self::Never,
        }
    }
}

static STDOUT: AtomicBool = AtomicBool::new(false);
static STDERR: AtomicBool = AtomicBool::new(false);

/// Stream that a text is written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

/// Colours by meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    Bad,
    Doubtful,
    Good,
    Neutral,
}

impl Tone {
    /// Tone of a message's level, as in `error: `.
    pub(crate) fn of_level(level: &str) -> Self {
        if level.starts_with("error") {
            Self::Bad
        } else if level.starts_with("warning") {
            Self::Doubtful
        } else {
            Self::Neutral
        }
    }

    fn code(self) -> &'static str {
        match self {
            Self::Bad => "\x1b[1;31m",
            Self::Doubtful => "\x1b[1;33m",
            Self::Good => "\x1b[32m",
            Self::Neutral => "\x1b[1;36m",
        }
    }
}

/// `text` in a colour, if the stream has colour. Widths of columns are those of the bare text.
pub(crate) fn paint<T: Display>(stream: Stream, tone: Tone, text: T) -> impl Display {
    let is_enabled = match stream {
        Stream::Stdout => &STDOUT,
        Stream::Stderr => &STDERR,
    };
    Painted {
        tone: is_enabled.load(Ordering::Relaxed).then_some(tone),
        text,
    }
}

struct Painted<T> {
    tone: Option<Tone>,
    text: T,
}

impl<T: Display> Display for Painted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.tone {
            Some(tone) => write!(f, "{}{}\x1b[0m", tone.code(), self.text),
            None => self.text.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn color_is_found_before_arguments_are_parsed() {
        let found = |arguments: &[&str]| ColorWhen::of_arguments(arguments);
        assert_eq!(found(&["scan"]), ColorWhen::Auto);
        assert_eq!(found(&["--color", "never", "scan"]), ColorWhen::Never);
        assert_eq!(found(&["scan", "--color=always"]), ColorWhen::Always);
        assert_eq!(
            found(&["scan", "--color"]),
            ColorWhen::Auto,
            "no value follows"
        );
        assert_eq!(found(&["--", "--color=always"]), ColorWhen::Auto);
    }

    #[test]
    fn text_is_bare_without_colour() {
        assert_eq!(
            paint(Stream::Stderr, Tone::Bad, "error: ").to_string(),
            "error: "
        );
    }
}
