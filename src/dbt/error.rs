//! Errors of a profile that dbt could not load, without any value.

use std::fmt;

use crate::yaml::Position;

/// Problem of a profile, and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RenderError {
    /// Path in the profile, as in `outputs.dev.port`.
    pub path: String,
    pub position: Option<Position>,
    pub problem: RenderProblem,
}

/// Problem of one value, or of the profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RenderProblem {
    /// The file has no profile of this name.
    NoProfile(String),
    /// The profile has no map of outputs.
    NoOutputs,
    /// The profile has no target of the wanted name.
    NoTarget,
    /// The output of the target is not a map.
    NotAMap,
    /// A variable that is not set, and has no default.
    MissingVariable(String),
    /// Jinja that is not valid, or fails.
    Jinja(&'static str),
    /// Jinja that is not evaluated here.
    Unsupported(&'static str),
    /// `as_number` of text that is not a number.
    NotANumber,
    /// `as_bool` of text other than `True` and `False`.
    NotABoolean,
    /// Two variables that begin with `DBT_ENV_SECRET` in one value.
    TwoSecrets,
    /// The system has no thread for the renderer.
    NoThread,
    /// A template that is longer than this limit.
    TooLong(usize),
}

impl fmt::Display for RenderProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoProfile(name) => write!(f, "the file has no profile {name:?}. Correct the name, or add the profile."),
            Self::NoOutputs => f.write_str("the profile has no outputs. Add a map of them."),
            Self::NoTarget => f.write_str("the profile has no output of the target's name. Correct the target, or add the output."),
            Self::NotAMap => f.write_str("the output is not a map. Write the fields of a connection."),
            Self::MissingVariable(name) => write!(f, "the variable {name:?} is not set, and the expression has no default. Set it, or add a default."),
            Self::Jinja(kind) => write!(f, "dbt cannot render the Jinja here: {kind}. Correct the expression."),
            Self::Unsupported(feature) => write!(f, "{feature} in profiles is not evaluated here, so the variables of the field are not known. Write an expression without it."),
            Self::NotANumber => f.write_str("as_number gets text that is not a number. Correct the variable, or remove the filter."),
            Self::NotABoolean => f.write_str("as_bool takes only True and False. Compare with == 'true' in lower case instead."),
            Self::TwoSecrets => f.write_str("dbt ends with a KeyError when one value has two variables whose names begin with DBT_ENV_SECRET. Put the whole value into one variable."),
            Self::NoThread => {
                f.write_str("the profile cannot be rendered, because no thread can be started. Run the command again.")
            }
            Self::TooLong(limit) => write!(f, "the text with Jinja is longer than {limit} bytes. Shorten it."),
        }
    }
}

impl fmt::Display for RenderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        self.problem.fmt(f)
    }
}

impl std::error::Error for RenderError {}
