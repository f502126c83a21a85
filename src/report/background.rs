//! Output on a thread of its own, so that a reader who does not read stops neither a run nor its signals.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use engine::{Event, Subscriber};

/// What waits for a slow reader; a run has some hundred events.
const QUEUE: usize = 4096;
/// At the end, output is given up when nothing of it was read for so long.
const PATIENCE: Duration = Duration::from_secs(2);

/// Delivers items on a thread of its own. When the queue is full, items are dropped and counted.
#[derive(Debug)]
pub(crate) struct Background<T> {
    /// Absent once it is dropped, so that the thread ends.
    items: Option<SyncSender<T>>,
    lost: Arc<AtomicU64>,
    /// A message for each delivered item; disconnected when the thread has ended.
    delivered: Mutex<Receiver<()>>,
}

impl<T: Send + 'static> Background<T> {
    /// `deliver` is called with each item, `lost` with the number of those that were dropped before it.
    pub(crate) fn new(
        mut deliver: impl FnMut(T) + Send + 'static,
        mut report_lost: impl FnMut(u64) + Send + 'static,
    ) -> Self {
        let (items, queue) = sync_channel::<T>(QUEUE);
        let (done, delivered) = sync_channel(1);
        let lost = Arc::new(AtomicU64::new(0));
        let counter = lost.clone();
        std::thread::spawn(move || {
            for item in queue {
                match counter.swap(0, Ordering::Relaxed) {
                    0 => {}
                    count => report_lost(count),
                }
                deliver(item);
                let _ = done.try_send(());
            }
        });
        Self { items: Some(items), lost, delivered: Mutex::new(delivered) }
    }

    /// Queues an item and returns at once.
    pub(crate) fn send(&self, item: T) {
        if self.items.as_ref().is_none_or(|items| items.try_send(item).is_err()) {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl<T> Drop for Background<T> {
    /// Waits until everything is delivered, or nothing was for [`PATIENCE`].
    fn drop(&mut self) {
        drop(self.items.take());
        let delivered = self.delivered.get_mut().unwrap_or_else(PoisonError::into_inner);
        while delivered.recv_timeout(PATIENCE).is_ok() {}
    }
}

/// A reader of events on a thread of its own.
#[derive(Debug)]
pub(crate) struct BackgroundSubscriber(Mutex<Option<Background<Event>>>);

impl BackgroundSubscriber {
    pub(crate) fn new(reader: Arc<dyn Subscriber>) -> Self {
        let second = reader.clone();
        let deliver = move |event: Event| reader.notice(&event);
        let report_lost = move |count| {
            let text = format!("{count} events are missing here: the output was not read for too long");
            second.notice(&Event::notice(&text));
        };
        Self(Mutex::new(Some(Background::new(deliver, report_lost))))
    }

    /// Waits until the events are delivered, or for a while; later ones are dropped.
    pub(crate) fn finish(&self) {
        drop(self.0.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

impl Subscriber for BackgroundSubscriber {
    fn notice(&self, event: &Event) {
        if let Some(background) = self.0.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            background.send(event.clone());
        }
    }
}
