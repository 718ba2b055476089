//! Choices of the command line.

/// Choices that a plan depends on.
#[derive(Clone, Debug)]
pub(crate) struct PlanOptions {
    pub profile_name: String,
    pub targets: Vec<String>,
    pub default_target: String,
    pub connection_keys: ConnectionKeys,
    /// Write `env-from` for the connection's secret, whose keys are then named like the variables.
    pub env_from: bool,
    /// Name variables with secrets so that dbt hides their values.
    pub mask: bool,
}

/// Names of the data keys of a connection's secret.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum ConnectionKeys {
    /// `SNOWFLAKE_PASSWORD`.
    #[default]
    Variable,
    /// `password`.
    Field,
}
