//! Writing of files: whole or not at all, and only if they change.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

/// Outcome of writing one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WriteOutcome {
    Unchanged,
    Written,
}

/// Writes a file by a temporary one beside it. A file that has this text already is not touched.
///
/// # Errors
/// Errors of the file system. The file is then as it was.
pub(crate) fn write(path: &Path, text: &str) -> io::Result<WriteOutcome> {
    if has_text(path, text) {
        return Ok(WriteOutcome::Unchanged);
    }
    let folder = path.parent().unwrap_or(Path::new("."));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = folder.join(format!(".{name}.{}.tmp", std::process::id()));
    let written = write_new(&temporary, text).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // The error of the write is the one to report.
        drop(fs::remove_file(&temporary));
    }
    written.map(|()| WriteOutcome::Written)
}

fn write_new(path: &Path, text: &str) -> io::Result<()> {
    // A leftover of a process with the same number, which was killed.
    if let Err(error) = fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let mut file = File::create_new(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn has_text(path: &Path, text: &str) -> bool {
    let length = u64::try_from(text.len()).unwrap_or(u64::MAX);
    fs::metadata(path).is_ok_and(|found| found.is_file() && found.len() == length)
        && fs::read(path).is_ok_and(|found| found == text.as_bytes())
}

/// Result of work that must not wait for another process.
#[cfg(test)]
pub(super) fn in_time<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || drop(sender.send(work())));
    let deadline = std::time::Duration::from_secs(30);
    receiver.recv_timeout(deadline).expect("the work ends")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_is_replaced_only_if_it_changes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        assert_eq!(write(&path, "a").unwrap(), WriteOutcome::Written);
        let before = fs::metadata(&path).unwrap().modified().unwrap();
        assert_eq!(write(&path, "a").unwrap(), WriteOutcome::Unchanged);
        assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), before);
        assert_eq!(write(&path, "b").unwrap(), WriteOutcome::Written);
        assert_eq!(fs::read_to_string(&path).unwrap(), "b");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn failed_write_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        fs::create_dir(&path).unwrap();
        assert!(write(&path, "a").is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
