//! A connection that remembers what broke it.
//!
//! With TLS 1.3 a node refuses our certificate only after the handshake. The call that was under way then ends as
//! cancelled, whatever the node said; what it said is in the connection's own error.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What broke a connection, once it is broken.
#[derive(Debug, Clone, Default)]
pub(super) struct Broken(Arc<Mutex<Option<String>>>);

impl Broken {
    fn note(&self, error: &io::Error) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| error.to_string());
    }

    pub(super) fn by(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The connection's bytes.
#[derive(Debug)]
pub(super) struct Wire<S> {
    stream: S,
    broken: Broken,
    /// A write has failed, and what the node said before it closed has not been read yet.
    unwritable: Option<io::Error>,
}

impl<S> Wire<S> {
    pub(super) fn new(stream: S, broken: Broken) -> Self {
        Self { stream, broken, unwritable: None }
    }

    fn noted<T>(&self, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if let Poll::Ready(Err(error)) = &result {
            self.broken.note(error);
        }
        result
    }
}

impl<S: AsyncRead + Unpin> Wire<S> {
    /// A node that closes says why before it does. When a write finds the connection closed, that is read first; it
    /// arrives at once or never, since the connection is over for both sides.
    fn written<T>(&mut self, cx: &mut Context<'_>, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        match result {
            Poll::Ready(Err(error)) => self.unwritable = Some(error),
            other => return other,
        }
        self.hear_last_words(cx)
    }

    fn hear_last_words<T>(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        let mut scratch = [0; 1024];
        loop {
            let mut buffer = ReadBuf::new(&mut scratch);
            match Pin::new(&mut self.stream).poll_read(cx, &mut buffer) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {}
                Poll::Ready(Ok(())) => break,
                Poll::Ready(Err(error)) => {
                    self.broken.note(&error);
                    break;
                }
            }
        }
        let error = self.unwritable.take().unwrap_or_else(|| io::ErrorKind::BrokenPipe.into());
        self.noted(Poll::Ready(Err(error)))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Wire<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_read(cx, buffer);
        self.noted(result)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.unwritable.is_some() {
            return self.hear_last_words(cx);
        }
        let result = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.written(cx, result)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.unwritable.is_some() {
            return self.hear_last_words(cx);
        }
        let result = Pin::new(&mut self.stream).poll_flush(cx);
        self.written(cx, result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.noted(result)
    }
}
