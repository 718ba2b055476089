//! Scans of the command line, with progress on stderr.

use std::convert::Infallible;
use std::io::{self, IsTerminal as _};
use std::time::Duration;

use tokio::sync::mpsc;

use crate::scan::{Progress, ScanError, ScanFinding, ScanStats, Scanner, Task};
use crate::telemetry::console::print_message;

/// Findings that the scan may be ahead of their consumer.
const FINDINGS_CAPACITY: usize = 64;

/// Interval of progress on a terminal. The first line follows after one interval.
const TERMINAL_INTERVAL: Duration = Duration::from_secs(2);

/// Interval of progress in a log, where every line stays.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// Scans, passes the findings to `found`, and prints progress on stderr if the scan takes a while.
///
/// # Errors
/// As [`Scanner::scan`]. Earlier findings have been passed on.
pub(crate) async fn run_with_progress(
    scanner: &Scanner,
    task: &Task,
    progress: &Progress,
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
    tokio::select! {
        (ended, ()) = futures::future::join(scanning, collecting) => ended,
        infallible = print_progress(progress, io::stderr().is_terminal(), print_message) => match infallible {},
    }
}

/// Prints progress until it is dropped: on a terminal in one line that is overwritten, else in separate lines.
async fn print_progress(
    progress: &Progress,
    is_terminal: bool,
    print: impl Fn(&str),
) -> Infallible {
    /// Clears the line on the terminal when the scan ends.
    struct ProgressLine<P: Fn(&str)> {
        is_dirty: bool,
        print: P,
    }
    impl<P: Fn(&str)> Drop for ProgressLine<P> {
        fn drop(&mut self) {
            if self.is_dirty {
                (self.print)("\r\x1b[K");
            }
        }
    }
    let mut line = ProgressLine {
        is_dirty: false,
        print,
    };
    loop {
        tokio::time::sleep(if is_terminal {
            TERMINAL_INTERVAL
        } else {
            LOG_INTERVAL
        })
        .await;
        let ScanStats {
            objects,
            read,
            found,
            ..
        } = progress.stats();
        let text =
            format!("{objects} objects looked at, {read} of them whole, {found} found so far");
        if is_terminal {
            line.is_dirty = true;
            (line.print)(&format!("\r{text}"));
        } else {
            (line.print)(&format!("{text}\n"));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use tokio::time::timeout;

    use super::*;

    /// Texts that are printed within `seconds`.
    async fn printed(is_terminal: bool, seconds: f64) -> Vec<String> {
        let progress = Progress::default();
        let printed = RefCell::new(Vec::new());
        let print = |text: &str| {
            printed.borrow_mut().push(text.to_owned());
            progress.count_listed(500);
        };
        progress.count_listed(500);
        let ended = timeout(
            Duration::from_secs_f64(seconds),
            print_progress(&progress, is_terminal, print),
        )
        .await;
        assert!(ended.is_err(), "progress is printed until it is dropped");
        printed.into_inner()
    }

    #[tokio::test(start_paused = true)]
    async fn terminal_line_is_overwritten_and_cleared() {
        let line =
            |objects| format!("\r{objects} objects looked at, 0 of them whole, 0 found so far");
        assert_eq!(
            printed(true, 5.0).await,
            [line(500), line(1000), "\r\x1b[K".to_owned()]
        );
        assert_eq!(
            printed(true, 1.9).await,
            [""; 0],
            "a short run prints nothing"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn log_gets_separate_progress_lines() {
        let line =
            |objects| format!("{objects} objects looked at, 0 of them whole, 0 found so far\n");
        assert_eq!(printed(false, 25.0).await, [line(500), line(1000)]);
    }
}
