//! A bounded log that can be followed: events, service logs, the kernel's log.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use futures::Stream;
use tokio::sync::watch;

/// Keeps the last entries, each with its position in the whole sequence.
#[derive(Debug)]
pub(super) struct BoundedLog<T> {
    capacity: usize,
    kept: Mutex<VecDeque<T>>,
    /// How many entries have been written in total.
    written: watch::Sender<u64>,
}

/// Entries and the position of the first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KeptEntries<T> {
    pub(super) first: u64,
    pub(super) entries: Vec<T>,
}

impl<T: Clone + Send + Sync + 'static> BoundedLog<T> {
    pub(super) fn new(capacity: usize) -> Self {
        Self { capacity, kept: Mutex::default(), written: watch::Sender::new(0) }
    }

    fn with<R>(&self, operate: impl FnOnce(&mut VecDeque<T>) -> R) -> R {
        operate(&mut self.kept.lock().unwrap_or_else(PoisonError::into_inner))
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

    /// Drops all entries, as a reboot does. Positions continue.
    pub(super) fn clear(&self) {
        self.with(VecDeque::clear);
    }

    pub(super) fn kept(&self) -> KeptEntries<T> {
        self.with(|kept| KeptEntries {
            first: *self.written.borrow() - kept.len() as u64,
            entries: kept.iter().cloned().collect(),
        })
    }

    /// The kept entries from `position` on. `None` if some of them were dropped.
    fn since(&self, position: u64) -> Option<KeptEntries<T>> {
        let kept = self.kept();
        let skip = usize::try_from(position.checked_sub(kept.first)?).ok()?;
        Some(KeptEntries { first: position, entries: kept.entries.into_iter().skip(skip).collect() })
    }

    /// The entries from `position` on and later ones. Ends when entries were dropped because the reader is too slow.
    pub(super) fn follow(self: Arc<Self>, position: u64) -> impl Stream<Item = T> + Send {
        let changes = self.written.subscribe();
        let batches = futures::stream::unfold((self, changes, position), |(log, mut changes, position)| async move {
            changes.wait_for(|written| *written > position).await.ok()?;
            let KeptEntries { first, entries } = log.since(position)?;
            let next = first + entries.len() as u64;
            Some((futures::stream::iter(entries), (log, changes, next)))
        });
        futures::StreamExt::flatten(batches)
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;

    use super::*;

    #[tokio::test]
    async fn a_follower_receives_kept_and_later_entries() {
        let log = Arc::new(BoundedLog::new(3));
        (1..=4).for_each(|entry| log.push(entry));
        assert_eq!(log.kept(), KeptEntries { first: 1, entries: vec![2, 3, 4] });
        let mut follower = Box::pin(log.clone().follow(2));
        assert_eq!(follower.next().await, Some(3));
        log.push(5);
        assert_eq!(follower.next().await, Some(4));
        assert_eq!(follower.next().await, Some(5));
    }

    #[tokio::test]
    async fn a_follower_that_missed_entries_ends() {
        let log = Arc::new(BoundedLog::new(2));
        let mut follower = Box::pin(log.clone().follow(0));
        (1..=3).for_each(|entry| log.push(entry));
        assert_eq!(follower.next().await, None);
    }
}
