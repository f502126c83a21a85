//! The timers of Talos's etcd service.

use std::time::Duration;

use serde::Deserialize;

use super::Millis;

/// How a machine joins etcd (Talos 1.11 to 1.14, `internal/app/machined/pkg/system/services/etcd.go`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct EtcdTimings {
    /// Between two attempts to join: etcd has at most one learner.
    pub join: Millis,
    /// Between two attempts to promote a learner. The first is made at once.
    pub promotion: Millis,
    /// How long an attempt to promote lasts while etcd does not run on one of the control planes: it waits for each of them.
    pub blocked_attempt: Millis,
    /// From the start of a member to its first health check.
    pub health_check: Millis,
    /// Between two health checks.
    pub health_period: Millis,
}

impl EtcdTimings {
    /// From the end of an attempt to promote that took `took` so far to the next one, while etcd does not run on `waiting`
    /// of the control planes.
    pub(crate) fn until_next_promotion(&self, took: Duration, waiting: usize) -> Duration {
        let blocked = if waiting == 0 { Duration::ZERO } else { self.blocked_attempt.duration().saturating_sub(took) };
        blocked + self.promotion.duration()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Scenario;

    #[test]
    fn a_learner_waits_45_s_beside_a_control_plane_without_etcd_and_15_s_otherwise() {
        let timings = Scenario::load("default").unwrap().etcd;
        assert_eq!(timings.until_next_promotion(Duration::ZERO, 1), Duration::from_secs(45));
        assert_eq!(timings.until_next_promotion(Duration::from_secs(2), 1), Duration::from_secs(43));
        assert_eq!(timings.until_next_promotion(Duration::from_secs(2), 0), Duration::from_secs(15));
    }
}
