//! Limits of request bodies: bytes of one body, bytes of all bodies and responses, and time.
//!
//! Anybody in the cluster can reach the port, so each limit applies before anything is known about the sender.

mod buffer;
mod rejection;

use std::time::Duration;

use bytes::Bytes;
use http::{Request, header};
use http_body::Body;
use http_body_util::BodyExt;
use tokio::time::{Instant, timeout_at};

pub use rejection::BodyRejection;

use super::budget::{BudgetExceeded, ByteBudget, ByteClaim};
use crate::server::metrics::{ServerMetrics, ShedLabels};
use buffer::BudgetedBuffer;

/// Largest body or response that may use the reserve. A review of an ordinary pod has 6 kB, of a large one 60 kB.
const MAX_SMALL_BYTES: usize = 256 << 10;

/// Largest response that needs no claim: a decision is not discarded for so few bytes. All connections together hold
/// 16 MiB of such responses at most.
const MAX_FREE_RESPONSE_BYTES: usize = 16 << 10;

/// Limit of bytes of a rejected body that are read and discarded.
const MAX_DISCARDED_BYTES: usize = 16 << 20;

/// Time limit of discarding.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(1);

/// Limits of bodies and responses.
#[derive(Clone, Copy, Debug)]
pub struct BodySettings {
    /// Largest body. An UPDATE review has the object twice; etcd stores up to 1.5 MiB of each.
    pub per_body: usize,
    /// Limit of bytes of all bodies and responses together. At most 4 GiB.
    pub in_flight: u32,
    /// Part of `in_flight` that only bodies and responses of at most 256 KiB may use.
    pub reserve: u32,
    /// Time limit of a body, so that a slow sender cannot hold memory.
    pub deadline: Duration,
}

impl Default for BodySettings {
    fn default() -> Self {
        Self {
            per_body: 8 << 20,
            in_flight: 32 << 20,
            reserve: 8 << 20,
            deadline: Duration::from_secs(10),
        }
    }
}

/// Claim to bytes of the budget, released on drop.
#[derive(Debug)]
pub struct ByteReservation {
    _claim: ByteClaim,
}

/// Reads bodies within the limits. Clones share the budget.
#[derive(Clone, Debug)]
pub struct BodyLimits {
    settings: BodySettings,
    budget: ByteBudget,
    metrics: ServerMetrics,
}

impl BodyLimits {
    /// Limits of all requests that are read through this and its clones.
    #[must_use]
    pub fn new(settings: BodySettings, metrics: ServerMetrics) -> Self {
        let held = metrics.body_bytes_in_flight.clone();
        Self {
            settings,
            budget: ByteBudget::new(settings.in_flight, settings.reserve, held),
            metrics,
        }
    }

    /// Reads a body to its end. Its claim is released when the last clone or slice of the bytes is dropped.
    ///
    /// # Errors
    /// [`BodyRejection`] if a limit is exceeded or the sender closes the connection.
    pub async fn read<B>(&self, request: Request<B>) -> Result<Request<Bytes>, BodyRejection>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let expects_continue = request.headers().contains_key(header::EXPECT);
        let (parts, mut body) = request.into_parts();
        let read = timeout_at(
            Instant::now() + self.settings.deadline,
            self.collect(&mut body),
        )
        .await;
        match read.unwrap_or(Err(BodyRejection::TooSlow)) {
            Ok(bytes) => Ok(Request::from_parts(parts, bytes)),
            Err(rejection) => {
                self.count(rejection);
                let rejected_early = matches!(
                    rejection,
                    BodyRejection::TooLarge | BodyRejection::Overloaded
                );
                if rejected_early && !expects_continue {
                    discard(&mut body).await;
                }
                Err(rejection)
            }
        }
    }

    /// Discards the body of a request that is rejected before it is read, within limits, so that the sender reads the
    /// response instead of a reset of its connection.
    pub async fn discard<B>(&self, request: Request<B>)
    where
        B: Body<Data = Bytes> + Unpin,
    {
        if !request.headers().contains_key(header::EXPECT) {
            discard(&mut request.into_body()).await;
        }
    }

    /// Claims the bytes of a response. They are released when their last clone or slice is dropped: when the peer has
    /// read them, or its connection is closed. Drop the request first: most responses fit into its bytes.
    ///
    /// # Errors
    /// [`BodyRejection::Overloaded`] if the response is large and exceeds the budget.
    pub fn hold_response(&self, data: Vec<u8>) -> Result<Bytes, BodyRejection> {
        if data.len() <= MAX_FREE_RESPONSE_BYTES {
            return Ok(data.into());
        }
        let mut claim = self.budget.claim(is_small(data.len()));
        if let Err(BudgetExceeded) = claim.grow(data.capacity()) {
            self.count(BodyRejection::Overloaded);
            return Err(BodyRejection::Overloaded);
        }
        Ok(Bytes::from_owner(BudgetedBuffer { data, claim }))
    }

    /// Claims the bytes of a body's decoded form, released on drop.
    ///
    /// # Errors
    /// [`BodyRejection::Overloaded`] if they exceed the budget.
    pub fn reserve(&self, bytes: usize) -> Result<ByteReservation, BodyRejection> {
        let mut claim = self.budget.claim(is_small(bytes));
        if let Err(BudgetExceeded) = claim.grow(bytes) {
            self.count(BodyRejection::Overloaded);
            return Err(BodyRejection::Overloaded);
        }
        Ok(ByteReservation { _claim: claim })
    }

    fn count(&self, rejection: BodyRejection) {
        if let Some(reason) = rejection.shed_reason() {
            self.metrics
                .shed
                .get_or_create(&ShedLabels { reason })
                .inc();
        }
    }

    async fn collect<B>(&self, body: &mut B) -> Result<Bytes, BodyRejection>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        // `Content-Length`, from hyper's size hint; absent in a chunked request.
        let hint = body.size_hint();
        let max = self.settings.per_body;
        if usize::try_from(hint.lower()).is_ok_and(|lower| lower > max)
            || hint.lower() > usize::MAX as u64
        {
            return Err(BodyRejection::TooLarge);
        }
        let announced = hint.exact().and_then(|exact| usize::try_from(exact).ok());
        let mut body_bytes = BudgetedBuffer {
            data: Vec::new(),
            claim: self.budget.claim(announced.is_some_and(is_small)),
        };
        while let Some(frame) = body.frame().await {
            let Ok(mut data) = frame.map_err(|_| BodyRejection::Broken)?.into_data() else {
                continue;
            };
            body_bytes.append(&mut data, announced.unwrap_or(max).min(max), max)?;
        }
        Ok(Bytes::from_owner(body_bytes))
    }
}

/// Whether so many bytes may use the reserve.
fn is_small(bytes: usize) -> bool {
    bytes <= MAX_SMALL_BYTES
}

/// Reads the rest of a rejected body within limits and discards it. Closing a socket that has unread bytes resets the
/// connection, and the sender would see that instead of the response.
async fn discard<B>(body: &mut B)
where
    B: Body<Data = Bytes> + Unpin,
{
    let rest = async {
        let mut discarded = 0;
        while let Some(Ok(frame)) = body.frame().await {
            discarded += frame.data_ref().map_or(0, Bytes::len);
            if discarded > MAX_DISCARDED_BYTES {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(DISCARD_TIMEOUT, rest).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::metrics::ShedReason;
    use futures::stream;
    use http_body::Frame;
    use http_body_util::{Full, StreamBody};
    use std::convert::Infallible;

    fn limits(per_body: usize, in_flight: u32) -> BodyLimits {
        limits_with_reserve(per_body, in_flight, 0)
    }

    fn limits_with_reserve(per_body: usize, in_flight: u32, reserve: u32) -> BodyLimits {
        let metrics = ServerMetrics::default();
        BodyLimits::new(
            BodySettings {
                per_body,
                in_flight,
                reserve,
                ..BodySettings::default()
            },
            metrics,
        )
    }

    fn shed(limits: &BodyLimits, reason: ShedReason) -> u64 {
        limits
            .metrics
            .shed
            .get_or_create(&ShedLabels { reason })
            .get()
    }

    fn sized(bytes: usize) -> Request<Full<Bytes>> {
        Request::new(Full::from(vec![b'x'; bytes]))
    }

    fn chunked(
        sizes: &[usize],
    ) -> Request<impl Body<Data = Bytes, Error = Infallible> + Unpin + use<>> {
        let frames: Vec<_> = sizes
            .iter()
            .map(|n| Ok(Frame::data(Bytes::from(vec![b'x'; *n]))))
            .collect();
        Request::new(StreamBody::new(stream::iter(frames)))
    }

    #[tokio::test]
    async fn body_claim_is_released_with_its_last_slice() {
        let limits = limits(100, 100);
        let read = limits
            .read(Request::new(Full::from(vec![b'x'; 60])))
            .await
            .unwrap();
        assert_eq!(limits.metrics.body_bytes_in_flight.get(), 60);
        let slice = read.into_body().slice(10..20);
        assert_eq!(
            limits
                .read(Request::new(Full::from(vec![0; 60])))
                .await
                .unwrap_err(),
            BodyRejection::Overloaded
        );
        drop(slice);
        assert_eq!(limits.metrics.body_bytes_in_flight.get(), 0);
        limits
            .read(Request::new(Full::from(vec![0; 60])))
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn chunked_body_is_rejected_once_it_is_too_large() {
        let limits = limits(100_000, 1_000_000);
        assert_eq!(
            limits.read(chunked(&[60_000, 60_000])).await.unwrap_err(),
            BodyRejection::TooLarge
        );
        assert_eq!(limits.metrics.body_bytes_in_flight.get(), 0);
        let read = limits.read(chunked(&[1, 50_000, 49_999])).await.unwrap();
        assert_eq!(read.body().len(), 100_000);
        assert_eq!(limits.metrics.body_bytes_in_flight.get(), 100_000);
    }

    #[tokio::test]
    async fn empty_body_claims_no_bytes() {
        let limits = limits(10, 10);
        assert!(limits.read(chunked(&[])).await.unwrap().body().is_empty());
        assert_eq!(limits.metrics.body_bytes_in_flight.get(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn unfinished_body_is_rejected_at_its_deadline_and_its_claim_released() {
        let limits = limits(100, 100);
        let frames = stream::unfold((), async |()| {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Some((
                Ok::<_, Infallible>(Frame::data(Bytes::from_static(b"x"))),
                (),
            ))
        });
        let began = Instant::now();
        let read = limits
            .read(Request::new(StreamBody::new(Box::pin(frames))))
            .await;
        assert_eq!(read.unwrap_err(), BodyRejection::TooSlow);
        assert_eq!(began.elapsed().as_secs(), 10);
        assert_eq!(limits.metrics.body_bytes_in_flight.get(), 0);
        assert_eq!(shed(&limits, ShedReason::BodyDeadline), 1);
    }

    #[tokio::test]
    async fn reserve_is_for_small_bodies_of_announced_length() {
        let small = u32::try_from(MAX_SMALL_BYTES).unwrap();
        let limits = limits_with_reserve(8 << 20, 4 * small, small);
        let large = limits.read(sized(3 * MAX_SMALL_BYTES)).await.unwrap();
        assert_eq!(
            limits.read(sized(MAX_SMALL_BYTES + 1)).await.unwrap_err(),
            BodyRejection::Overloaded
        );
        assert_eq!(
            limits.read(chunked(&[1])).await.unwrap_err(),
            BodyRejection::Overloaded
        );
        let last = limits.read(sized(MAX_SMALL_BYTES)).await.unwrap();
        assert_eq!(
            limits.read(sized(1)).await.unwrap_err(),
            BodyRejection::Overloaded,
            "the reserve is exhausted, too"
        );
        assert_eq!(shed(&limits, ShedReason::BytesInFlight), 3);
        drop(last);
        limits.read(sized(MAX_SMALL_BYTES)).await.unwrap();
        drop(large);
        assert_eq!(limits.metrics.body_bytes_in_flight.get(), 0);
    }

    #[test]
    fn response_claim_is_released_with_its_last_slice() {
        let limits = limits(8 << 20, 1 << 20);
        let response = limits.hold_response(vec![b'x'; 1 << 20]).unwrap();
        let unread = response.slice(1 << 19..);
        drop(response);
        assert_eq!(limits.metrics.body_bytes_in_flight.get(), 1 << 20);
        assert_eq!(
            limits
                .hold_response(vec![b'x'; MAX_FREE_RESPONSE_BYTES + 1])
                .unwrap_err(),
            BodyRejection::Overloaded
        );
        assert_eq!(shed(&limits, ShedReason::BytesInFlight), 1);
        limits
            .hold_response(vec![b'x'; MAX_FREE_RESPONSE_BYTES])
            .expect("a small response needs no claim");
        drop(unread);
        assert_eq!(limits.metrics.body_bytes_in_flight.get(), 0);
        limits
            .hold_response(vec![b'x'; MAX_FREE_RESPONSE_BYTES + 1])
            .unwrap();
    }

    #[test]
    fn reserve_is_for_small_responses_too() {
        let small = u32::try_from(MAX_SMALL_BYTES).unwrap();
        let limits = limits_with_reserve(8 << 20, small + 1, small);
        assert_eq!(
            limits
                .hold_response(vec![b'x'; MAX_SMALL_BYTES + 1])
                .unwrap_err(),
            BodyRejection::Overloaded
        );
        limits.hold_response(vec![b'x'; MAX_SMALL_BYTES]).unwrap();
    }
}
