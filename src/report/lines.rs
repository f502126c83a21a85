//! Plain lines, for logs and pipes.

use super::Sink;
use engine::{Code, Event, EventKind, Outcome, RunOutcome, StepError, Subscriber};

/// Writes events as lines of text, without colour and without moving the cursor.
#[derive(Debug)]
pub struct PlainLines(Sink);

impl PlainLines {
    pub fn new(sink: Sink) -> Self {
        Self(sink)
    }
}

impl Subscriber for PlainLines {
    fn notice(&self, event: &Event) {
        for text in describe(&event.kind) {
            self.0.line(&format!("[{:>7.1}s] {text}", event.elapsed));
        }
    }
}

/// An event as text; nothing for events that only machines need.
pub(super) fn describe(kind: &EventKind) -> Vec<String> {
    match kind {
        EventKind::RunStarted { cluster, run, resumed, steps, .. } => {
            let verb = if *resumed { "resuming" } else { "bootstrapping" };
            vec![format!("{verb} {cluster}: {} steps, run {run}", steps.len())]
        }
        EventKind::Applying { step, attempt } if *attempt > 1 => vec![format!("{step}: applying, attempt {attempt}")],
        EventKind::Applying { step, .. } => vec![format!("{step}: applying")],
        EventKind::Waiting { step, reason, .. } => vec![format!("{step}: waiting: {reason}")],
        EventKind::Retrying { step, error, delay, .. } => {
            vec![format!("{step}: {error}; retrying in {delay:.1}s")]
        }
        EventKind::StepDone { step, outcome: Outcome::Applied, seconds } => {
            vec![format!("{step}: done in {seconds:.1}s")]
        }
        EventKind::StepDone { step, outcome: Outcome::UpToDate, .. } => vec![format!("{step}: up to date")],
        EventKind::StepDone { step, outcome: Outcome::Degraded(reason), .. } => {
            vec![format!("{step}: degraded: {reason}")]
        }
        EventKind::StepDone { step, outcome: Outcome::Skipped(reason), .. } => {
            vec![format!("{step}: skipped: {reason}")]
        }
        EventKind::StepFailed { step, error } => failure(step.as_str(), error),
        EventKind::Notice { text } => vec![format!("note: {text}")],
        EventKind::RunEnded { outcome, seconds } => vec![match outcome {
            RunOutcome::Complete => format!("complete after {seconds:.1}s"),
            RunOutcome::Failed => format!("failed after {seconds:.1}s; resume with --resume"),
            RunOutcome::Stopped => format!("stopped after {seconds:.1}s; resume with --resume"),
        }],
        EventKind::StepStarted { .. } | EventKind::Observed { .. } => vec![],
    }
}

/// How an error begins: `error[T10]`, or `error` without a code.
pub(crate) fn heading(code: Option<Code>) -> String {
    code.map_or_else(|| "error".to_owned(), |code| format!("error[{code}]"))
}

/// A failure in full: what, where, why, and the next command.
pub(super) fn failure(step: &str, error: &StepError) -> Vec<String> {
    let mut lines = vec![format!("{step}: {}: {}", heading(error.code), error.what)];
    let page = error.code.map(Code::path);
    let parts = [("where", &error.place), ("why", &error.why), ("page", &page), ("next", &error.next)];
    for (label, text) in parts {
        if let Some(text) = text {
            lines.push(format!("    {label}: {}", text.trim_end().replace('\n', "\n           ")));
        }
    }
    lines
}
