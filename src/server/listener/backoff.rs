//! Backoff after accept errors.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep_until};

/// Pause after the first of several accept errors.
const MIN_BACKOFF: Duration = Duration::from_millis(20);

/// Longest pause after an accept error.
const MAX_BACKOFF: Duration = Duration::from_secs(1);

/// Pause in which no connection is accepted. Its end is fixed: it does not begin again when another connection ends.
#[derive(Default)]
pub(super) struct AcceptBackoff {
    length: Duration,
    until: Option<Instant>,
}

impl AcceptBackoff {
    /// Accepts a connection after the pause.
    pub(super) async fn accept(&self, tcp: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
        // Even a sleep of zero length takes a millisecond, and this is called for each connection.
        if let Some(until) = self.until {
            sleep_until(until).await;
        }
        tcp.accept().await
    }

    /// Starts a pause that is twice as long as the last one; `true` if it is the first.
    pub(super) fn extend(&mut self) -> bool {
        let first = self.until.is_none();
        self.length = (self.length * 2).clamp(MIN_BACKOFF, MAX_BACKOFF);
        self.until = Some(Instant::now() + self.length);
        first
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::sleep;

    #[tokio::test(start_paused = true)]
    async fn accept_without_an_earlier_error_does_not_wait() {
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let _client = TcpStream::connect(tcp.local_addr().unwrap()).await.unwrap();
        let began = Instant::now();
        AcceptBackoff::default().accept(&tcp).await.unwrap();
        assert_eq!(began.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn backoff_ends_on_time_however_often_it_is_interrupted() {
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let _client = TcpStream::connect(tcp.local_addr().unwrap()).await.unwrap();
        let mut backoff = AcceptBackoff::default();
        assert!(
            backoff.extend() && !backoff.extend(),
            "only the first is reported"
        );
        let began = Instant::now();
        let mut interrupted = 0;
        loop {
            tokio::select! {
                biased;
                accepted = backoff.accept(&tcp) => break drop(accepted.unwrap()),
                () = sleep(Duration::from_millis(3)) => interrupted += 1,
            }
        }
        assert_eq!((began.elapsed(), interrupted), (2 * MIN_BACKOFF, 13));
        for _ in 0..10 {
            backoff.extend();
        }
        assert_eq!(backoff.length, MAX_BACKOFF);
    }
}
