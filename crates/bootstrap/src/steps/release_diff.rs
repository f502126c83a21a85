//! How a release differs from its inputs and from the cluster, as `plan` shows it.

use std::fmt;

use engine::Observation;

/// What a run would do with a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReleaseEffect {
    Install,
    Upgrade,
    None,
}

impl fmt::Display for ReleaseEffect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Install => "install",
            Self::Upgrade => "upgrade",
            Self::None => "unchanged",
        })
    }
}

/// How a release differs from its inputs and its objects in the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReleaseDiff {
    pub effect: ReleaseEffect,
    /// Why, as the release's step reports it.
    pub reason: String,
    /// A line for each change: `+`, `-` and `~` of the stored manifest, `!` of an object in the cluster. Values of Secrets
    /// are hidden.
    pub diff: String,
}

impl ReleaseDiff {
    pub(super) fn new(observation: Observation, diff: String) -> Self {
        let (effect, reason) = match observation {
            Observation::Missing(reason) => (ReleaseEffect::Upgrade, reason),
            Observation::UpToDate(reason)
            | Observation::InProgress(reason)
            | Observation::Skipped(reason)
            | Observation::Degraded(reason) => (ReleaseEffect::None, reason),
        };
        Self { effect, reason, diff }
    }

    pub(super) fn of_absent() -> Self {
        Self { effect: ReleaseEffect::Install, reason: "not installed".to_owned(), diff: String::new() }
    }
}
