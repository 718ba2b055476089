//! Wait until no pod runs with an older value of a Secret.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use crate::consumers::{ConsumerReader, Consumers, ConsumersError, ReadProgress};

/// Minimum interval between the end of a read and the next one.
const MIN_READ_INTERVAL: Duration = Duration::from_secs(2);

/// Share of the time that is spent on reads: a read is followed by a pause of this many times its own duration, so that
/// a large namespace is not read all the time.
const PAUSE_FACTOR: u32 = 4;

/// State of the consumers after a wait.
#[derive(Debug)]
pub enum RotationOutcome {
    /// No pod runs with an older value.
    Current(Consumers),
    /// Pods run, or may run, with an older value, and there is no time left.
    Stale(Consumers),
}

/// Reads the consumers until none is stale, or the deadline has passed. Without a deadline they are read once. `report`
/// gets every intermediate state.
///
/// # Errors
/// The consumers could not be read. An error of a later read that may succeed again is not one before the deadline.
pub async fn wait_until_current(
    reader: &ConsumerReader,
    (namespace, secret): (&str, &str),
    deadline: Option<Instant>,
    progress: &ReadProgress,
    mut report: impl FnMut(&Consumers),
) -> Result<RotationOutcome, ConsumersError> {
    let mut last: Option<Consumers> = None;
    loop {
        let began = Instant::now();
        match read_before(
            reader,
            (namespace, secret),
            deadline,
            progress,
            last.is_some(),
        )
        .await
        {
            Some(Ok(consumers)) if consumers.counts.stale() == 0 => {
                return Ok(RotationOutcome::Current(consumers));
            }
            Some(Ok(consumers)) => {
                report(&consumers);
                last = Some(consumers);
            }
            Some(Err(error)) if last.is_none() || !is_transient(&error) => return Err(error),
            Some(Err(_)) | None => {}
        }
        let now = Instant::now();
        let next = now + MIN_READ_INTERVAL.max((now - began) * PAUSE_FACTOR);
        let ends = deadline.is_none_or(|deadline| next >= deadline);
        match last.take() {
            Some(consumers) if ends => return Ok(RotationOutcome::Stale(consumers)),
            kept => last = kept,
        }
        sleep(next - now).await;
    }
}

/// Reads the consumers; `None` if the deadline passes meanwhile. The first read always ends.
async fn read_before(
    reader: &ConsumerReader,
    (namespace, secret): (&str, &str),
    deadline: Option<Instant>,
    progress: &ReadProgress,
    is_repeated: bool,
) -> Option<Result<Consumers, ConsumersError>> {
    let read = reader.read(namespace, secret, progress);
    match deadline.filter(|_| is_repeated) {
        Some(deadline) => timeout_at(deadline, read).await.ok(),
        None => Some(read.await),
    }
}

fn is_transient(error: &ConsumersError) -> bool {
    matches!(error, ConsumersError::Api(error) if error.kind.is_transient())
}
