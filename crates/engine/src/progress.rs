//! When each step last made progress: deadlines limit the time without any, not the length of a step.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::context::{StepWait, WaitTrend};
use crate::plan::StepId;

/// Shorter times without progress teach a later run nothing: the shortest deadline is 15 minutes.
const LEARNED: Duration = Duration::from_mins(1);

/// The progress of one step.
#[derive(Debug, Clone, PartialEq, Eq)]
struct StepProgress {
    quiet_since: Instant,
    /// The longest time between two milestones.
    longest_quiet: Duration,
    /// Every milestone that the step has reached. One that comes again does not count as progress, so that a step that goes
    /// back and forth between two of them still reaches its deadline.
    reached: BTreeSet<String>,
}

impl StepProgress {
    fn new(now: Instant) -> Self {
        Self { quiet_since: now, longest_quiet: Duration::ZERO, reached: BTreeSet::new() }
    }

    fn reach(&mut self, milestone: String, now: Instant) {
        if self.reached.insert(milestone) {
            self.longest_quiet = self.longest_quiet(now);
            self.quiet_since = now;
        }
    }

    fn longest_quiet(&self, now: Instant) -> Duration {
        now.duration_since(self.quiet_since).max(self.longest_quiet)
    }
}

/// What a wait shows: nothing when the work is stuck.
fn milestone(wait: &StepWait) -> Option<String> {
    match wait.trend {
        WaitTrend::Advancing => Some(without_durations(&wait.line)),
        WaitTrend::Stuck => None,
    }
}

/// A line without its durations: `unreachable for 2m 5s` becomes no other line because time passes.
fn without_durations(line: &str) -> String {
    let is_duration = |word: &str| {
        let number = word.trim_end_matches(|c: char| !c.is_ascii_digit());
        let unit = word[number.len()..].trim_end_matches([',', ';', ':', ')', '.']);
        let number = number.trim_start_matches('(');
        matches!(unit, "ms" | "s" | "m" | "h" | "d") && number.parse::<f64>().is_ok()
    };
    line.split_whitespace().filter(|word| !is_duration(word)).collect::<Vec<_>>().join(" ")
}

/// A step that begins another part of its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Apply,
    Gate,
}

/// The progress of the steps of a run.
#[derive(Debug, Default)]
pub(super) struct ProgressClock(Mutex<BTreeMap<StepId, StepProgress>>);

impl ProgressClock {
    pub(super) fn begin(&self, step: &StepId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(step.clone(), StepProgress::new(Instant::now()));
    }

    /// Notes that a step begins a part of its work; a retry of that part does not count as progress.
    pub(super) fn enter(&self, step: &StepId, part: Part) {
        self.reach(step, format!("{part:?}"));
    }

    /// Notes what a step waits for.
    pub(super) fn note(&self, step: &StepId, wait: &StepWait) {
        if let Some(milestone) = milestone(wait) {
            self.reach(step, milestone);
        }
    }

    fn reach(&self, step: &StepId, milestone: String) {
        if let Some(progress) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get_mut(step) {
            progress.reach(milestone, Instant::now());
        }
    }

    /// The longest time so far that a step made no progress, where it is worth learning.
    pub(super) fn longest_quiet(&self, step: &StepId) -> Option<Duration> {
        let steps = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        steps.get(step).map(|progress| progress.longest_quiet(Instant::now())).filter(|quiet| *quiet >= LEARNED)
    }

    /// Since when a step that has begun makes no progress.
    pub(super) fn quiet_since(&self, step: &StepId) -> Option<Instant> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(step).map(|progress| progress.quiet_since)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn time_that_passes_is_no_milestone() {
        let wait = |line: &str| milestone(&StepWait::new(line));
        assert_eq!(wait("cp-1 unreachable for 2m 5s; it boots"), wait("cp-1 unreachable for 14m 10s; it boots"));
        assert_eq!(wait("not ready (1.5s)"), wait("not ready (20ms)"));
        assert_ne!(wait("3 of 6 ready"), wait("4 of 6 ready"));
        assert_ne!(wait("image a:1m is pulled"), wait("image a:2m is pulled"));
        assert_eq!(milestone(&StepWait::new("x crash-looping").stuck()), None);
    }

    proptest! {
        /// However often a step goes through the same lines, only the first time is progress.
        #[test]
        fn a_line_counts_once(lines in prop::collection::vec("[a-c]", 1..40)) {
            let began = Instant::now();
            let mut progress = StepProgress::new(began);
            let (mut seen, mut last, mut longest) = (BTreeSet::new(), began, Duration::ZERO);
            for (index, line) in lines.iter().enumerate() {
                let now = began + Duration::from_secs(u64::try_from(index).unwrap() + 1);
                progress.reach(line.clone(), now);
                longest = longest.max(now - last);
                if seen.insert(line) {
                    last = now;
                }
                prop_assert_eq!((progress.quiet_since, progress.longest_quiet(now)), (last, longest));
            }
        }
    }
}
