//! Subcommands: one file for each, with its arguments and its composition root.

#[cfg(feature = "cluster")]
mod controller;
#[cfg(feature = "cluster")]
mod doctor;
mod inject;
#[cfg(feature = "cluster")]
mod process;
#[cfg(feature = "cluster")]
mod scan;
#[cfg(feature = "cluster")]
mod serve;
#[cfg(feature = "cluster")]
mod traces;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[cfg(feature = "cluster")]
use self::controller::ControllerArgs;
#[cfg(feature = "cluster")]
use self::doctor::DoctorArgs;
use self::inject::InjectArgs;
#[cfg(feature = "cluster")]
use self::scan::ScanArgs;
#[cfg(feature = "cluster")]
use self::serve::ServeArgs;
#[cfg(feature = "cluster")]
pub use self::serve::routes;
#[cfg(feature = "cluster")]
use crate::clock::Clock;

/// Injects the secrets that pods request by name.
#[derive(Debug, Parser)]
#[command(
    name = "floe-secrets-webhook",
    version,
    about,
    propagate_version = true
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[cfg(feature = "cluster")]
    /// Serve the admission webhook.
    Serve(Box<ServeArgs>),
    #[cfg(feature = "cluster")]
    /// Run the controller: the drift scan and retries of refused pods, by the replica that leads.
    ///
    /// Admission never depends on it. The drift scan runs `scan` at an interval and reports by a metric and Events.
    /// Owners of refused pods are retried as soon as the secrets that they wait for exist.
    Controller(Box<ControllerArgs>),
    /// Inject into manifests, offline: reads YAML or JSON and prints it patched.
    ///
    /// Patched manifests go to stdout, messages to stderr. Exit code 0: injected, or nothing to do; 1: refused, nothing
    /// was printed; 2: the arguments or the input cannot be read.
    Inject(Box<InjectArgs>),
    #[cfg(feature = "cluster")]
    /// Find pods and workloads that run without the secrets that they request.
    ///
    /// Finds pods and workloads that were created while the webhook was unavailable, or changed later by another
    /// webhook, and workloads whose containers lost a Secret in the latest revision because an annotation was removed.
    /// Uses your own permissions (get and list on pods, workloads and their revisions) and reads no Secret. A long run
    /// reports its progress on stderr. Exit code 0: no findings; 1: findings; 2: not everything could be read.
    Scan(Box<ScanArgs>),
    #[cfg(feature = "cluster")]
    /// Check an installation, and print how to fix its problems.
    ///
    /// Checks from outside, with your own permissions: the webhook configuration, the CA and the certificate, Service,
    /// replicas, permissions, cert-manager, Reloader. Then it creates, as a dry run, a pod that requests a secret which
    /// does not exist: the installation works only if the webhook's own error is returned. It changes nothing, and
    /// objects that you may not read are not checked. Exit code 0: healthy, possibly with warnings; 1: a check failed;
    /// 2: nothing could be checked.
    Doctor(Box<DoctorArgs>),
}

impl Cli {
    #[must_use]
    pub fn run(self) -> ExitCode {
        match self.command {
            #[cfg(feature = "cluster")]
            Command::Serve(args) => serve::run(*args, Clock::system()),
            #[cfg(feature = "cluster")]
            Command::Controller(args) => controller::run(*args),
            Command::Inject(args) => inject::run(*args),
            #[cfg(feature = "cluster")]
            Command::Scan(args) => scan::run(*args),
            #[cfg(feature = "cluster")]
            Command::Doctor(args) => doctor::run(*args, &Clock::system()),
        }
    }
}

#[cfg(all(test, feature = "cluster"))]
mod tests {
    use clap::{CommandFactory as _, Parser as _};

    use super::*;

    #[test]
    fn command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[rstest::rstest]
    #[case(&["serve", "--tls-secret", "s", "--tls-poll"])]
    #[case(&["controller", "--tls-poll"])]
    #[case(&["controller", "--drift-interval"])]
    #[case(&["controller", "--tls-validity"])]
    #[case(&["controller", "--ca-grace"])]
    fn intervals_below_a_second_are_rejected(#[case] args: &[&str]) {
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
    fn invalid_selector_is_rejected_with_its_flag() {
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
                #[cfg(feature = "cluster")]
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
