//! Log on standard output for servers, written by its own thread, so that a log that is not read does not block
//! requests.
//!
//! Up to [`MAX_WAITING_BYTES`] of lines wait in memory. Further lines are dropped and counted, and the number is logged
//! as soon as there is room again.

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

/// Limit of waiting lines in bytes: about ten thousand lines, and little compared to the memory limit of a pod.
const MAX_WAITING_BYTES: i64 = 4 * 1024 * 1024;

/// Memory of a waiting line beside its text, in bytes.
const LINE_OVERHEAD: usize = 64;

/// Size in bytes from which a batch of lines is written.
const BATCH_BYTES: usize = 64 * 1024;

/// Time limit of writing the last lines at the end of the program.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// Log that is written by its own thread. Clones write to the same log.
#[derive(Clone, Debug)]
pub struct Log {
    sender: Sender<Message>,
    state: Arc<LogState>,
}

#[derive(Debug, Default)]
struct LogState {
    waiting: Gauge<i64, AtomicI64>,
    /// Dropped lines that are not reported in the log yet.
    unreported: AtomicU64,
    dropped: Counter,
}

#[derive(Debug)]
enum Message {
    Line(Vec<u8>),
    /// Request to confirm that all messages before it are written.
    Flush(SyncSender<()>),
}

impl Log {
    /// Starts the thread that writes to standard output.
    ///
    /// # Errors
    /// Standard output is closed, or the thread cannot be started.
    pub fn stdout() -> io::Result<Self> {
        // A clone of the descriptor has neither the buffer nor the lock of `io::stdout`.
        Self::start(File::from(io::stdout().as_fd().try_clone_to_owned()?))
    }

    fn start(out: impl Write + Send + 'static) -> io::Result<Self> {
        let (sender, receiver) = channel();
        let state = Arc::new(LogState::default());
        let shared = Arc::clone(&state);
        thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || write_lines(&receiver, &shared, out))?;
        Ok(Self { sender, state })
    }

    /// Registers the metrics of waiting bytes and dropped lines.
    pub fn register(&self, registry: &mut Registry) {
        let LogState {
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

    /// Waits until all lines are written, up to [`FLUSH_TIMEOUT`].
    pub fn flush(&self) {
        let (done, written) = sync_channel(1);
        if self.sender.send(Message::Flush(done)).is_ok() {
            // After the timeout, the log is not being read.
            let _ = written.recv_timeout(FLUSH_TIMEOUT);
        }
    }

    fn drop_line(&self) {
        self.state.unreported.fetch_add(1, Ordering::Relaxed);
        self.state.dropped.inc();
    }
}

/// Each call is one line, because the subscriber writes line by line.
impl Write for Log {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let size = size(line);
        let previous = self.state.waiting.inc_by(size);
        if previous + size > MAX_WAITING_BYTES
            || self.sender.send(Message::Line(line.to_vec())).is_err()
        {
            self.state.waiting.dec_by(size);
            self.drop_line();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Memory of a waiting line.
fn size(line: &[u8]) -> i64 {
    i64::try_from(line.len() + LINE_OVERHEAD).unwrap_or(MAX_WAITING_BYTES)
}

/// Writes the lines in batches, until all senders are dropped.
fn write_lines(messages: &Receiver<Message>, state: &LogState, mut out: impl Write) {
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
            next = if batch.len() < BATCH_BYTES {
                messages.try_recv().ok()
            } else {
                None
            };
        }
        let result = out.write_all(&batch);
        batch.clear();
        // Lines in a write count as waiting until the write ends, because it may block.
        state.waiting.dec_by(written);
        if result.is_err() {
            // Standard output is closed; the metric shows it.
            state.dropped.inc_by(lines);
        } else if state.unreported.load(Ordering::Relaxed) > 0 {
            let lines = state.unreported.swap(0, Ordering::Relaxed);
            tracing::warn!(
                lines,
                "log lines were dropped: the log was not read fast enough"
            );
        }
        if let Some(done) = flushed {
            // It fails if the receiver has timed out.
            let _ = done.try_send(());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::sync::mpsc::RecvTimeoutError;

    use super::*;

    /// A log that is written to a pipe, and the pipe's reader.
    fn log_to_pipe() -> (Log, io::PipeReader) {
        let (reader, writer) = io::pipe().unwrap();
        (Log::start(writer).unwrap(), reader)
    }

    #[test]
    fn lines_are_written_in_order_and_flushed() {
        let (log, mut reader) = log_to_pipe();
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
    fn log_that_is_not_read_does_not_block_and_stays_within_its_limit() {
        let (mut log, mut reader) = log_to_pipe();
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
        // If callers wrote to the pipe themselves, this would never end.
        assert_ne!(
            ended.recv_timeout(Duration::from_mins(1)),
            Err(RecvTimeoutError::Timeout)
        );
        let log = logging.join().unwrap();
        let waiting = log.state.waiting.get();
        // If the writer thread did not run until the last line was logged, it has filled the pipe since then.
        let pipe = 65 * size(&[0; 1024]);
        assert!(
            (MAX_WAITING_BYTES - pipe - 2 * 1024..=MAX_WAITING_BYTES).contains(&waiting),
            "{waiting}"
        );
        let dropped = log.state.dropped.get();
        assert!(dropped > 5000, "{dropped}");

        // A reader that resumes gets the waiting lines.
        let kept = 10_000 - usize::try_from(dropped).unwrap();
        let mut text = vec![0; kept * 1024];
        reader.read_exact(&mut text).unwrap();
        assert!(text.chunks(1024).all(|line| line.ends_with(b"x\n")));
    }

    #[test]
    fn lines_into_a_closed_pipe_are_counted() {
        let (mut log, reader) = log_to_pipe();
        drop(reader);
        for _ in 0..10 {
            log.write_all(b"gone\n").unwrap();
        }
        Log::flush(&log);
        assert_eq!(log.state.dropped.get(), 10);
        assert_eq!(log.state.waiting.get(), 0);
    }
}
