//! Certificates in files, read again and again.
//!
//! Polling, not inotify: a mounted Secret changes by swapping a symlink two levels up, which a watch on the file sees
//! once and then never again.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use crate::server::cert_store::CertStore;
use crate::tls::TlsError;

/// Where the certificate comes from.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The chain, leaf first, and its key; none when the pair comes from elsewhere.
    pub pair: Option<(PathBuf, PathBuf)>,
    /// The CA that callers' certificates come from; goes with [`crate::server::cert_store::ClientAuth::Required`].
    pub client_ca: Option<PathBuf>,
}

impl TlsFiles {
    /// Loads all files; at start, where there is nothing older to serve on with.
    ///
    /// # Errors
    /// What is wrong with the first file that is wrong.
    pub async fn load(&self, store: &CertStore) -> Result<(), TlsError> {
        if let Some(path) = &self.client_ca {
            store.offer_client_ca(&read(path).await?)?;
        }
        if let Some((cert, key)) = &self.pair {
            let (cert, key) = read_pair(cert, key).await?;
            store.load(&cert, &key)?;
        }
        Ok(())
    }

    /// Looks at the files every so often, for as long as it is polled, and hands what changed to the store. The kubelet
    /// itself takes up to a minute to bring a changed Secret.
    pub async fn watch(self, store: &CertStore, every: Duration) {
        let mut ticks = interval(every);
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
                    let outcome = store.offer_client_ca(&ca);
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

/// Both files as they stood at one time, if that can be had: a swap between the two reads gives an old half and a new
/// half, which would be refused, and warned about, for nothing.
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
