//! The bootstrap itself.

use std::io;
use std::sync::Arc;

use engine::journal::{Entry, Epoch, History, Holder, Journal, LastRun, RunId, Store, sync_folder};
use engine::plan::{PhaseName, Plan, StepId};
use engine::{Code, Engine, RunOutcome, RunReport, StopSignal, Subscriber};
use helm::Charts;
use jiff::Timestamp;
use kubernetes::{HolderProcess, LeaseRequest};
use process::ProcessIdentity;

use super::context::Effects;
use super::store::journal_store;
use super::{OpsError, RunOptions, Workspace, run_context};
use crate::steps::epoch::{find_epoch_end, identity};
use crate::steps::hooks::HookSteps;
use crate::steps::{self, ContextError, LeaseNeed, PlannedSteps, RunContext};

/// A run that was started and has ended.
#[derive(Debug)]
pub struct FinishedRun {
    pub context: Arc<RunContext>,
    pub report: RunReport,
    /// Only checks of the phase `preflight` failed, so nothing was changed.
    pub failed_in_preflight: bool,
}

impl FinishedRun {
    /// Whether a step failed because another program changes the cluster.
    pub fn met_another_writer(&self) -> bool {
        self.report.failures.iter().any(|(_, error)| error.code == Some(Code::O04))
    }
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
    let PlannedSteps { plan, steps, hooks, .. } = steps::planned(&context)?;
    if let Some((step, _)) = options.hook_answers.iter().find(|(step, _)| plan.step(step).is_none()) {
        return Err(OpsError::UnknownHook { step: step.clone(), cluster: options.cluster.clone() });
    }
    let command = format!("{}{}", options.cluster, if options.resume { " --resume" } else { "" });
    let store = Arc::new(journal_store(&context.folder));
    let _lock = store.lock(Holder::this_process(command)).await?;
    let opened = Journal::read(store.as_ref()).await?;
    let history = current_epoch(workspace, &context, store.as_ref(), opened.history).await?;
    context.note_history(&history);
    let unfinished = history.last.as_ref().filter(|last| last.is_unfinished());
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
    context.recall_boots(&history.facts);
    if let Some(notice) = &opened.notice {
        workspace.note(&format!("note: {notice}"));
    }
    let run = RunId::new(Timestamp::now());
    context.lease.require(lease_need(workspace, options, &run, &history, stop));
    context.take_lease_of_living_cluster().await;
    if let Some(refusal) = context.lease.refusal() {
        return Err(OpsError::LeaseRefused(refusal));
    }
    if let Err(stale) = check_answers(&context, &hooks, &history, options).await {
        context.lease.release().await;
        return Err(stale);
    }
    let journal = Journal::new(store, run, history.epoch);
    if let Err(error) = journal.append(started(&context, &plan, &history)?).await {
        context.lease.release().await;
        return Err(OpsError::StartRecord(error));
    }
    let preflight: Vec<StepId> = plan.of_phase(&PhaseName::new("preflight")).map(|step| step.id.clone()).collect();
    let engine = Engine::new(plan, steps, journal, &history, subscribers, stop.clone());
    let redactor = workspace.redactor.clone();
    let engine = engine.for_cluster(&options.cluster).masked_by(Arc::new(move |text: &str| redactor.redact(text)));
    let report = engine.run().await;
    if report.outcome != RunOutcome::Complete
        && let Some(refusal) = context.lease.refusal()
    {
        return Err(OpsError::LeaseLost(refusal));
    }
    context.lease.release().await;
    let failed_in_preflight = report.outcome == RunOutcome::Failed
        && report.applied == 0
        && report.failures.iter().all(|(step, _)| preflight.contains(step));
    Ok(FinishedRun { context, report, failed_in_preflight })
}

/// Fails when an answer is about a hook whose outcome is not in question: it may be meant for another one.
async fn check_answers(
    context: &RunContext,
    hooks: &HookSteps,
    history: &History,
    options: &RunOptions,
) -> Result<(), OpsError> {
    if options.hook_answers.is_empty() {
        return Ok(());
    }
    let open = hooks.in_question(context, &history.recorded_intents).await;
    match options.hook_answers.iter().find(|(step, _)| !open.contains(step)) {
        None => Ok(()),
        Some((step, _)) => Err(OpsError::UnaskedHook { step: step.clone(), open: open.into_iter().collect() }),
    }
}

/// Helm and the charts, so that a missing one is reported before anything else.
pub(super) async fn open_charts<'c>(context: &'c RunContext, options: &RunOptions) -> Result<&'c Charts, OpsError> {
    context.open_charts().await.map_err(|error| OpsError::charts(error, &options.cluster))
}

/// The history of the cluster that exists. When the journal is about an earlier one, both are put aside: first the files that
/// lead to it, then the journal, so that a run killed in between decides again.
async fn current_epoch(
    workspace: &Workspace,
    context: &RunContext,
    store: &dyn Store,
    history: History,
) -> Result<History, OpsError> {
    let ended = find_epoch_end(context, &history).await.map_err(ContextError::from)?;
    let Some(reason) = ended else { return Ok(history) };
    let (old, new) = (history.epoch, history.epoch.next());
    let failed = |source| OpsError::Archive { location: store.location(), source };
    retire_credentials(context, old).map_err(failed)?;
    let archive = store.archive(old, Timestamp::now()).await.map_err(failed)?;
    workspace.note(&format!(
        "note: {reason}: the record of epoch {old} is kept as {archive}, and epoch {new} begins ({})",
        Code::O11
    ));
    Ok(History::beginning(new))
}

/// Renames the files that lead to the cluster of an epoch that has ended.
fn retire_credentials(context: &RunContext, epoch: Epoch) -> io::Result<()> {
    for path in [context.kubeconfig_path(), context.talosconfig_path()] {
        match std::fs::rename(&path, path.with_extension(format!("epoch-{epoch}"))) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            renamed => renamed?,
        }
    }
    sync_folder(&context.folder)
}

fn lease_need(
    workspace: &Workspace,
    options: &RunOptions,
    run: &RunId,
    history: &History,
    stop: &StopSignal,
) -> LeaseNeed {
    let user = ["USER", "LOGNAME"].iter().find_map(|name| workspace.variables.get(*name));
    let host = Holder::this_process(&options.cluster).host;
    let request = LeaseRequest {
        holder: format!("{}@{host}/{run}", user.map_or("operator", String::as_str)),
        process: ProcessIdentity::this_process().map(|process| HolderProcess(process.to_string())),
        earlier: history.runs.iter().map(ToString::to_string).collect(),
        has_ended,
        expired: options.expired_lease,
    };
    let workspace = workspace.clone();
    let notes = Arc::new(move |line: &str| workspace.note(line));
    LeaseNeed { cluster: options.cluster.clone(), request, stop: stop.clone(), notes }
}

/// Whether the process of a lease's holder has certainly ended.
fn has_ended(process: &HolderProcess) -> bool {
    process.0.parse().is_ok_and(|process: ProcessIdentity| process.has_ended())
}

fn started(context: &RunContext, plan: &Plan, history: &History) -> Result<Entry, OpsError> {
    Ok(Entry::RunStarted {
        tool: env!("CARGO_PKG_VERSION").to_owned(),
        identity: identity(context).map_err(ContextError::from)?,
        resumed: history.last.as_ref().is_some_and(LastRun::is_unfinished),
        plan: plan.steps().iter().map(|step| (step.id.clone(), step.fingerprint.clone())).collect(),
    })
}
