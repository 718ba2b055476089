//! Stream of a connection, which records its bytes in the connection's activity.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::ConnectionActivity;

/// Stream whose unsent bytes can be discarded.
pub(in crate::server) trait StreamReset {
    /// Makes the system discard unsent bytes when the stream is closed; otherwise it would go on sending them.
    fn reset(&self);
}

impl StreamReset for tokio::net::TcpStream {
    fn reset(&self) {
        // A socket on which this fails is broken, and has no bytes to send.
        self.set_zero_linger().ok();
    }
}

impl<S: StreamReset> StreamReset for tokio_rustls::server::TlsStream<S> {
    fn reset(&self) {
        self.get_ref().0.reset();
    }
}

pin_project_lite::pin_project! {
    /// Stream that records in the activity which bytes arrive, and when all have been sent.
    pub(in crate::server) struct MonitoredStream<S> {
        #[pin]
        stream: S,
        activity: Arc<ConnectionActivity>,
    }
}

impl<S> MonitoredStream<S> {
    pub(in crate::server) fn new(stream: S, activity: Arc<ConnectionActivity>) -> Self {
        Self { stream, activity }
    }
}

impl<S: StreamReset> StreamReset for MonitoredStream<S> {
    fn reset(&self) {
        self.stream.reset();
    }
}

impl<S: AsyncRead> AsyncRead for MonitoredStream<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let this = self.project();
        let before = buf.filled().len();
        ready!(this.stream.poll_read(cx, buf))?;
        if let Some(bytes) = buf.filled().get(before..).filter(|bytes| !bytes.is_empty()) {
            this.activity.arrived(bytes);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite> AsyncWrite for MonitoredStream<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        self.project().stream.poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        let this = self.project();
        ready!(this.stream.poll_flush(cx))?;
        this.activity.flushed();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        self.project().stream.poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        self.project().stream.poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
