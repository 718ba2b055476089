//! Scans of the command line, with progress on a terminal.

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::cli::progress::ProgressLine;
use crate::scan::{Progress, ScanError, ScanFinding, ScanStats, Scanner, Task};

/// Findings that the scan may be ahead of their consumer.
const FINDINGS_CAPACITY: usize = 64;

/// Scans, passes the findings to `found`, and shows progress on a terminal if the scan takes a while.
///
/// # Errors
/// As [`Scanner::scan`]. Earlier findings have been passed on.
pub(crate) async fn run_with_progress(
    scanner: &Scanner,
    task: &Task,
    progress: &Arc<Progress>,
    mut found: impl FnMut(ScanFinding),
) -> Result<(), ScanError> {
    let (sender, mut receiver) = mpsc::channel(FINDINGS_CAPACITY);
    let scanning = async {
        let ended = scanner.scan(task, progress, &sender).await;
        drop(sender);
        ended
    };
    let collecting = async {
        while let Some(finding) = receiver.recv().await {
            found(finding);
        }
    };
    let shown = Arc::clone(progress);
    let _line = ProgressLine::start(move || status(shown.stats()));
    let (ended, ()) = futures::future::join(scanning, collecting).await;
    ended
}

fn status(stats: ScanStats) -> String {
    let ScanStats {
        objects,
        read,
        found,
        ..
    } = stats;
    format!("{objects} objects looked at, {read} of them whole, {found} found so far")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_counts_objects() {
        let progress = Progress::default();
        progress.count_listed(500);
        progress.count_read();
        assert_eq!(
            status(progress.stats()),
            "500 objects looked at, 1 of them whole, 0 found so far"
        );
    }
}
