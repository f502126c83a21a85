//! How long a run waits for a node: growing, jittered delays, and a deadline that learns (failure T11).
//!
//! A machine may spend minutes in its firmware, and nobody knows how many before it has been seen once. So the deadline
//! is about silence, not about the whole boot: every sign of life begins it anew, and a boot that was seen to take long
//! makes it longer. Pure but for the clock, which is handed in.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use retry::{Factor, RetryPolicy};
use tokio::time::Instant;

/// Silence that is no reason to worry on any machine.
const LEAST: Duration = Duration::from_mins(15);
/// Longer no machine takes for its firmware.
const MOST: Duration = Duration::from_hours(1);
/// How much longer than the boots that were seen another one may take.
const SLACK: u32 = 3;

/// For the port of a node that boots: most open soon, so the delay is at most a quarter of a second, jitter included.
pub const CONNECT: RetryPolicy =
    RetryPolicy::new(Duration::from_millis(60), Duration::from_millis(125)).with_factor(Factor::percent(130));

/// How long boots took in this run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BootTimes(BTreeMap<IpAddr, Duration>);

impl BootTimes {
    /// A node was silent for so long, and then answered.
    pub fn learn(&mut self, node: IpAddr, took: Duration) {
        let known = self.0.entry(node).or_default();
        *known = took.max(*known);
    }

    /// How long a node may be silent: by its own boots, else by those of its neighbours.
    pub fn limit(&self, node: IpAddr) -> Duration {
        let seen = self.0.get(&node).or_else(|| self.0.values().max()).copied().unwrap_or_default();
        (seen * SLACK).clamp(LEAST, MOST)
    }
}

/// A node was silent for too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overdue {
    pub silent: Duration,
}

/// One wait for a node.
#[derive(Debug, Clone)]
pub struct Patience {
    limit: Duration,
    sign: String,
    since: Instant,
}

impl Patience {
    pub fn new(limit: Duration, now: Instant) -> Self {
        Self { limit, sign: String::new(), since: now }
    }

    /// Notes what the node shows. The same again is no progress.
    ///
    /// # Errors
    ///
    /// When nothing has changed for longer than the limit.
    pub fn note(&mut self, sign: &str, now: Instant) -> Result<(), Overdue> {
        if sign != self.sign {
            sign.clone_into(&mut self.sign);
            self.since = now;
        }
        let silent = now.duration_since(self.since);
        if silent > self.limit { Err(Overdue { silent }) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minutes(count: u64) -> Duration {
        Duration::from_mins(count)
    }

    #[test]
    fn progress_begins_the_deadline_anew() {
        let began = Instant::now();
        let mut patience = Patience::new(minutes(15), began);
        assert_eq!(patience.note("port closed", began), Ok(()));
        assert_eq!(patience.note("port closed", began + minutes(14)), Ok(()));
        assert_eq!(patience.note("booting", began + minutes(16)), Ok(()));
        assert_eq!(patience.note("booting", began + minutes(30)), Ok(()));
        assert_eq!(patience.note("booting", began + minutes(32)), Err(Overdue { silent: minutes(16) }));
    }

    #[test]
    fn the_deadline_learns_from_the_slowest_boot() {
        let [one, other] = [[10, 0, 0, 1], [10, 0, 0, 2]].map(IpAddr::from);
        let mut times = BootTimes::default();
        assert_eq!(times.limit(one), minutes(15));
        times.learn(one, minutes(9));
        times.learn(one, minutes(8));
        assert_eq!(times.limit(one), minutes(27));
        assert_eq!(times.limit(other), minutes(27), "its neighbour is the best guess");
        times.learn(other, minutes(1));
        assert_eq!(times.limit(other), minutes(15));
        times.learn(one, minutes(50));
        assert_eq!(times.limit(one), minutes(60));
    }

    #[test]
    fn delays_grow_and_have_no_end() {
        let pauses: Vec<Duration> = CONNECT.seeded(1).take(1000).collect();
        assert_eq!(pauses.len(), 1000);
        assert!(pauses[0] < Duration::from_millis(125));
        // At most eight times a second, and no port is open for longer than a quarter of one before it is seen.
        let settled = Duration::from_millis(125)..=Duration::from_millis(250);
        assert!(pauses[20..].iter().all(|pause| settled.contains(pause)));
    }
}
