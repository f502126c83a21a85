//! Live progress on a terminal.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{Mask, lines};
use engine::plan::{PhaseName, StepId};
use engine::{Event, EventKind, StepError, Subscriber};

/// One line a phase, one line a running step with what it waits for.
pub struct Terminal {
    bars: MultiProgress,
    mask: Mask,
    state: Mutex<State>,
}

impl std::fmt::Debug for Terminal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Terminal").finish_non_exhaustive()
    }
}

#[derive(Default)]
struct State {
    phase_of: BTreeMap<StepId, PhaseName>,
    phases: BTreeMap<PhaseName, Phase>,
    active: BTreeMap<StepId, ProgressBar>,
    total: Option<ProgressBar>,
}

struct Phase {
    steps: usize,
    done: usize,
    began: f64,
    started: bool,
}

const TICK: Duration = Duration::from_millis(120);

impl Terminal {
    /// Draws on standard error.
    pub fn new(mask: Mask) -> Self {
        let bars = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
        Self { bars, mask, state: Mutex::default() }
    }

    fn start(&self, state: &mut State, kind: &EventKind) {
        let EventKind::RunStarted { cluster, steps, resumed, .. } = kind else { return };
        for step in steps {
            state.phase_of.insert(step.id.clone(), step.phase.clone());
            let phase = Phase { steps: 0, done: 0, began: 0.0, started: false };
            state.phases.entry(step.phase.clone()).or_insert(phase).steps += 1;
        }
        let verb = if *resumed { "resuming" } else { "bootstrapping" };
        let total = self.bars.add(ProgressBar::new(steps.len() as u64));
        total.set_style(style("{spinner} {msg}  {bar:30} {pos}/{len}  {elapsed}"));
        total.set_message(format!("{verb} {cluster}"));
        total.enable_steady_tick(TICK);
        state.total = Some(total);
    }

    fn begin(&self, state: &mut State, step: &StepId, elapsed: f64) {
        if let Some(phase) = state.phase_of.get(step).and_then(|phase| state.phases.get_mut(phase))
            && !phase.started
        {
            phase.started = true;
            phase.began = elapsed;
        }
        let bar = self.bars.add(ProgressBar::new_spinner());
        bar.set_style(style("    {prefix:<36} {elapsed:>4}  {wide_msg}"));
        bar.set_prefix(step.to_string());
        bar.set_message("checking");
        bar.enable_steady_tick(TICK);
        state.active.insert(step.clone(), bar);
    }

    fn finish(&self, state: &mut State, step: &StepId, elapsed: f64) {
        if let Some(bar) = state.active.remove(step) {
            bar.finish_and_clear();
        }
        if let Some(total) = &state.total {
            total.inc(1);
        }
        let Some(name) = state.phase_of.get(step) else { return };
        let Some(phase) = state.phases.get_mut(name) else { return };
        phase.done += 1;
        if phase.done == phase.steps {
            let line = format!("  ok  {name:<16} {:>3} steps  {:>6.1}s", phase.steps, elapsed - phase.began);
            self.print(&line);
        }
    }

    fn fail(&self, state: &mut State, step: &StepId, error: &StepError) {
        if let Some(bar) = state.active.remove(step) {
            bar.finish_and_clear();
        }
        for line in lines::failure(step.as_str(), error) {
            self.print(&line);
        }
    }

    fn print(&self, line: &str) {
        // A terminal that went away must not end a bootstrap.
        let _ = self.bars.println((self.mask)(line));
    }
}

impl Subscriber for Terminal {
    fn notice(&self, event: &Event) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let show = |state: &State, step: &StepId, text: &str| {
            if let Some(bar) = state.active.get(step) {
                bar.set_message((self.mask)(text));
            }
        };
        match &event.kind {
            EventKind::RunStarted { .. } => self.start(&mut state, &event.kind),
            EventKind::StepStarted { step } => self.begin(&mut state, step, event.elapsed),
            EventKind::Observed { step, detail, .. } => show(&state, step, detail),
            EventKind::Applying { step, .. } => show(&state, step, "applying"),
            EventKind::Waiting { step, reason, .. } => show(&state, step, reason),
            EventKind::Retrying { step, error, .. } => show(&state, step, &format!("retrying: {error}")),
            EventKind::StepDone { step, .. } => self.finish(&mut state, step, event.elapsed),
            EventKind::StepFailed { step, error } => self.fail(&mut state, step, error),
            EventKind::Notice { text } => self.print(&format!("note: {text}")),
            EventKind::RunEnded { .. } => {
                for bar in state.active.values().chain(&state.total) {
                    bar.finish_and_clear();
                }
            }
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}
