//! Waiting for a condition that nothing announces, with a deadline.

use std::time::{Duration, Instant};

/// Whether a condition is met, and if not, the state for the message of a test that fails.
#[derive(Debug)]
pub enum Condition<T> {
    Met(T),
    Unmet(String),
}

const INTERVAL: Duration = Duration::from_millis(50);

/// Until when a condition must be true.
#[derive(Debug, Clone, Copy)]
pub struct Deadline(Instant);

impl Deadline {
    pub fn after(duration: Duration) -> Self {
        Self(Instant::now() + duration)
    }

    fn check(self, state: &str) {
        assert!(Instant::now() < self.0, "the deadline has passed: {state}");
    }
}

/// Checks until there is a value.
///
/// # Panics
///
/// After the deadline, with the last state that the condition reported.
pub fn wait_until<T>(deadline: Deadline, mut condition: impl FnMut() -> Condition<T>) -> T {
    loop {
        match condition() {
            Condition::Met(value) => return value,
            Condition::Unmet(state) => deadline.check(&state),
        }
        std::thread::sleep(INTERVAL);
    }
}

/// The same for a condition that is a future.
///
/// # Panics
///
/// After the deadline, with the last state that the condition reported.
pub async fn wait_until_async<T>(deadline: Deadline, mut condition: impl AsyncFnMut() -> Condition<T>) -> T {
    loop {
        match condition().await {
            Condition::Met(value) => return value,
            Condition::Unmet(state) => deadline.check(&state),
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

#[test]
#[should_panic(expected = "the deadline has passed: 1 of 2 nodes is ready")]
fn a_deadline_that_passes_reports_the_last_state() {
    wait_until(Deadline::after(Duration::ZERO), || Condition::<()>::Unmet("1 of 2 nodes is ready".to_owned()));
}
