//! Wait until no pod runs with an older value of a Secret.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

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

/// Reads the consumers until none is stale, or the deadline has passed; the last read begins at the deadline. Without a
/// deadline they are read once, as they are if the time of the last change is not known: no read would find one.
///
/// # Errors
/// The consumers could not be read. An error of a later read that may succeed again is not one.
pub async fn wait_until_current(
    reader: &ConsumerReader,
    (namespace, secret): (&str, &str),
    deadline: Option<Instant>,
    progress: &ReadProgress,
) -> Result<RotationOutcome, ConsumersError> {
    read_until_current(|| reader.read(namespace, secret, progress), deadline).await
}

async fn read_until_current<F>(
    read: impl Fn() -> F,
    deadline: Option<Instant>,
) -> Result<RotationOutcome, ConsumersError>
where
    F: Future<Output = Result<Consumers, ConsumersError>>,
{
    let mut last: Option<Consumers> = None;
    loop {
        let began = Instant::now();
        match read().await {
            Ok(consumers) if consumers.counts.stale() == 0 => {
                return Ok(RotationOutcome::Current(consumers));
            }
            Ok(consumers) if consumers.secret.changed.is_none() => {
                return Ok(RotationOutcome::Stale(consumers));
            }
            Ok(consumers) => last = Some(consumers),
            Err(error) if last.is_none() || !is_transient(&error) => return Err(error),
            Err(_) => {}
        }
        let now = Instant::now();
        let left = deadline.filter(|deadline| now < *deadline);
        let next = now + MIN_READ_INTERVAL.max((now - began) * PAUSE_FACTOR);
        last = match (last, left) {
            (Some(consumers), None) => return Ok(RotationOutcome::Stale(consumers)),
            (last, Some(deadline)) => {
                sleep_until(next.min(deadline)).await;
                last
            }
            (None, None) => None,
        };
    }
}

fn is_transient(error: &ConsumersError) -> bool {
    matches!(error, ConsumersError::Api(error) if error.kind.is_transient())
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use injection::Annotations;
    use jiff::Timestamp;
    use tokio::time::sleep;

    use super::*;
    use crate::consumers::{ConsumerCounts, DataChange, SecretHead};

    fn consumers(stale: u64, changed: Option<DataChange>) -> Consumers {
        Consumers {
            namespace: "jobs".to_owned(),
            secret: SecretHead {
                name: "db".to_owned(),
                created: None,
                keys: None,
                changed,
                annotations: Annotations::default(),
            },
            workloads: Vec::new(),
            pods: Vec::new(),
            counts: ConsumerCounts {
                old: stale,
                ..ConsumerCounts::default()
            },
            notes: Vec::new(),
        }
    }

    const CHANGE: DataChange = DataChange {
        earliest: Timestamp::UNIX_EPOCH,
        latest: Timestamp::UNIX_EPOCH,
    };

    const READ_TIME: Duration = Duration::from_secs(20);
    const WAIT: Duration = Duration::from_secs(110);

    /// Outcome of a wait whose reads find these numbers of stale pods, the last one again; the number of reads, and the
    /// time of the whole.
    async fn wait(
        stale: &[u64],
        changed: Option<DataChange>,
    ) -> (RotationOutcome, usize, Duration) {
        let (began, reads) = (Instant::now(), Cell::new(0));
        let read = || async {
            let number = reads.get();
            reads.set(number + 1);
            sleep(READ_TIME).await;
            let found = stale.get(number).or(stale.last()).copied();
            Ok(consumers(found.unwrap(), changed))
        };
        let outcome = read_until_current(read, Some(began + WAIT)).await.unwrap();
        (outcome, reads.get(), began.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn last_read_begins_at_the_deadline() {
        // The first read ends after 20 s, and the next one begins after a pause of 80 s.
        let (outcome, reads, elapsed) = wait(&[1], Some(CHANGE)).await;
        assert!(matches!(outcome, RotationOutcome::Stale(_)));
        assert_eq!((reads, elapsed), (2, READ_TIME * 6));
        // The pause would end after the deadline.
        let began = Instant::now();
        let first = Cell::new(true);
        let read = || async {
            let is_first = first.replace(false);
            sleep(READ_TIME).await;
            Ok(consumers(u64::from(is_first), Some(CHANGE)))
        };
        let outcome = read_until_current(read, Some(began + READ_TIME * 2)).await;
        assert!(matches!(outcome, Ok(RotationOutcome::Current(_))));
        assert_eq!(began.elapsed(), READ_TIME * 3);
    }

    #[tokio::test(start_paused = true)]
    async fn wait_ends_when_no_pod_is_stale() {
        let (outcome, reads, elapsed) = wait(&[1, 0], Some(CHANGE)).await;
        assert!(matches!(outcome, RotationOutcome::Current(_)));
        assert_eq!((reads, elapsed), (2, READ_TIME * 6));
    }

    #[tokio::test(start_paused = true)]
    async fn unknown_change_is_not_waited_for() {
        let (outcome, reads, _) = wait(&[1], None).await;
        assert!(matches!(outcome, RotationOutcome::Stale(_)));
        assert_eq!(reads, 1);
    }
}
