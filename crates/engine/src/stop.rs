//! The operator's request to stop a run.

use tokio::sync::watch;

/// How urgently the operator wants the run to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stop {
    /// Start nothing, let effects that are under way finish.
    AtSafePoint,
    /// Cancel everything.
    Now,
}

/// Carries the operator's request to stop into a run.
#[derive(Debug, Clone)]
pub struct StopSignal(watch::Sender<Option<Stop>>);

impl Default for StopSignal {
    fn default() -> Self {
        Self(watch::Sender::new(None))
    }
}

impl StopSignal {
    /// Returns once a stop is requested.
    pub async fn requested(&self) {
        // The sender is ours, so this cannot fail.
        let _ = self.0.subscribe().wait_for(Option::is_some).await;
    }

    /// What is requested, and later requests as they come.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Option<Stop>> {
        self.0.subscribe()
    }

    /// Requests a stop at a safe point; the second time, at once. Returns which.
    pub fn request(&self) -> Stop {
        let mut requested = Stop::AtSafePoint;
        self.0.send_modify(|stop| {
            requested = if stop.is_some() { Stop::Now } else { Stop::AtSafePoint };
            *stop = Some(requested);
        });
        requested
    }

    /// Requests a stop at a safe point, unless a stop is requested already.
    pub fn request_safe_point(&self) {
        self.0.send_modify(|stop| *stop = Some(stop.unwrap_or(Stop::AtSafePoint)));
    }
}
