//! Progress of long work: one line on standard error, on a terminal only.
//!
//! Nothing is shown for the first two seconds, so that quick commands stay quiet, and nothing at all where standard
//! error is a file or a pipe. The line is cut to the terminal's width and is removed at the end.

use std::io::{self, IsTerminal as _, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Time before the line is shown.
const PROGRESS_DELAY: Duration = Duration::from_secs(2);

/// Interval at which the line is updated.
const UPDATE_INTERVAL: Duration = Duration::from_millis(200);

/// Shows progress until it is dropped, or until results are printed.
pub(crate) struct ProgressLine {
    /// Thread of the line; `None` where there is none, or it has ended.
    thread: Mutex<Option<ProgressThread>>,
    /// `None` where standard error is not a terminal.
    spinner: Option<Spinner>,
}

struct ProgressThread {
    /// Dropped to end the thread.
    running: Sender<()>,
    handle: JoinHandle<()>,
}

#[derive(Clone)]
struct Spinner {
    bar: ProgressBar,
    is_shown: Arc<AtomicBool>,
}

impl ProgressLine {
    /// Shows the text that `status` returns, on a terminal and if the work takes longer than two seconds.
    pub(crate) fn start(status: impl Fn() -> String + Send + 'static) -> Self {
        if !io::stderr().is_terminal() {
            return Self {
                thread: Mutex::new(None),
                spinner: None,
            };
        }
        let (running, ended) = channel();
        let spinner = Spinner::new();
        let shown = spinner.clone();
        let thread = std::thread::Builder::new()
            .name("progress".to_owned())
            .spawn(move || {
                // The work is done, or the command was dropped: there is nothing to show.
                if ended.recv_timeout(PROGRESS_DELAY) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
                shown.is_shown.store(true, Ordering::SeqCst);
                loop {
                    shown.bar.set_message(status());
                    shown.bar.tick();
                    if ended.recv_timeout(UPDATE_INTERVAL) != Err(RecvTimeoutError::Timeout) {
                        break;
                    }
                }
                shown.is_shown.store(false, Ordering::SeqCst);
                shown.bar.finish_and_clear();
            });
        // Without a thread, the work goes on without progress.
        let thread = thread.ok().map(|handle| ProgressThread { running, handle });
        Self {
            thread: Mutex::new(thread),
            spinner: Some(spinner),
        }
    }

    /// Shows a text that does not change.
    pub(crate) fn of(text: &'static str) -> Self {
        Self::start(move || text.to_owned())
    }

    /// Standard error, for messages while the line is shown. It is removed before each message and shown again after it.
    pub(crate) fn messages(&self) -> impl Write + use<> {
        Messages {
            spinner: self.spinner.clone(),
        }
    }

    /// Standard output, for results. The line ends with the first of them, because both may be the same terminal.
    pub(crate) fn results<W: Write>(&self, out: W) -> impl Write {
        Results {
            progress: self,
            out,
        }
    }

    /// Removes the line, and waits until it is removed.
    fn end(&self) {
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(ProgressThread { running, handle }) = thread.take() {
            drop(running);
            drop(handle.join());
        }
    }
}

impl Drop for ProgressLine {
    fn drop(&mut self) {
        self.end();
    }
}

struct Results<'p, W> {
    progress: &'p ProgressLine,
    out: W,
}

impl<W: Write> Write for Results<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.progress.end();
        self.out.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl Spinner {
    fn new() -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg}") {
            bar.set_style(style.tick_chars("-\\|/ "));
        }
        Self {
            bar,
            is_shown: Arc::default(),
        }
    }
}

struct Messages {
    spinner: Option<Spinner>,
}

impl Write for Messages {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &self.spinner {
            Some(spinner) if spinner.is_shown.load(Ordering::SeqCst) => {
                spinner.bar.suspend(|| io::stderr().write(bytes))
            }
            _ => io::stderr().write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
