//! The subcommands: one file for each, with its arguments and its composition root.

mod controller;
mod doctor;
mod inject;
mod process;
mod scan;
mod serve;
mod traces;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use self::controller::ControllerArgs;
use self::doctor::DoctorArgs;
use self::inject::InjectArgs;
use self::scan::ScanArgs;
use self::serve::ServeArgs;
pub use self::serve::routes;

/// Injects the secrets that pods ask for by name.
#[derive(Debug, Parser)]
#[command(
    name = "floe-secrets-webhook",
    version,
    about,
    propagate_version = true
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the admission webhook.
    Serve(Box<ServeArgs>),
    /// Watch over what was injected: the drift scan and retries of refused pods, by the one replica that leads.
    ///
    /// Admission never depends on it. The drift scan is what `scan` does, from time to time, told by a metric and
    /// Events. Owners of refused pods are retried as soon as the secrets that they wait for exist.
    Controller(Box<ControllerArgs>),
    /// Inject into manifests, offline: YAML or JSON in, the same out, patched.
    ///
    /// Patched manifests go to stdout, messages to stderr. Exit code 0: injected, or nothing to do; 1: refused, and
    /// nothing was printed; 2: the call or its input cannot be read.
    Inject(Box<InjectArgs>),
    /// Find what runs without the secrets that it asks for.
    ///
    /// Pods and workloads that were created while the webhook was away, or changed by another webhook later; and workloads
    /// whose containers lost a Secret in the latest revision, because an annotation was removed. Looks with your own
    /// rights (get and list on pods, workloads and their revisions) and reads no Secret. A long run says on stderr how far it
    /// is. Exit code 0: nothing found; 1: found; 2: not everything could be looked at.
    Scan(Box<ScanArgs>),
    /// Find out whether an installation is healthy, and what mends it.
    ///
    /// Looks from outside, with your own rights: the webhook configuration, the CA and the certificate, Service,
    /// replicas, rights, cert-manager, Reloader. Then it asks the API server to create a pod that asks for a secret that
    /// nobody has, as a dry run: only when the webhook's own sentence comes back does everything work. It changes
    /// nothing, and what you may not look at is not checked. Exit code 0: healthy, warnings or not; 1: something failed;
    /// 2: nothing could be looked at.
    Doctor(Box<DoctorArgs>),
}

impl Cli {
    /// Runs the subcommand to its end.
    #[must_use]
    pub fn run(self) -> ExitCode {
        match self.command {
            Command::Serve(args) => serve::run(*args, std::sync::Arc::new(jiff::Timestamp::now)),
            Command::Controller(args) => controller::run(*args),
            Command::Inject(args) => inject::run(*args),
            Command::Scan(args) => scan::run(*args),
            Command::Doctor(args) => doctor::run(*args, jiff::Timestamp::now),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser as _};

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[rstest::rstest]
    #[case(&["serve", "--tls-secret", "s", "--tls-poll"])]
    #[case(&["controller", "--tls-poll"])]
    #[case(&["controller", "--drift-interval"])]
    #[case(&["controller", "--tls-validity"])]
    #[case(&["controller", "--ca-grace"])]
    fn nothing_is_done_again_without_a_pause(#[case] args: &[&str]) {
        let parse = |value| {
            Cli::try_parse_from(["floe-secrets-webhook"].iter().chain(args).chain([&value]))
        };
        for short in ["0s", "999ms"] {
            let error = parse(short).unwrap_err().to_string();
            assert!(
                error.contains(&format!("{short:?} is too short; the least is 1s")),
                "{error}"
            );
        }
        assert!(parse("1s").is_ok());
    }

    #[test]
    fn a_selector_that_is_none_is_rejected_with_its_flag() {
        let parse = |value| {
            Cli::try_parse_from([
                "floe-secrets-webhook",
                "controller",
                "--object-selector",
                value,
            ])
        };
        let error = parse("tier of (a)").unwrap_err().to_string();
        assert!(
            error.contains("--object-selector") && error.contains("is not a label selector"),
            "{error}"
        );
        let Command::Controller(args) = parse("tier in (a,b)").unwrap().command else {
            panic!("another command")
        };
        assert_eq!(args.selectors.object_selector.to_string(), "tier in (a,b)");
        assert!(args.selectors.namespace_selector.is_empty());
    }

    #[test]
    fn serve_takes_1_to_64_worker_threads() {
        let parsed = |more: &[&str]| {
            let serve = ["floe-secrets-webhook", "serve", "--tls-secret", "tls"];
            match Cli::try_parse_from(serve.iter().chain(more)).ok()?.command {
                Command::Serve(args) => Some(args.listener.worker_threads),
                _ => None,
            }
        };
        assert_eq!(parsed(&[]), Some(None));
        assert_eq!(parsed(&["--worker-threads", "1"]), Some(Some(1)));
        assert_eq!(parsed(&["--worker-threads", "64"]), Some(Some(64)));
        assert_eq!(
            (
                parsed(&["--worker-threads", "0"]),
                parsed(&["--worker-threads", "65"])
            ),
            (None, None)
        );
    }
}
