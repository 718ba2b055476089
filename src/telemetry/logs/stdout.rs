//! Standard output for servers: written by a thread of its own, so that a log that nobody reads stops nothing else.
//!
//! Lines wait in memory up to [`WAITING`] bytes; those beyond are dropped and counted, and as soon as there is room
//! again the log says how many.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

/// The most bytes of lines that wait: some ten thousand lines, and little beside the memory limit of a pod.
const WAITING: i64 = 4 * 1024 * 1024;

/// What a waiting line takes beside its text.
const LINE: usize = 64;

/// The most that is written at once.
const BATCH: usize = 64 * 1024;

/// How long the end of the program waits for the last lines.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// A log that is written by its own thread. Clones write into the same one.
#[derive(Clone, Debug)]
pub struct Log {
    sender: Sender<Message>,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    waiting: Gauge<i64, AtomicI64>,
    /// Dropped since the log last said so.
    lost: AtomicU64,
    dropped: Counter,
}

#[derive(Debug)]
enum Message {
    Line(Vec<u8>),
    /// Everything before it is written.
    Flush(SyncSender<()>),
}

impl Log {
    /// Starts the thread that writes to standard output.
    ///
    /// # Errors
    /// When there is no standard output, or no thread can be started.
    pub fn stdout() -> io::Result<Self> {
        // Without the buffer and the lock that the rest of the program shares.
        Self::start(File::from(io::stdout().as_fd().try_clone_to_owned()?))
    }

    fn start(out: impl Write + Send + 'static) -> io::Result<Self> {
        let (sender, receiver) = channel();
        let state = Arc::new(State::default());
        let writing = Arc::clone(&state);
        thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || write(&receiver, &writing, out))?;
        Ok(Self { sender, state })
    }

    /// Registers what waits and what was dropped.
    pub fn register(&self, registry: &mut Registry) {
        let State {
            waiting, dropped, ..
        } = &*self.state;
        registry.register_with_unit(
            "log_waiting",
            "Bytes of log lines not written yet",
            Unit::Bytes,
            waiting.clone(),
        );
        registry.register(
            "log_lines_dropped",
            "Log lines dropped because nobody read the log",
            dropped.clone(),
        );
    }

    /// Waits until everything that was logged is written, but not for a log that nobody reads.
    pub fn flush(&self) {
        let (done, written) = sync_channel(1);
        if self.sender.send(Message::Flush(done)).is_ok() {
            // When it is not written by then, nobody reads it.
            let _ = written.recv_timeout(FLUSH_TIMEOUT);
        }
    }

    fn drop_line(&self) {
        self.state.lost.fetch_add(1, Ordering::Relaxed);
        self.state.dropped.inc();
    }
}

/// One line for each call: that is how the subscriber writes.
impl Write for Log {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let size = size(line);
        let before = self.state.waiting.inc_by(size);
        if before + size > WAITING || self.sender.send(Message::Line(line.to_vec())).is_err() {
            self.state.waiting.dec_by(size);
            self.drop_line();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What a line takes while it waits.
fn size(line: &[u8]) -> i64 {
    i64::try_from(line.len() + LINE).unwrap_or(WAITING)
}

fn write(messages: &Receiver<Message>, state: &State, mut out: impl Write) {
    let mut batch = Vec::new();
    while let Ok(first) = messages.recv() {
        let mut next = Some(first);
        let (mut lines, mut written) = (0, 0);
        let mut flushed = None;
        while let Some(message) = next {
            match message {
                Message::Line(line) => {
                    batch.extend_from_slice(&line);
                    (lines, written) = (lines + 1, written + size(&line));
                }
                Message::Flush(done) => {
                    flushed = Some(done);
                    break;
                }
            }
            next = if batch.len() < BATCH {
                messages.try_recv().ok()
            } else {
                None
            };
        }
        let result = out.write_all(&batch);
        batch.clear();
        // Those under way count until they are written: nobody knows when that will be.
        state.waiting.dec_by(written);
        if result.is_err() {
            // Standard output is closed, and whoever looks at the metrics sees that.
            state.dropped.inc_by(lines);
        } else if state.lost.load(Ordering::Relaxed) > 0 {
            let lines = state.lost.swap(0, Ordering::Relaxed);
            tracing::warn!(
                lines,
                "log lines were dropped: the log was not read fast enough"
            );
        }
        if let Some(done) = flushed {
            // Who waited for it has gone when this fails.
            let _ = done.try_send(());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::sync::mpsc::RecvTimeoutError;

    use super::*;

    /// A reader of the pipe that the log is written into.
    fn piped() -> (Log, io::PipeReader) {
        let (reader, writer) = io::pipe().unwrap();
        (Log::start(writer).unwrap(), reader)
    }

    #[test]
    fn lines_are_written_in_order_and_flushed() {
        let (log, mut reader) = piped();
        let lines: Vec<String> = (0..100).map(|at| format!("line {at}\n")).collect();
        for line in &lines {
            log.clone().write_all(line.as_bytes()).unwrap();
        }
        log.flush();
        assert_eq!(log.state.waiting.get(), 0);
        let mut text = String::new();
        let expected = lines.concat();
        reader
            .by_ref()
            .take(expected.len() as u64)
            .read_to_string(&mut text)
            .unwrap();
        assert_eq!(text, expected);
    }

    #[test]
    fn log_that_nobody_reads_stops_nobody_and_holds_no_more_than_its_bound() {
        let (mut log, mut reader) = piped();
        let line = vec![b'x'; 1023];
        let line = [&line[..], b"\n"].concat();
        let (done, ended) = channel();
        let logging = thread::spawn(move || {
            for _ in 0..10_000 {
                log.write_all(&line).unwrap();
            }
            log.flush();
            done.send(()).unwrap();
            log
        });
        // Were it written by whoever logs, this would never end.
        assert_ne!(
            ended.recv_timeout(Duration::from_mins(1)),
            Err(RecvTimeoutError::Timeout)
        );
        let log = logging.join().unwrap();
        let waiting = log.state.waiting.get();
        // A writer that had no processor until the last line was logged has filled the pipe since.
        let pipe = 65 * size(&[0; 1024]);
        assert!(
            (WAITING - pipe - 2 * 1024..=WAITING).contains(&waiting),
            "{waiting}"
        );
        let dropped = log.state.dropped.get();
        assert!(dropped > 5000, "{dropped}");

        // Whoever reads again gets what waited.
        let kept = 10_000 - usize::try_from(dropped).unwrap();
        let mut text = vec![0; kept * 1024];
        reader.read_exact(&mut text).unwrap();
        assert!(text.chunks(1024).all(|line| line.ends_with(b"x\n")));
    }

    #[test]
    fn lines_into_a_closed_pipe_are_counted() {
        let (mut log, reader) = piped();
        drop(reader);
        for _ in 0..10 {
            log.write_all(b"gone\n").unwrap();
        }
        Log::flush(&log);
        assert_eq!(log.state.dropped.get(), 10);
        assert_eq!(log.state.waiting.get(), 0);
    }
}
