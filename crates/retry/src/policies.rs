//! Every retry policy of the program.

use std::time::Duration;

use super::{Budget, Factor, RetryPolicy};

/// A step of a run that fails with an error that may pass.
pub const STEP: RetryPolicy =
    RetryPolicy::new(Duration::from_millis(250), Duration::from_secs(15)).with_budget(Budget::Retries(8));

/// Connection attempts to a node: frequent at first, since most ports open soon, and without a limit.
pub const NODE_CONNECTION: RetryPolicy =
    RetryPolicy::new(Duration::from_millis(60), Duration::from_millis(125)).with_factor(Factor::percent(130));

/// Polls and watches of the Kubernetes API: quickly at first, then about every second.
pub const API_POLL: RetryPolicy = RetryPolicy::new(Duration::from_millis(100), Duration::from_secs(1));

/// How long the Kubernetes API may be away: static pods that restart refuse connections for 30 to 60 s.
pub const API_OUTAGE_LIMIT: Duration = Duration::from_secs(75);

/// Polls of the Kubernetes API while it is away.
pub const API_OUTAGE: RetryPolicy = API_POLL.with_budget(Budget::Delay(API_OUTAGE_LIMIT));

/// Files that recipes apply by their URL.
pub const DOWNLOAD: RetryPolicy =
    RetryPolicy::new(Duration::from_secs(1), Duration::from_mins(1)).with_budget(Budget::Retries(4));

/// A chart that a registry does not serve because it does not respond or is overloaded.
pub const CHART_PULL: RetryPolicy =
    RetryPolicy::new(Duration::from_millis(500), Duration::from_mins(1)).with_budget(Budget::Retries(3));

/// An image on a node: registries limit requests, and the container runtime may have just started.
pub const IMAGE_PULL: RetryPolicy =
    RetryPolicy::new(Duration::from_secs(1), Duration::from_mins(1)).with_budget(Budget::Retries(6));

/// Requests that a 1Password Connect server throttles without a `Retry-After`. The budget is for a whole template; after
/// it the rate limit is an error (O02).
pub const CONNECT_RATE_LIMIT: RetryPolicy =
    RetryPolicy::every(Duration::from_secs(5)).with_budget(Budget::Delay(Duration::from_mins(1)));
