//! API servers come and go while static pods are started: every request outlives a short absence (K07).

use std::future::Future;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};

use super::ApiError;

/// Repeats a request while the API server is away, for about 20 seconds in all.
pub(super) async fn patiently<T, F, Fut>(request: F) -> Result<T, ApiError>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, ApiError>>,
{
    let pace = ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(100))
        .with_max_delay(Duration::from_secs(3))
        .with_max_times(10)
        .with_jitter();
    request.retry(pace).when(ApiError::is_transient).await
}
