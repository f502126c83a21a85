//! A network that drops everything for a while: connections neither make progress nor fail.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// Until when the network of a machine drops everything.
#[derive(Debug, Clone, Default)]
pub(in crate::node) struct NetworkState(Arc<Mutex<Option<Instant>>>);

impl NetworkState {
    pub(in crate::node) fn stall(&self, lasts: Duration) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now() + lasts);
    }

    /// When the network works again, if it does not work now.
    fn stalled_until(&self) -> Option<Instant> {
        let until = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        until.filter(|until| Instant::now() < *until)
    }

    /// Returns once the network works.
    pub(super) async fn works(&self) {
        while let Some(until) = self.stalled_until() {
            tokio::time::sleep_until(until).await;
        }
    }
}

/// The network as one connection meets it.
#[derive(Debug)]
pub(super) struct ConnectionNetwork {
    state: NetworkState,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl ConnectionNetwork {
    pub(super) fn new(state: NetworkState) -> Self {
        Self { state, stalled: None }
    }

    /// Ready while the network works.
    pub(super) fn poll_works(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while let Some(until) = self.state.stalled_until() {
            let sleep = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
            std::task::ready!(sleep.as_mut().poll(context));
            self.stalled = None;
        }
        self.stalled = None;
        Poll::Ready(())
    }
}
