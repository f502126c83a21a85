//! A connection that records the error that broke it.
//!
//! With TLS 1.3 a node rejects the client certificate only after the handshake. The call in progress then fails as
//! cancelled; the TLS alert with the reason is only in the connection's own error.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The error that broke a connection.
#[derive(Debug, Clone, Default)]
pub(super) struct ConnectionFailure(Arc<Mutex<Option<String>>>);

impl ConnectionFailure {
    fn record(&self, error: &io::Error) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| error.to_string());
    }

    pub(super) fn cause(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The byte stream of the connection.
#[derive(Debug)]
pub(super) struct MonitoredStream<S> {
    stream: S,
    broken: ConnectionFailure,
    /// A failed write, until the final bytes from the node have been read.
    unwritable: Option<io::Error>,
}

impl<S> MonitoredStream<S> {
    pub(super) fn new(stream: S, broken: ConnectionFailure) -> Self {
        Self { stream, broken, unwritable: None }
    }

    fn recorded<T>(&self, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if let Poll::Ready(Err(error)) = &result {
            self.broken.record(error);
        }
        result
    }
}

impl<S: AsyncRead + Unpin> MonitoredStream<S> {
    /// The node sends its TLS alert before it closes. When a write fails, the alert is read first; it is either already
    /// there or never arrives.
    fn written<T>(&mut self, cx: &mut Context<'_>, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        match result {
            Poll::Ready(Err(error)) => self.unwritable = Some(error),
            other => return other,
        }
        self.read_final_alert(cx)
    }

    fn read_final_alert<T>(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        let mut scratch = [0; 1024];
        loop {
            let mut buffer = ReadBuf::new(&mut scratch);
            match Pin::new(&mut self.stream).poll_read(cx, &mut buffer) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {}
                Poll::Ready(Ok(())) => break,
                Poll::Ready(Err(error)) => {
                    self.broken.record(&error);
                    break;
                }
            }
        }
        let error = self.unwritable.take().unwrap_or_else(|| io::ErrorKind::BrokenPipe.into());
        self.recorded(Poll::Ready(Err(error)))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for MonitoredStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_read(cx, buffer);
        self.recorded(result)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for MonitoredStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.unwritable.is_some() {
            return self.read_final_alert(cx);
        }
        let result = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.written(cx, result)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.unwritable.is_some() {
            return self.read_final_alert(cx);
        }
        let result = Pin::new(&mut self.stream).poll_flush(cx);
        self.written(cx, result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.recorded(result)
    }
}
