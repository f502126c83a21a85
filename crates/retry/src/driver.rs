//! Repeats an asynchronous operation as its policy allows.

use std::time::Duration;

use super::{Backoff, RetryPolicy};

/// What an error means for the next attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Retry,
    /// The other side asked for this delay.
    RetryAfter(Duration),
    GiveUp,
}

impl Verdict {
    /// Retries exactly the errors that `is_retryable` accepts.
    pub fn by<E>(is_retryable: impl Fn(&E) -> bool) -> impl Fn(&E) -> Self {
        move |error| if is_retryable(error) { Self::Retry } else { Self::GiveUp }
    }
}

/// Attempts an operation until it succeeds, its error is not worth a retry, or the policy's budget is spent.
///
/// # Errors
///
/// The error of the last attempt.
pub async fn retry<T, E, F>(
    policy: RetryPolicy,
    attempt: impl FnMut() -> F,
    judge: impl Fn(&E) -> Verdict,
) -> Result<T, E>
where
    F: Future<Output = Result<T, E>>,
{
    retry_with(&mut policy.backoff(), attempt, judge).await
}

/// As [`retry`], with delays and a budget that several operations share.
///
/// # Errors
///
/// The error of the last attempt.
pub async fn retry_with<T, E, F>(
    backoff: &mut Backoff,
    mut attempt: impl FnMut() -> F,
    judge: impl Fn(&E) -> Verdict,
) -> Result<T, E>
where
    F: Future<Output = Result<T, E>>,
{
    loop {
        let error = match attempt().await {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        let delay = match judge(&error) {
            Verdict::Retry => backoff.next_delay(None),
            Verdict::RetryAfter(delay) => backoff.next_delay(Some(delay)),
            Verdict::GiveUp => None,
        };
        let Some(delay) = delay else { return Err(error) };
        tokio::time::sleep(delay).await;
    }
}
