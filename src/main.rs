//! The program: crypto provider, command line, exit code.

use std::process::ExitCode;

use floe_secrets_webhook::commands;

fn main() -> ExitCode {
    #[cfg(feature = "cluster")]
    install_crypto_provider();
    commands::run(std::env::args_os())
}

#[cfg(feature = "cluster")]
fn install_crypto_provider() {
    // The provider of the whole process has to be installed before the first TLS configuration is built.
    let installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
    debug_assert!(installed.is_ok(), "nothing installs a provider before main");
}
