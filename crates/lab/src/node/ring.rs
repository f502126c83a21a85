//! A bounded log that can be followed: events, service logs, the kernel's log.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use futures::Stream;
use tokio::sync::watch;

/// Keeps the last entries, each with its place in the whole sequence.
#[derive(Debug)]
pub(super) struct Ring<T> {
    capacity: usize,
    kept: Mutex<VecDeque<T>>,
    /// How many entries there have ever been; the sender is dropped with the ring.
    written: watch::Sender<u64>,
}

impl<T: Clone + Send + Sync + 'static> Ring<T> {
    pub(super) fn new(capacity: usize) -> Self {
        Self { capacity, kept: Mutex::default(), written: watch::Sender::new(0) }
    }

    fn with<R>(&self, act: impl FnOnce(&mut VecDeque<T>) -> R) -> R {
        act(&mut self.kept.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn push(&self, entry: T) {
        self.with(|kept| {
            if kept.len() == self.capacity {
                kept.pop_front();
            }
            kept.push_back(entry);
            self.written.send_modify(|written| *written += 1);
        });
    }

    /// Everything is forgotten, as memory is at a reboot. Places in the sequence go on.
    pub(super) fn clear(&self) {
        self.with(VecDeque::clear);
    }

    /// The entries that are kept, and the place of the first.
    pub(super) fn kept(&self) -> (u64, Vec<T>) {
        self.with(|kept| {
            let first = *self.written.borrow() - kept.len() as u64;
            (first, kept.iter().cloned().collect())
        })
    }

    /// The entries from a place on that are there, and where to go on; nothing when some of them are lost.
    fn since(&self, place: u64) -> Option<(Vec<T>, u64)> {
        let (first, kept) = self.kept();
        let skip = usize::try_from(place.checked_sub(first)?).ok()?;
        let end = first + kept.len() as u64;
        Some((kept.into_iter().skip(skip).collect(), end))
    }

    /// Entries from a place on, as they come, until some are lost because the reader is too slow.
    pub(super) fn follow(self: Arc<Self>, place: u64) -> impl Stream<Item = T> + Send {
        let changes = self.written.subscribe();
        let batches = futures::stream::unfold((self, changes, place), |(ring, mut changes, place)| async move {
            changes.wait_for(|written| *written > place).await.ok()?;
            let (entries, next) = ring.since(place)?;
            Some((futures::stream::iter(entries), (ring, changes, next)))
        });
        futures::StreamExt::flatten(batches)
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;

    use super::*;

    #[tokio::test]
    async fn a_follower_gets_what_is_kept_and_what_comes() {
        let ring = Arc::new(Ring::new(3));
        (1..=4).for_each(|entry| ring.push(entry));
        let (first, kept) = ring.kept();
        assert_eq!((first, kept), (1, vec![2, 3, 4]));
        let mut follower = Box::pin(ring.clone().follow(2));
        assert_eq!(follower.next().await, Some(3));
        ring.push(5);
        assert_eq!(follower.next().await, Some(4));
        assert_eq!(follower.next().await, Some(5));
    }

    #[tokio::test]
    async fn a_follower_that_lost_something_is_ended() {
        let ring = Arc::new(Ring::new(2));
        let mut follower = Box::pin(ring.clone().follow(0));
        (1..=3).for_each(|entry| ring.push(entry));
        assert_eq!(follower.next().await, None);
    }
}
