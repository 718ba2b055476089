//! Files with a credential, which is read anew for each login: the kubelet replaces tokens, and operators secrets.

use std::hash::{BuildHasher as _, RandomState};
use std::path::PathBuf;

use secrecy::{ExposeSecret as _, SecretString};
use thiserror::Error;
use tokio::io::AsyncReadExt as _;

/// Bytes of a file with a credential.
pub const MAX_CREDENTIAL: usize = 64 << 10;

/// File with one credential as text. Line breaks at its end are not part of it.
#[derive(Clone, Debug)]
pub struct CredentialFile {
    path: PathBuf,
    /// Key of the versions, so that they reveal nothing of the credential.
    hasher: RandomState,
}

/// Reason why a credential cannot be read.
#[derive(Debug, Error)]
pub enum CredentialFileError {
    #[error("the credential in {} cannot be read", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{} is empty, is not text, or has more than {} KiB: it has to hold one credential", path.display(), MAX_CREDENTIAL >> 10)]
    Unusable { path: PathBuf },
}

impl CredentialFile {
    /// Names the file, which is not read yet.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self {
            path,
            hasher: RandomState::new(),
        }
    }

    /// Reads the credential.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or does not hold one credential.
    pub async fn read(&self) -> Result<SecretString, CredentialFileError> {
        let unreadable = |source| CredentialFileError::Read {
            path: self.path.clone(),
            source,
        };
        let unusable = || CredentialFileError::Unusable {
            path: self.path.clone(),
        };
        let limit = u64::try_from(MAX_CREDENTIAL).unwrap_or(u64::MAX);
        let file = tokio::fs::File::open(&self.path)
            .await
            .map_err(unreadable)?;
        let mut bytes = Vec::new();
        let mut reader = file.take(limit.saturating_add(1));
        reader.read_to_end(&mut bytes).await.map_err(unreadable)?;
        if bytes.len() > MAX_CREDENTIAL {
            return Err(unusable());
        }
        let text = String::from_utf8(bytes).map_err(|_| unusable())?;
        let credential = text.trim_end_matches(['\r', '\n']);
        if credential.is_empty() {
            return Err(unusable());
        }
        Ok(credential.into())
    }

    /// Number that is another one after the credential has changed, 0 while it cannot be read.
    pub async fn version(&self) -> u64 {
        let Ok(credential) = self.read().await else {
            return 0;
        };
        self.hasher.hash_one(credential.expose_secret())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn credential_is_read_anew_and_never_shown() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        let file = CredentialFile::new(path.clone());
        assert_eq!(file.version().await, 0);
        assert!(matches!(
            file.read().await,
            Err(CredentialFileError::Read { .. })
        ));
        std::fs::write(&path, "canary one\n").unwrap();
        let (credential, version) = (file.read().await.unwrap(), file.version().await);
        assert_eq!(credential.expose_secret(), "canary one");
        assert!(!format!("{credential:?} {file:?}").contains("canary"));
        assert_eq!(file.version().await, version);
        std::fs::write(&path, "canary two\r\n").unwrap();
        assert_ne!(file.version().await, version);
        assert_eq!(file.read().await.unwrap().expose_secret(), "canary two");
    }

    #[tokio::test]
    async fn file_without_a_credential_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        let file = CredentialFile::new(path.clone());
        let large = vec![b'x'; MAX_CREDENTIAL + 1];
        for content in [b"".as_slice(), b"\n", b"\xff\xfe", &large] {
            std::fs::write(&path, content).unwrap();
            let read = file.read().await;
            assert!(matches!(read, Err(CredentialFileError::Unusable { .. })));
        }
        std::fs::write(&path, vec![b'x'; MAX_CREDENTIAL]).unwrap();
        assert!(file.read().await.is_ok());
    }
}
