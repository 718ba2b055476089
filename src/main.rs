//! The program: crypto provider, command line, exit code.

use std::process::ExitCode;

use clap::Parser as _;
use floe_secrets_webhook::commands::Cli;

fn main() -> ExitCode {
    // One provider for the whole process, before anything could make a TLS configuration.
    let installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
    debug_assert!(installed.is_ok(), "nothing installs a provider before main");
    Cli::parse().run()
}
