//! `NO_PROXY`: servers that are reached without the environment's proxy, by the rules of Go and therefore of kubectl.
//!
//! hyper-util's matcher follows curl, which ignores ports and matches `example.com` by `.example.com` too.

use std::net::IpAddr;

use http::Uri;
use ipnet::IpNet;

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Exceptions {
    /// `*`.
    All,
    Some(Vec<Exception>),
}

/// Hosts of one entry, at one port, or at every port if it names none.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Exception {
    /// `10.0.0.0/8`.
    Network(IpNet),
    /// `10.0.0.1`, `10.0.0.1:6443`, `fd00::1`, `[fd00::1]:6443`.
    Address(IpAddr, Option<String>),
    /// `.example.com` and `*.example.com`: subdomains. `example.com`: the domain itself too.
    Domain {
        /// Begins with a dot.
        suffix: String,
        includes_domain: bool,
        port: Option<String>,
    },
}

impl Exceptions {
    pub(super) fn parse(text: &str) -> Self {
        let entries = text
            .split(',')
            .map(|entry| entry.trim().to_ascii_lowercase());
        let entries: Vec<String> = entries.filter(|entry| !entry.is_empty()).collect();
        if entries.iter().any(|entry| entry == "*") {
            return Self::All;
        }
        Self::Some(
            entries
                .iter()
                .filter_map(|entry| Exception::parse(entry))
                .collect(),
        )
    }

    /// Whether the server at this address is reached without a proxy. Servers on this machine always are.
    pub(super) fn contains(&self, server: &Uri) -> bool {
        let host = server
            .host()
            .unwrap_or_default()
            .trim_matches(['[', ']'])
            .to_ascii_lowercase();
        let address = host
            .parse()
            .ok()
            .map(|address: IpAddr| address.to_canonical());
        if host == "localhost" || address.is_some_and(|address| address.is_loopback()) {
            return true;
        }
        let Self::Some(entries) = self else {
            return true;
        };
        let default = if server.scheme_str() == Some("http") {
            80
        } else {
            443
        };
        let port = server.port_u16().unwrap_or(default).to_string();
        let matches_port =
            |expected: &Option<String>| expected.as_ref().is_none_or(|expected| *expected == port);
        entries.iter().any(|entry| match entry {
            Exception::Network(network) => {
                address.is_some_and(|address| network.contains(&address))
            }
            Exception::Address(expected, port) => address == Some(*expected) && matches_port(port),
            Exception::Domain {
                suffix,
                includes_domain,
                port,
            } => {
                let is_inside = host.ends_with(suffix)
                    || *includes_domain && suffix.strip_prefix('.') == Some(&host);
                address.is_none() && is_inside && matches_port(port)
            }
        })
    }
}

impl Exception {
    /// Parses an entry in lowercase. An entry without a host is ignored.
    fn parse(entry: &str) -> Option<Self> {
        if let Ok(network) = entry.parse() {
            return Some(Self::Network(network));
        }
        let (host, port) = split(entry);
        if let Ok(address) = host.parse::<IpAddr>() {
            return Some(Self::Address(address.to_canonical(), port));
        }
        let host = if host.starts_with("*.") {
            host.strip_prefix('*')?
        } else {
            host
        };
        if host.is_empty() {
            return None;
        }
        let includes_domain = !host.starts_with('.');
        let suffix = if includes_domain {
            format!(".{host}")
        } else {
            host.to_owned()
        };
        Some(Self::Domain {
            suffix,
            includes_domain,
            port,
        })
    }
}

/// Splits an entry into host and port. The port of an IPv6 address comes after brackets.
fn split(entry: &str) -> (&str, Option<String>) {
    let non_empty = |port: &str| (!port.is_empty()).then(|| port.to_owned());
    if let Some((host, rest)) = entry
        .strip_prefix('[')
        .and_then(|entry| entry.split_once(']'))
    {
        return (host, rest.strip_prefix(':').and_then(non_empty));
    }
    match entry.split_once(':') {
        Some((host, port)) if !port.contains(':') => (host, non_empty(port)),
        _ => (entry, None),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("kubernetes.example.com:6443", "", false)]
    #[case("kubernetes.example.com:6443", "*", true)]
    #[case("kubernetes.example.com:6443", "a, * ,b", true)]
    #[case("kubernetes.example.com:6443", "example.com", true)]
    #[case("kubernetes.example.com:6443", "Example.COM", true)]
    #[case("Kubernetes.Example.Com:6443", "example.com", true)]
    #[case("kubernetes.example.com:6443", ".example.com", true)]
    #[case("kubernetes.example.com:6443", "*.example.com", true)]
    #[case("kubernetes.example.com:6443", "*example.com", false)]
    #[case("kubernetes.example.com:6443", "ample.com", false)]
    #[case("example.com", ".example.com", false)]
    #[case("example.com", "*.example.com", false)]
    #[case("example.com", "example.com", true)]
    #[case("kubernetes.example.com:6443", "example.com:6443", true)]
    #[case("kubernetes.example.com:6443", "example.com:443", false)]
    #[case("kubernetes.example.com", "example.com:443", true)]
    #[case("kubernetes.example.com:6443", "example.com:", true)]
    #[case("kubernetes.example.com:6443", " , ,:6443,example.com,", true)]
    #[case("kubernetes.example.com:6443", ":6443", false)]
    #[case("kubernetes.example.com:6443", "10.0.0.0/8", false)]
    #[case("10.1.2.3:6443", "10.0.0.0/8", true)]
    #[case("11.1.2.3:6443", "10.0.0.0/8", false)]
    #[case("10.1.2.3:6443", "10.1.2.3", true)]
    #[case("10.1.2.3:6443", "10.1.2.3:6443", true)]
    #[case("10.1.2.3:6443", "10.1.2.3:443", false)]
    #[case("10.1.2.3:6443", "2.3", false)]
    #[case("10.1.2.3:6443", "10.1.2.3/33", false)]
    #[case("[fd00::1]:6443", "fd00::/8", true)]
    #[case("[fd00::1]:6443", "fd00::1", true)]
    #[case("[fd00::1]:6443", "[fd00::1]", true)]
    #[case("[fd00::1]:6443", "[fd00::1]:6443", true)]
    #[case("[fd00::1]:6443", "[fd00::1]:443", false)]
    #[case("[::ffff:10.0.0.1]:6443", "10.0.0.0/8", true)]
    // This machine.
    #[case("localhost:6443", "", true)]
    #[case("127.0.0.1:6443", "", true)]
    #[case("127.9.9.9:6443", "", true)]
    #[case("[::1]:6443", "", true)]
    #[case("[::ffff:127.0.0.1]:6443", "", true)]
    #[case("0.0.0.0:6443", "", false)]
    #[case("localhost.example.com:6443", "", false)]
    fn exceptions_match_as_in_kubectl(
        #[case] server: &str,
        #[case] no_proxy: &str,
        #[case] contained: bool,
    ) {
        let server: Uri = format!("https://{server}/").parse().unwrap();
        assert_eq!(Exceptions::parse(no_proxy).contains(&server), contained);
    }
}
