//! When a failed operation is attempted again, and when the caller gives up: the one retry policy of the program.
//!
//! All policies are in [`policies`]. What is retried is the caller's decision: it classifies
//! its own errors. A wait for a state is not a retry, but it uses the same delays ([`Backoff::wait`]).

mod driver;
pub mod policies;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub use driver::{Verdict, retry, retry_with};

/// How an operation is retried.
///
/// ```
/// # use std::time::Duration;
/// # use retry::{Budget, RetryPolicy};
/// const PULL: RetryPolicy =
///     RetryPolicy::new(Duration::from_millis(500), Duration::from_secs(15)).with_budget(Budget::Retries(4));
/// assert_eq!(PULL.seeded(7).count(), 4);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Delay before the first retry.
    pub first: Duration,
    /// No delay is longer, jitter excepted.
    pub longest: Duration,
    /// How much longer each delay is than the one before it.
    pub factor: Factor,
    pub jitter: Jitter,
    pub budget: Budget,
}

/// A growth of delays, in percent of the delay before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Factor(u32);

impl Factor {
    pub const CONSTANT: Self = Self(100);
    pub const DOUBLE: Self = Self(200);

    /// `130` makes each delay 1.3 times as long as the one before it.
    pub const fn percent(percent: u32) -> Self {
        Self(percent)
    }
}

/// What is added to a delay, so that clients that failed together do not retry together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Jitter {
    None,
    /// Up to the delay itself again.
    UpToDouble,
}

/// How much may be spent on retries without any progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Budget {
    Unlimited,
    /// The number of retries; the first attempt does not count.
    Retries(u32),
    /// The sum of the delays.
    Delay(Duration),
}

impl RetryPolicy {
    /// Delays that double from `first` to `longest`, with jitter and without a limit.
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, factor: Factor::DOUBLE, jitter: Jitter::UpToDouble, budget: Budget::Unlimited }
    }

    /// The same delay every time, without jitter and without a limit.
    pub const fn every(delay: Duration) -> Self {
        Self { first: delay, longest: delay, factor: Factor::CONSTANT, jitter: Jitter::None, budget: Budget::Unlimited }
    }

    /// A single attempt.
    pub const fn never() -> Self {
        Self::every(Duration::ZERO).with_budget(Budget::Retries(0))
    }

    #[must_use]
    pub const fn with_factor(self, factor: Factor) -> Self {
        Self { factor, ..self }
    }

    #[must_use]
    pub const fn with_jitter(self, jitter: Jitter) -> Self {
        Self { jitter, ..self }
    }

    #[must_use]
    pub const fn with_budget(self, budget: Budget) -> Self {
        Self { budget, ..self }
    }

    /// The delays of one operation, with random jitter.
    pub fn backoff(self) -> Backoff {
        self.seeded(rand::random())
    }

    /// The delays of one operation; the same seed gives the same delays.
    pub const fn seeded(self, seed: u64) -> Backoff {
        Backoff { policy: self, seed, drawn: 0, delay: self.first, spent: Spent::NOTHING }
    }
}

/// The delays of one operation that is being retried: a plain value, without a clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backoff {
    policy: RetryPolicy,
    seed: u64,
    /// Jitters drawn so far, which a refill does not reset: otherwise the same ones would come again.
    drawn: u64,
    /// The next delay, without jitter.
    delay: Duration,
    spent: Spent,
}

/// What has been used of a budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Spent {
    retries: u32,
    delay: Duration,
}

impl Spent {
    const NOTHING: Self = Self { retries: 0, delay: Duration::ZERO };
}

impl Backoff {
    /// The delay before the next retry, or nothing when the budget does not allow one. `retry_after` is what the other
    /// side asked for; it replaces the policy's own delay and counts against the budget.
    pub fn next_delay(&mut self, retry_after: Option<Duration>) -> Option<Duration> {
        let own = self.draw();
        let delay = retry_after.unwrap_or(own);
        let spent =
            Spent { retries: self.spent.retries.saturating_add(1), delay: self.spent.delay.saturating_add(delay) };
        let is_allowed = match self.policy.budget {
            Budget::Unlimited => true,
            Budget::Retries(most) => spent.retries <= most,
            Budget::Delay(most) => spent.delay <= most,
        };
        is_allowed.then(|| {
            self.spent = spent;
            delay
        })
    }

    /// Begins again with the first delay and the whole budget, because there was progress.
    pub fn refill(&mut self) {
        self.delay = self.policy.first;
        self.spent = Spent::NOTHING;
    }

    /// Sleeps for the next delay, whatever the budget: for loops that end by a condition or a deadline of their own.
    pub async fn wait(&mut self) {
        let delay = self.draw();
        tokio::time::sleep(delay).await;
    }

    fn draw(&mut self) -> Duration {
        let delay = self.delay.min(self.policy.longest);
        self.delay = (delay.saturating_mul(self.policy.factor.0) / 100).min(self.policy.longest);
        self.drawn = self.drawn.wrapping_add(1);
        match self.policy.jitter {
            Jitter::None => delay,
            Jitter::UpToDouble => delay.saturating_add(fraction(delay, self.seed.wrapping_add(self.drawn))),
        }
    }
}

impl Iterator for Backoff {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.next_delay(None)
    }
}

/// A part of `whole` that `seed` decides: SplitMix64 (Steele, Lea and Flood, 2014), in 1/1024.
fn fraction(whole: Duration, seed: u64) -> Duration {
    let mut mixed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^= mixed >> 31;
    let parts = u32::try_from(mixed & 1023).unwrap_or_default();
    whole.saturating_mul(parts) / 1024
}
