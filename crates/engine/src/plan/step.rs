//! A step as the plan declares it: plain data, built by its own methods.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::time::Duration;

use retry::{RetryPolicy, policies};

use super::{Fingerprint, PhaseName, StepId};
use crate::Code;

/// How the engine treats a step that takes long or fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// How long the step may make no progress: begin no other part of its work and report no new reason to wait.
    pub deadline: Duration,
    /// The code of a step that fails by that, where nothing that it waited for has one of its own.
    pub overdue: Code,
    /// How a failure that may pass is retried.
    pub retry: RetryPolicy,
    /// The run goes on, and completes, without it.
    pub background: bool,
}

impl Policy {
    /// The same, for a step that made no progress for `longest_quiet` in an earlier run and was done all the same. It may take
    /// twice that, and never more than four times what it may without experience: what hangs must end.
    #[must_use]
    pub fn with_learned(self, longest_quiet: Duration) -> Self {
        let learned = longest_quiet.saturating_mul(2).min(self.deadline.saturating_mul(4));
        Self { deadline: self.deadline.max(learned), ..self }
    }

    /// What most steps need.
    pub fn new(overdue: Code) -> Self {
        Self { deadline: Duration::from_mins(15), overdue, retry: policies::STEP, background: false }
    }
}

/// A step of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    pub id: StepId,
    pub phase: PhaseName,
    /// The goal, in a few words.
    pub title: String,
    pub needs: BTreeSet<StepId>,
    /// What the step is made from.
    pub fingerprint: Fingerprint,
    pub policy: Policy,
    place: Option<String>,
}

impl Step {
    /// A step `kind/object` of the phase `kind`, which fails with `overdue` when it is not done by its deadline.
    pub fn new(kind: &str, object: impl Display, overdue: Code) -> Self {
        let id = StepId::new(format!("{kind}/{object}"));
        Self {
            phase: PhaseName::new(kind),
            title: id.to_string(),
            needs: BTreeSet::new(),
            fingerprint: Fingerprint::builder().part(id.as_str()).finish(),
            policy: Policy::new(overdue),
            place: None,
            id,
        }
    }

    /// Puts the step into another phase than the one that its kind names.
    #[must_use]
    pub fn phase(mut self, phase: PhaseName) -> Self {
        self.phase = phase;
        self
    }

    #[must_use]
    pub fn title(mut self, title: impl Into<String>) -> Self {
        self.title = title.into();
        self
    }

    /// Adds steps that have to be done first.
    #[must_use]
    pub fn needs<'s>(mut self, needs: impl IntoIterator<Item = &'s StepId>) -> Self {
        self.needs.extend(needs.into_iter().cloned());
        self
    }

    #[must_use]
    pub fn made_from(mut self, fingerprint: Fingerprint) -> Self {
        self.fingerprint = fingerprint;
        self
    }

    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.policy.deadline = deadline;
        self
    }

    /// Lets the run go on, and complete, without the step.
    #[must_use]
    pub fn background(mut self) -> Self {
        self.policy.background = true;
        self
    }

    /// Names the file, node or object that the step is about.
    #[must_use]
    pub fn with_place(mut self, place: impl Into<String>) -> Self {
        self.place = Some(place.into());
        self
    }

    /// The file, node or object that the step is about, else the step itself.
    pub fn place(&self) -> &str {
        self.place.as_deref().unwrap_or_else(|| self.id.as_str())
    }
}
