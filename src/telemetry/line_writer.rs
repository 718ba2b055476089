//! Lines on standard output, written by a thread of their own, so that an output that is not read does not block
//! requests.
//!
//! Up to [`MAX_WAITING_BYTES`] of lines wait in memory. Further lines are dropped and counted, and the number is
//! reported as soon as there is room again.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

use super::mailbox::{MailboxReceiver, MailboxSender, mailbox};

/// Limit of waiting lines in bytes: about ten thousand lines, and little compared to the memory limit of a pod.
pub const MAX_WAITING_BYTES: i64 = 4 * 1024 * 1024;

/// Memory of a waiting line beside its text, in bytes.
const LINE_OVERHEAD: usize = 64;

/// Size in bytes from which a batch of lines is written.
const BATCH_BYTES: usize = 64 * 1024;

/// Limit of waiting messages, which is reached only together with that of their bytes.
const MAX_MESSAGES: usize = 128 << 10;

/// Interval of a writer without anything to do.
const IDLE_INTERVAL: Duration = Duration::from_hours(1);

/// Standard output that several threads write to. Each write is whole: lines of one do not get into those of another.
#[derive(Clone, Debug)]
pub struct SharedStdout(Arc<Mutex<File>>);

impl SharedStdout {
    /// # Errors
    /// Standard output is closed.
    pub fn open() -> io::Result<Self> {
        // A clone of the descriptor has neither the buffer nor the lock of `io::stdout`.
        let file = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        Ok(Self(Arc::new(Mutex::new(file))))
    }

    fn lock(&self) -> MutexGuard<'_, File> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Write for SharedStdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.lock().write(bytes)
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.lock().write_all(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.lock().flush()
    }
}

/// Writer of lines with its own thread. Clones write to the same output.
#[derive(Clone, Debug)]
pub struct LineWriter {
    sender: MailboxSender<Message>,
    state: Arc<WriterState>,
}

#[derive(Debug, Default)]
struct WriterState {
    waiting: Gauge<i64, AtomicI64>,
    /// Dropped lines that are not reported yet.
    unreported: AtomicU64,
    dropped: Counter,
}

#[derive(Debug)]
enum Message {
    /// Lines with their newlines, and their number.
    Lines(Vec<u8>, u64),
    /// Request to confirm that all messages before it are written.
    Flush(SyncSender<()>),
}

impl LineWriter {
    /// Starts the thread. It passes the number of dropped lines to `report` as soon as there is room again. It writes once
    /// per `interval` at most, so that it is woken less often where lines come in quick succession.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(
        name: &str,
        interval: Duration,
        out: impl Write + Send + 'static,
        report: impl Fn(u64) + Send + 'static,
    ) -> io::Result<Self> {
        let (sender, receiver) = mailbox(MAX_MESSAGES, interval);
        let state = Arc::new(WriterState::default());
        let shared = Arc::clone(&state);
        thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || write_lines(receiver, &shared, out, report))?;
        Ok(Self { sender, state })
    }

    /// Bytes that are not written yet.
    #[must_use]
    pub fn waiting(&self) -> Gauge<i64, AtomicI64> {
        self.state.waiting.clone()
    }

    /// Lines that did not fit, or that a closed output did not take.
    #[must_use]
    pub fn dropped(&self) -> Counter {
        self.state.dropped.clone()
    }

    /// Whether [`Self::send`] has room for this many bytes, if no other thread sends.
    #[must_use]
    pub fn has_room(&self, bytes: usize) -> bool {
        self.state.waiting.get() + size(bytes) <= MAX_WAITING_BYTES
    }

    /// Hands over whole lines, with their newlines. They are dropped, and counted, if there is no room for them.
    pub fn send(&self, bytes: Vec<u8>, lines: u64) {
        let size = size(bytes.len());
        let previous = self.state.waiting.inc_by(size);
        if previous + size > MAX_WAITING_BYTES
            || self.sender.send(Message::Lines(bytes, lines)).is_err()
        {
            self.state.waiting.dec_by(size);
            self.state.unreported.fetch_add(lines, Ordering::Relaxed);
            self.state.dropped.inc_by(lines);
        }
    }

    /// Waits until all lines are written, up to `timeout`. After it, the output is not being read.
    pub fn flush(&self, timeout: Duration) {
        let (done, written) = sync_channel(1);
        if self.sender.send(Message::Flush(done)).is_ok() {
            self.sender.wake();
            let _ = written.recv_timeout(timeout);
        }
    }
}

/// Memory of a message with this many bytes.
fn size(bytes: usize) -> i64 {
    i64::try_from(bytes + LINE_OVERHEAD).unwrap_or(MAX_WAITING_BYTES)
}

/// Writes the lines in batches, until all senders are dropped.
fn write_lines(
    mut messages: MailboxReceiver<Message>,
    state: &WriterState,
    mut out: impl Write,
    report: impl Fn(u64),
) {
    let (mut taken, mut batch) = (Vec::new(), Vec::new());
    while messages.take(&mut taken, IDLE_INTERVAL) {
        let mut next = taken.drain(..).peekable();
        while next.peek().is_some() {
            let (mut lines, mut written) = (0, 0);
            let mut flushed = None;
            while batch.len() < BATCH_BYTES
                && flushed.is_none()
                && let Some(message) = next.next()
            {
                match message {
                    Message::Lines(bytes, count) => {
                        batch.extend_from_slice(&bytes);
                        (lines, written) = (lines + count, written + size(bytes.len()));
                    }
                    Message::Flush(done) => flushed = Some(done),
                }
            }
            let result = out.write_all(&batch);
            batch.clear();
            // Lines in a write count as waiting until the write ends, because it may block.
            state.waiting.dec_by(written);
            if result.is_err() {
                // The output is closed; the metric shows it.
                state.dropped.inc_by(lines);
            } else if state.unreported.load(Ordering::Relaxed) > 0 {
                report(state.unreported.swap(0, Ordering::Relaxed));
            }
            if let Some(done) = flushed {
                // It fails if the receiver has timed out.
                let _ = done.try_send(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};

    use super::*;

    /// A writer into a pipe, the pipe's reader, and the reported numbers of dropped lines.
    fn writer_into_pipe() -> (LineWriter, io::PipeReader, Receiver<u64>) {
        let (reader, out) = io::pipe().unwrap();
        let (report, reported) = channel();
        let report = move |lines| report.send(lines).unwrap_or_default();
        let writer = LineWriter::start("test", Duration::ZERO, out, report).unwrap();
        (writer, reader, reported)
    }

    fn flush(writer: &LineWriter) {
        writer.flush(Duration::from_secs(1));
    }

    #[test]
    fn lines_are_written_in_order_and_flushed() {
        let (writer, mut reader, _) = writer_into_pipe();
        let lines: Vec<String> = (0..100).map(|at| format!("line {at}\n")).collect();
        for line in &lines {
            writer.send(line.clone().into_bytes(), 1);
        }
        flush(&writer);
        assert_eq!(writer.waiting().get(), 0);
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
    fn output_that_is_not_read_does_not_block_and_stays_within_its_limit() {
        let (writer, mut reader, reported) = writer_into_pipe();
        let line = vec![b'x'; 1023];
        let line = [&line[..], b"\n"].concat();
        let (done, ended) = channel();
        let sending = thread::spawn(move || {
            for _ in 0..10_000 {
                writer.send(line.clone(), 1);
            }
            flush(&writer);
            done.send(()).unwrap();
            writer
        });
        // If callers wrote to the pipe themselves, this would never end.
        assert_ne!(
            ended.recv_timeout(Duration::from_mins(1)),
            Err(RecvTimeoutError::Timeout)
        );
        let writer = sending.join().unwrap();
        let waiting = writer.waiting().get();
        // If the writer's thread did not run until the last line was sent, it has filled the pipe since then.
        let pipe = 65 * size(1024);
        assert!(
            (MAX_WAITING_BYTES - pipe - 2 * 1024..=MAX_WAITING_BYTES).contains(&waiting),
            "{waiting}"
        );
        assert!(!writer.has_room(usize::try_from(pipe).unwrap() + 2 * 1024));
        let dropped = writer.dropped().get();
        assert!(dropped > 5000, "{dropped}");

        // A reader that resumes gets the waiting lines.
        let kept = 10_000 - usize::try_from(dropped).unwrap();
        let mut text = vec![0; kept * 1024];
        reader.read_exact(&mut text).unwrap();
        assert!(text.chunks(1024).all(|line| line.ends_with(b"x\n")));
        // Reported in parts, whenever there was room.
        let mut total = 0;
        while total < dropped {
            total += reported.recv_timeout(Duration::from_mins(1)).unwrap();
        }
        assert_eq!(total, dropped);
    }

    #[test]
    fn lines_into_a_closed_pipe_are_counted() {
        let (writer, reader, _) = writer_into_pipe();
        drop(reader);
        for _ in 0..10 {
            writer.send(b"gone\n".to_vec(), 1);
        }
        flush(&writer);
        assert_eq!(writer.dropped().get(), 10);
        assert_eq!(writer.waiting().get(), 0);
    }
}
