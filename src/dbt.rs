//! Profiles of dbt, rendered as dbt 1.11 does: which variables they read, and what dbt gets from them.
//!
//! Jinja in a profile is somebody else's program, so its work is bounded: only expressions and `if`, no loops, no
//! multiplication, a few filters, and limits of length. Errors name the field and the problem, never a value.

mod error;
mod filters;
mod profile;
mod python;
mod template;

pub(crate) use self::error::{RenderError, RenderProblem};
pub(crate) use self::profile::{Rendered, rendered};
pub(crate) use self::template::{Environment, MAX_TEMPLATE};
