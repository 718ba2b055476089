//! Retries of refused pods as soon as the secrets that they wait for exist.
//!
//! Controllers retry a refused pod after back-offs that grow up to 16 minutes. A changed annotation on the owner makes
//! them retry immediately. The annotation's value is the secrets' uids, so that writing it twice changes nothing. Their
//! versions are added for an owner that waited again, for a key of the same secret, and for one whose last retry was
//! refused, too.

mod annotation;
mod cluster;
mod evaluator;
mod history;
mod limits;
mod messages;
mod outlook;
mod owner;
mod owner_view;
mod pending;
mod queue;
mod rate_limited;
mod reconciler;
mod refusals;
mod secret_state;

pub use self::reconciler::RetryTrigger;

use self::history::TriggerHistory;
use self::pending::PendingOwners;
use self::queue::RetryQueue;
use crate::scan::Scope;

impl RetryTrigger {
    /// Runs until it is dropped, which also drops all that is known of owners: only the leader keeps it.
    pub async fn run(&self) {
        struct ResetRetries<'a>(&'a RetryTrigger);
        impl Drop for ResetRetries<'_> {
            fn drop(&mut self) {
                *self.0.pending() = PendingOwners::default();
                *self.0.history() = TriggerHistory::default();
                self.0.metrics.pending_owners.set(0);
            }
        }
        let _reset = ResetRetries(self);
        let queue = RetryQueue::new(self);
        let enqueue = |owner| queue.enqueue(owner);
        let api = self.cluster.api();
        let following = async {
            match &self.scope {
                Scope::All => refusals::follow(api, None, &enqueue).await,
                Scope::Namespaces(namespaces) => {
                    let each = namespaces
                        .iter()
                        .map(|name| refusals::follow(api, Some(name), &enqueue));
                    futures::future::join_all(each).await;
                }
            }
        };
        tokio::join!(following, queue.run());
    }
}
