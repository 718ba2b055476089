//! Address of the collector by the OpenTelemetry specification: a base to which the path of each signal is added.

use std::fmt;
use std::str::FromStr;

use http::Uri;
use thiserror::Error;

/// Base address of a collector, `http://` or `https://`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    base: String,
    https: bool,
}

/// Error for a text that is not a collector's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "a collector's address is its base for OTLP over HTTP, such as http://collector:4318; without user, query or fragment"
)]
pub struct InvalidEndpoint;

impl Endpoint {
    /// URL to which traces are posted.
    #[must_use]
    pub fn traces(&self) -> String {
        format!("{}/v1/traces", self.base)
    }

    #[must_use]
    pub fn is_https(&self) -> bool {
        self.https
    }
}

impl FromStr for Endpoint {
    type Err = InvalidEndpoint;

    fn from_str(text: &str) -> Result<Self, InvalidEndpoint> {
        let uri: Uri = text.parse().map_err(|_| InvalidEndpoint)?;
        let https = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(InvalidEndpoint),
        };
        // A password in the URL would be logged.
        let plain = uri
            .authority()
            .is_some_and(|authority| !authority.as_str().contains('@'));
        if !plain || uri.query().is_some() || text.contains('#') {
            return Err(InvalidEndpoint);
        }
        Ok(Self {
            base: text.trim_end_matches('/').to_owned(),
            https,
        })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.base)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("http://collector:4318", "http://collector:4318/v1/traces")]
    #[case(
        "https://collector.example.com/otlp/",
        "https://collector.example.com/otlp/v1/traces"
    )]
    #[case("http://[::1]:4318/", "http://[::1]:4318/v1/traces")]
    fn endpoint_adds_the_path_of_traces(#[case] base: &str, #[case] traces: &str) {
        assert_eq!(base.parse::<Endpoint>().unwrap().traces(), traces);
    }

    #[rstest]
    #[case("collector:4318")]
    #[case("grpc://collector:4317")]
    #[case("http://")]
    #[case("http://user:word@collector:4318")]
    #[case("http://collector:4318/?token=a")]
    #[case("http://collector:4318/#a")]
    #[case("/v1/traces")]
    fn invalid_endpoint_is_rejected_without_being_quoted(#[case] text: &str) {
        let error = text.parse::<Endpoint>().unwrap_err();
        assert!(error.to_string().contains("http://collector:4318"));
    }
}
