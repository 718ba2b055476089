//! Controller: drift scans, retries of refused pods, and self-managed certificates, for the whole cluster. Only the
//! replica that holds the lease works.
//!
//! Admission never depends on the controller. When the lease is lost, all work is dropped at once. Every write is a
//! single call, so nothing is left half done.

pub mod certificates;
pub mod drift;
pub mod metrics;
pub mod retry;

use tokio::sync::watch;

/// Runs `work` while this replica leads, until `done` completes. Losing the lease drops the work at once.
pub async fn while_leading<W, F>(
    mut leading: watch::Receiver<bool>,
    work: W,
    done: impl Future<Output = ()>,
) where
    W: Fn() -> F,
    F: Future<Output = ()>,
{
    tokio::pin!(done);
    loop {
        tokio::select! {
            () = &mut done => return,
            // The sender lives as long as the leader election runs.
            Ok(_) = leading.wait_for(|leads| *leads) => {}
        }
        tokio::select! {
            () = &mut done => return,
            _ = leading.wait_for(|leads| !*leads) => {}
            () = work() => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[tokio::test(start_paused = true)]
    async fn work_stops_when_the_lease_is_lost_and_restarts_when_it_is_regained() {
        let (sender, receiver) = watch::channel(false);
        let (starts, ticks) = (AtomicU32::new(0), AtomicU32::new(0));
        let work = || async {
            starts.fetch_add(1, Ordering::Relaxed);
            loop {
                tokio::time::sleep(std::time::Duration::from_secs(1)).await;
                ticks.fetch_add(1, Ordering::Relaxed);
            }
        };
        let script = async {
            let pause = |millis| tokio::time::sleep(std::time::Duration::from_millis(millis));
            pause(1500).await;
            assert_eq!(starts.load(Ordering::Relaxed), 0);
            for leads in [true, false, true] {
                sender.send_replace(leads);
                pause(2500).await;
            }
        };
        while_leading(receiver, work, script).await;
        assert_eq!(
            (
                starts.load(Ordering::Relaxed),
                ticks.load(Ordering::Relaxed)
            ),
            (2, 4)
        );
    }
}
