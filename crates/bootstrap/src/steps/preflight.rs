//! Preconditions of the world: nothing is changed on a node that is silent or another cluster's.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use futures::future::join_all;
use futures::stream::{self, TryStreamExt};
use secrecy::ExposeSecret;
use tokio::time::Instant;

use super::kinds::Use;
use super::machine_config::runs;
use super::site::{Site, place, step_error};
use super::{crds, hooks, pull_secret};
use engine::{Observation, Step, StepContext, StepError};

use talos_client::install::{DiskMatch, InstallDisk, describe};
use talos_client::{
    ApplyResult, BlockDevice, Client, ClientError, ClientErrorKind, Maintenance, Probe, ProgressTimeout, Stage,
    TalosVersion, connect_delays,
};
use talos_config::{InventoryNode, Role};

/// A first run finds its nodes powered on; a switch port may need a moment.
const FIRST_RUN: Duration = Duration::from_secs(15);

/// Everything of the chain that can be had without a cluster is there: charts, what they render to, hooks' manifests.
pub(super) struct Prepared {
    site: Arc<Site>,
    steps: OnceLock<Vec<Arc<dyn Step>>>,
}

/// Charts are pulled and rendered so many at once.
const AT_ONCE: usize = 4;

/// A cluster that is there already answers within this.
const THERE: Duration = Duration::from_secs(3);

impl Prepared {
    pub(super) fn new(site: Arc<Site>) -> Self {
        Self { site, steps: OnceLock::new() }
    }

    /// Names what is to be prepared, once it is there itself.
    pub(super) fn steps(&self, steps: Vec<Arc<dyn Step>>) {
        let _ = self.steps.set(steps);
    }

    /// Every kind that releases are made of is brought by somebody, or served already.
    async fn kinds(&self, cx: &StepContext) -> Result<(), StepError> {
        let site = &self.site;
        if site.kinds.unserved().is_empty() {
            return Ok(());
        }
        // What lies in a chart's own `crds/` is no part of its release, and most charts need no second look.
        for release in &site.cluster.bootstrap.releases.releases {
            site.kinds.define(&crds::of_chart(site, release).await?);
        }
        let mut unserved = site.kinds.unserved();
        if !unserved.is_empty()
            && let Ok(Ok(client)) = tokio::time::timeout(THERE, site.kubernetes()).await
        {
            let served =
                join_all(unserved.iter().map(|used| kubernetes::serves(&client, &used.api_version, &used.kind)));
            let mut served = served.await.into_iter().map(|served| served.unwrap_or(true));
            unserved.retain(|_| !served.next().unwrap_or(true));
        }
        let Some(first) = unserved.first() else { return Ok(()) };
        let all: Vec<String> = unserved.iter().map(Use::to_string).collect();
        if hooks::may_bring_kinds(&site.cluster.bootstrap.releases) {
            cx.tell(&format!("no chart brings these kinds; a hook may: {}", all.join(", ")));
            return Ok(());
        }
        Err(StepError::wrong_input("Helm refuses a release with a kind that has no custom resource definition")
            .at(format!("release {} ({})", first.release, first.place))
            .because(format!("no chart here brings {}", all.join(", ")))
            .next("add the chart that has the definitions to the helmfile of CRDs, or switch the feature off in the values")
            .code("H03"))
    }
}

#[async_trait]
impl Step for Prepared {
    async fn observe(&self, cx: &StepContext) -> Result<Observation, StepError> {
        let steps = self.steps.get().into_iter().flatten();
        stream::iter(steps.map(Ok)).try_for_each_concurrent(AT_ONCE, |step| step.prepare(cx)).await?;
        self.kinds(cx).await?;
        self.site.owners.check_duplicates(&self.site.kinds)?;
        pull_secret::check(&self.site, cx).await?;
        Ok(Observation::Holds("all are there".to_owned()))
    }

    async fn apply(&self, _cx: &StepContext) -> Result<(), StepError> {
        Ok(())
    }
}

/// The node answers, and is either unconfigured or of this cluster.
pub(super) struct Reachable {
    site: Arc<Site>,
    node: InventoryNode,
}

impl Reachable {
    pub(super) fn new(site: Arc<Site>, node: InventoryNode) -> Self {
        Self { site, node }
    }

    fn silent(&self, error: &ClientError) -> StepError {
        StepError::wrong_world("the node does not answer")
            .at(place(&self.node))
            .because(&error.reason)
            .next("check that the node is powered on, booted from the Talos image, and reachable on port 50000")
    }

    /// What a machine without a config must have before it gets one.
    async fn unconfigured(&self, cx: &StepContext, client: &Maintenance) -> Result<Observation, StepError> {
        let failed = |error| step_error(&error, &self.node);
        let version = client.version().await.map_err(failed)?;
        let disks = client.resources().list::<BlockDevice>().await.map_err(failed)?;
        self.check_disk(&disks.into_iter().map(|(_, disk)| disk).collect::<Vec<_>>())?;
        let config = self.site.config_text(&self.node);
        self.taken(cx, client.try_configuration(config.expose_secret()).await)?;
        let print = client.fingerprint.as_ref().map(ToString::to_string).unwrap_or_default();
        let text = format!("in maintenance mode, Talos {version}, certificate fingerprint {print}");
        Ok(Observation::Holds(self.noticed(cx, &version, text)))
    }

    /// What a node of this cluster says of the config that it is to run next.
    async fn configured(&self, cx: &StepContext, client: &Client, stage: Stage) -> Result<Observation, StepError> {
        if stage == Stage::Running && !runs(&self.site, &self.node, client).await? {
            let config = self.site.config_text(&self.node);
            self.taken(cx, client.try_configuration(config.expose_secret()).await)?;
        }
        let text = format!("configured by this cluster, {stage}");
        // A node on its way up or down tells its version later.
        let version = client.version().await.ok();
        Ok(Observation::Holds(match version {
            Some(version) => self.noticed(cx, &version, text),
            None => text,
        }))
    }

    /// How the node took the config in a dry run. One that it refuses is not sent to any node (failure T17).
    fn taken(&self, cx: &StepContext, answer: Result<ApplyResult, ClientError>) -> Result<(), StepError> {
        let error = match answer {
            Ok(applied) => {
                applied.warnings.iter().for_each(|warning| cx.tell(&format!("the node warns: {warning}")));
                return Ok(());
            }
            Err(error) => error,
        };
        if !matches!(error.kind, ClientErrorKind::Rejected | ClientErrorKind::Other) {
            return Err(step_error(&error, &self.node));
        }
        let field =
            self.site.field_in_message(&self.node, &error.reason).map(|field| format!("; {field}")).unwrap_or_default();
        Err(StepError::wrong_input("the node does not take its config")
            .at(place(&self.node))
            .because(format!("{}{field}", error.reason))
            .next("mend the config; `render` with --explain shows which line set each field")
            .code("T17"))
    }

    /// A version that is not known, or not the one that the inputs are for, is worked with all the same, and said.
    fn noticed(&self, cx: &StepContext, version: &TalosVersion, text: String) -> String {
        match self.site.cluster.inventory.version_mismatch(&version.to_string()) {
            Some(notice) => {
                cx.tell(&notice);
                format!("{text}; {notice}")
            }
            None => text,
        }
    }

    /// A config whose disk the machine does not have is not sent: it would be taken, and the installation never end.
    fn check_disk(&self, disks: &[BlockDevice]) -> Result<(), StepError> {
        let wanted = InstallDisk::from_config(&self.site.config(&self.node));
        if wanted.find(disks) != DiskMatch::None {
            return Ok(());
        }
        let there: Vec<String> = disks.iter().map(describe).collect();
        Err(StepError::wrong_input(format!("no disk of the machine is the one to install on: {wanted}"))
            .at(place(&self.node))
            .because(format!("its disks are {}", there.join("; ")))
            .next("change the install disk or its selector in the node's config")
            .code("T10"))
    }
}

#[async_trait]
impl Step for Reachable {
    async fn observe(&self, cx: &StepContext) -> Result<Observation, StepError> {
        let waits_for_others = self.site.resumed && self.node.role == Role::Worker;
        // In a resumed run a silent node may be installing.
        let long = self.site.resumed && !waits_for_others;
        let limit = if long { self.site.boot_limit(&self.node) } else { FIRST_RUN };
        let mut patience = ProgressTimeout::new(limit, Instant::now());
        for pause in connect_delays() {
            match self.site.probe(&self.node).await? {
                Probe::Maintenance { client, .. } => return self.unconfigured(cx, &client).await,
                Probe::Configured { client, status } => return self.configured(cx, &client, status.stage).await,
                Probe::Foreign(foreign) => return Err(belongs_elsewhere(&self.node, &foreign.evidence)),
                Probe::Closed(error) => match patience.note("its port is closed", Instant::now()) {
                    Ok(()) => cx.tell("its port is closed"),
                    // A worker that the run before configured opens its port only once a control plane, which this run
                    // may still have to configure, signs its certificate (Talos 1.12, trustd). Its config step waits
                    // for it.
                    Err(_) if waits_for_others => {
                        return Ok(Observation::Holds("silent, as a worker is before a control plane runs".to_owned()));
                    }
                    Err(_) => return Err(self.silent(&error)),
                },
            }
            tokio::time::sleep(pause).await;
        }
        Err(StepError::retryable("the node does not answer").at(place(&self.node)))
    }

    async fn apply(&self, _cx: &StepContext) -> Result<(), StepError> {
        Ok(())
    }
}

pub(super) fn belongs_elsewhere(node: &InventoryNode, evidence: &str) -> StepError {
    StepError::wrong_world("the node belongs to another cluster, or this is not the secrets bundle of its cluster")
        .at(place(node))
        .because(evidence)
        .next(
            "check the address and the secrets bundle; to take the node over, reset it with its own talosconfig first",
        )
        .code("T04")
}
