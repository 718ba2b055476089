//! Address of the collector.

use std::fmt;
use std::str::FromStr;

use http::Uri;
use rustls::pki_types::ServerName;
use thiserror::Error;

/// Port of `https` without another one.
const DEFAULT_PORT: u16 = 443;

/// Address of the collector: `https`, a host, and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CollectorUrl {
    host: Box<str>,
    port: u16,
    server_name: ServerName<'static>,
}

/// Reason why a text is not the address of a collector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum InvalidCollectorUrl {
    #[error("expected a URL such as https://HOST:9444: the collector is called over TLS")]
    NotHttps,
    #[error("expected a URL without a user, a path and a query, such as https://HOST:9444")]
    MoreThanHost,
    #[error("the host of the URL is not a DNS name or an IP address")]
    Host,
}

impl CollectorUrl {
    /// Host without the brackets of an IPv6 address.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Name that the collector's certificate must have.
    pub(super) fn server_name(&self) -> ServerName<'static> {
        self.server_name.clone()
    }

    /// Host and port, as the header `Host` has them.
    pub(super) fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl FromStr for CollectorUrl {
    type Err = InvalidCollectorUrl;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let uri: Uri = text.parse().map_err(|_| InvalidCollectorUrl::NotHttps)?;
        if uri.scheme_str() != Some("https") {
            return Err(InvalidCollectorUrl::NotHttps);
        }
        let authority = uri.authority().ok_or(InvalidCollectorUrl::NotHttps)?;
        let has_more = authority.as_str().contains('@')
            || !matches!(uri.path(), "" | "/")
            || uri.query().is_some();
        if has_more {
            return Err(InvalidCollectorUrl::MoreThanHost);
        }
        let host = authority.host();
        let host = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host);
        let server_name =
            ServerName::try_from(host.to_owned()).map_err(|_| InvalidCollectorUrl::Host)?;
        Ok(Self {
            host: host.into(),
            port: authority.port_u16().unwrap_or(DEFAULT_PORT),
            server_name,
        })
    }
}

impl fmt::Display for CollectorUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}", self.authority())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("https://floe-admin.floe.svc:9444", "https://floe-admin.floe.svc:9444")]
    #[case("https://floe-admin.floe.svc/", "https://floe-admin.floe.svc:443")]
    #[case("https://10.0.0.1:9444", "https://10.0.0.1:9444")]
    #[case("https://[fd00::1]:9444", "https://[fd00::1]:9444")]
    fn address_is_read(#[case] text: &str, #[case] expected: &str) {
        let url: CollectorUrl = text.parse().unwrap();
        assert_eq!(url.to_string(), expected);
        assert!(!url.host().contains('['));
    }

    #[rstest]
    #[case("http://host:9444", InvalidCollectorUrl::NotHttps)]
    #[case("host:9444", InvalidCollectorUrl::NotHttps)]
    #[case("", InvalidCollectorUrl::NotHttps)]
    #[case("https://user:password@host:9444", InvalidCollectorUrl::MoreThanHost)]
    #[case("https://host:9444/v1/lines", InvalidCollectorUrl::MoreThanHost)]
    #[case("https://host:9444?a=b", InvalidCollectorUrl::MoreThanHost)]
    #[case("https://-/", InvalidCollectorUrl::Host)]
    fn other_texts_are_rejected(#[case] text: &str, #[case] expected: InvalidCollectorUrl) {
        let error = text.parse::<CollectorUrl>().unwrap_err();
        assert_eq!(error, expected);
        assert!(!error.to_string().contains("password"), "{error}");
    }
}
