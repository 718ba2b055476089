//! Private keys in DER, by the first bytes of their structure.

/// Kinds of structures in DER.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DerKind {
    PrivateKey,
    /// A certificate, a public key, or something else that is not secret.
    Other,
}

/// Object identifier of PBES2, with which PKCS #8 encrypts a key.
const PBES2: &[u8] = &[
    0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x05, 0x0d,
];

/// Kind of the structure at the start of some bytes; `None` if they do not begin with a sequence.
pub(super) fn kind(bytes: &[u8]) -> Option<DerKind> {
    let content = sequence(bytes)?;
    // PKCS #1 and #8 begin with version 0, SEC 1 (elliptic curves) with 1, PKCS #12 with 3. Certificates and public
    // keys begin with another sequence.
    let versioned = [0, 1, 3]
        .iter()
        .any(|version| content.starts_with(&[0x02, 0x01, *version]));
    let encrypted = sequence(content).is_some_and(|inner| inner.starts_with(PBES2));
    if versioned || encrypted {
        Some(DerKind::PrivateKey)
    } else {
        sequence(content).map(|_| DerKind::Other)
    }
}

/// Content of the sequence at the start of some bytes, as far as it is there.
fn sequence(bytes: &[u8]) -> Option<&[u8]> {
    let rest = bytes.strip_prefix(&[0x30])?;
    let (length, rest) = rest.split_first()?;
    match length {
        0x82 => rest.get(2..),
        0x81 => rest.get(1..),
        0..=0x7f => Some(rest),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[rstest::rstest]
    #[case(&[0x30, 0x82, 4, 0xbd, 2, 1, 0, 0x30], Some(DerKind::PrivateKey))]
    #[case(&[0x30, 0x77, 2, 1, 1, 4, 0x20], Some(DerKind::PrivateKey))]
    #[case(&[0x30, 0x2e, 2, 1, 0, 0x30, 5], Some(DerKind::PrivateKey))]
    #[case(&[0x30, 0x82, 3, 9, 0x30, 0x82, 2, 0xb0, 0xa0, 3, 2, 1, 2], Some(DerKind::Other))]
    #[case(&[0x30, 0x82, 1, 0x22, 0x30, 0x0d, 6, 9], Some(DerKind::Other))]
    #[case(&[0x30, 0x80], None)]
    #[case(&[0x30], None)]
    #[case(&[], None)]
    fn keys_differ_from_certificates(#[case] bytes: &[u8], #[case] expected: Option<DerKind>) {
        assert_eq!(kind(bytes), expected);
    }
}
