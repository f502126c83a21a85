//! Waiting for a node: connection attempts with growing, jittered delays, and an adaptive timeout (failure T11).
//!
//! A machine may spend minutes in its firmware, and the duration is unknown until it has been measured once. So the
//! timeout limits the time without progress, not the whole boot: every change of state resets it, and a long measured boot
//! extends it. The caller passes the time in.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use retry::policies::{NODE_CONNECTION, USUAL_BOOT};
use tokio::time::Instant;

/// Lower bound of the timeout: every machine may need this long without visible progress.
const LEAST: Duration = Duration::from_mins(15);
/// Upper bound of the timeout: no firmware takes longer.
const MOST: Duration = Duration::from_hours(1);
/// Factor by which a boot may exceed the measured ones.
const SLACK: u32 = 3;

/// Endless delays between connection attempts, with jitter.
pub fn connect_delays() -> impl Iterator<Item = Duration> {
    NODE_CONNECTION.backoff()
}

/// Measured boot durations of this run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BootTimes(BTreeMap<IpAddr, Duration>);

impl BootTimes {
    /// Records that a node did not respond for `took` and then responded.
    pub fn learn(&mut self, node: IpAddr, took: Duration) {
        let known = self.0.entry(node).or_default();
        *known = took.max(*known);
    }

    fn longest(&self, node: IpAddr) -> Option<Duration> {
        self.0.get(&node).or_else(|| self.0.values().max()).copied()
    }

    /// The timeout for a node, from its own boots or else from those of other nodes.
    pub fn limit(&self, node: IpAddr) -> Duration {
        (self.longest(node).unwrap_or_default() * SLACK).clamp(LEAST, MOST)
    }

    /// How long a node usually takes to boot, from its own boots or else from those of other nodes; never less than a
    /// machine without a measured boot gets.
    pub fn usual(&self, node: IpAddr) -> Duration {
        self.longest(node).unwrap_or_default().max(USUAL_BOOT)
    }
}

/// A node made no progress within the timeout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProgressTimeoutExpired {
    pub elapsed: Duration,
}

/// The timeout of one wait for a node.
#[derive(Debug, Clone)]
pub struct ProgressTimeout {
    limit: Duration,
    sign: String,
    since: Instant,
}

impl ProgressTimeout {
    pub fn new(limit: Duration, now: Instant) -> Self {
        Self { limit, sign: String::new(), since: now }
    }

    /// How long the present state may last from now on.
    pub fn remaining(&self, now: Instant) -> Duration {
        self.limit.saturating_sub(now.duration_since(self.since))
    }

    /// Records the observed state of the node. A changed state is progress and resets the timeout.
    ///
    /// # Errors
    ///
    /// The state has not changed for longer than the limit.
    pub fn note(&mut self, sign: &str, now: Instant) -> Result<(), ProgressTimeoutExpired> {
        if sign != self.sign {
            sign.clone_into(&mut self.sign);
            self.since = now;
        }
        let elapsed = now.duration_since(self.since);
        if elapsed > self.limit { Err(ProgressTimeoutExpired { elapsed }) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minutes(count: u64) -> Duration {
        Duration::from_mins(count)
    }

    #[test]
    fn progress_resets_the_timeout() {
        let began = Instant::now();
        let mut timeout = ProgressTimeout::new(minutes(15), began);
        assert_eq!(timeout.note("port closed", began), Ok(()));
        assert_eq!(timeout.note("port closed", began + minutes(14)), Ok(()));
        assert_eq!(timeout.note("booting", began + minutes(16)), Ok(()));
        assert_eq!(timeout.note("booting", began + minutes(30)), Ok(()));
        assert_eq!(timeout.remaining(began + minutes(30)), minutes(1));
        assert_eq!(timeout.remaining(began + minutes(32)), Duration::ZERO);
        assert_eq!(timeout.note("booting", began + minutes(32)), Err(ProgressTimeoutExpired { elapsed: minutes(16) }));
    }

    #[test]
    fn the_timeout_adapts_to_the_slowest_boot() {
        let [one, other] = [[10, 0, 0, 1], [10, 0, 0, 2]].map(IpAddr::from);
        let mut times = BootTimes::default();
        assert_eq!((times.limit(one), times.usual(one)), (minutes(15), USUAL_BOOT));
        times.learn(one, minutes(9));
        times.learn(one, minutes(8));
        assert_eq!((times.limit(one), times.usual(one)), (minutes(27), minutes(9)));
        assert_eq!(times.limit(other), minutes(27), "the boot of another node is the best estimate");
        times.learn(other, minutes(1));
        assert_eq!(times.limit(other), minutes(15));
        times.learn(one, minutes(50));
        assert_eq!(times.limit(one), minutes(60));
    }

    #[test]
    fn delays_grow_and_are_endless() {
        let pauses: Vec<Duration> = connect_delays().take(1000).collect();
        assert_eq!(pauses.len(), 1000);
        assert!(pauses[0] < Duration::from_millis(125));
        // At most eight attempts per second; an open port is noticed within 250 ms.
        let settled = Duration::from_millis(125)..=Duration::from_millis(250);
        assert!(pauses[20..].iter().all(|pause| settled.contains(pause)));
    }
}
