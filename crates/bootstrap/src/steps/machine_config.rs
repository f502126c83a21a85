//! One node's machine config.

use std::sync::Arc;

use async_trait::async_trait;
use secrecy::ExposeSecret;

use super::context::RunContext;
use super::errors::{config_error, place, step_error};
use super::node_wait::wait_configured;
use super::preflight::belongs_elsewhere;
use super::rollout::{self, Cordon};
use engine::{Action, Effect, Observation, StepContext, StepError};
use talos_client::{Client, Probe};
use talos_config::InventoryNode;
use talos_schema::parse_documents;
use yaml::Origin;

/// The node runs the config that the repository defines.
pub(super) struct Configured {
    context: Arc<RunContext>,
    node: InventoryNode,
}

impl Configured {
    pub(super) fn new(context: Arc<RunContext>, node: InventoryNode) -> Self {
        Self { context, node }
    }

    /// A node that runs its config. A run that was ended may have left it cordoned.
    async fn running(&self) -> Observation {
        if !self.context.choices.resumed {
            return Observation::UpToDate("runs this config".to_owned());
        }
        match self.context.rollout.cordon_of(&self.context, &self.node).await {
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

/// Whether the node runs its config, compared as data; both are parsed, because parsing drops empty fields.
pub(super) async fn runs(context: &RunContext, node: &InventoryNode, client: &Client) -> Result<bool, StepError> {
    let running = client.machine_config().await.map_err(|error| step_error(&error, node))?;
    let running = parse_documents(&Origin::new("<running config>"), running.expose_secret());
    let ours = parse_documents(&Origin::new("<config>"), context.config_text(node).expose_secret());
    Ok(matches!((running, ours), (Ok(running), Ok(ours)) if running == ours))
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
            Probe::Configured { client, .. } => return rollout::apply(&self.context, &self.node, &client, cx).await,
            Probe::Foreign(foreign) => return Err(belongs_elsewhere(&self.node, &foreign.evidence)),
            Probe::Closed(error) => Err(error),
        };
        let applied = applied.map_err(|error| config_error(&self.context, &error, &self.node))?;
        for warning in applied.warnings {
            cx.progress(&format!("warning from the node: {warning}"));
        }
        Ok(Effect::Complete)
    }

    async fn gate(&self, cx: &StepContext) -> Result<(), StepError> {
        let client = wait_configured(&self.context, &self.node, cx).await?;
        if runs(&self.context, &self.node, &client).await? {
            return rollout::release(&self.context, &self.node, cx).await;
        }
        Err(StepError::unavailable("the node does not run the config that was applied").with_place(place(&self.node)))
    }
}
