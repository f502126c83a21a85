//! Events are shown by a thread of their own: output that is not read must not stop a run, nor the signals that end it.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use engine::{Event, EventKind, Subscriber};

/// So many events wait for a slow reader; a run has a few hundred.
const WAITING: usize = 4096;

/// Passes events on to another subscriber from a thread, in order.
///
/// When its queue is full, events are dropped, and a notice with their number takes their place. The first and the last
/// event of a run are never dropped.
pub struct Background(Arc<Queue>);

struct Queue {
    state: Mutex<State>,
    changed: Condvar,
    limit: usize,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Event>,
    /// Dropped since the last event that was queued.
    dropped: u64,
    /// Shown so far.
    shown: u64,
    /// The thread is at work on an event.
    busy: bool,
    closed: bool,
}

impl std::fmt::Debug for Background {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Background").finish_non_exhaustive()
    }
}

impl Background {
    /// Events for `subscriber`, which only its thread calls.
    pub fn new(subscriber: Arc<dyn Subscriber>) -> Self {
        Self::with_limit(subscriber, WAITING)
    }

    fn with_limit(subscriber: Arc<dyn Subscriber>, limit: usize) -> Self {
        let queue = Arc::new(Queue { state: Mutex::default(), changed: Condvar::new(), limit });
        let mine = queue.clone();
        std::thread::spawn(move || {
            while let Some(event) = mine.take() {
                subscriber.notice(&event);
            }
        });
        Self(queue)
    }

    /// Waits until everything is shown, as long as the reader takes at least one event within `patience`.
    pub fn finish(&self, patience: Duration) {
        let mut state = self.0.lock();
        let (mut shown, mut since) = (state.shown, Instant::now());
        while state.busy || !state.waiting.is_empty() {
            let Some(left) = patience.checked_sub(since.elapsed()).filter(|left| !left.is_zero()) else { return };
            state = self.0.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
            if state.shown != shown {
                (shown, since) = (state.shown, Instant::now());
            }
        }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.0.lock().closed = true;
        self.0.changed.notify_all();
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, event: &Event) {
        let mut state = self.lock();
        let is_last = matches!(event.kind, EventKind::RunEnded { .. });
        if state.waiting.len() >= self.limit && !is_last {
            state.dropped += 1;
            return;
        }
        if state.dropped > 0 {
            let text = format!("{} events are left out: the output was not read in time", state.dropped);
            state.waiting.push_back(Event { elapsed: event.elapsed, kind: EventKind::Notice { text } });
            state.dropped = 0;
        }
        state.waiting.push_back(event.clone());
        self.changed.notify_all();
    }

    /// The next event; none once there will be no more.
    fn take(&self) -> Option<Event> {
        let mut state = self.lock();
        if state.busy {
            state.busy = false;
            state.shown += 1;
            self.changed.notify_all();
        }
        loop {
            if let Some(event) = state.waiting.pop_front() {
                state.busy = true;
                return Some(event);
            }
            if state.closed {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Subscriber for Background {
    fn notice(&self, event: &Event) {
        self.0.push(event);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

    use engine::RunOutcome;

    use super::*;

    /// A reader that takes one event for each permit.
    struct Slow {
        permits: Mutex<Receiver<()>>,
        begun: SyncSender<()>,
        seen: Mutex<Vec<Event>>,
    }

    impl Subscriber for Slow {
        fn notice(&self, event: &Event) {
            self.begun.send(()).unwrap();
            self.permits.lock().unwrap().recv().unwrap();
            self.seen.lock().unwrap().push(event.clone());
        }
    }

    fn texts(slow: &Slow) -> Vec<String> {
        let seen = slow.seen.lock().unwrap();
        let text = |event: &Event| match &event.kind {
            EventKind::Notice { text } => text.clone(),
            other => format!("{other:?}").split(' ').next().unwrap().to_owned(),
        };
        seen.iter().map(text).collect()
    }

    #[test]
    fn events_beyond_the_limit_are_counted_and_the_last_one_is_kept() {
        let ((permit, permits), (begun, begins)) = (sync_channel(100), sync_channel(100));
        let slow = Arc::new(Slow { permits: Mutex::new(permits), begun, seen: Mutex::default() });
        let background = Background::with_limit(slow.clone(), 2);
        background.notice(&Event::notice("0"));
        // The thread has it, and waits for its reader.
        begins.recv().unwrap();
        for number in 1..=5 {
            background.notice(&Event::notice(&number.to_string()));
        }
        let end = EventKind::RunEnded { outcome: RunOutcome::Complete, seconds: 1.0 };
        background.notice(&Event { elapsed: 1.0, kind: end });
        // A reader that never reads does not keep the program.
        background.finish(Duration::ZERO);
        assert_eq!(texts(&slow), Vec::<String>::new());
        (0..10).for_each(|_| permit.send(()).unwrap());
        background.finish(Duration::from_mins(1));
        assert_eq!(texts(&slow), ["0", "1", "2", "3 events are left out: the output was not read in time", "RunEnded"]);
    }
}
