//! The configuration file: one reader for every command, with sections of settings.
//!
//! [`ConfigFile::parse`] checks names and types, and reports every problem with its line and column. Values become
//! defaults of the arguments that have the same setting ([`apply`]), so that flags and the environment override them and
//! the parsers of arguments check them. A new section is a row of [`sections::SECTIONS`].

mod certificate_source;
mod effective;
mod error;
mod file;
mod merge;
mod schema;
mod sections;
mod setting;
mod types;

#[cfg(all(test, feature = "cluster"))]
pub(crate) use self::effective::Origin;
pub(crate) use self::effective::{EffectiveSetting, effective_settings};
pub(crate) use self::error::ConfigError;
pub(crate) use self::file::{ConfigFile, FileKind, read_content};
pub(crate) use self::merge::{apply, check_values};
pub(crate) use self::schema::schema;
#[cfg(all(test, feature = "cluster"))]
pub(crate) use self::sections::SECTIONS;
pub(crate) use self::sections::has_settings;
