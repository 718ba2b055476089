//! `NO_PROXY`: where no proxy is used although the environment names one, as Go's programs read it, and so kubectl.
//!
//! hyper-util's matcher follows curl, which knows no ports and takes `.example.com` for `example.com` too.

use std::net::IpAddr;

use http::Uri;
use ipnet::IpNet;

/// Entries between commas.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Exceptions {
    /// `*`.
    All,
    Some(Vec<Exception>),
}

/// Which hosts, and at which port; at every port without one.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Exception {
    /// `10.0.0.0/8`.
    Network(IpNet),
    /// `10.0.0.1`, `10.0.0.1:6443`, `fd00::1`, `[fd00::1]:6443`.
    Address(IpAddr, Option<String>),
    /// `.example.com` and `*.example.com`: what is below a domain. `example.com`: the domain too.
    Domain {
        below: String,
        itself: bool,
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

    /// Whether the server at this address is reached without a proxy. Those of this machine always are.
    pub(super) fn contain(&self, server: &Uri) -> bool {
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
        let at = |wanted: &Option<String>| wanted.as_ref().is_none_or(|wanted| *wanted == port);
        entries.iter().any(|entry| match entry {
            Exception::Network(network) => {
                address.is_some_and(|address| network.contains(&address))
            }
            Exception::Address(wanted, port) => address == Some(*wanted) && at(port),
            Exception::Domain {
                below,
                itself,
                port,
            } => {
                let inside =
                    host.ends_with(below) || *itself && below.strip_prefix('.') == Some(&host);
                address.is_none() && inside && at(port)
            }
        })
    }
}

impl Exception {
    /// Reads an entry in small letters; one without a host is ignored.
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
        let itself = !host.starts_with('.');
        let below = if itself {
            format!(".{host}")
        } else {
            host.to_owned()
        };
        Some(Self::Domain {
            below,
            itself,
            port,
        })
    }
}

/// Host and port of an entry. An IPv6 address has its port after brackets.
fn split(entry: &str) -> (&str, Option<String>) {
    let named = |port: &str| (!port.is_empty()).then(|| port.to_owned());
    if let Some((host, rest)) = entry
        .strip_prefix('[')
        .and_then(|entry| entry.split_once(']'))
    {
        return (host, rest.strip_prefix(':').and_then(named));
    }
    match entry.split_once(':') {
        Some((host, port)) if !port.contains(':') => (host, named(port)),
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
    fn exceptions_are_those_of_kubectl(
        #[case] server: &str,
        #[case] no_proxy: &str,
        #[case] contained: bool,
    ) {
        let server: Uri = format!("https://{server}/").parse().unwrap();
        assert_eq!(Exceptions::parse(no_proxy).contain(&server), contained);
    }
}
