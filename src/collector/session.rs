//! Sender of a connection: checked when the connection begins, every 60 s on it, and when its token changes.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::HeaderMap;
use secrecy::ExposeSecret as _;
use tokio::time::{Instant, timeout};

use super::rejection::reject;
use crate::audit::delivery::{BatchHead, RejectedBatch, Rejection};
use crate::audit::digest::Digest;
use crate::audit::text::Text;
use crate::identity::kubernetes::{
    BearerToken, BoundPod, REVIEW_TIMEOUT, ReviewedToken, ServiceAccountName, TokenReviewer,
};
use crate::kubernetes::RateLimiter;
use crate::server::connection::Peer;

/// Time for which a check of the sender holds on its connection. A token may be used for so long after it was revoked.
pub const CHECK_INTERVAL: Duration = Duration::from_mins(1);

/// Checks of senders per second, in turn by address, so that senders with wrong tokens keep neither the API server busy
/// nor others waiting.
pub const MAX_CHECKS_PER_SECOND: u32 = 50;

/// Bytes of a name in a message.
const MAX_NAME: usize = 256;

/// Check of senders.
#[derive(Debug)]
pub(super) struct SenderCheck {
    senders: BTreeSet<ServiceAccountName>,
    reviewer: TokenReviewer,
    limiter: Arc<RateLimiter>,
}

/// State of a connection.
#[derive(Debug, Default)]
pub(super) struct SenderSession {
    state: Mutex<SessionState>,
}

#[derive(Debug, Default)]
struct SessionState {
    checked: Option<CheckedSender>,
    /// Reason of the last rejection, if nothing was accepted after it.
    rejection: Option<Rejection>,
}

#[derive(Debug)]
struct CheckedSender {
    token: Digest,
    until: Instant,
    sender: Arc<Sender>,
}

/// Pod that may send its chains.
#[derive(Debug)]
pub(super) struct Sender {
    pub(super) pod: BoundPod,
}

impl SenderCheck {
    pub(super) fn new(senders: BTreeSet<ServiceAccountName>, reviewer: TokenReviewer) -> Self {
        Self {
            senders,
            reviewer,
            limiter: RateLimiter::per_second(MAX_CHECKS_PER_SECOND),
        }
    }

    /// Sender of a request. The API server is asked only if the connection has no check that holds for the token.
    pub(super) async fn check(
        &self,
        session: &SenderSession,
        address: IpAddr,
        headers: &HeaderMap,
    ) -> Result<Arc<Sender>, RejectedBatch> {
        let token = BearerToken::of_request(headers)?;
        let digest = Digest::of(token.expose_secret().as_bytes());
        if let Some(sender) = session.checked(digest, Instant::now()) {
            return Ok(sender);
        }
        let address = address.to_string();
        let turn = timeout(REVIEW_TIMEOUT, self.limiter.acquire(&address)).await;
        turn.map_err(|_| {
            let message = "too many tokens are to be checked at the moment. Retry";
            reject(Rejection::Unavailable, &message)
        })?;
        let until = Instant::now() + CHECK_INTERVAL;
        let sender = Arc::new(self.identify(self.reviewer.review(&token).await?)?);
        session.state().checked = Some(CheckedSender {
            token: digest,
            until,
            sender: Arc::clone(&sender),
        });
        Ok(sender)
    }

    fn identify(&self, reviewed: ReviewedToken) -> Result<Sender, RejectedBatch> {
        let is_sender = |account: &ServiceAccountName| self.senders.contains(account);
        if !reviewed.service_account.as_ref().is_some_and(is_sender) {
            let username = Text::<MAX_NAME>::new(&reviewed.username);
            let username = username.as_str();
            return Err(reject(
                Rejection::Forbidden,
                &format!("\"{username}\" may not send lines: add its ServiceAccount to --senders"),
            ));
        }
        let pod = reviewed.pod.ok_or_else(|| {
            let message =
                "the token is not bound to a pod: use a projected volume with a ServiceAccount token";
            reject(Rejection::Forbidden, &message)
        })?;
        Ok(Sender { pod })
    }
}

impl Sender {
    /// Checks that a batch is of the sender's own pod.
    pub(super) fn may_send(&self, head: &BatchHead) -> Result<(), RejectedBatch> {
        let BoundPod { name, uid } = &self.pod;
        if head.chain.pod_uid() == uid && head.replica.pod == *name {
            return Ok(());
        }
        let other = Text::<MAX_NAME>::new(&head.replica.pod);
        let (other, chain) = (other.as_str(), &head.chain);
        let (name, uid) = (Text::<MAX_NAME>::new(name), Text::<MAX_NAME>::new(uid));
        let (name, uid) = (name.as_str(), uid.as_str());
        Err(reject(
            Rejection::Forbidden,
            &format!(
                "the token is of the pod \"{name}\" with uid \"{uid}\", and the batch is of the pod \"{other}\" and the chain {chain}: set --pod-name and --pod-uid to those of the pod"
            ),
        ))
    }
}

impl SenderSession {
    /// State of the peer's connection.
    pub(super) fn of(peer: &Peer) -> Arc<Self> {
        let session = peer.state.get_or_init(Arc::<Self>::default);
        session.cloned().unwrap_or_default()
    }

    fn state(&self) -> MutexGuard<'_, SessionState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sender, if the check of this token still holds. Another token ends it.
    fn checked(&self, token: Digest, now: Instant) -> Option<Arc<Sender>> {
        let mut state = self.state();
        let holds = |checked: &CheckedSender| checked.token == token && now < checked.until;
        if !state.checked.as_ref().is_some_and(holds) {
            state.checked = None;
        }
        state
            .checked
            .as_ref()
            .map(|checked| Arc::clone(&checked.sender))
    }

    /// Name of the pod, if the sender is known.
    pub(super) fn pod(&self) -> String {
        let state = self.state();
        let checked = state.checked.as_ref();
        checked.map_or_else(String::new, |checked| checked.sender.pod.name.clone())
    }

    /// Whether the rejection before had another reason.
    pub(super) fn is_new(&self, reason: Rejection) -> bool {
        self.state().rejection.replace(reason) != Some(reason)
    }

    pub(super) fn clear_rejection(&self) {
        self.state().rejection = None;
    }
}
