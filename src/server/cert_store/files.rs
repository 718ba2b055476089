//! Certificates in files, which are polled.
//!
//! They are not watched with inotify: a mounted Secret changes by replacing a symlink two levels up, which a watch on
//! the file reports once and then never again.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use crate::server::cert_store::CertStore;
use crate::tls::TlsError;

/// Files with the certificates.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// Chain, leaf first, and its key; `None` if the pair comes from elsewhere.
    pub pair: Option<(PathBuf, PathBuf)>,
    /// CA of client certificates; used with [`crate::server::cert_store::ClientAuth::Required`].
    pub client_ca: Option<PathBuf>,
}

impl TlsFiles {
    /// Loads all files. Used at startup, where there is no earlier content to continue with.
    ///
    /// # Errors
    /// Error of the first file that cannot be loaded.
    pub async fn load(&self, store: &CertStore) -> Result<(), TlsError> {
        if let Some(path) = &self.client_ca {
            store.load_client_ca(&read(path).await?)?;
        }
        if let Some((cert, key)) = &self.pair {
            let (cert, key) = read_pair(cert, key).await?;
            store.load(&cert, &key)?;
        }
        Ok(())
    }

    /// Polls the files at an interval, and loads changed ones into the store. The kubelet itself takes up to a minute
    /// to update a changed Secret.
    pub async fn watch(self, store: &CertStore, poll_interval: Duration) {
        let mut ticks = interval(poll_interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.reload(store).await;
        }
    }

    async fn reload(&self, store: &CertStore) {
        if let Some(path) = &self.client_ca {
            let (content, outcome) = match read(path).await {
                Ok(ca) => {
                    let outcome = store.load_client_ca(&ca);
                    (ca, outcome)
                }
                Err(error) => (Vec::new(), Err(error)),
            };
            store.record(&[&content], &outcome);
        }
        let Some((cert, key)) = &self.pair else {
            return;
        };
        let (cert, key, outcome) = match read_pair(cert, key).await {
            Ok((cert, key)) => {
                let outcome = store.load(&cert, &key);
                (cert, key, outcome)
            }
            Err(error) => (Vec::new(), Vec::new(), Err(error)),
        };
        store.record(&[&cert, &key], &outcome);
    }
}

/// Reads both files in a consistent state, if possible: after a replacement between the two reads, they would not
/// match, and would be rejected with a needless warning.
async fn read_pair(cert_file: &Path, key_file: &Path) -> Result<(Vec<u8>, Vec<u8>), TlsError> {
    let mut cert = read(cert_file).await?;
    let mut key = read(key_file).await?;
    for _ in 0..3 {
        let again = read(cert_file).await?;
        if again == cert {
            break;
        }
        (cert, key) = (again, read(key_file).await?);
    }
    Ok((cert, key))
}

async fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    tokio::fs::read(path)
        .await
        .map_err(|source| TlsError::Read {
            path: path.to_owned(),
            source,
        })
}
