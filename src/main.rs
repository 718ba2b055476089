//! The program: crypto provider, command line, exit code.

use std::process::ExitCode;

use clap::Parser as _;
use floe_secrets_webhook::cli::{Cli, Command};
use floe_secrets_webhook::{app, doctor, inject, scan};

fn main() -> ExitCode {
    // One provider for the whole process, before anything could make a TLS configuration.
    let installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
    debug_assert!(installed.is_ok(), "nothing installs a provider before main");
    match Cli::parse().command {
        Command::Serve(args) => app::run(*args, std::sync::Arc::new(jiff::Timestamp::now)),
        Command::Controller(args) => app::controller::run(*args),
        Command::Inject(args) => inject::run(*args),
        Command::Scan(args) => scan::run(*args),
        Command::Doctor(args) => doctor::run(*args, jiff::Timestamp::now),
    }
}
