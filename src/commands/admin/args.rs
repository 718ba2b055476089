//! Arguments of `admin`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, ValueHint};

use super::super::serving::ServingArgs;
use crate::attribution::DEFAULT_CONTROLLERS;
use crate::cli::values::{duration, size};
use crate::cli::{KubernetesArgs, PodProxyArgs, TelemetryArgs};
use crate::identity::kubernetes::ServiceAccountName;
use crate::store::StoreLocation;

#[derive(Debug, Args)]
pub struct AdminArgs {
    #[command(flatten)]
    pub kubernetes: KubernetesArgs,
    #[command(flatten)]
    pub proxy: PodProxyArgs,
    #[command(flatten)]
    pub trail: TrailArgs,
    #[command(flatten)]
    pub collector: CollectorArgs,
    #[command(flatten)]
    pub serving: ServingArgs,
    #[command(flatten)]
    pub telemetry: TelemetryArgs,
}

/// Store of the audit trail, and what is done with it.
#[derive(Clone, Debug, Args)]
pub struct TrailArgs {
    /// Audit store: a file on a local volume, or the URL of a PostgreSQL database without its password. It is created if
    /// it does not exist.
    #[arg(
        long = "store",
        env = "FLOE_SECRETS_AUDIT_STORE",
        value_name = "FILE|URL",
        value_hint = ValueHint::FilePath
    )]
    pub audit_store: Option<String>,
    /// File with the password of the database, read at each connection.
    #[arg(
        long = "store-password-file",
        env = "FLOE_SECRETS_AUDIT_STORE_PASSWORD_FILE",
        value_name = "FILE",
        value_hint = ValueHint::FilePath
    )]
    pub audit_store_password_file: Option<PathBuf>,
    /// File with the CA that the certificate of the database is verified with. Required, unless the URL has
    /// sslmode=disable.
    #[arg(
        long = "store-ca-file",
        env = "FLOE_SECRETS_AUDIT_STORE_CA_FILE",
        value_name = "FILE",
        value_hint = ValueHint::FilePath
    )]
    pub audit_store_ca_file: Option<PathBuf>,
    /// Size at which the store is full. The volume of a file needs 96 MiB more.
    #[arg(
        long = "max-size",
        env = "FLOE_SECRETS_AUDIT_MAX_SIZE",
        value_name = "SIZE",
        default_value = "4Gi",
        value_parser = size
    )]
    pub audit_max_size: u64,
    /// Age after which lines are deleted.
    #[arg(
        long = "retention",
        env = "FLOE_SECRETS_AUDIT_RETENTION",
        value_name = "DURATION",
        default_value = "2160h",
        value_parser = duration
    )]
    pub audit_retention: std::time::Duration,
    /// Age below which lines stay, even if the store is full.
    #[arg(
        long = "min-age",
        env = "FLOE_SECRETS_AUDIT_MIN_AGE",
        value_name = "DURATION",
        default_value = "168h",
        value_parser = duration
    )]
    pub audit_min_age: std::time::Duration,
    /// Secret in the own namespace with the key that signs checkpoints. Without it there are no checkpoints, and no
    /// lines are deleted.
    #[arg(
        long = "checkpoint-key",
        env = "FLOE_SECRETS_AUDIT_CHECKPOINT_KEY",
        value_name = "NAME"
    )]
    pub audit_key_secret: Option<String>,
    /// Users that create pods for others, whose owners are followed to whoever asked.
    #[arg(
        long = "controllers",
        env = "FLOE_SECRETS_AUDIT_CONTROLLERS",
        value_name = "LIST",
        value_delimiter = ',',
        default_values = DEFAULT_CONTROLLERS
    )]
    pub audit_controllers: Vec<String>,
    /// Name of the cluster in each record of the audit trail. Default: the uid of the namespace kube-system.
    #[arg(long, env = "FLOE_SECRETS_AUDIT_CLUSTER_NAME", value_name = "NAME")]
    pub audit_cluster_name: Option<String>,
    /// Namespace that this program runs in.
    #[arg(long, env = "FLOE_SECRETS_OWN_NAMESPACE", value_name = "NAME")]
    pub own_namespace: Option<String>,
    /// Uid of the pod that this program runs in; begins the id of its chain of records.
    #[arg(long, env = "FLOE_SECRETS_POD_UID", value_name = "UID")]
    pub pod_uid: Option<String>,
}

/// Collector of lines.
#[derive(Clone, Debug, Args)]
pub struct CollectorArgs {
    /// Address of the collector, over TLS.
    #[arg(
        long,
        env = "FLOE_SECRETS_COLLECTOR_LISTEN",
        value_name = "ADDRESS",
        default_value = "0.0.0.0:9444"
    )]
    pub collector_listen: SocketAddr,
    /// ServiceAccounts whose pods may send lines, as NAMESPACE/NAME.
    #[arg(
        long = "senders",
        env = "FLOE_SECRETS_AUDIT_SENDERS",
        value_name = "LIST",
        value_delimiter = ','
    )]
    pub audit_senders: Vec<ServiceAccountName>,
}

impl TrailArgs {
    /// File or database of the store.
    ///
    /// # Errors
    /// A sentence without the text of a URL, which may have a password.
    pub(super) fn location(&self) -> Result<StoreLocation, String> {
        let text = self.audit_store.as_deref().unwrap_or_default();
        let location = StoreLocation::parse(text).map_err(|error| error.to_string())?;
        match &location {
            StoreLocation::Database(address)
                if address.has_tls() && self.audit_store_ca_file.is_none() =>
            {
                Err("the certificate of the audit store's database cannot be verified: set --store-ca-file (in the configuration file: audit.storeCA), or sslmode=disable in the URL to send everything unencrypted".to_owned())
            }
            _ => Ok(location),
        }
    }

    /// Namespace of this program.
    pub(super) fn own_namespace_or(&self, default: &str) -> String {
        let own = self.own_namespace.as_deref();
        own.unwrap_or(default).to_owned()
    }
}

impl AdminArgs {
    /// Checks that there are a certificate, a store and a sender.
    ///
    /// # Errors
    /// A sentence that names the flags and the settings.
    pub fn check(&self) -> Result<(), String> {
        self.serving.check()?;
        self.trail.location()?;
        let problem = if self.trail.audit_store.is_none() {
            "a store is required: set --store (in the configuration file: audit.store)"
        } else if self.collector.audit_senders.is_empty() {
            "ServiceAccounts that may send lines are required: set --senders (in the configuration file: audit.senders)"
        } else if self.trail.audit_min_age > self.trail.audit_retention {
            "--min-age (audit.minAge) is longer than --retention (audit.retention): lines would be deleted that have to stay"
        } else {
            return Ok(());
        };
        Err(problem.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use rstest::rstest;

    use super::*;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        args: AdminArgs,
    }

    const COMPLETE: [&str; 7] = [
        "admin",
        "--store",
        "audit.db",
        "--senders",
        "floe/webhook,floe/other",
        "--tls-secret",
        "tls",
    ];

    fn parse(args: &[&str]) -> AdminArgs {
        Program::try_parse_from(args)
            .map(|parsed| parsed.args)
            .unwrap()
    }

    #[test]
    fn arguments_have_the_documented_defaults() {
        let args = parse(&COMPLETE);
        assert_eq!(args.check(), Ok(()));
        assert_eq!(args.trail.audit_max_size, 4 << 30);
        assert_eq!(args.trail.audit_retention.as_secs(), 90 * 24 * 3600);
        assert_eq!(args.trail.audit_min_age.as_secs(), 7 * 24 * 3600);
        assert_eq!(args.trail.audit_controllers, DEFAULT_CONTROLLERS);
        assert_eq!(args.collector.audit_senders.len(), 2);
        assert_eq!(args.collector.collector_listen.port(), 9444);
    }

    #[rstest]
    #[case(&["admin", "--store", "a.db", "--senders", "a/b"], "a serving certificate is required")]
    #[case(&["admin", "--tls-secret", "tls", "--senders", "a/b"], "a store is required")]
    #[case(&["admin", "--tls-secret", "tls", "--store", "a.db"], "that may send lines are required")]
    fn missing_arguments_are_named(#[case] args: &[&str], #[case] expected: &str) {
        let error = parse(args).check().unwrap_err();
        assert!(error.contains(expected), "{error}");
    }

    #[rstest]
    #[case("postgres://floe:s3cret@db/audit", "has a password")]
    #[case("postgres://db/audit", "names no host, no user or no database")]
    #[case("postgres://floe@db/audit", "set --store-ca-file")]
    fn urls_are_checked_without_their_text(#[case] url: &str, #[case] expected: &str) {
        let mut args = COMPLETE;
        args[2] = url;
        let error = parse(&args).check().unwrap_err();
        assert!(
            error.contains(expected) && !error.contains("s3cret"),
            "{error}"
        );
        let unencrypted = "postgres://floe@db/audit?sslmode=disable";
        args[2] = unencrypted;
        assert_eq!(parse(&args).check(), Ok(()));
    }

    #[test]
    fn least_age_is_within_retention() {
        let args = [&COMPLETE[..], &["--retention", "24h", "--min-age", "25h"]].concat();
        let error = parse(&args).check().unwrap_err();
        assert!(error.contains("--min-age"), "{error}");
    }
}
