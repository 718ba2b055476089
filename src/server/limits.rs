//! Request bodies, bounded three ways: bytes in one body, bytes in all bodies and answers, and time.
//!
//! Anyone in the cluster can reach the port, so each bound holds before anything is known about the sender.

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use bytes::{Buf, Bytes};
use http::{Request, StatusCode, header};
use http_body::Body;
use http_body_util::BodyExt;
use thiserror::Error;
use tokio::time::{Instant, timeout_at};

use super::budget::{ByteBudget, ByteClaim, NoRoom};
use crate::server::metrics::{ServerMetrics, Shed as ShedLabel, ShedReason};

/// The first allocation for a body whose length is not announced or large.
const FIRST_BYTES: usize = 16 << 10;
/// The largest body or answer that the reserve is for. A review of an ordinary pod has 6 kB, of a large one 60 kB.
const SMALL_BYTES: usize = 256 << 10;
/// The largest answer that needs no place: a verdict that was reached is not lost for so little. All connections
/// together hold 16 MiB of such answers at the most.
const FREE_ANSWER_BYTES: usize = 16 << 10;
/// How much of a refused body is read and thrown away, at most.
const DISCARD_BYTES: usize = 16 << 20;
/// For how long, at most.
const DISCARD_TIME: Duration = Duration::from_secs(1);

/// The bounds.
#[derive(Clone, Copy, Debug)]
pub struct BodySettings {
    /// Largest body. An UPDATE review holds the object twice; etcd takes 1.5 MiB each.
    pub per_body: usize,
    /// Most bytes held by all bodies and answers together. At most 4 GiB.
    pub in_flight: u32,
    /// The part of them that is for bodies and answers of at most 256 KiB.
    pub reserve: u32,
    /// A body must be complete after this, so that a trickle cannot hold memory.
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

/// Why a body was not read. Turns into an HTTP failure, so the API server's `failurePolicy` decides.
///
/// None of them carries `Retry-After`: client-go would sleep in the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Shed {
    /// Larger than a body may be.
    #[error("request body is larger than allowed")]
    TooLarge,
    /// All bodies and answers together would be too many bytes.
    #[error("too many bytes of requests and answers in flight")]
    Overloaded,
    /// Not complete in time.
    #[error("request body was not complete in time")]
    TooSlow,
    /// The sender went away or sent nonsense.
    #[error("request body could not be read")]
    Broken,
}

impl Shed {
    /// The answer's status. Overload is 503, not 429: it is all callers together, not this one, that are too many.
    #[must_use]
    pub fn status(self) -> StatusCode {
        match self {
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Overloaded => StatusCode::SERVICE_UNAVAILABLE,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::Broken => StatusCode::BAD_REQUEST,
        }
    }

    fn reason(self) -> Option<ShedReason> {
        match self {
            Self::TooLarge => Some(ShedReason::BodyTooLarge),
            Self::Overloaded => Some(ShedReason::BytesInFlight),
            Self::TooSlow => Some(ShedReason::BodyDeadline),
            Self::Broken => None,
        }
    }
}

impl IntoResponse for Shed {
    fn into_response(self) -> Response {
        (self.status(), format!("{self}\n")).into_response()
    }
}

/// A place in the total of bytes in flight.
#[derive(Debug)]
pub struct Room {
    _place: ByteClaim,
}

/// Reads bodies within the bounds. Clones share them.
#[derive(Clone, Debug)]
pub struct BodyLimits {
    settings: BodySettings,
    budget: ByteBudget,
    metrics: ServerMetrics,
}

impl BodyLimits {
    /// Bounds for all requests that are read through this and its clones.
    #[must_use]
    pub fn new(settings: BodySettings, metrics: ServerMetrics) -> Self {
        let held = metrics.body_bytes_in_flight.clone();
        Self {
            settings,
            budget: ByteBudget::new(settings.in_flight, settings.reserve, held),
            metrics,
        }
    }

    /// Reads the whole body. Its place in the total is given back when the last clone or slice of the bytes is gone.
    ///
    /// # Errors
    /// When a bound is passed or the sender goes away; the answer is in [`Shed`].
    pub async fn read<B>(&self, request: Request<B>) -> Result<Request<Bytes>, Shed>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let expects = request.headers().contains_key(header::EXPECT);
        let (parts, mut body) = request.into_parts();
        let read = timeout_at(
            Instant::now() + self.settings.deadline,
            self.collect(&mut body),
        )
        .await;
        match read.unwrap_or(Err(Shed::TooSlow)) {
            Ok(bytes) => Ok(Request::from_parts(parts, bytes)),
            Err(shed) => {
                self.count(shed);
                if !expects && matches!(shed, Shed::TooLarge | Shed::Overloaded) {
                    discard(&mut body).await;
                }
                Err(shed)
            }
        }
    }

    /// Takes a place for an answer, given back when the last clone or slice of the bytes is gone: when the peer has read
    /// them, or is cut. Drop the request first; most answers fit into its place.
    ///
    /// # Errors
    /// [`Shed::Overloaded`] when the answer is large and there is no room for it.
    pub fn answer(&self, data: Vec<u8>) -> Result<Bytes, Shed> {
        if data.len() <= FREE_ANSWER_BYTES {
            return Ok(data.into());
        }
        let mut place = self.budget.claim(is_small(data.len()));
        if let Err(NoRoom) = place.grow(data.capacity()) {
            self.count(Shed::Overloaded);
            return Err(Shed::Overloaded);
        }
        Ok(Bytes::from_owner(BudgetedBuffer { data, place }))
    }

    /// Takes a place for what will be made of a body, given back on drop.
    ///
    /// # Errors
    /// [`Shed::Overloaded`] when there is no room for it.
    pub fn room(&self, bytes: usize) -> Result<Room, Shed> {
        let mut place = self.budget.claim(is_small(bytes));
        if let Err(NoRoom) = place.grow(bytes) {
            self.count(Shed::Overloaded);
            return Err(Shed::Overloaded);
        }
        Ok(Room { _place: place })
    }

    fn count(&self, shed: Shed) {
        if let Some(reason) = shed.reason() {
            self.metrics.shed.get_or_create(&ShedLabel { reason }).inc();
        }
    }

    async fn collect<B>(&self, body: &mut B) -> Result<Bytes, Shed>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        // `Content-Length` through hyper's size hint; absent when chunked.
        let hint = body.size_hint();
        let most = self.settings.per_body;
        if usize::try_from(hint.lower()).is_ok_and(|lower| lower > most)
            || hint.lower() > usize::MAX as u64
        {
            return Err(Shed::TooLarge);
        }
        let announced = hint.exact().and_then(|exact| usize::try_from(exact).ok());
        let mut body_bytes = BudgetedBuffer {
            data: Vec::new(),
            place: self.budget.claim(announced.is_some_and(is_small)),
        };
        while let Some(frame) = body.frame().await {
            let Ok(mut data) = frame.map_err(|_| Shed::Broken)?.into_data() else {
                continue;
            };
            body_bytes.append(&mut data, announced.unwrap_or(most).min(most), most)?;
        }
        Ok(Bytes::from_owner(body_bytes))
    }
}

/// Whether the reserve is for this many bytes.
fn is_small(bytes: usize) -> bool {
    bytes <= SMALL_BYTES
}

/// Reads the rest of a refused body and keeps nothing of it, within bounds. A socket closed over unread bytes resets
/// the connection, and the sender would see that instead of the answer.
async fn discard<B>(body: &mut B)
where
    B: Body<Data = Bytes> + Unpin,
{
    let rest = async {
        let mut seen = 0;
        while let Some(Ok(frame)) = body.frame().await {
            seen += frame.data_ref().map_or(0, Bytes::len);
            if seen > DISCARD_BYTES {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(DISCARD_TIME, rest).await;
}

/// A body's or an answer's bytes and their place in the total.
///
/// The place of a body grows with what has arrived, not with what was announced: else four connections that announce
/// 8 MiB and send nothing would lock everyone out. It is the capacity that counts, as that is what is allocated.
struct BudgetedBuffer {
    data: Vec<u8>,
    place: ByteClaim,
}

impl BudgetedBuffer {
    fn append(&mut self, frame: &mut Bytes, expected: usize, most: usize) -> Result<(), Shed> {
        let needed = self.data.len() + frame.len();
        if needed > most {
            return Err(Shed::TooLarge);
        }
        if needed > self.data.capacity() {
            self.reserve(
                needed
                    .max(self.data.capacity() * 2)
                    .max(FIRST_BYTES)
                    .min(expected.max(needed)),
            )?;
        }
        self.data.extend_from_slice(frame);
        frame.advance(frame.len());
        Ok(())
    }

    fn reserve(&mut self, capacity: usize) -> Result<(), Shed> {
        self.place
            .grow(capacity - self.data.capacity())
            .map_err(|NoRoom| Shed::Overloaded)?;
        self.data.reserve_exact(capacity - self.data.len());
        Ok(())
    }
}

impl AsRef<[u8]> for BudgetedBuffer {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::stream;
    use http_body::Frame;
    use http_body_util::{Full, StreamBody};
    use std::convert::Infallible;

    fn limits(per_body: usize, in_flight: u32) -> BodyLimits {
        reserving(per_body, in_flight, 0)
    }

    fn reserving(per_body: usize, in_flight: u32, reserve: u32) -> BodyLimits {
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
            .get_or_create(&ShedLabel { reason })
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
    async fn a_slice_keeps_the_place_of_its_body_and_the_last_one_gives_it_back() {
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
            Shed::Overloaded
        );
        drop(slice);
        assert_eq!(limits.metrics.body_bytes_in_flight.get(), 0);
        limits
            .read(Request::new(Full::from(vec![0; 60])))
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn a_chunked_body_is_refused_as_soon_as_it_is_too_large_and_whole_when_it_is_not() {
        let limits = limits(100_000, 1_000_000);
        assert_eq!(
            limits.read(chunked(&[60_000, 60_000])).await.unwrap_err(),
            Shed::TooLarge
        );
        assert_eq!(limits.metrics.body_bytes_in_flight.get(), 0);
        let read = limits.read(chunked(&[1, 50_000, 49_999])).await.unwrap();
        assert_eq!(read.body().len(), 100_000);
        assert_eq!(limits.metrics.body_bytes_in_flight.get(), 100_000);
    }

    #[tokio::test]
    async fn empty_bodies_take_no_place() {
        let limits = limits(10, 10);
        assert!(limits.read(chunked(&[])).await.unwrap().body().is_empty());
        assert_eq!(limits.metrics.body_bytes_in_flight.get(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_end_is_given_up_and_its_place_returned() {
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
        assert_eq!(read.unwrap_err(), Shed::TooSlow);
        assert_eq!(began.elapsed().as_secs(), 10);
        assert_eq!(limits.metrics.body_bytes_in_flight.get(), 0);
        assert_eq!(shed(&limits, ShedReason::BodyDeadline), 1);
    }

    #[tokio::test]
    async fn announced_small_bodies_have_a_reserve_that_large_and_chunked_ones_do_not_touch() {
        let small = u32::try_from(SMALL_BYTES).unwrap();
        let limits = reserving(8 << 20, 4 * small, small);
        let large = limits.read(sized(3 * SMALL_BYTES)).await.unwrap();
        assert_eq!(
            limits.read(sized(SMALL_BYTES + 1)).await.unwrap_err(),
            Shed::Overloaded
        );
        assert_eq!(
            limits.read(chunked(&[1])).await.unwrap_err(),
            Shed::Overloaded
        );
        let last = limits.read(sized(SMALL_BYTES)).await.unwrap();
        assert_eq!(
            limits.read(sized(1)).await.unwrap_err(),
            Shed::Overloaded,
            "the reserve is used up, too"
        );
        assert_eq!(shed(&limits, ShedReason::BytesInFlight), 3);
        drop(last);
        limits.read(sized(SMALL_BYTES)).await.unwrap();
        drop(large);
        assert_eq!(limits.metrics.body_bytes_in_flight.get(), 0);
    }

    #[test]
    fn an_answer_holds_its_place_until_its_last_byte_is_gone() {
        let limits = limits(8 << 20, 1 << 20);
        let answer = limits.answer(vec![b'x'; 1 << 20]).unwrap();
        let unread = answer.slice(1 << 19..);
        drop(answer);
        assert_eq!(limits.metrics.body_bytes_in_flight.get(), 1 << 20);
        assert_eq!(
            limits
                .answer(vec![b'x'; FREE_ANSWER_BYTES + 1])
                .unwrap_err(),
            Shed::Overloaded
        );
        assert_eq!(shed(&limits, ShedReason::BytesInFlight), 1);
        limits
            .answer(vec![b'x'; FREE_ANSWER_BYTES])
            .expect("a small answer needs no place");
        drop(unread);
        assert_eq!(limits.metrics.body_bytes_in_flight.get(), 0);
        limits.answer(vec![b'x'; FREE_ANSWER_BYTES + 1]).unwrap();
    }

    #[test]
    fn small_answers_have_the_reserve_too() {
        let small = u32::try_from(SMALL_BYTES).unwrap();
        let limits = reserving(8 << 20, small + 1, small);
        assert_eq!(
            limits.answer(vec![b'x'; SMALL_BYTES + 1]).unwrap_err(),
            Shed::Overloaded
        );
        limits.answer(vec![b'x'; SMALL_BYTES]).unwrap();
    }

    #[test]
    fn no_answer_asks_for_a_retry() {
        for shed in [
            Shed::TooLarge,
            Shed::Overloaded,
            Shed::TooSlow,
            Shed::Broken,
        ] {
            assert!(
                !shed
                    .into_response()
                    .headers()
                    .contains_key(header::RETRY_AFTER)
            );
        }
    }
}
