//! What a run would do.

use std::collections::{BTreeMap, BTreeSet};

use engine::journal::{History, Journal};
use engine::plan::{Plan, StepId};
use engine::{Finding, observe_plan};
use helmfile::ReleaseId;
use repository::Cluster;
use repository::drift::Drift;

use super::context::Effects;
use super::run::open_charts;
use super::store::journal_store;
use super::{OpsError, RunOptions, SecretsMode, Workspace, run_context};
use crate::steps::drift::Compared;
use crate::steps::epoch::find_epoch_end;
use crate::steps::release_changes::{ReleaseChange, left_releases, release_changes};
use crate::steps::removal_command;
use crate::steps::rollout::{ConfigChange, config_changes};
use crate::steps::{self, ContextError, PlannedSteps, RunContext};

/// How far a plan looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PlanOptions {
    /// Query the cluster about every step.
    pub query_cluster: bool,
    /// Render the manifests as Flux will, and compare.
    pub compare_manifests: bool,
}

/// A plan and what the operator should know about it.
#[derive(Debug)]
pub struct PlanReport {
    pub plan: Plan,
    /// The state of each step; empty if the cluster was not queried.
    pub findings: BTreeMap<StepId, Finding>,
    pub notices: Vec<String>,
    /// Where Flux will install a release differently.
    pub drift: Vec<Drift>,
    pub compared: Vec<Compared>,
    /// What changes on configured nodes; empty if the cluster was not queried.
    pub configs: Vec<ConfigChange>,
    /// What changes of each release; empty if the Kubernetes API was not queried.
    pub releases: Vec<ReleaseChange>,
    /// What is known of installed releases that no helmfile declares.
    pub left: Vec<LeftRelease>,
}

/// Plans a run without changing anything.
///
/// # Errors
///
/// Mistakes in the files, secrets that cannot be opened, a damaged journal.
pub async fn plan(workspace: &Workspace, options: &RunOptions, depth: PlanOptions) -> Result<PlanReport, OpsError> {
    if depth.query_cluster && options.secrets == SecretsMode::Placeholder && !options.target.is_lab() {
        return Err(OpsError::PlaceholdersForQuery);
    }
    let context = run_context(workspace, options, Effects::ReadOnly).await?;
    if options.bundle.is_some() {
        open_charts(&context, options).await?;
    }
    let PlannedSteps { plan, steps, releases, .. } = steps::planned(&context)?;
    let findings = if depth.query_cluster {
        let mut history = Journal::read(&journal_store(&context.folder)).await?.history;
        if find_epoch_end(&context, &history).await.map_err(ContextError::from)?.is_some() {
            history = History::beginning(history.epoch.next());
        }
        observe_plan(&plan, &steps, &history).await
    } else {
        BTreeMap::new()
    };
    let configs = if depth.query_cluster { config_changes(&context).await } else { vec![] };
    let compared = if depth.compare_manifests {
        steps::drift::compare(&context, open_charts(&context, options).await?).await
    } else {
        vec![]
    };
    let (mut notices, drift) = (notices(&context.cluster), context.cluster.drift());
    let (mut changes, mut left) = (vec![], vec![]);
    if findings.get(&StepId::new(API_STEP)).is_some_and(Finding::is_settled) {
        changes = release_changes(&releases).await;
        match left_releases(&context).await {
            Ok(found) => left = found.into_iter().map(|release| LeftRelease::new(release, &context)).collect(),
            Err(error) => notices.push(format!("releases that left the helmfiles are not known: {error}")),
        }
    }
    Ok(PlanReport { plan, findings, notices, drift, compared, configs, releases: changes, left })
}

/// The step after which the Kubernetes API responds.
const API_STEP: &str = "kubernetes-api/ready";

/// An installed release that no helmfile declares any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftRelease {
    pub release: ReleaseId,
    /// The command that removes it.
    pub command: String,
}

impl LeftRelease {
    fn new(release: ReleaseId, context: &RunContext) -> Self {
        let command = removal_command(&release, &context.kubeconfig_path());
        Self { release, command }
    }
}

fn notices(cluster: &Cluster) -> Vec<String> {
    let bootstrap = &cluster.bootstrap;
    let helmfiles = bootstrap.crds.notices.iter().chain(&bootstrap.releases.notices).cloned();
    let mut notices: Vec<String> =
        helmfiles.chain(bootstrap.releases.releases.iter().flat_map(helm::notices)).collect();
    let mut seen = BTreeSet::new();
    notices.retain(|notice| seen.insert(notice.clone()));
    notices
}
