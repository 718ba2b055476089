//! Subcommands: one file for each, with its arguments and its composition root.

#[cfg(feature = "cluster")]
mod admin;
#[cfg(feature = "cluster")]
mod audit;
mod compile;
mod completions;
mod config;
#[cfg(feature = "cluster")]
mod controller;
#[cfg(feature = "cluster")]
mod doctor;
#[cfg(feature = "cluster")]
mod explain;
mod inject;
mod lint;
mod man;
mod policy;
#[cfg(feature = "cluster")]
mod process;
mod program;
#[cfg(feature = "cluster")]
mod reload;
#[cfg(feature = "cluster")]
mod rotation;
#[cfg(feature = "cluster")]
mod scan;
#[cfg(feature = "cluster")]
mod serve;
#[cfg(feature = "cluster")]
mod serving;
#[cfg(feature = "cluster")]
mod traces;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

#[cfg(feature = "cluster")]
use self::admin::AdminArgs;
#[cfg(feature = "cluster")]
use self::audit::AuditArgs;
use self::compile::CompileArgs;
use self::completions::CompletionsArgs;
use self::config::ConfigArgs;
#[cfg(feature = "cluster")]
use self::controller::ControllerArgs;
#[cfg(feature = "cluster")]
use self::doctor::DoctorArgs;
#[cfg(feature = "cluster")]
use self::explain::ExplainArgs;
use self::inject::InjectArgs;
use self::lint::LintArgs;
use self::man::ManArgs;
use self::policy::AdmissionPolicyArgs;
use self::program::{Invocation, ParseFailure, Parsed};
#[cfg(feature = "cluster")]
use self::rotation::RotationArgs;
#[cfg(feature = "cluster")]
use self::scan::ScanArgs;
#[cfg(feature = "cluster")]
use self::serve::ServeArgs;
#[cfg(feature = "cluster")]
pub use self::serve::routes;
use crate::cli::GlobalArgs;
#[cfg(feature = "cluster")]
use crate::clock::Clock;

/// Examples of the program's help.
const EXAMPLES: &str = "Examples:
  # Print a manifest with its secrets injected, without a cluster
  floe-secrets-webhook inject -f job.yaml

  # The options, examples and exit codes of a command
  floe-secrets-webhook help inject

Exit codes of commands: 0 done; 1 refused, or there are findings; 2 wrong arguments or unreadable input;
130 interrupted by Ctrl-C. docs/CLI.md has the table.";

/// Injects the secrets that pods request by name.
#[derive(Debug, Parser)]
#[command(
    name = "floe-secrets-webhook",
    version,
    about,
    propagate_version = true,
    after_help = EXAMPLES
)]
pub struct Cli {
    #[command(flatten)]
    global: GlobalArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[cfg(feature = "cluster")]
    /// Serve the admission webhook.
    #[command(after_help = serve::EXAMPLES)]
    Serve(Box<ServeArgs>),
    #[cfg(feature = "cluster")]
    /// Run the controller: the drift scan and retries of refused pods, by the replica that leads.
    ///
    /// Admission never depends on it. The drift scan runs `scan` at an interval and reports by a metric and Events.
    /// Owners of refused pods are retried as soon as the secrets that they wait for exist.
    #[command(after_help = controller::EXAMPLES)]
    Controller(Box<ControllerArgs>),
    #[cfg(feature = "cluster")]
    /// Keep the audit trail: collect the records of all replicas in a store.
    ///
    /// Replicas of the webhook send the lines of their trails over TLS, with the token of their pod. Admission never
    /// depends on it. While the store cannot be opened, the program is not ready, and replicas keep their lines.
    #[command(after_help = admin::EXAMPLES)]
    Admin(Box<AdminArgs>),
    /// Inject into manifests, offline: reads YAML or JSON and prints it patched.
    ///
    /// Patched manifests go to stdout, messages to stderr. Exit code 0: injected, or nothing to do; 1: refused, nothing
    /// was printed; 2: the arguments or the input cannot be read.
    #[command(after_help = inject::EXAMPLES)]
    Inject(Box<InjectArgs>),
    /// Compile a floe manifest to a dbt profile without secrets, and the annotations that its variables need.
    ///
    /// Prints the profile, or with -o another form, or writes all files with --out. Messages go to stderr. Exit code 0:
    /// compiled, or with --check all files are current; 1: refused, or files are stale; 2: the arguments or the input
    /// cannot be read; 3: a bug, nothing was printed.
    #[command(after_help = compile::EXAMPLES)]
    Compile(Box<CompileArgs>),
    /// Check manifests: annotations by the rules of admission, secrets, literal secrets.
    ///
    /// Findings go to stdout, notes to stderr. Exit code 0: no errors; 1: errors were found, or with --strict warnings;
    /// 2: something could not be read.
    #[command(after_help = lint::EXAMPLES)]
    Lint(Box<LintArgs>),
    #[cfg(feature = "cluster")]
    /// Find pods and workloads that run without the secrets that they request.
    ///
    /// Finds pods and workloads that were created while the webhook was unavailable, or changed later by another
    /// webhook, and workloads whose containers lost a Secret in the latest revision because an annotation was removed.
    /// Uses your own permissions (get and list on pods, workloads and their revisions) and reads no Secret. On a
    /// terminal, a long run shows its progress. Exit code 0: no findings; 1: findings; 2: not everything could be read.
    #[command(after_help = scan::EXAMPLES)]
    Scan(Box<ScanArgs>),
    #[cfg(feature = "cluster")]
    /// Check an installation, and print how to fix its problems.
    ///
    /// Checks from outside, with your own permissions: the webhook configuration, the CA and the certificate, Service,
    /// replicas, permissions, cert-manager, Reloader. Then it creates, as a dry run, a pod that requests a secret which
    /// does not exist: the installation works only if the webhook's own error is returned. It changes nothing, and
    /// objects that you may not read are not checked. Exit code 0: healthy, possibly with warnings; 1: a check failed;
    /// 2: nothing could be checked.
    #[command(after_help = doctor::EXAMPLES)]
    Doctor(Box<DoctorArgs>),
    #[cfg(feature = "cluster")]
    /// Explain what a live pod or workload got, and why.
    ///
    /// Reads the object with your own permissions, and reports which annotation of which object decided, what each
    /// container got or why it got nothing, whether the secrets and their keys exist now, and what restarts the object
    /// when a secret changes. Of Secrets, only metadata are read. Exit code 0: the object has everything that it asks
    /// for; 1: something is missing; 2: it could not be read.
    #[command(after_help = explain::EXAMPLES)]
    Explain(Box<ExplainArgs>),
    #[cfg(feature = "cluster")]
    /// Find who uses a Secret, and which pods still run with an older value.
    ///
    /// Lists the workloads and pods of the Secret's namespace that use it, what a change of it means for each, and the
    /// pods whose containers started before its data last changed. With --wait, returns as soon as there are none:
    /// rotate the secret, wait, revoke the old one. Uses your own permissions, and reads only metadata of the Secret.
    /// Exit code 0: no pod runs with an older value; 1: some do, or may do; 2: not everything could be read.
    #[command(after_help = rotation::EXAMPLES)]
    Rotation(Box<RotationArgs>),
    /// Print policies by which the API server injects secrets without the webhook.
    ///
    /// From Kubernetes 1.36 on, the API server then adds the Secrets of secrets.floe.dev/env-from to the containers of
    /// pods, at most 16 Secrets and 16 containers. It does not check that Secrets exist, and there are no defaults,
    /// records or restarts. Pods whose annotations ask for more than that are refused.
    #[command(after_help = policy::EXAMPLES)]
    Policy(Box<AdmissionPolicyArgs>),
    #[cfg(feature = "cluster")]
    /// Find, export, import and verify records of the audit trail.
    #[command(after_help = audit::EXAMPLES)]
    Audit(AuditArgs),
    /// Check the configuration file, show the effective settings, print the file's schema.
    #[command(after_help = config::EXAMPLES)]
    Config(Box<ConfigArgs>),
    /// Print the completion script of a shell.
    #[command(after_help = completions::EXAMPLES)]
    Completions(CompletionsArgs),
    /// Write manual pages.
    #[command(after_help = man::EXAMPLES)]
    Man(ManArgs),
}

/// Runs the command that the arguments name. The first argument is the name of the program.
#[must_use]
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let invocation = Invocation::new(Cli::command, arguments.clone());
    // kubectl calls this. It is not a command, so that help and completion scripts do not have it.
    if let [_, first, words @ ..] = arguments.as_slice()
        && first == completions::COMPLETE
    {
        return completions::complete(words, &invocation);
    }
    invocation.color().apply();
    let parsed = match invocation.parse() {
        Ok(parsed) => parsed,
        Err(failure) => return failure.exit(),
    };
    let cli = Cli::from_arg_matches(&parsed.matches);
    #[cfg(feature = "cluster")]
    let cli = cli.and_then(|cli| cli.checked(&invocation));
    match cli {
        Ok(cli) => cli.run(&invocation, parsed),
        Err(error) => ParseFailure::arguments(error, &invocation.command()).exit(),
    }
}

impl Cli {
    #[cfg_attr(
        not(feature = "cluster"),
        expect(
            clippy::needless_pass_by_value,
            reason = "commands of the cluster keep it"
        )
    )]
    fn run(self, invocation: &Invocation, parsed: Parsed) -> ExitCode {
        match self.command {
            #[cfg(feature = "cluster")]
            Command::Serve(args) => {
                let reload = reload::ConfigReload::new(invocation, parsed);
                serve::run(*args, reload, Clock::system())
            }
            #[cfg(feature = "cluster")]
            Command::Controller(args) => {
                controller::run(*args, reload::ConfigReload::new(invocation, parsed))
            }
            #[cfg(feature = "cluster")]
            Command::Admin(args) => {
                admin::run(*args, reload::ConfigReload::new(invocation, parsed))
            }
            Command::Inject(args) => inject::run(*args),
            Command::Compile(args) => compile::run(*args),
            Command::Lint(args) => lint::run(*args),
            #[cfg(feature = "cluster")]
            Command::Scan(args) => scan::run(*args),
            #[cfg(feature = "cluster")]
            Command::Doctor(args) => doctor::run(*args, &Clock::system()),
            #[cfg(feature = "cluster")]
            Command::Explain(args) => explain::run(*args),
            #[cfg(feature = "cluster")]
            Command::Rotation(args) => rotation::run(*args),
            Command::Policy(args) => policy::run(&args),
            #[cfg(feature = "cluster")]
            Command::Audit(args) => audit::run(args),
            Command::Config(args) => {
                let config = parsed.config.as_ref();
                config::run(
                    &args,
                    invocation,
                    config.map(|config| config.path.as_path()),
                )
            }
            Command::Completions(args) => completions::run(&args, invocation),
            Command::Man(args) => man::run(&args, invocation),
        }
    }

    /// Checks what arguments require of each other, whether they come from flags, the environment or the file.
    #[cfg(feature = "cluster")]
    fn checked(self, invocation: &Invocation) -> Result<Self, clap::Error> {
        let checked = match &self.command {
            Command::Serve(args) => {
                let listener = args.listener.serving.check();
                listener.and_then(|()| args.recorder.check())
            }
            Command::Controller(args) => args.certificate.check(),
            Command::Admin(args) => args.check(),
            _ => Ok(()),
        };
        checked.map_err(|message: String| {
            let error = clap::Error::raw(
                clap::error::ErrorKind::MissingRequiredArgument,
                format!("{message}\n"),
            );
            error.with_cmd(&invocation.command())
        })?;
        Ok(self)
    }
}

#[cfg(all(test, feature = "cluster"))]
mod tests {
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
                Command::Serve(args) => Some(args.listener.serving.worker_threads),
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
