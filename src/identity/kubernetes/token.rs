//! Bearer token of a request.

use http::HeaderMap;
use http::header::AUTHORIZATION;
use secrecy::{ExposeSecret, SecretString};
use thiserror::Error;

/// Bytes of a token. That of a ServiceAccount has about 1.2 kB, and a request's head has at most 16 KiB.
pub const MAX_TOKEN: usize = 8 << 10;

/// Bearer token, which is not shown.
#[derive(Clone, Debug)]
pub struct BearerToken(SecretString);

/// Reason why a request has no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum InvalidBearer {
    #[error("the request has no bearer token: send one in the header Authorization")]
    Missing,
    #[error(
        "the bearer token has other characters than those of RFC 6750, or more than {MAX_TOKEN}: send a ServiceAccount token"
    )]
    Malformed,
}

impl BearerToken {
    /// Token in the header `Authorization`, which may be there once.
    ///
    /// # Errors
    ///
    /// There is no token, or what is there is not one.
    pub fn of_request(headers: &HeaderMap) -> Result<Self, InvalidBearer> {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let value = values.next().ok_or(InvalidBearer::Missing)?;
        if values.next().is_some() {
            return Err(InvalidBearer::Malformed);
        }
        let text = value.to_str().map_err(|_| InvalidBearer::Malformed)?;
        match text.split_once(' ') {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => {
                Self::parse(token.trim_matches(' '))
            }
            _ => Err(InvalidBearer::Missing),
        }
    }

    /// Token from its text.
    ///
    /// # Errors
    ///
    /// The text is empty or too long, or has other characters.
    pub fn parse(text: &str) -> Result<Self, InvalidBearer> {
        let is_allowed = |byte: u8| {
            byte.is_ascii_alphanumeric()
                || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'+' | b'/' | b'=')
        };
        if text.is_empty() || text.len() > MAX_TOKEN || !text.bytes().all(is_allowed) {
            return Err(InvalidBearer::Malformed);
        }
        Ok(Self(text.into()))
    }
}

impl ExposeSecret<str> for BearerToken {
    fn expose_secret(&self) -> &str {
        self.0.expose_secret()
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn read(values: &[&str]) -> Result<String, InvalidBearer> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, HeaderValue::from_str(value).unwrap());
        }
        let token = BearerToken::of_request(&headers)?;
        assert!(!format!("{token:?}").contains(token.expose_secret()));
        Ok(token.expose_secret().to_owned())
    }

    #[test]
    fn token_is_read_from_the_header() {
        for header in ["Bearer a.b-c", "bearer a.b-c", "BEARER  a.b-c "] {
            assert_eq!(read(&[header]).as_deref(), Ok("a.b-c"), "{header}");
        }
        assert_eq!(read(&[]), Err(InvalidBearer::Missing));
        for header in ["", "Basic YTpi", "a.b-c"] {
            assert_eq!(read(&[header]), Err(InvalidBearer::Missing), "{header}");
        }
        for header in ["Bearer ", "Bearer a b", "Bearer a\"b", "Bearer é"] {
            assert_eq!(read(&[header]), Err(InvalidBearer::Malformed), "{header}");
        }
        assert_eq!(
            read(&["Bearer a", "Bearer b"]),
            Err(InvalidBearer::Malformed)
        );
    }

    #[test]
    fn length_is_limited() {
        let longest = "x".repeat(MAX_TOKEN);
        assert!(BearerToken::parse(&longest).is_ok());
        let longer = BearerToken::parse(&(longest + "x"));
        assert_eq!(longer.unwrap_err(), InvalidBearer::Malformed);
    }
}
