//! Proxy on the way to services outside the cluster.

use std::fmt;

use reqwest::{NoProxy, Proxy};
use secrecy::{ExposeSecret as _, SecretString};
use thiserror::Error;

use super::limits::MAX_PROXY;

/// Proxy for `https`. It resolves the names: the addresses behind it are not checked, those in URLs are.
#[derive(Clone)]
pub struct OutboundProxy {
    /// The URL may have a password.
    url: SecretString,
    exceptions: String,
}

/// Error for a proxy that cannot be used. Its URL is not quoted, because it may have a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "HTTPS_PROXY cannot be used: it has to be http://HOST:PORT or https://HOST:PORT, with USER:PASSWORD@ before the host for a proxy that requires credentials"
)]
pub struct InvalidOutboundProxy;

impl OutboundProxy {
    /// Reads `HTTPS_PROXY` and `NO_PROXY`. For one that is empty or not set, its lowercase name is read. `None` without
    /// a proxy.
    pub fn of_variables(variable: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let find = |name: &str| {
            let either = [name.to_owned(), name.to_ascii_lowercase()];
            either
                .iter()
                .find_map(|name| variable(name).filter(|value| !value.is_empty()))
        };
        let url = find("HTTPS_PROXY")?;
        // URLs in the environment may have no scheme.
        let url = if url.contains("://") {
            url
        } else {
            format!("http://{url}")
        };
        Some(Self {
            url: url.into(),
            exceptions: find("NO_PROXY").unwrap_or_default(),
        })
    }

    pub(super) fn to_reqwest(&self) -> Result<Proxy, InvalidOutboundProxy> {
        let url = self.url.expose_secret();
        let is_http = url.starts_with("http://") || url.starts_with("https://");
        if !is_http || url.len() > MAX_PROXY || self.exceptions.len() > MAX_PROXY {
            return Err(InvalidOutboundProxy);
        }
        let proxy = Proxy::https(url).map_err(|_| InvalidOutboundProxy)?;
        Ok(proxy.no_proxy(NoProxy::from_string(&self.exceptions)))
    }
}

impl fmt::Debug for OutboundProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutboundProxy").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(set: &[(&str, &str)]) -> Option<OutboundProxy> {
        OutboundProxy::of_variables(|name| {
            set.iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn variables_name_the_proxy_without_showing_it() {
        assert!(read(&[]).is_none() && read(&[("HTTP_PROXY", "http://p:1")]).is_none());
        for variables in [
            [("HTTPS_PROXY", "http://user:canary@p:3128")],
            [("https_proxy", "user:canary@p:3128")],
            [("HTTPS_PROXY", "https://user:canary@p")],
        ] {
            let proxy = read(&variables).unwrap();
            assert!(proxy.to_reqwest().is_ok(), "{variables:?}");
            assert!(!format!("{proxy:?}").contains("canary"));
        }
        for wrong in ["socks5://p:1080", "ftp://p", "http://", "http://p:x"] {
            let error = read(&[("HTTPS_PROXY", wrong)]).unwrap().to_reqwest();
            assert!(matches!(error, Err(InvalidOutboundProxy)), "{wrong}");
        }
    }
}
