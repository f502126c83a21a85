//! Notices that this machine was suspended during a run (O06).
//!
//! Deadlines use `Instant`, which does not count the time in which a machine is suspended (Linux: `CLOCK_MONOTONIC`, macOS:
//! `CLOCK_UPTIME_RAW`), so a sleep costs none of them. What remains is to explain the gap to the operator. The wall clock
//! goes on during a sleep; when it is set forward by hand, that looks the same.

use std::time::{Duration, Instant, SystemTime};

use error_report::HumanDuration;

use super::Code;

/// Between two readings.
const INTERVAL: Duration = Duration::from_secs(5);
/// A clock that is adjusted by less than this was corrected, and the machine did not sleep.
const SHORTEST: Duration = Duration::from_secs(10);

/// Both clocks at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ClockReading {
    wall: SystemTime,
    awake: Instant,
}

impl ClockReading {
    fn now() -> Self {
        Self { wall: SystemTime::now(), awake: Instant::now() }
    }
}

/// How long the machine slept between two readings, if it did.
fn slept(before: ClockReading, now: ClockReading) -> Option<Duration> {
    // A wall clock that was set back is not a sleep.
    let passed = now.wall.duration_since(before.wall).unwrap_or_default();
    let asleep = passed.saturating_sub(now.awake.saturating_duration_since(before.awake));
    (asleep >= SHORTEST).then_some(asleep)
}

/// A notice of a sleep, in whole minutes from two minutes on.
fn notice(asleep: Duration) -> String {
    let seconds = asleep.as_secs();
    let shown = Duration::from_secs(if seconds < 120 { seconds } else { seconds / 60 * 60 });
    format!(
        "this machine slept for {}, or its clock was set forward; deadlines did not count the time ({})",
        HumanDuration(shown),
        Code::O06
    )
}

/// Calls `report` with a notice after each sleep of the machine. Never ends.
pub(super) async fn watch(report: impl Fn(String)) {
    let mut last = ClockReading::now();
    loop {
        tokio::time::sleep(INTERVAL).await;
        let now = ClockReading::now();
        if let Some(asleep) = slept(last, now) {
            report(notice(asleep));
        }
        last = now;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn later(reading: ClockReading, wall: u64, awake: u64) -> ClockReading {
        ClockReading {
            wall: reading.wall + Duration::from_secs(wall),
            awake: reading.awake + Duration::from_secs(awake),
        }
    }

    #[test]
    fn a_sleep_is_what_the_wall_clock_counts_and_deadlines_do_not() {
        let before = ClockReading::now();
        assert_eq!(slept(before, later(before, 725, 5)), Some(Duration::from_mins(12)));
        // A loaded machine reads late, by both clocks.
        assert_eq!(slept(before, later(before, 90, 90)), None);
        // A clock that is set back, by an hour here, is not a sleep.
        assert_eq!(slept(later(before, 3600, 0), later(before, 5, 5)), None);
    }

    #[test]
    fn a_notice_has_the_duration_and_the_code() {
        let text = notice(Duration::from_secs(725));
        assert!(text.starts_with("this machine slept for 12m, ") && text.ends_with("(O06)"), "{text}");
        assert!(notice(Duration::from_secs(90)).starts_with("this machine slept for 90s, "));
    }

    proptest! {
        #[test]
        fn no_time_awake_counts_as_sleep(awake in 0_u64..1_000_000, asleep in 0_u64..1_000_000) {
            let before = ClockReading::now();
            let found = slept(before, later(before, awake + asleep, awake));
            prop_assert_eq!(found, (asleep >= 10).then(|| Duration::from_secs(asleep)));
        }
    }
}
