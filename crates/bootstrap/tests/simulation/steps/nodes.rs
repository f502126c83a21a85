//! Nodes: reachable, then with their machine config.

use std::sync::Arc;

use async_trait::async_trait;
use bootstrap::steps::rollout::Cordon;
use engine::{Action, Check, CheckResult, Code, Effect, Observation, StepContext, StepError};

use super::rollout;
use super::{RunParts, Wait};
use talos_config::Role;

use crate::cluster::{ApplyMode, SimulatedCluster};
use crate::inputs::declared;
use crate::link::{Lateness, Lost, Peer};

/// What answers at a node's port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Probe {
    Closed,
    Maintenance,
    Configured { config: u32 },
}

fn probe(cluster: &SimulatedCluster, index: usize) -> Probe {
    let node = &cluster.nodes[index];
    match node.config {
        Some(config) if node.is_up() => Probe::Configured { config },
        _ => Probe::Maintenance,
    }
}

impl RunParts {
    pub(super) async fn probe(&self, index: usize) -> Probe {
        self.link.read(Peer::Node(index), |cluster| probe(cluster, index)).await.unwrap_or(Probe::Closed)
    }

    /// Whether a node runs the config of this run.
    pub(super) async fn runs(&self, index: usize) -> Result<bool, Lost> {
        let config = self.config;
        self.link.read(Peer::Node(index), move |cluster| cluster.nodes[index].config == Some(config)).await
    }

    /// Waits until a node runs as one of this cluster.
    pub(super) async fn wait_configured(&self, index: usize, cx: &StepContext) -> Result<(), StepError> {
        let mut wait = Wait::new(cx);
        loop {
            let line = match self.probe(index).await {
                Probe::Configured { .. } => return Ok(()),
                Probe::Closed => "port 50000 is closed: installing or rebooting",
                Probe::Maintenance => "the node is still in maintenance mode",
            };
            wait.pause_to_the_end(line, Code::T11).await?;
        }
    }
}

pub(super) struct Reachable {
    pub(super) parts: Arc<RunParts>,
    pub(super) index: usize,
}

#[async_trait]
impl Check for Reachable {
    async fn observe(&self, _cx: &StepContext) -> Result<CheckResult, StepError> {
        let is_worker = declared().nodes[self.index].role == Role::Worker;
        Ok(match self.parts.probe(self.index).await {
            Probe::Closed if self.parts.resumed && is_worker => CheckResult::Skipped("unreachable".to_owned()),
            Probe::Closed => CheckResult::Pending("port 50000 is closed".to_owned()),
            Probe::Maintenance | Probe::Configured { .. } => CheckResult::Passed("it responds".to_owned()),
        })
    }

    async fn wait(&self, cx: &StepContext) -> Result<(), StepError> {
        let mut wait = Wait::new(cx);
        while self.parts.probe(self.index).await == Probe::Closed {
            wait.pause_to_the_end("port 50000 is closed", Code::T11).await?;
        }
        Ok(())
    }
}

pub(super) struct Configured {
    pub(super) parts: Arc<RunParts>,
    pub(super) index: usize,
}

#[async_trait]
impl Action for Configured {
    async fn observe(&self, _cx: &StepContext) -> Result<Observation, StepError> {
        Ok(match self.parts.probe(self.index).await {
            Probe::Closed => Observation::InProgress("port 50000 is closed: installing or rebooting".to_owned()),
            Probe::Maintenance => Observation::Missing("the node is in maintenance mode".to_owned()),
            Probe::Configured { config } if config != self.parts.config => {
                Observation::Missing("runs another config".to_owned())
            }
            Probe::Configured { .. } if !self.parts.resumed => Observation::UpToDate("runs this config".to_owned()),
            Probe::Configured { .. } => match rollout::cordon_of(&self.parts, self.index).await {
                Cordon::None => Observation::UpToDate("runs this config".to_owned()),
                Cordon::Left => Observation::InProgress("runs this config; to be uncordoned".to_owned()),
                Cordon::Unknown => Observation::InProgress("runs this config; perhaps cordoned".to_owned()),
            },
        })
    }

    async fn apply(&self, cx: &StepContext) -> Result<Effect, StepError> {
        let (index, config) = (self.index, self.parts.config);
        match self.parts.probe(index).await {
            Probe::Configured { config } => return rollout::apply(&self.parts, index, config, cx).await,
            Probe::Closed => return Err(StepError::unavailable("the node does not respond")),
            Probe::Maintenance => {}
        }
        let apply = move |cluster: &mut SimulatedCluster| {
            // A node that was installed in between knows no insecure client any more.
            if probe(cluster, index) == Probe::Maintenance {
                let _ = cluster.apply_config(index, config, ApplyMode::NoReboot);
            }
        };
        self.parts.link.send(Peer::Node(index), Lateness::InTime, apply).await?;
        Ok(Effect::Complete)
    }

    async fn gate(&self, cx: &StepContext) -> Result<(), StepError> {
        self.parts.wait_configured(self.index, cx).await?;
        if self.parts.runs(self.index).await? {
            return rollout::release(&self.parts, self.index, cx).await;
        }
        Err(StepError::unavailable("the node does not run the config that was applied"))
    }
}

/// Images are pulled in advance, beside everything else.
pub(super) struct Images;

#[async_trait]
impl Check for Images {
    async fn observe(&self, _cx: &StepContext) -> Result<CheckResult, StepError> {
        Ok(CheckResult::Passed("the images are on the node".to_owned()))
    }
}
