//! Body of a response, which ends the request in flight when hyper has all of it.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};

use crate::server::activity::InFlightGuard;

pin_project_lite::pin_project! {
    /// Body of a response with the guard of its request.
    pub(super) struct TrackedBody {
        #[pin]
        body: Body,
        _in_flight: InFlightGuard,
    }
}

impl TrackedBody {
    pub(super) fn new(body: Body, in_flight: InFlightGuard) -> Self {
        Self {
            body,
            _in_flight: in_flight,
        }
    }
}

impl HttpBody for TrackedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.project().body.poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
