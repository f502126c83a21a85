//! Every retry policy of the program.

use std::time::Duration;

use super::{Budget, Factor, Jitter, RetryPolicy};

/// A step of a run that fails because a service does not respond. The budget is for one outage: progress refills it. It is
/// longer than [`API_OUTAGE_LIMIT`].
pub const STEP: RetryPolicy = RetryPolicy::new(Duration::from_millis(250), Duration::from_secs(4))
    .with_budget(Budget::Delay(Duration::from_secs(90)));

/// Looks of a step at something that is not ready yet. The step's deadline ends them.
pub const NOT_READY: RetryPolicy =
    RetryPolicy::new(Duration::from_millis(250), Duration::from_secs(1)).with_jitter(Jitter::None);

/// Connection attempts to a node that is due to respond: frequent, since most ports open soon.
pub const NODE_CONNECTION: RetryPolicy =
    RetryPolicy::new(Duration::from_millis(60), Duration::from_millis(125)).with_factor(Factor::percent(130));

/// Connection attempts to a node that should have responded by now.
pub const NODE_OVERDUE: RetryPolicy = RetryPolicy::every(Duration::from_secs(1));

/// Between two searches for a node that does not respond, at addresses that the cluster has of it.
pub const NODE_SEARCH: Duration = Duration::from_secs(30);

/// How long a machine takes to boot until a boot of the cluster was measured. Virtual machines need less than a minute;
/// servers may need minutes, and a second more does not matter to them.
pub const USUAL_BOOT: Duration = Duration::from_mins(1);

/// Connection attempts to a node that has not responded for this long.
pub fn node_connection(closed_for: Duration, usual_boot: Duration) -> RetryPolicy {
    if closed_for < usual_boot { NODE_CONNECTION } else { NODE_OVERDUE }
}

/// Looks at the state of etcd on the control planes while no event of theirs shows a change. A look takes up to five calls
/// to each control plane, so this is less than a call a second.
pub const ETCD_LOOK: Duration = Duration::from_secs(10);

/// Looks at etcd's member list: one control plane is asked each time, the next one in turn.
pub const MEMBERS_LOOK: Duration = Duration::from_secs(1);

/// Looks at the kubelet and the static pods of each control plane while its API server does not respond. A look takes three
/// calls to each, so this is a call a second.
pub const CONTROL_PLANE_LOOK: Duration = Duration::from_secs(3);

/// After a look that an event led to. Later events of that time lead to one look together.
pub const EVENT_SPACING: Duration = Duration::from_millis(200);

/// Between two looks at a living cluster during a rollout: each asks every node.
pub const ROLLOUT_LOOK: Duration = Duration::from_secs(1);

/// Between two looks at the pods that a drain has left. `kubectl drain` repeats a refused eviction every 5 s (1.35).
pub const DRAIN_LOOK: Duration = Duration::from_secs(1);

/// Attempts to reach an API server that is being started.
pub const API_START: RetryPolicy = RetryPolicy::every(Duration::from_millis(125));

/// How long API servers take to start after etcd: 38 s when the images are on the node (Talos 1.12).
pub const USUAL_API_START: Duration = Duration::from_mins(3);

/// Attempts to reach an API server that has been starting for this long.
pub fn api_start(waited: Duration) -> RetryPolicy {
    if waited < USUAL_API_START { API_START } else { NODE_OVERDUE }
}

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
