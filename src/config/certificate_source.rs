//! Source of the serving certificate in a file: settings that exclude or require each other.
//!
//! A flag or variable for one of them replaces all of the file, so those of the file have to be complete by themselves.

use super::error::ConfigError;
use super::file::{ConfigFile, FileValue};

/// Checks that the settings name one source.
pub(super) fn check(file: &ConfigFile) -> Vec<ConfigError> {
    let find = |argument: &str| {
        let mut values = file.values.iter();
        values.find(|value| value.setting.argument == argument)
    };
    let (cert, key) = (find("tls_cert"), find("tls_key"));
    let (certificate, secret) = (find("tls_certificate"), find("tls_secret"));
    problem(cert, key, certificate, secret)
        .map(|(value, message)| value.error(file, message.to_owned()))
        .into_iter()
        .collect()
}

fn problem<'v>(
    cert: Option<&'v FileValue>,
    key: Option<&'v FileValue>,
    certificate: Option<&'v FileValue>,
    secret: Option<&'v FileValue>,
) -> Option<(&'v FileValue, &'static str)> {
    match (cert, key, certificate, secret) {
        (Some(_), _, _, Some(secret)) | (_, Some(_), _, Some(secret)) => Some((
            secret,
            "it cannot be used with tls.cert and tls.key: keep one of them",
        )),
        (_, _, Some(certificate), Some(_)) => Some((
            certificate,
            "it is about files: use it with tls.cert and tls.key, not with tls.secret",
        )),
        (Some(cert), None, _, _) => Some((cert, "it requires tls.key")),
        (None, Some(key), _, _) => Some((key, "it requires tls.cert")),
        (None, None, Some(certificate), _) => Some((
            certificate,
            "it requires tls.cert and tls.key, the files that the Certificate is stored in",
        )),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("{cert: a, key: b}", "")]
    #[case("{cert: a, key: b, certificate: c}", "")]
    #[case("{secret: s}", "")]
    #[case("{poll: 10s}", "")]
    #[case(
        "{cert: a, key: b, secret: c}",
        "c:1:32: tls.secret: it cannot be used with"
    )]
    #[case("{key: b, secret: c}", "c:1:23: tls.secret: it cannot be used with")]
    #[case(
        "{certificate: a, secret: c}",
        "c:1:20: tls.certificate: it is about files"
    )]
    #[case("{cert: a}", "c:1:13: tls.cert: it requires tls.key")]
    #[case("{key: a}", "c:1:12: tls.key: it requires tls.cert")]
    #[case(
        "{certificate: a}",
        "c:1:20: tls.certificate: it requires tls.cert and tls.key"
    )]
    fn source_is_one_and_complete(#[case] tls: &str, #[case] expected: &str) {
        let text = format!("tls: {tls}\n");
        let parsed = ConfigFile::parse(&"c".into(), text.as_bytes(), &check);
        let message = parsed.map_or_else(|errors| errors[0].to_string(), |_| String::new());
        assert!(message.starts_with(expected), "{message}");
        assert_eq!(message.is_empty(), expected.is_empty(), "{message}");
    }
}
