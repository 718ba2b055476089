//! Options of every command.

use std::path::PathBuf;

use clap::{Args, ValueHint};

use super::color::ColorWhen;

/// Options of every command.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Global options")]
pub struct GlobalArgs {
    /// Configuration file, YAML. Flags and the environment override it. See docs/CONFIGURATION.md.
    #[arg(
        long,
        global = true,
        env = "FLOE_SECRETS_CONFIG",
        value_name = "FILE",
        value_hint = ValueHint::FilePath
    )]
    pub config: Option<PathBuf>,
    /// Use colour: `auto` on a terminal, unless `NO_COLOR` is set.
    #[arg(
        long,
        global = true,
        value_enum,
        value_name = "WHEN",
        default_value = "auto"
    )]
    pub color: ColorWhen,
}
