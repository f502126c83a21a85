//! What a failed step reports: class, what, place, reason, next command and code.

use std::fmt::Display;
use std::time::Duration;

use error_report::ErrorReport;
use serde::{Deserialize, Serialize};

use super::Code;

/// What has to happen before a failed step can succeed. The names are those of gRPC where gRPC has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorClass {
    /// A service did not respond or refused for now; a retry may succeed.
    Unavailable,
    /// The other side works on it; the same observation succeeds later.
    NotReady,
    /// A file or an option is invalid; the operator corrects it.
    InvalidInput,
    /// Something outside the files is not as it has to be; the operator corrects it.
    FailedPrecondition,
    /// Repeating may destroy data; the operator decides first.
    NeedsOperator,
}

impl ErrorClass {
    /// Whether the engine tries the step again by itself.
    pub fn is_retried(self) -> bool {
        match self {
            Self::Unavailable | Self::NotReady => true,
            Self::InvalidInput | Self::FailedPrecondition | Self::NeedsOperator => false,
        }
    }
}

/// A failed step: what, where, why, and the exact next command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{what}{}{}", .place.as_ref().map(|place| format!(" ({place})")).unwrap_or_default(), .why.as_ref().map(|why| format!(": {why}")).unwrap_or_default())]
pub struct StepError {
    pub class: ErrorClass,
    /// What failed.
    pub what: String,
    /// File with line and column, node, or object.
    pub place: Option<String>,
    /// Why, as far as can be known.
    pub why: Option<String>,
    /// The command to type next.
    pub next: Option<String>,
    /// The entry of the error catalogue.
    pub code: Option<Code>,
    /// The delay that the other side asked for.
    #[serde(skip)]
    pub retry_after: Option<Duration>,
}

impl StepError {
    pub fn new(class: ErrorClass, what: impl Into<String>) -> Self {
        Self { class, what: what.into(), place: None, why: None, next: None, code: None, retry_after: None }
    }

    pub fn unavailable(what: impl Into<String>) -> Self {
        Self::new(ErrorClass::Unavailable, what)
    }

    pub fn not_ready(what: impl Into<String>) -> Self {
        Self::new(ErrorClass::NotReady, what)
    }

    pub fn invalid_input(what: impl Into<String>) -> Self {
        Self::new(ErrorClass::InvalidInput, what)
    }

    pub fn failed_precondition(what: impl Into<String>) -> Self {
        Self::new(ErrorClass::FailedPrecondition, what)
    }

    pub fn needs_operator(what: impl Into<String>) -> Self {
        Self::new(ErrorClass::NeedsOperator, what)
    }

    #[must_use]
    pub fn with_place(mut self, place: impl Into<String>) -> Self {
        self.place = Some(place.into());
        self
    }

    #[must_use]
    pub fn because(mut self, why: impl Display) -> Self {
        self.why = Some(why.to_string());
        self
    }

    /// Sets the error below, with its causes, as the reason.
    #[must_use]
    pub fn caused_by(self, cause: &dyn std::error::Error) -> Self {
        self.because(ErrorReport::new(cause))
    }

    #[must_use]
    pub fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }

    /// Sets the code, and the code's default for the next command where none is set. An error that has a code keeps it:
    /// the cause knows more than the caller.
    #[must_use]
    pub fn code(mut self, code: Code) -> Self {
        if self.code.is_none() {
            self.code = Some(code);
            self.next.get_or_insert_with(|| code.next().to_owned());
        }
        self
    }

    /// The error as its step fails with it. One without a code of its own is about the inputs, or about what the step
    /// waits for, whose code is `overdue`.
    #[must_use]
    pub(super) fn coded(self, overdue: Code) -> Self {
        let code = match self.class {
            ErrorClass::InvalidInput => Code::I01,
            ErrorClass::Unavailable
            | ErrorClass::NotReady
            | ErrorClass::FailedPrecondition
            | ErrorClass::NeedsOperator => overdue,
        };
        self.code(code)
    }

    /// Adds what the caller knows about a failure that came from below: `describe` runs only where the cause has no
    /// code of its own, so that an outage of the API is not reported as a missing deploy key.
    #[must_use]
    pub fn context(self, describe: impl FnOnce(Self) -> Self) -> Self {
        if self.code.is_some() { self } else { describe(self) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_of_the_cause_wins() {
        let outage = StepError::unavailable("the Kubernetes API rejected a request").code(Code::K07);
        let wrapped = outage.clone().context(|error| error.next("check the deploy key").code(Code::F02));
        assert_eq!(wrapped, outage);
        assert_eq!(outage.clone().code(Code::F02), outage);
    }

    #[test]
    fn an_error_without_a_code_gets_that_of_the_inputs_or_of_its_step() {
        let coded = |error: StepError| error.coded(Code::K02).code;
        assert_eq!(coded(StepError::invalid_input("x")), Some(Code::I01));
        assert_eq!(coded(StepError::unavailable("x")), Some(Code::K02));
        assert_eq!(coded(StepError::failed_precondition("x")), Some(Code::K02));
        assert_eq!(coded(StepError::unavailable("x").code(Code::K07)), Some(Code::K07));
    }

    #[test]
    fn a_code_sets_its_next_command_only_where_there_is_none() {
        let bare = StepError::failed_precondition("x").code(Code::K02);
        assert_eq!(bare.next.as_deref(), Some(Code::K02.next()));
        let own = StepError::failed_precondition("x").next("look there").code(Code::K02);
        assert_eq!(own.next.as_deref(), Some("look there"));
        assert_eq!(bare.next("look there").next.as_deref(), Some("look there"));
    }
}
