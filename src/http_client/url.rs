//! URLs of services outside the cluster, parsed by the parser of the client.

use std::fmt;
use std::net::IpAddr;

use reqwest::Url;
use thiserror::Error;

use super::limits::MAX_URL;

/// Schemes that a URL may have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Schemes {
    /// `https` alone.
    #[default]
    Https,
    /// `http` as well, if the host is an address of the loopback device. For development.
    HttpOnLoopback,
}

/// URL of a service outside the cluster: absolute, with a host, without user information and without a fragment.
#[derive(Clone, PartialEq, Eq)]
pub struct HttpUrl(Url);

/// Reason why a text is not such a URL. The URL is not quoted, because it may have a password.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum InvalidUrl {
    #[error("the URL has more than {MAX_URL} characters")]
    TooLong,
    #[error("the URL is not absolute, as in https://id.example.com/realms/main")]
    Malformed,
    #[error("the URL has the scheme {scheme:?}: https is required")]
    Scheme { scheme: String },
    #[error("the URL has a user or a password: credentials have settings of their own")]
    UserInfo,
    #[error("the URL has a fragment (#…), which is never sent: remove it")]
    Fragment,
    #[error("the URL is not in the form in which it is requested: write {normal}")]
    NotNormal { normal: String },
}

impl HttpUrl {
    /// Parses a URL, which has to be written as it is requested: host in lowercase, no default port, no `..` in the
    /// path. A URL that means something else than it seems to is never compared and never requested.
    ///
    /// # Errors
    ///
    /// The text is not such a URL, or its scheme is not allowed.
    pub fn parse(text: &str, schemes: Schemes) -> Result<Self, InvalidUrl> {
        if text.len() > MAX_URL {
            return Err(InvalidUrl::TooLong);
        }
        let is_allowed = |byte: u8| byte.is_ascii_graphic() && byte != b'\\';
        if !text.bytes().all(is_allowed) {
            return Err(InvalidUrl::Malformed);
        }
        let url = Url::parse(text).map_err(|_| InvalidUrl::Malformed)?;
        let parsed = Self(url);
        parsed.check_scheme(schemes)?;
        if !parsed.0.username().is_empty() || parsed.0.password().is_some() {
            return Err(InvalidUrl::UserInfo);
        }
        if parsed.0.fragment().is_some() {
            return Err(InvalidUrl::Fragment);
        }
        // The parser writes the path of a URL that has none.
        let normal = parsed.0.as_str();
        if normal != text && normal.strip_suffix('/') != Some(text) {
            let normal = normal.to_owned();
            return Err(InvalidUrl::NotNormal { normal });
        }
        Ok(parsed)
    }

    fn check_scheme(&self, schemes: Schemes) -> Result<(), InvalidUrl> {
        let is_loopback = self
            .literal_address()
            .is_some_and(|address| address.is_loopback());
        match self.0.scheme() {
            "https" => Ok(()),
            "http" if schemes == Schemes::HttpOnLoopback && is_loopback => Ok(()),
            scheme => Err(InvalidUrl::Scheme {
                scheme: scheme.to_owned(),
            }),
        }
    }

    /// URL with one more segment of its path for each text. Characters that would end a segment are encoded.
    #[must_use]
    pub fn with_segments(&self, segments: &[&str]) -> Self {
        let mut url = self.0.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        Self(url)
    }

    /// URL with more parameters in its query.
    #[must_use]
    pub fn with_query(&self, parameters: &[(&str, &str)]) -> Self {
        let mut url = self.0.clone();
        url.query_pairs_mut().extend_pairs(parameters);
        Self(url)
    }

    /// Whether another URL has the same scheme, host and port.
    #[must_use]
    pub fn has_origin_of(&self, other: &Self) -> bool {
        self.0.origin() == other.0.origin()
    }

    /// Whether the URL has a query.
    #[must_use]
    pub fn has_query(&self) -> bool {
        self.0.query().is_some()
    }

    /// Whether the URL is nothing but scheme, host and port.
    #[must_use]
    pub fn is_origin(&self) -> bool {
        self.0.path() == "/" && !self.has_query()
    }

    /// Text of the URL.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Address that is written as the host.
    pub(super) fn literal_address(&self) -> Option<IpAddr> {
        let host = self.0.host_str()?;
        let bare = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        bare.unwrap_or(host).parse().ok()
    }

    /// URL without its query, which may have values that are not for errors.
    pub(super) fn without_query(&self) -> String {
        let mut url = self.0.clone();
        url.set_query(None);
        url.into()
    }

    pub(super) fn into_inner(self) -> Url {
        self.0
    }
}

impl fmt::Display for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.without_query())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<String, InvalidUrl> {
        HttpUrl::parse(text, Schemes::Https).map(|url| url.to_string())
    }

    #[test]
    fn url_is_accepted_as_it_is_requested() {
        for text in [
            "https://id.example.com/realms/main",
            "https://id.example.com:8443/a/?p=x%20y",
            "https://10.0.0.1/",
            "https://[fd00::1]:8443/a",
        ] {
            assert_eq!(parse(text).as_deref(), Ok(text));
        }
        let bare = parse("https://id.example.com").unwrap();
        assert_eq!(bare, "https://id.example.com/");
    }

    #[test]
    fn url_with_another_meaning_is_rejected() {
        for text in [
            "",
            "id.example.com",
            "/a",
            "https://",
            "https://a b/",
            "https:\\\\a",
            "https://a/\n",
        ] {
            assert_eq!(parse(text), Err(InvalidUrl::Malformed), "{text:?}");
        }
        for text in ["https://u@a/", "https://u:canary@a/", "https://:p@a/"] {
            let error = parse(text).unwrap_err();
            assert_eq!(error, InvalidUrl::UserInfo, "{text:?}");
            assert!(!format!("{error} {error:?}").contains("canary"));
        }
        for text in ["https://a/#", "https://a/#b"] {
            assert_eq!(parse(text), Err(InvalidUrl::Fragment), "{text:?}");
        }
        for (text, normal) in [
            ("https://ID.example.com/a", "https://id.example.com/a"),
            ("https://a:443/", "https://a/"),
            ("https://a/b/../c", "https://a/c"),
            ("https://a/%2e%2e/c", "https://a/c"),
            ("https://0x7f.1/", "https://127.0.0.1/"),
            ("https://2130706433/", "https://127.0.0.1/"),
            ("https:a/b", "https://a/b"),
            ("https://@a/", "https://a/"),
        ] {
            let normal = normal.to_owned();
            assert_eq!(parse(text), Err(InvalidUrl::NotNormal { normal }), "{text}");
        }
        let long = format!("https://a/{}", "x".repeat(MAX_URL));
        assert_eq!(parse(&long), Err(InvalidUrl::TooLong));
    }

    #[test]
    fn scheme_is_https_unless_more_is_allowed() {
        for text in ["http://127.0.0.1:8080/", "http://[::1]:8080/"] {
            assert!(matches!(parse(text), Err(InvalidUrl::Scheme { .. })));
            assert!(HttpUrl::parse(text, Schemes::HttpOnLoopback).is_ok());
        }
        for text in [
            "http://localhost/",
            "http://10.0.0.1/",
            "ftp://a/",
            "file:///etc",
            "data:x",
        ] {
            let refused = HttpUrl::parse(text, Schemes::HttpOnLoopback);
            assert!(matches!(refused, Err(InvalidUrl::Scheme { .. })), "{text}");
        }
    }

    proptest! {
        #[test]
        fn accepted_url_is_requested_as_it_is_written(
            text in "(https?|ftp):/{1,3}([a-zA-Z0-9.@:%\\[\\]-]{0,20})[ -~]{0,20}"
        ) {
            if let Ok(url) = HttpUrl::parse(&text, Schemes::HttpOnLoopback) {
                let requested = url.as_str();
                prop_assert!(requested == text || requested == format!("{text}/"), "{requested}");
                let again = HttpUrl::parse(requested, Schemes::HttpOnLoopback);
                prop_assert_eq!(again, Ok(url));
            }
        }
    }

    #[test]
    fn segments_and_parameters_are_encoded() {
        let base = HttpUrl::parse("https://a/b/", Schemes::Https).unwrap();
        let url = base.with_segments(&["c/d", "e?f#g", "h"]);
        assert_eq!(url.as_str(), "https://a/b/c%2Fd/e%3Ff%23g/h");
        let url = url.with_query(&[("k", "v&w=1")]);
        assert!(url.has_query() && url.as_str().ends_with("?k=v%26w%3D1"));
        assert_eq!(format!("{url:?}"), "https://a/b/c%2Fd/e%3Ff%23g/h");
        assert!(url.has_origin_of(&base) && !url.is_origin());
        let other = HttpUrl::parse("https://a:8443", Schemes::Https).unwrap();
        assert!(!other.has_origin_of(&base) && other.is_origin());
    }
}
