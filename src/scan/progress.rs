//! A scan that somebody waits for.

use std::convert::Infallible;
use std::io::{self, IsTerminal as _};
use std::time::Duration;

use tokio::sync::mpsc;

use crate::scan::{Found, Progress, ScanError, ScanStats, Scanner, Task};
use crate::telemetry::console::say;

/// Findings on their way.
const WAITING: usize = 64;

/// How often a person who looks on is told how far it is; the first time after as long.
const TELL: Duration = Duration::from_secs(2);

/// The same where it is written down, line by line.
const NOTE: Duration = Duration::from_secs(10);

/// Scans, hands over what is found, and says on stderr how far it is when that takes a while.
///
/// # Errors
/// As [`Scanner::scan`]; what was found until then has been handed over.
pub(crate) async fn run_with_progress(
    scanner: &Scanner,
    task: &Task,
    progress: &Progress,
    mut found: impl FnMut(Found),
) -> Result<(), ScanError> {
    let (sender, mut receiver) = mpsc::channel(WAITING);
    let scanning = async {
        let ended = scanner.scan(task, progress, &sender).await;
        drop(sender);
        ended
    };
    let collecting = async {
        while let Some(arrived) = receiver.recv().await {
            found(arrived);
        }
    };
    tokio::select! {
        (ended, ()) = futures::future::join(scanning, collecting) => ended,
        never = tell(progress, io::stderr().is_terminal(), say) => match never {},
    }
}

/// Says how far it is for as long as it is polled: to a person in one line that changes, else in lines of their own.
async fn tell(progress: &Progress, person: bool, say: impl Fn(&str)) -> Infallible {
    /// Wipes the person's line when the scan is over.
    struct Line<S: Fn(&str)> {
        dirty: bool,
        say: S,
    }
    impl<S: Fn(&str)> Drop for Line<S> {
        fn drop(&mut self) {
            if self.dirty {
                (self.say)("\r\x1b[K");
            }
        }
    }
    let mut line = Line { dirty: false, say };
    loop {
        tokio::time::sleep(if person { TELL } else { NOTE }).await;
        let ScanStats {
            objects,
            read,
            found,
            ..
        } = progress.looked();
        let far =
            format!("{objects} objects looked at, {read} of them whole, {found} found so far");
        if person {
            line.dirty = true;
            (line.say)(&format!("\r{far}"));
        } else {
            (line.say)(&format!("{far}\n"));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use tokio::time::timeout;

    use super::*;

    /// What is said in so many seconds.
    async fn said(person: bool, seconds: f64) -> Vec<String> {
        let progress = Progress::default();
        let said = RefCell::new(Vec::new());
        let note = |text: &str| {
            said.borrow_mut().push(text.to_owned());
            progress.listed(500);
        };
        progress.listed(500);
        let told = timeout(
            Duration::from_secs_f64(seconds),
            tell(&progress, person, note),
        )
        .await;
        assert!(told.is_err(), "it never ends by itself");
        said.into_inner()
    }

    #[tokio::test(start_paused = true)]
    async fn a_person_sees_one_line_move_and_vanish() {
        let line =
            |objects| format!("\r{objects} objects looked at, 0 of them whole, 0 found so far");
        assert_eq!(
            said(true, 5.0).await,
            [line(500), line(1000), "\r\x1b[K".to_owned()]
        );
        assert_eq!(said(true, 1.9).await, [""; 0], "a short run says nothing");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_written_down_has_lines_of_its_own() {
        let line =
            |objects| format!("{objects} objects looked at, 0 of them whole, 0 found so far\n");
        assert_eq!(said(false, 25.0).await, [line(500), line(1000)]);
    }
}
