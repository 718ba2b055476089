//! Controller: the drift scan and retries of refused pods for the whole cluster, by the one replica that leads.
//!
//! Admission never depends on it. A [`lease`] says who leads; whoever leads works until it no longer does, and then
//! everything is dropped where it stands: nothing here is half done, because every write is one call.

pub mod certificates;
pub mod drift;
pub mod metrics;
pub mod retry;

use tokio::sync::watch;

/// Works while this replica leads, until `done` completes. Losing the lead drops the work at once.
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
            // The sender lives as long as the lease is sought.
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
    async fn the_lead_lost_stops_the_work_and_the_lead_regained_begins_it_anew() {
        let (sender, receiver) = watch::channel(false);
        let (began, ticked) = (AtomicU32::new(0), AtomicU32::new(0));
        let work = || async {
            began.fetch_add(1, Ordering::Relaxed);
            loop {
                tokio::time::sleep(std::time::Duration::from_secs(1)).await;
                ticked.fetch_add(1, Ordering::Relaxed);
            }
        };
        let script = async {
            let pause = |millis| tokio::time::sleep(std::time::Duration::from_millis(millis));
            pause(1500).await;
            assert_eq!(began.load(Ordering::Relaxed), 0);
            for leads in [true, false, true] {
                sender.send_replace(leads);
                pause(2500).await;
            }
        };
        while_leading(receiver, work, script).await;
        assert_eq!(
            (
                began.load(Ordering::Relaxed),
                ticked.load(Ordering::Relaxed)
            ),
            (2, 4)
        );
    }
}
