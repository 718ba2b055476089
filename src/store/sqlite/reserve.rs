//! Reserve: a file beside the store that is given up when the volume is full, so that deleting, which needs room in the
//! WAL, can begin.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::file::with_suffix;

/// Bytes of the reserve: the WAL of several deletions.
pub(super) const RESERVE_BYTES: u64 = 16 << 20;

/// Bytes that are written at a time.
const CHUNK: usize = 1 << 20;

/// Reserve of a store. Clones are the same one.
#[derive(Clone, Debug)]
pub(super) struct Reserve {
    path: Arc<PathBuf>,
    /// Held while the file is written, so that a reserve that is given up meanwhile is not half of one.
    filling: Arc<Mutex<()>>,
}

impl Reserve {
    pub(super) fn new(store: &Path) -> Self {
        Self {
            path: Arc::new(with_suffix(store, ".reserve")),
            filling: Arc::default(),
        }
    }

    /// Fills the reserve, if the volume has room for it twice: a store that takes its last room is full again at once.
    pub(super) fn restore(&self) {
        let _filling = self.lock();
        let length = self.path.metadata().map_or(0, |file| file.len());
        if length != RESERVE_BYTES && self.has_room() && self.fill().is_err() {
            self.remove();
        }
    }

    fn has_room(&self) -> bool {
        let folder = self.path.parent().filter(|folder| *folder != Path::new(""));
        let volume = rustix::fs::statvfs(folder.unwrap_or(Path::new(".")));
        // Without the number, the attempt shows it.
        volume.map_or(true, |volume| {
            volume.f_bavail.saturating_mul(volume.f_frsize) >= 2 * RESERVE_BYTES
        })
    }

    /// Writes zeros, because a file of a length alone takes no room.
    fn fill(&self) -> io::Result<()> {
        let mut options = OpenOptions::new();
        let mut file = options
            .create(true)
            .truncate(true)
            .write(true)
            .open(self.path.as_path())?;
        let chunk = vec![0; CHUNK];
        for _ in 0..RESERVE_BYTES / CHUNK as u64 {
            file.write_all(&chunk)?;
        }
        file.sync_all()
    }

    /// Returns the room of the reserve to the volume.
    pub(super) fn give_up(&self) {
        let _filling = self.lock();
        self.remove();
    }

    fn remove(&self) {
        // Without a reserve, nothing can be given up.
        drop(std::fs::remove_file(self.path.as_path()));
    }

    fn lock(&self) -> MutexGuard<'_, ()> {
        self.filling.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
