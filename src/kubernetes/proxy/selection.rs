//! Selection of the proxy by the rules of kubectl: the `proxy-url` of the cluster in the kubeconfig, without
//! exceptions; otherwise the variables of the environment, with the exceptions of `NO_PROXY`.

use std::borrow::Cow;
use std::fmt;

use http::Uri;
use http::uri::Authority;
use kube::config::Kubeconfig;
use percent_encoding::percent_decode_str;

use super::exceptions::Exceptions;

/// Proxy variables of the environment. `Debug` shows no value, because they may have passwords.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ProxyVariables {
    https: Option<String>,
    http: Option<String>,
    exceptions: String,
}

impl ProxyVariables {
    /// Reads `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY`. For one that is empty or not set, its lowercase name is read.
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> Self {
        let find = |name: &str| {
            let either = [name.to_owned(), name.to_ascii_lowercase()];
            either
                .iter()
                .find_map(|name| variable(name).filter(|value| !value.is_empty()))
        };
        Self {
            https: find("HTTPS_PROXY"),
            http: find("HTTP_PROXY"),
            exceptions: find("NO_PROXY").unwrap_or_default(),
        }
    }
}

impl fmt::Debug for ProxyVariables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProxyVariables")
            .field("https", &self.https.is_some())
            .field("http", &self.http.is_some())
            .finish_non_exhaustive()
    }
}

/// Protocol between this program and a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    /// CONNECT over plain HTTP.
    Http,
    /// CONNECT over TLS.
    Https,
    /// SOCKS 5, which resolves names at the proxy.
    Socks5,
}

impl Protocol {
    fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
            Self::Socks5 => 1080,
        }
    }
}

/// A proxy. `Debug` shows no credentials.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Proxy {
    pub(super) protocol: Protocol,
    /// Host and port.
    pub(super) address: String,
    pub(super) credentials: Option<(String, String)>,
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            protocol,
            address,
            credentials: _,
        } = self;
        f.debug_struct("Proxy")
            .field("protocol", protocol)
            .field("address", address)
            .finish_non_exhaustive()
    }
}

impl Proxy {
    /// Parses `SCHEME://USER:PASSWORD@HOST:PORT`; a path, query or fragment is ignored.
    pub(super) fn parse(url: &str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        let protocol = match scheme.to_ascii_lowercase().as_str() {
            "http" => Protocol::Http,
            "https" => Protocol::Https,
            "socks5" | "socks5h" => Protocol::Socks5,
            _ => return None,
        };
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let (userinfo, host) = match authority.rsplit_once('@') {
            Some((userinfo, host)) => (Some(userinfo), host),
            None => (None, authority),
        };
        let host: Authority = host
            .parse()
            .ok()
            .filter(|host: &Authority| !host.host().is_empty())?;
        let port = match host.as_str().strip_prefix(host.host())? {
            "" | ":" => protocol.default_port(),
            _ => host.port_u16()?,
        };
        let address = format!("{}:{port}", host.host());
        let decoded = |text| {
            percent_decode_str(text)
                .decode_utf8()
                .ok()
                .map(Cow::into_owned)
        };
        let credentials = match userinfo {
            Some(userinfo) => {
                let (user, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
                Some((decoded(user)?, decoded(password)?))
            }
            None => None,
        };
        Some(Self {
            protocol,
            address,
            credentials,
        })
    }
}

/// Error for a proxy that cannot be used. Its URL is not quoted, because it may have a password.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{source_name} cannot be used: it has to be http://HOST:PORT, https://HOST:PORT or socks5://HOST:PORT, with USER:PASSWORD@ before the host for a proxy that wants credentials"
)]
pub struct InvalidProxy {
    /// Name of the setting that has the URL.
    source_name: &'static str,
}

/// The `proxy-url` of the cluster of this context, or of the current context.
pub(crate) fn proxy_url<'k>(kubeconfig: &'k Kubeconfig, context: Option<&str>) -> Option<&'k str> {
    let name = context.or(kubeconfig.current_context.as_deref())?;
    let context = kubeconfig
        .contexts
        .iter()
        .find(|named| named.name == name)?
        .context
        .as_ref()?;
    let cluster = kubeconfig
        .clusters
        .iter()
        .find(|named| named.name == context.cluster)?
        .cluster
        .as_ref()?;
    cluster.proxy_url.as_deref().filter(|url| !url.is_empty())
}

/// Selects the proxy for the API server at this address, if there is one. A `proxy-url` has no exceptions.
pub(crate) fn choose(
    server: &Uri,
    proxy_url: Option<&str>,
    variables: &ProxyVariables,
) -> Result<Option<Proxy>, InvalidProxy> {
    if let Some(url) = proxy_url {
        let source_name = "the proxy-url of the cluster in the kubeconfig";
        return Proxy::parse(url)
            .map(Some)
            .ok_or(InvalidProxy { source_name });
    }
    let (value, source_name) = if server.scheme_str() == Some("http") {
        (&variables.http, "HTTP_PROXY in the environment")
    } else {
        (&variables.https, "HTTPS_PROXY in the environment")
    };
    let Some(value) = value
        .as_deref()
        .filter(|_| !Exceptions::parse(&variables.exceptions).contains(server))
    else {
        return Ok(None);
    };
    // URLs in the environment may have no scheme.
    let url = if value.contains("://") {
        Cow::Borrowed(value)
    } else {
        Cow::Owned(format!("http://{value}"))
    };
    Proxy::parse(&url)
        .map(Some)
        .ok_or(InvalidProxy { source_name })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn variables(set: &[(&str, &str)]) -> ProxyVariables {
        ProxyVariables::read(|name| {
            set.iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| (*value).to_owned())
        })
    }

    fn proxy(protocol: Protocol, address: &str, credentials: Option<(&str, &str)>) -> Proxy {
        let credentials =
            credentials.map(|(user, password)| (user.to_owned(), password.to_owned()));
        Proxy {
            protocol,
            address: address.to_owned(),
            credentials,
        }
    }

    #[rstest]
    #[case("http://proxy:3128", Protocol::Http, "proxy:3128", None)]
    #[case("HTTP://proxy", Protocol::Http, "proxy:80", None)]
    #[case("https://proxy/", Protocol::Https, "proxy:443", None)]
    #[case("socks5://proxy", Protocol::Socks5, "proxy:1080", None)]
    #[case(
        "socks5h://[fd00::1]:1081/path?query#fragment",
        Protocol::Socks5,
        "[fd00::1]:1081",
        None
    )]
    #[case("http://user@10.0.0.1", Protocol::Http, "10.0.0.1:80", Some(("user", "")))]
    #[case("http://a%40b:c%3Ad%25@proxy:1", Protocol::Http, "proxy:1", Some(("a@b", "c:d%")))]
    #[case("http://user:p@ss@proxy:1", Protocol::Http, "proxy:1", Some(("user", "p@ss")))]
    fn proxy_urls_are_parsed(
        #[case] url: &str,
        #[case] protocol: Protocol,
        #[case] address: &str,
        #[case] credentials: Option<(&str, &str)>,
    ) {
        assert_eq!(
            Proxy::parse(url),
            Some(proxy(protocol, address, credentials))
        );
    }

    fn server() -> Uri {
        Uri::from_static("https://kubernetes.example.com:6443/api")
    }

    #[test]
    fn proxy_url_wins_over_the_environment_and_has_no_exceptions() {
        let set = variables(&[("HTTPS_PROXY", "http://other:1"), ("NO_PROXY", "*")]);
        let chosen = choose(&server(), Some("socks5://proxy"), &set);
        assert_eq!(
            chosen,
            Ok(Some(proxy(Protocol::Socks5, "proxy:1080", None)))
        );
        let local = Uri::from_static("https://127.0.0.1:6443");
        assert!(
            choose(&local, Some("http://proxy"), &set)
                .unwrap()
                .is_some()
        );
    }

    #[rstest]
    #[case(&[("HTTPS_PROXY", "one:1"), ("https_proxy", "two:2")], Some("one:1"))]
    #[case(&[("HTTPS_PROXY", ""), ("https_proxy", "two:2")], Some("two:2"))]
    #[case(&[("https_proxy", "two:2"), ("no_proxy", ".example.com")], None)]
    #[case(&[("https_proxy", "two:2"), ("NO_PROXY", ""), ("no_proxy", ".example.com")], None)]
    #[case(&[("https_proxy", "two:2"), ("NO_PROXY", "other"), ("no_proxy", ".example.com")], Some("two:2"))]
    // Variables of another scheme, and one that kubectl does not read.
    #[case(&[("HTTP_PROXY", "one:1"), ("ALL_PROXY", "one:1")], None)]
    fn variables_select_a_proxy(#[case] set: &[(&str, &str)], #[case] address: Option<&str>) {
        let chosen = choose(&server(), None, &variables(set)).unwrap();
        assert_eq!(chosen.as_ref().map(|proxy| proxy.address.as_str()), address);
    }

    #[test]
    fn http_servers_use_http_proxy() {
        let server = Uri::from_static("http://kubernetes.example.com");
        let set = variables(&[("HTTPS_PROXY", "one:1"), ("http_proxy", "https://two:2")]);
        assert_eq!(
            choose(&server, None, &set),
            Ok(Some(proxy(Protocol::Https, "two:2", None)))
        );
    }

    #[rstest]
    #[case("ftp://CANARY@proxy")]
    #[case("socks4://CANARY@proxy")]
    #[case("http://CANARY@")]
    #[case("http://user:CANARY@proxy:port")]
    #[case("http://%FF:CANARY@proxy")]
    #[case("http://pro xy:CANARY")]
    fn invalid_proxy_error_names_its_source_and_quotes_nothing(#[case] url: &str) {
        let set = variables(&[("HTTPS_PROXY", url)]);
        let error = choose(&server(), None, &set).unwrap_err().to_string();
        assert!(
            error.starts_with("HTTPS_PROXY in the environment cannot be used: "),
            "{error}"
        );
        let other = choose(&server(), Some(url), &ProxyVariables::default())
            .unwrap_err()
            .to_string();
        assert!(
            other.starts_with("the proxy-url of the cluster in the kubeconfig cannot be used: "),
            "{other}"
        );
        assert!(!format!("{error}{other}{set:?}").contains("CANARY"));
        // An invalid proxy is not an error for a server in NO_PROXY.
        let set = variables(&[
            ("HTTPS_PROXY", url),
            ("NO_PROXY", "kubernetes.example.com:6443"),
        ]);
        assert_eq!(choose(&server(), None, &set), Ok(None));
    }

    #[test]
    fn debug_shows_no_password() {
        let proxy = Proxy::parse("http://user:CANARY@proxy").unwrap();
        let set = variables(&[("HTTPS_PROXY", "http://user:CANARY@proxy")]);
        assert!(!format!("{proxy:?}{set:?}").contains("CANARY"));
    }

    #[test]
    fn proxy_url_is_read_from_the_context() {
        let yaml = "
clusters: [{name: a, cluster: {server: x, proxy-url: 'http://a'}}, {name: b, cluster: {server: x, proxy-url: ''}}]
contexts: [{name: one, context: {cluster: a}}, {name: two, context: {cluster: b}}, {name: lost, context: {cluster: c}}]
current-context: one
";
        let kubeconfig = Kubeconfig::from_yaml(yaml).unwrap();
        assert_eq!(proxy_url(&kubeconfig, None), Some("http://a"));
        for context in ["two", "lost", "none"] {
            assert_eq!(proxy_url(&kubeconfig, Some(context)), None, "{context}");
        }
    }
}
