//! Lock that keeps a second process from writing a store: a file beside it, which names the holder.
//!
//! The lock is not on the store itself: closing any other descriptor of that file would release SQLite's own locks.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use super::file::{failed, name, with_suffix};
use crate::audit::text::Text;
use crate::store::StoreError;

/// Bytes of the holder's name.
const MAX_HOLDER: usize = 256;

/// Lock of a store, held until it is dropped. The file remains, because removing it would let two processes in.
#[derive(Debug)]
pub(super) struct StoreLock {
    _file: File,
    path: PathBuf,
}

impl StoreLock {
    pub(super) fn acquire(store: &Path, holder: &str) -> Result<Self, StoreError> {
        let path = with_suffix(store, ".lock");
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .map_err(|error| failed(store, &error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(StoreError::Locked {
                    store: name(store),
                    holder: read_holder(file),
                });
            }
            Err(TryLockError::Error(error)) => return Err(failed(store, &error)),
        }
        let process = std::process::id();
        let text = match holder {
            "" => format!("process {process}"),
            holder => format!("{holder} (process {process})"),
        };
        let written = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| file.write_all(text.as_bytes()));
        // On a full volume the lock is without a name.
        drop(written);
        Ok(Self { _file: file, path })
    }

    /// Whether the volume has become read-only, as it does after errors. SQLite reports that as any other failure.
    pub(super) fn is_on_read_only_volume(&self) -> bool {
        let opened = OpenOptions::new().write(true).open(&self.path);
        opened.is_err_and(|error| error.kind() == io::ErrorKind::ReadOnlyFilesystem)
    }
}

/// Name of the holder. Anybody who can write the volume could have written it.
fn read_holder(file: File) -> String {
    let mut bytes = Vec::new();
    let read = file.take(MAX_HOLDER as u64).read_to_end(&mut bytes);
    let text = String::from_utf8_lossy(&bytes);
    match read {
        Ok(length) if length > 0 => Text::<MAX_HOLDER>::new(&text).as_str().to_owned(),
        _ => "another process".to_owned(),
    }
}
