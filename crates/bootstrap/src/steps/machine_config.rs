//! One node's machine config.

use std::sync::Arc;

use async_trait::async_trait;
use secrecy::ExposeSecret;

use super::config_errors::config_error;
use super::context::RunContext;
use super::errors::place;
use super::node_config::{belongs_elsewhere, runs};
use super::node_wait::wait_configured;
use super::rollout::{self, Cordon, Rollout};
use engine::{Action, Effect, Observation, StepContext, StepError};
use talos_client::Probe;
use talos_config::InventoryNode;

/// The node runs the config that the repository defines.
pub(super) struct Configured {
    context: Arc<RunContext>,
    rollout: Arc<Rollout>,
    node: InventoryNode,
}

impl Configured {
    pub(super) fn new(context: Arc<RunContext>, rollout: Arc<Rollout>, node: InventoryNode) -> Self {
        Self { context, rollout, node }
    }

    /// A node that runs its config. A run that was ended may have left it cordoned.
    async fn running(&self) -> Observation {
        if !self.context.choices.resumed {
            return Observation::UpToDate("runs this config".to_owned());
        }
        match self.rollout.cordon_of(&self.node).await {
            Cordon::None => Observation::UpToDate("runs this config".to_owned()),
            Cordon::Left => Observation::InProgress("runs this config; to be uncordoned".to_owned()),
            Cordon::Unknown => Observation::InProgress(
                "runs this config; whether it is cordoned is unknown while the Kubernetes API does not respond"
                    .to_owned(),
            ),
        }
    }

    async fn probe(&self) -> Result<Probe, StepError> {
        self.context.probe(&self.node).await
    }
}

#[async_trait]
impl Action for Configured {
    async fn observe(&self, _cx: &StepContext) -> Result<Observation, StepError> {
        match self.probe().await? {
            Probe::Closed(_) => Ok(Observation::InProgress("port 50000 is closed: installing or rebooting".to_owned())),
            Probe::Maintenance { .. } => Ok(Observation::Missing("the node is in maintenance mode".to_owned())),
            Probe::Foreign(foreign) => Err(belongs_elsewhere(&self.node, &foreign.evidence)),
            Probe::Configured { client, .. } => Ok(if runs(&self.context, &self.node, &client).await? {
                self.running().await
            } else {
                Observation::Missing("runs another config".to_owned())
            }),
        }
    }

    async fn apply(&self, cx: &StepContext) -> Result<Effect, StepError> {
        let text = self.context.config_text(&self.node);
        let applied = match self.probe().await? {
            Probe::Maintenance { client, .. } => client.apply_configuration(text.expose_secret()).await,
            Probe::Configured { client, .. } => return rollout::apply(&self.rollout, &self.node, &client, cx).await,
            Probe::Foreign(foreign) => return Err(belongs_elsewhere(&self.node, &foreign.evidence)),
            Probe::Closed(error) => Err(error),
        };
        let applied = applied.map_err(|error| config_error(&self.context, &error, &self.node))?;
        for line in self.context.config_warnings.note(&self.node.hostname, applied.warnings) {
            cx.progress(&line);
        }
        Ok(Effect::Complete)
    }

    async fn gate(&self, cx: &StepContext) -> Result<(), StepError> {
        let client = wait_configured(&self.context, &self.node, cx).await?;
        if runs(&self.context, &self.node, &client).await? {
            return rollout::release(&self.rollout, &self.node, cx).await;
        }
        Err(StepError::unavailable("the node does not run the config that was applied").with_place(place(&self.node)))
    }
}
