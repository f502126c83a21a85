//! Preconditions: nothing is changed while a node is unreachable or belongs to another cluster.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::future::join_all;
use futures::stream::{self, TryStreamExt};
use retry::policies::NOT_READY;
use secrecy::ExposeSecret;
use tokio::time::Instant;

use super::addresses::{check_machine, seen_elsewhere};
use super::choices::Reboots;
use super::config_errors::dry_run_error;
use super::context::RunContext;
use super::errors::{place, step_error};
use super::kinds::Use;
use super::node_config::{belongs_elsewhere, check_role, runs};
use super::{adopted_release, api_address, crds, hooks, pull_secret, rollout};
use engine::{Action, Check, CheckResult, Code, StepContext, StepError, StepWait};

use talos_client::install::{DiskMatch, InstallDisk, describe};
use talos_client::{
    ApplyResult, BlockDevice, Client, ClientError, Maintenance, Probe, ProgressTimeout, Resources, Stage, TalosVersion,
    TimeStatus,
};
use talos_config::{InventoryNode, Role};

/// In a first run the nodes are powered on; a switch port may need a moment.
const FIRST_RUN: Duration = Duration::from_secs(15);

/// Everything that the chain needs without a cluster: charts, what they render to, hooks' manifests.
pub(super) struct Prepared {
    context: Arc<RunContext>,
    steps: OnceLock<Vec<Arc<dyn Action>>>,
}

/// Charts are pulled and rendered so many at once.
const AT_ONCE: usize = 4;

/// A cluster that exists responds within this.
const THERE: Duration = Duration::from_secs(3);

impl Prepared {
    pub(super) fn new(context: Arc<RunContext>) -> Self {
        Self { context, steps: OnceLock::new() }
    }

    /// Sets the steps that are to be prepared, which are declared later.
    pub(super) fn prepares(&self, steps: Vec<Arc<dyn Action>>) {
        let _ = self.steps.set(steps);
    }

    /// Every kind in the releases is defined by a chart, a hook, or the cluster.
    async fn kinds(&self, cx: &StepContext) -> Result<(), StepError> {
        let context = &self.context;
        if context.kinds.unserved().is_empty() {
            return Ok(());
        }
        // A chart's own `crds/` is not part of its release; it is only read where a definition is missing.
        for release in &context.cluster.bootstrap.releases.releases {
            context.kinds.define(&crds::of_chart(context, release).await?);
        }
        let mut unserved = context.kinds.unserved();
        if !unserved.is_empty()
            && let Ok(Ok(client)) = tokio::time::timeout(THERE, context.kubernetes()).await
        {
            let served =
                join_all(unserved.iter().map(|used| kubernetes::serves(&client, &used.api_version, &used.kind)));
            let mut served = served.await.into_iter().map(|served| served.unwrap_or(true));
            unserved.retain(|_| !served.next().unwrap_or(true));
        }
        let Some(first) = unserved.first() else { return Ok(()) };
        let all: Vec<String> = unserved.iter().map(Use::to_string).collect();
        if hooks::may_install_kinds(&context.cluster.bootstrap.releases) {
            cx.progress(&format!("no chart defines these kinds; a hook may: {}", all.join(", ")));
            return Ok(());
        }
        Err(StepError::invalid_input("a release contains a kind without a custom resource definition")
            .with_place(format!("release {} ({})", first.release, first.place))
            .because(format!("no chart defines {}", all.join(", ")))
            .next("add the chart with the definitions to the CRD helmfile (00-crds.yaml), or disable the feature in the values")
            .code(Code::H03))
    }
}

#[async_trait]
impl Check for Prepared {
    async fn observe(&self, cx: &StepContext) -> Result<CheckResult, StepError> {
        let steps = self.steps.get().into_iter().flatten();
        stream::iter(steps.map(Ok)).try_for_each_concurrent(AT_ONCE, |step| step.prepare(cx)).await?;
        self.kinds(cx).await?;
        self.context.owners.check_duplicates(&self.context.kinds)?;
        api_address::check(&self.context)?;
        adopted_release::check(&self.context).await?;
        pull_secret::check(&self.context, cx).await?;
        Ok(CheckResult::Passed("all are ready".to_owned()))
    }
}

/// The node responds, and is either unconfigured or of this cluster.
pub(super) struct Reachable {
    context: Arc<RunContext>,
    node: InventoryNode,
    /// What the node warned of in a dry run of its config.
    warnings: Mutex<BTreeSet<String>>,
}

impl Reachable {
    pub(super) fn new(context: Arc<RunContext>, node: InventoryNode) -> Self {
        Self { context, node, warnings: Mutex::default() }
    }

    async fn unreachable(&self, error: &ClientError) -> StepError {
        let failed = StepError::failed_precondition("the node does not respond").with_place(place(&self.node));
        match seen_elsewhere(&self.context, &self.node).await {
            Some(elsewhere) => failed.because(format!("{}; {elsewhere}", error.reason)).code(Code::T09),
            None => failed
                .because(&error.reason)
                .next("check that the node is powered on, booted from the Talos image, and reachable on port 50000")
                .code(Code::T11),
        }
    }

    /// Adds that the clock is not in sync (T08): etcd starts only once it is. Before a machine has its config it may know no
    /// time server that it reaches, so this is not an error yet.
    async fn with_clock_notice(&self, cx: &StepContext, resources: Resources, text: String) -> String {
        let clock = resources.find::<TimeStatus>("node").await.ok().flatten();
        if clock.is_none_or(|clock| clock.synced) {
            return text;
        }
        let notice = "its clock is not in sync yet; etcd starts once it is";
        cx.waiting(StepWait::new(notice).code(Code::T08));
        format!("{text}; {notice}")
    }

    /// What a machine without a config must have before it gets one.
    async fn unconfigured(&self, cx: &StepContext, client: &Maintenance) -> Result<CheckResult, StepError> {
        let failed = |error| step_error(&error, &self.node);
        let version = client.version().await.map_err(failed)?;
        let disks = client.resources().list::<BlockDevice>().await.map_err(failed)?;
        self.check_disk(&disks.into_iter().map(|(_, disk)| disk).collect::<Vec<_>>())?;
        let config = self.context.config_text(&self.node);
        self.check_dry_run(client.try_configuration(config.expose_secret()).await)?;
        let print = client.fingerprint.as_ref().map(ToString::to_string).unwrap_or_default();
        let text = format!("in maintenance mode, Talos {version}, certificate fingerprint {print}");
        let text = self.with_clock_notice(cx, client.resources(), text).await;
        Ok(CheckResult::Passed(self.with_version_notice(cx, &version, text)))
    }

    /// What a node of this cluster reports of the config that it is to run next.
    async fn configured(&self, cx: &StepContext, client: &Client, stage: Stage) -> Result<CheckResult, StepError> {
        check_machine(&self.context, &self.node, client).await?;
        if stage == Stage::Running && !runs(&self.context, &self.node, client).await? {
            check_role(&self.node, client).await?;
            let config = self.context.config_text(&self.node);
            self.check_dry_run(client.try_configuration(config.expose_secret()).await)?;
            if rollout::reboots(&self.context) == Reboots::Forbidden {
                let effect = client.change_effect(config.expose_secret()).await;
                rollout::check_allowed(
                    &self.context,
                    &self.node,
                    effect.map_err(|error| step_error(&error, &self.node))?,
                )?;
            }
        }
        let text = format!("configured by this cluster, {stage}");
        let text = self.with_clock_notice(cx, client.resources(), text).await;
        // A node that boots or shuts down reports its version later.
        let version = client.version().await.ok();
        Ok(CheckResult::Passed(match version {
            Some(version) => self.with_version_notice(cx, &version, text),
            None => text,
        }))
    }

    /// How the node answered to a dry run of its config. A config that is rejected is not sent to any node (T17).
    fn check_dry_run(&self, answer: Result<ApplyResult, ClientError>) -> Result<(), StepError> {
        let applied = answer.map_err(|error| dry_run_error(&self.context, &error, &self.node))?;
        self.warnings.lock().unwrap_or_else(PoisonError::into_inner).extend(applied.warnings);
        Ok(())
    }

    /// Adds a warning about a version that is unknown, or not the one that the inputs are for.
    fn with_version_notice(&self, cx: &StepContext, version: &TalosVersion, text: String) -> String {
        match self.context.cluster.inventory.version_mismatch(&version.to_string()) {
            Some(notice) => {
                cx.progress(&notice);
                format!("{text}; {notice}")
            }
            None => text,
        }
    }

    /// A config whose disk the machine does not have is not sent: it would be accepted, and the installation never end.
    fn check_disk(&self, disks: &[BlockDevice]) -> Result<(), StepError> {
        // Talos in a container lists none: the dry run decides.
        if disks.is_empty() {
            return Ok(());
        }
        let target = InstallDisk::from_config(self.context.config(&self.node));
        if target.find(disks) != DiskMatch::None {
            return Ok(());
        }
        let there: Vec<String> = disks.iter().filter(|disk| disk.can_be_installed()).map(describe).collect();
        Err(StepError::invalid_input(format!("no disk matches the install target {target}"))
            .with_place(place(&self.node))
            .because(format!("the machine has {}", there.join("; ")))
            .code(Code::T10))
    }

    /// What the node is, as soon as it responds.
    async fn look(&self, cx: &StepContext) -> Result<CheckResult, StepError> {
        let resumed = self.context.choices.resumed;
        // In a resumed run an unreachable node may be installing.
        let limit = if resumed { self.context.boot_limit(&self.node) } else { FIRST_RUN };
        let mut timeout = ProgressTimeout::new(limit, Instant::now());
        let mut looks = NOT_READY.backoff();
        loop {
            match self.context.probe(&self.node).await? {
                Probe::Maintenance { client, .. } => return self.unconfigured(cx, &client).await,
                // The run before has rebooted it: nothing else is changed before it is back.
                Probe::Configured { status, .. } if resumed && goes_down(status.stage) => {
                    cx.progress("the node goes down");
                    looks.wait().await;
                    continue;
                }
                Probe::Configured { client, status } => return self.configured(cx, &client, status.stage).await,
                Probe::Foreign(foreign) => return Err(belongs_elsewhere(&self.node, &foreign.evidence)),
                Probe::Closed(error) => match timeout.note("port 50000 is closed", Instant::now()) {
                    Ok(()) => cx.progress("port 50000 is closed"),
                    Err(_) => return Err(self.unreachable(&error).await),
                },
            }
            self.context.connections.due(self.node.address).await;
        }
    }

    /// What a worker is that may have its config. One that does not respond, or goes down, holds back only its own config and
    /// what needs every node: its config step waits for it, and identifies it before anything is changed on it. It may be
    /// lost; and one that the run before configured opens its port only once a control plane, which this run may still have
    /// to configure, signs its certificate (Talos 1.12, trustd).
    async fn look_at_worker(&self, cx: &StepContext) -> Result<CheckResult, StepError> {
        match tokio::time::timeout(THERE, self.context.probe(&self.node)).await {
            Err(_) => Ok(silent()),
            Ok(probed) => match probed? {
                Probe::Closed(_) => Ok(silent()),
                Probe::Configured { status, .. } if goes_down(status.stage) => Ok(silent()),
                Probe::Configured { client, status } => self.configured(cx, &client, status.stage).await,
                Probe::Maintenance { client, .. } => self.unconfigured(cx, &client).await,
                Probe::Foreign(foreign) => Err(belongs_elsewhere(&self.node, &foreign.evidence)),
            },
        }
    }
}

fn goes_down(stage: Stage) -> bool {
    matches!(stage, Stage::Rebooting | Stage::ShuttingDown)
}

fn silent() -> CheckResult {
    CheckResult::Skipped("unreachable; only its own config and what needs every node wait for it".to_owned())
}

#[async_trait]
impl Check for Reachable {
    async fn observe(&self, cx: &StepContext) -> Result<CheckResult, StepError> {
        let looked = if self.node.role == Role::Worker && self.context.may_be_configured(&self.node) {
            self.look_at_worker(cx).await
        } else {
            self.look(cx).await
        };
        let warnings = std::mem::take(&mut *self.warnings.lock().unwrap_or_else(PoisonError::into_inner));
        for line in self.context.config_warnings.note(&self.node.hostname, warnings) {
            cx.progress(&line);
        }
        looked
    }
}
