//! One run on the store.

use std::path::{Path, PathBuf};

use rustix::fs::{Advice, fadvise};

use super::store::FilledStore;
use super::{ingest, print_line, queries};

/// Rows of the default size.
const ROWS: u64 = 2_500_000;

/// Rows of a store that is filled in a few seconds.
const SMALL_ROWS: u64 = 10_000;

/// Number of rows of this run.
fn rows() -> u64 {
    let rows = variable("AUDIT_SCALE_ROWS");
    rows.map_or(ROWS, |rows| {
        rows.parse().expect("AUDIT_SCALE_ROWS is a number")
    })
}

/// Folder of the store, which is kept if it was named.
pub fn folder() -> (PathBuf, Option<tempfile::TempDir>) {
    if let Some(named) = variable("AUDIT_SCALE_FOLDER") {
        return (named.into(), None);
    }
    let folder = tempfile::tempdir().expect("a folder");
    (folder.path().to_owned(), Some(folder))
}

#[expect(clippy::disallowed_methods, reason = "settings of this test alone")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Fills and measures a store, and returns the promises that it does not keep.
pub async fn measure_store(path: &Path) -> Vec<String> {
    let mut filled = FilledStore::fill(path.to_owned(), rows()).await;
    let mut broken = filled.report_sizes().await;
    forget_file(path);
    broken.extend(queries::measure(&filled, "cold").await);
    broken.extend(queries::measure(&filled, "warm").await);
    broken.extend(ingest::measure(&mut filled).await);
    ingest::young_lines_stay(&filled).await;
    ingest::trail_is_intact(&filled).await;
    print_line(&format!("load average: {}", load_average()));
    broken
}

/// Fills a small store, and checks what does not depend on the machine.
pub async fn check_small_store() {
    let (folder, _guard) = folder();
    let filled = FilledStore::fill(folder.join("audit.db"), SMALL_ROWS).await;
    filled.report_sizes().await;
    ingest::young_lines_stay(&filled).await;
    ingest::trail_is_intact(&filled).await;
}

/// Lets the kernel forget the content of a file, so that the next reads come from the disk.
fn forget_file(path: &Path) {
    let file = std::fs::File::open(path).expect("the store");
    file.sync_all().expect("a disk");
    fadvise(&file, 0, None, Advice::DontNeed).expect("advice that the kernel takes");
}

fn load_average() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
}
