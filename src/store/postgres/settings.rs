//! Settings of a store in a database: its address without a password, and files with the password and the CA.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};

/// Time limit of a connection to one of the hosts.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Time after which the server stops a statement.
pub const STATEMENT_TIMEOUT: Duration = Duration::from_secs(5);

/// Connections that read. More queries wait.
pub const READERS: usize = 2;

/// Beginnings of the URLs of a database.
const SCHEMES: [&str; 2] = ["postgres://", "postgresql://"];

/// Address of a database. It has no password.
#[derive(Clone, PartialEq, Eq)]
pub struct PostgresAddress {
    /// Boxed, because a file needs no such room.
    pub(super) config: Box<Config>,
    name: String,
}

/// Reason why a URL is not used. None has text of the URL, which may have a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum InvalidAddress {
    #[error(
        "the URL of the audit store has a password, which the command line and the environment show to others: remove it, change it in the database, and name a file with --store-password-file"
    )]
    Password,
    #[error(
        "the URL of the audit store cannot be read: it has the form postgres://USER@HOST:PORT/DATABASE, and of the parameters of PostgreSQL those that tokio-postgres knows; a CA is named with --store-ca-file"
    )]
    Form,
    #[error(
        "the URL of the audit store names no host, no user or no database: write postgres://USER@HOST:PORT/DATABASE"
    )]
    Incomplete,
    #[error(
        "the URL of the audit store names a socket of this machine: name a host, which is reached by TCP"
    )]
    Socket,
}

impl PostgresAddress {
    /// Whether a text is the URL of a database, and not a file.
    #[must_use]
    pub fn is_url(text: &str) -> bool {
        SCHEMES.iter().any(|scheme| text.starts_with(scheme))
    }

    /// Reads a URL.
    ///
    /// # Errors
    ///
    /// The URL has a password, or is not complete.
    pub fn parse(url: &str) -> Result<Self, InvalidAddress> {
        if has_password(url) {
            return Err(InvalidAddress::Password);
        }
        let mut config: Config = url.parse().map_err(|_| InvalidAddress::Form)?;
        if config.get_password().is_some() {
            return Err(InvalidAddress::Password);
        }
        let (Some(user), Some(database)) = (config.get_user(), config.get_dbname()) else {
            return Err(InvalidAddress::Incomplete);
        };
        let ports = config.get_ports();
        let port = |at: usize| ports.get(at).or(ports.first()).copied().unwrap_or(5432);
        let mut hosts = Vec::new();
        for (at, host) in config.get_hosts().iter().enumerate() {
            match host {
                Host::Tcp(host) => hosts.push(format!("{host}:{}", port(at))),
                Host::Unix(_) => return Err(InvalidAddress::Socket),
            }
        }
        if hosts.is_empty() {
            return Err(InvalidAddress::Incomplete);
        }
        let name = format!("postgres://{user}@{}/{database}", hosts.join(","));
        if config.get_ssl_mode() != SslMode::Disable {
            // Without a mode, and with one that prefers TLS, a connection could be without it.
            config.ssl_mode(SslMode::Require);
        }
        let config = Box::new(config);
        Ok(Self { config, name })
    }

    /// Address as messages have it: user, hosts and database.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether connections are encrypted, and the server's certificate is verified.
    #[must_use]
    pub fn has_tls(&self) -> bool {
        self.config.get_ssl_mode() != SslMode::Disable
    }
}

/// Whether the authority of a URL has a password. One of a URL that cannot be read must not be in a message either.
fn has_password(url: &str) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let (authority, parameters) = rest.split_once('?').unwrap_or((rest, ""));
    let user = authority.rsplit_once('@').map_or("", |(user, _)| user);
    let mut names = parameters.split('&').map(|pair| pair.split('=').next());
    user.contains(':')
        || names.any(|name| name.is_some_and(|name| name.eq_ignore_ascii_case("password")))
}

impl fmt::Debug for PostgresAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.name)
    }
}

/// Database and limits of a store.
#[derive(Clone, Debug)]
pub struct PostgresSettings {
    pub address: PostgresAddress,
    /// File with the password, which is read for each connection. Without it, the server has to need none.
    pub password_file: Option<PathBuf>,
    /// File with the CA of the server's certificate. Required, unless the URL switches TLS off.
    pub ca_file: Option<PathBuf>,
    /// Creates the schema if the database has none. Nothing is created over one that exists.
    pub create: bool,
    /// Size at which the store is full.
    pub max_bytes: Option<u64>,
    pub statement_timeout: Duration,
}

impl PostgresSettings {
    /// Settings of a database that has to have a store.
    #[must_use]
    pub fn new(address: PostgresAddress) -> Self {
        Self {
            address,
            password_file: None,
            ca_file: None,
            create: false,
            max_bytes: None,
            statement_timeout: STATEMENT_TIMEOUT,
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("postgres://floe@db:6543/audit", "postgres://floe@db:6543/audit")]
    #[case(
        "postgresql://floe@db/audit?sslmode=prefer",
        "postgres://floe@db:5432/audit"
    )]
    #[case("postgres://floe@a:1,b:2/audit", "postgres://floe@a:1,b:2/audit")]
    #[case(
        "postgres://floe@[::1]:1/audit?target_session_attrs=read-write",
        "postgres://floe@::1:1/audit"
    )]
    fn address_is_verified_and_named(#[case] url: &str, #[case] name: &str) {
        assert!(PostgresAddress::is_url(url));
        let address = PostgresAddress::parse(url).unwrap();
        assert_eq!(address.name(), name);
        assert_eq!(format!("{address:?}"), name);
        assert!(address.has_tls());
        assert_eq!(address.config.get_ssl_mode(), SslMode::Require);
    }

    #[test]
    fn tls_is_off_only_by_name() {
        let address = PostgresAddress::parse("postgres://floe@db/audit?sslmode=disable").unwrap();
        assert!(!address.has_tls());
    }

    #[rstest]
    #[case("postgres://floe:s3cret@db/audit", InvalidAddress::Password)]
    #[case("postgres://floe:@db/audit", InvalidAddress::Password)]
    #[case("postgres://floe:s3@cret@db/audit?x=y", InvalidAddress::Password)]
    #[case("postgres://floe@db/audit?password=s3cret", InvalidAddress::Password)]
    #[case("postgres://floe@db/audit?PassWord=s3cret", InvalidAddress::Password)]
    #[case("postgres://floe@db/audit?sslrootcert=s3cret", InvalidAddress::Form)]
    #[case("postgres://floe@db:port/audit", InvalidAddress::Form)]
    #[case("postgres://db/audit", InvalidAddress::Incomplete)]
    #[case("postgres://floe@db", InvalidAddress::Incomplete)]
    #[case("postgres://floe@/audit", InvalidAddress::Incomplete)]
    #[case("postgres://floe@%2Frun%2Fpostgresql/audit", InvalidAddress::Socket)]
    fn other_urls_are_refused_without_their_text(
        #[case] url: &str,
        #[case] expected: InvalidAddress,
    ) {
        let error = PostgresAddress::parse(url).unwrap_err();
        assert_eq!(error, expected);
        assert!(!error.to_string().contains("s3cret"));
    }
}
