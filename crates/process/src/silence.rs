//! How long a child has printed nothing.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::{Instant, sleep_until};

/// When a child printed last.
#[derive(Debug, Clone)]
pub(super) struct LastOutput(Arc<Mutex<Instant>>);

impl LastOutput {
    pub(super) fn now() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }

    /// The same stream; what it brings counts as output, whole lines or not.
    pub(super) fn observe<R>(&self, stream: R) -> Observed<R> {
        Observed { stream, last: self.clone() }
    }

    fn note(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Returns once nothing was printed for `limit`.
    pub(super) async fn silence(&self, limit: Duration) {
        loop {
            let end = *self.0.lock().unwrap_or_else(PoisonError::into_inner) + limit;
            if end <= Instant::now() {
                return;
            }
            sleep_until(end).await;
        }
    }
}

/// A stream of a child.
#[derive(Debug)]
pub(super) struct Observed<R> {
    stream: R,
    last: LastOutput,
}

impl<R: AsyncRead + Unpin> AsyncRead for Observed<R> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.last.note();
        }
        polled
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::time::sleep;

    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);

    /// In virtual time: an hour of work with a word every nine minutes is within a limit of ten minutes without one.
    #[tokio::test(start_paused = true)]
    async fn only_silence_counts_and_not_the_length_of_the_work() {
        let (began, last) = (Instant::now(), LastOutput::now());
        let (mut printer, reader) = tokio::io::duplex(8);
        let mut observed = last.observe(reader);
        let work = async {
            for _ in 0..7 {
                sleep(9 * MINUTE).await;
                // Without a line break, as progress is often printed.
                tokio::io::AsyncWriteExt::write_all(&mut printer, b".").await.unwrap();
                assert_eq!(observed.read_u8().await.unwrap(), b'.');
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = work => {}
            () = last.silence(10 * MINUTE) => {}
        }
        assert_eq!(began.elapsed(), (63 + 10) * MINUTE);
    }
}
