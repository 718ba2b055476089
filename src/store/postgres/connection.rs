//! Connections to the database: how they are made, and what each of them sets.

use std::path::Path;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::crypto::aws_lc_rs;
use rustls_tokio_postgres::MakeRustlsConnect;
use secrecy::zeroize::Zeroizing;
use tokio::io::AsyncReadExt as _;
use tokio_postgres::{Client, NoTls};

use super::failure::Failure;
use super::schema::SCHEMA;
use super::settings::{CONNECT_TIMEOUT, PostgresSettings};
use crate::store::StoreError;
use crate::tls;

/// Name of the connections in the database's list of them.
const APPLICATION: &str = "floe-secrets-admin";

/// Seconds after which the server ends a transaction whose client does not go on. It holds the lock of all writers.
const IDLE_IN_TRANSACTION_SECONDS: u64 = 10;

/// Bytes of the password's file and of the CA's.
const MAX_FILE: u64 = 1 << 20;

/// Connects, and prepares the session. The files of the password and of the CA are read each time, because they are
/// replaced.
pub(super) async fn connect(settings: &PostgresSettings) -> Result<Client, Failure> {
    let mut config = settings.address.config.clone();
    config
        .application_name(APPLICATION)
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_user_timeout(2 * settings.statement_timeout);
    if let Some(path) = &settings.password_file {
        let password = read(settings, (path, "password")).await?;
        config.password(password.trim_ascii_end());
    }
    let client = if settings.address.has_tls() {
        let connector = MakeRustlsConnect::new(tls_config(settings).await?);
        let (client, connection) = Box::pin(config.connect(connector)).await?;
        // Ends with the client. An error reaches the client's calls.
        tokio::spawn(async move { drop(connection.await) });
        client
    } else {
        let (client, connection) = Box::pin(config.connect(NoTls)).await?;
        tokio::spawn(async move { drop(connection.await) });
        client
    };
    // A server that reports commits before they are durable is told not to; a stricter one stays as it is.
    let session = format!(
        "SET search_path = {SCHEMA}, pg_catalog; SET statement_timeout = {};
        SET idle_in_transaction_session_timeout = '{IDLE_IN_TRANSACTION_SECONDS}s'; SET client_encoding = 'UTF8';
        SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'",
        settings.statement_timeout.as_millis()
    );
    client.batch_execute(&session).await?;
    Ok(client)
}

/// TLS with the CA of the settings alone.
async fn tls_config(settings: &PostgresSettings) -> Result<ClientConfig, Failure> {
    let store = || settings.address.name().to_owned();
    let unusable = |detail: String| StoreError::Unreachable {
        store: store(),
        detail,
    };
    let Some(path) = &settings.ca_file else {
        let detail =
            "no CA is named that its certificate is verified with: set --store-ca-file".to_owned();
        return Err(unusable(detail).into());
    };
    let ca = read(settings, (path, "CA")).await?;
    let roots = tls::client_roots(&ca)
        .map_err(|error| unusable(format!("its CA file {}: {error}", path.display())))?;
    if roots.is_empty() {
        let detail = format!("the CA file {} has no certificate", path.display());
        return Err(unusable(detail).into());
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(error.to_string()))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// Reads a small file. An error has its path.
async fn read(
    settings: &PostgresSettings,
    (path, what): (&Path, &str),
) -> Result<Zeroizing<Vec<u8>>, StoreError> {
    let mut bytes = Zeroizing::new(Vec::new());
    let read = async {
        let file = tokio::fs::File::open(path).await?;
        file.take(MAX_FILE).read_to_end(&mut bytes).await
    };
    match read.await {
        Ok(_) => Ok(bytes),
        Err(error) => Err(StoreError::Unreachable {
            store: settings.address.name().to_owned(),
            detail: format!("its {what} file {} cannot be read: {error}", path.display()),
        }),
    }
}
