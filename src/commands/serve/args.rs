//! Arguments of `serve`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::super::serving::ServingArgs;
use crate::admission::policy::{OnAuditFailure, OnUnavailable, SecretNameMode};
use crate::cli::{KubernetesArgs, PodProxyArgs, SecretNameArgs, SidecarArgs, TelemetryArgs};
use crate::recorder::shipping::{CollectorUrl, ShippingSettings};

#[derive(Debug, Args)]
pub struct ServeArgs {
    #[command(flatten)]
    pub kubernetes: KubernetesArgs,
    #[command(flatten)]
    pub proxy: PodProxyArgs,
    #[command(flatten)]
    pub policy: PolicyArgs,
    #[command(flatten)]
    pub recorder: RecorderArgs,
    #[command(flatten)]
    pub listener: ListenerArgs,
    #[command(flatten)]
    pub telemetry: TelemetryArgs,
}

/// Policy of the operator.
#[derive(Clone, Debug, Args)]
pub struct PolicyArgs {
    #[command(flatten)]
    pub sidecars: SidecarArgs,
    /// Response to a pod while a secrets backend is unavailable.
    #[arg(
        long,
        env = "FLOE_SECRETS_ON_UNAVAILABLE",
        value_enum,
        default_value = "deny"
    )]
    pub on_unavailable: OnUnavailable,
    /// Namespace that this program runs in; its pods are never mutated.
    #[arg(long, env = "FLOE_SECRETS_OWN_NAMESPACE", value_name = "NAME")]
    pub own_namespace: Option<String>,
    /// More namespaces whose pods are never mutated, besides its own, kube-system and kube-node-lease.
    #[arg(
        long,
        env = "FLOE_SECRETS_EXEMPT_NAMESPACES",
        value_name = "LIST",
        value_delimiter = ','
    )]
    pub exempt_namespaces: Vec<String>,
    /// Read Secrets only in these namespaces. Default: all.
    #[arg(
        long,
        env = "FLOE_SECRETS_NAMESPACES",
        value_name = "LIST",
        value_delimiter = ','
    )]
    pub namespaces: Vec<String>,
    /// Inject into the pod templates of workloads too, and not only into pods. Server-side apply of a template by two
    /// field managers may then lead to conflicts.
    #[arg(
        long,
        env = "FLOE_SECRETS_WORKLOADS_INJECT_TEMPLATE",
        value_name = "true|false",
        action = clap::ArgAction::Set,
        num_args = 0..=1,
        require_equals = true,
        default_value_t = false,
        default_missing_value = "true"
    )]
    pub workloads_inject_template: bool,
    #[command(flatten)]
    pub secret_names: SecretNameArgs,
    /// Response to an object that asks for a secret whose name does not match --secret-name-pattern.
    #[arg(
        long,
        env = "FLOE_SECRETS_SECRET_NAME_MODE",
        value_enum,
        default_value = "warn"
    )]
    pub secret_name_mode: SecretNameMode,
    /// Declare that only the API server can reach the admission port, because of a client certificate or a
    /// `NetworkPolicy`. Otherwise, responses have no names that the author did not write: `name/*` is refused, and no
    /// names are suggested.
    #[arg(
        long,
        env = "FLOE_SECRETS_TRUSTED_CALLERS",
        value_name = "true|false",
        action = clap::ArgAction::Set,
        num_args = 0..=1,
        require_equals = true,
        default_value_t = false,
        default_missing_value = "true"
    )]
    pub trusted_callers: bool,
}

/// Audit trail.
#[derive(Clone, Debug, Args)]
pub struct RecorderArgs {
    /// Output of the audit trail: `stdout` writes records between the lines of the log.
    #[arg(long, env = "FLOE_SECRETS_AUDIT", value_enum, default_value = "stdout")]
    pub audit: AuditOutput,
    /// Name of the cluster in each record of the audit trail. Default: the uid of the Namespace kube-system.
    #[arg(long, env = "FLOE_SECRETS_AUDIT_CLUSTER_NAME", value_name = "NAME")]
    pub audit_cluster_name: Option<String>,
    /// Response to an object that asks for secrets, if its record cannot be written.
    #[arg(
        long,
        env = "FLOE_SECRETS_AUDIT_ON_FAILURE",
        value_enum,
        default_value = "ignore"
    )]
    pub audit_on_failure: OnAuditFailure,
    /// Collector that stores the audit trail, such as `https://HOST:9444`. Records wait in --audit-spool until it has
    /// stored them. --audit-collector-ca, --audit-token and --audit-spool are required with it.
    #[arg(long, env = "FLOE_SECRETS_AUDIT_COLLECTOR", value_name = "URL")]
    pub audit_collector: Option<CollectorUrl>,
    /// CA of the collector's certificate, PEM. It is read again when it changes.
    #[arg(long, env = "FLOE_SECRETS_AUDIT_COLLECTOR_CA", value_name = "FILE")]
    pub audit_collector_ca: Option<PathBuf>,
    /// Token of the pod's `ServiceAccount` for the audience `floe-secrets-audit`. It is read again when it changes.
    #[arg(long, env = "FLOE_SECRETS_AUDIT_TOKEN", value_name = "FILE")]
    pub audit_token: Option<PathBuf>,
    /// Folder in which records wait for the collector, on a volume that is kept when the container restarts.
    #[arg(long, env = "FLOE_SECRETS_AUDIT_SPOOL", value_name = "DIR")]
    pub audit_spool: Option<PathBuf>,
    /// Uid of the pod that this program runs in; begins the id of its chain of records.
    #[arg(long, env = "FLOE_SECRETS_POD_UID", value_name = "UID")]
    pub pod_uid: Option<String>,
    /// Name of the pod, which is an argument of the traces.
    #[arg(skip)]
    pub pod_name: Option<String>,
}

impl RecorderArgs {
    /// Checks that the collector has all that it needs.
    ///
    /// # Errors
    /// A sentence that names the flags and the settings.
    pub fn check(&self) -> Result<(), String> {
        let files = [
            (
                "--audit-collector-ca (audit.collectorCA)",
                &self.audit_collector_ca,
            ),
            ("--audit-token (audit.token)", &self.audit_token),
            ("--audit-spool (audit.spool)", &self.audit_spool),
        ];
        if self.audit_collector.is_none() {
            let unused = files.iter().find(|(_, file)| file.is_some());
            return unused.map_or(Ok(()), |(name, _)| {
                Err(format!(
                    "{name} is about the collector of the audit trail: set --audit-collector (audit.collector) too, or \
                     remove it"
                ))
            });
        }
        if self.audit == AuditOutput::Off {
            return Err(
                "--audit-collector (audit.collector) requires an audit trail: set --audit stdout (audit.output), or \
                 remove it"
                    .to_owned(),
            );
        }
        let missing = files.iter().find(|(_, file)| file.is_none());
        missing.map_or(Ok(()), |(name, _)| {
            Err(format!(
                "--audit-collector (audit.collector) requires {name}"
            ))
        })
    }

    /// Collector and its files; `None` without a collector.
    pub(super) fn shipping(&self) -> Option<(ShippingSettings, PathBuf)> {
        let settings = ShippingSettings {
            collector: self.audit_collector.clone()?,
            ca: self.audit_collector_ca.clone()?,
            token: self.audit_token.clone()?,
        };
        Some((settings, self.audit_spool.clone()?))
    }
}

/// Output of the audit trail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AuditOutput {
    Off,
    Stdout,
}

/// Listener of the admission port.
#[derive(Clone, Debug, Args)]
pub struct ListenerArgs {
    /// Address of the admission port, over TLS.
    #[arg(
        long,
        env = "FLOE_SECRETS_LISTEN",
        value_name = "ADDRESS",
        default_value = "0.0.0.0:8443"
    )]
    pub listen: SocketAddr,
    /// Require from callers a client certificate that is signed by this CA, PEM. The API server must have one.
    #[arg(long, env = "FLOE_SECRETS_TLS_CLIENT_CA", value_name = "FILE")]
    pub tls_client_ca: Option<PathBuf>,
    #[command(flatten)]
    pub serving: ServingArgs,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use rstest::rstest;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        recorder: RecorderArgs,
    }

    fn check(line: &str) -> Result<(), String> {
        let line = ["serve"].into_iter().chain(line.split_whitespace());
        Line::try_parse_from(line)
            .map_err(|error| error.to_string())?
            .recorder
            .check()
    }

    const COLLECTOR: &str = "--audit-collector https://admin:9444";

    #[rstest]
    #[case("", "")]
    #[case("--audit-spool /spool", "set --audit-collector")]
    #[case("--audit off --audit-collector https://a", "requires an audit trail")]
    #[case("--audit-collector http://a", "called over TLS")]
    #[case(COLLECTOR, "requires --audit-collector-ca")]
    #[case(&format!("{COLLECTOR} --audit-collector-ca ca"), "requires --audit-token")]
    #[case(
        &format!("{COLLECTOR} --audit-collector-ca ca --audit-token t"),
        "requires --audit-spool (audit.spool)"
    )]
    #[case(
        &format!("{COLLECTOR} --audit-collector-ca ca --audit-token t --audit-spool s"),
        ""
    )]
    fn collector_requires_its_files(#[case] line: &str, #[case] expected: &str) {
        match check(line) {
            Ok(()) => assert_eq!(expected, ""),
            Err(error) => {
                assert!(!expected.is_empty(), "{error}");
                assert!(error.contains(expected), "{error}");
            }
        }
    }
}
