//! The bootstrap itself.

use std::sync::Arc;

use engine::journal::{Entry, Holder, Identity, Journal, LastRun, RunId, Store};
use engine::plan::{PhaseName, Plan, StepId};
use engine::{Engine, RunOutcome, RunReport, StopSignal, Subscriber};
use helm::Charts;
use jiff::Timestamp;

use super::context::Effects;
use super::store::journal_store;
use super::{OpsError, RunOptions, Workspace, run_context};
use crate::steps::{self, RunContext};

/// A run that was started and has ended.
#[derive(Debug)]
pub struct FinishedRun {
    pub context: Arc<RunContext>,
    pub report: RunReport,
    /// Only checks of the phase `preflight` failed, so nothing was changed.
    pub failed_in_preflight: bool,
}

/// Carries a run out. `subscribers` receive its events, `stop` ends it early.
///
/// # Errors
///
/// Why the run did not start; nothing was changed then. A run that fails part-way is a [`FinishedRun`].
pub async fn run(
    workspace: &Workspace,
    options: &RunOptions,
    subscribers: Vec<Arc<dyn Subscriber>>,
    stop: &StopSignal,
) -> Result<FinishedRun, OpsError> {
    let context = run_context(workspace, options, Effects::Write).await?;
    open_charts(&context, options).await?;
    let (plan, steps) = steps::plan(&context)?;
    if let Some((step, _)) = options.hook_answers.iter().find(|(step, _)| plan.step(step).is_none()) {
        return Err(OpsError::UnknownHook { step: step.clone(), cluster: options.cluster.clone() });
    }
    let command = format!("{}{}", options.cluster, if options.resume { " --resume" } else { "" });
    let store = Arc::new(journal_store(&context.folder));
    let _lock = store.lock(Holder::this_process(command)).await?;
    let opened = Journal::read(store.as_ref()).await?;
    let unfinished = opened.history.last.as_ref().filter(|last| last.is_unfinished());
    if let Some(last) = unfinished.filter(|_| !options.resume) {
        let lab = if options.target.is_lab() { " --lab" } else { "" };
        return Err(OpsError::Unfinished {
            run: last.run.clone(),
            cluster: options.cluster.clone(),
            done: last.done.len(),
            steps: last.plan.len(),
            resume: format!("k8s-bootstrap {}{lab} --resume", options.cluster),
        });
    }
    if let Some(notice) = &opened.notice {
        workspace.note(&format!("note: {notice}"));
    }
    let journal = Journal::new(store, RunId::new(Timestamp::now()));
    journal.append(started(&context, &plan, unfinished)?).await.map_err(OpsError::StartRecord)?;
    let preflight: Vec<StepId> = plan.of_phase(&PhaseName::new("preflight")).map(|step| step.id.clone()).collect();
    let engine = Engine::new(plan, steps, journal, &opened.history, subscribers, stop.clone());
    let redactor = workspace.redactor.clone();
    let engine = engine.for_cluster(&options.cluster).masked_by(Arc::new(move |text: &str| redactor.redact(text)));
    let report = engine.run().await;
    let failed_in_preflight = report.outcome == RunOutcome::Failed
        && report.applied == 0
        && report.failures.iter().all(|(step, _)| preflight.contains(step));
    Ok(FinishedRun { context, report, failed_in_preflight })
}

/// Helm and the charts, so that a missing one is reported before anything else.
pub(super) async fn open_charts<'c>(context: &'c RunContext, options: &RunOptions) -> Result<&'c Charts, OpsError> {
    context.open_charts().await.map_err(|error| OpsError::charts(error, &options.cluster))
}

fn started(context: &RunContext, plan: &Plan, unfinished: Option<&LastRun>) -> Result<Entry, OpsError> {
    Ok(Entry::RunStarted {
        tool: env!("CARGO_PKG_VERSION").to_owned(),
        identity: Identity {
            name: context.cluster.name.clone(),
            cluster_id: context.cluster.cluster_id(),
            talos_ca: Some(context.talos_ca()?),
        },
        resumed: unfinished.is_some(),
        plan: plan.steps().iter().map(|step| (step.id.clone(), step.fingerprint.clone())).collect(),
    })
}
