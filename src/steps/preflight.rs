//! Preconditions of the world: nothing is changed on a node that is silent or another cluster's.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::site::{KNOCK, Site, step_error};
use crate::engine::{Observation, Step, StepContext, StepError};
use crate::talos::client::{ClientError, Probe, probe};
use crate::talos::config::{Node, Role};

/// A first run finds its nodes powered on; a switch port may need a moment.
const FIRST_RUN: Duration = Duration::from_secs(15);
/// In a resumed run a silent node may be installing.
const RESUMED: Duration = Duration::from_mins(12);

/// The node answers, and is either unconfigured or of this cluster.
pub(super) struct Reachable {
    site: Arc<Site>,
    node: Node,
}

impl Reachable {
    pub(super) fn new(site: Arc<Site>, node: Node) -> Self {
        Self { site, node }
    }

    fn silent(&self, error: &ClientError) -> StepError {
        StepError::wrong_world("the node does not answer")
            .at(format!("node {} ({})", self.node.hostname, self.node.address))
            .because(&error.reason)
            .next("check that the node is powered on, booted from the Talos image, and reachable on port 50000")
    }
}

#[async_trait]
impl Step for Reachable {
    async fn observe(&self, cx: &StepContext) -> Result<Observation, StepError> {
        let waits_for_others = self.site.resumed && self.node.role == Role::Worker;
        let patience = if self.site.resumed && !waits_for_others { RESUMED } else { FIRST_RUN };
        let deadline = tokio::time::Instant::now() + patience;
        loop {
            let found = probe(&self.site.dialer, self.node.address, &self.site.talos).await;
            match found.map_err(|error| step_error(&error, &self.node))? {
                Probe::Maintenance { fingerprint, .. } => {
                    let print = fingerprint.map(|print| print.to_string()).unwrap_or_default();
                    return Ok(Observation::Holds(format!("in maintenance mode, certificate fingerprint {print}")));
                }
                Probe::Configured { status, client } => {
                    let version = client.version().await.unwrap_or_default();
                    if let Some(note) = self.site.cluster.inventory.disagreement(&version) {
                        cx.tell(&note);
                    }
                    return Ok(Observation::Holds(format!("configured by this cluster, {:?}", status.stage)));
                }
                Probe::Foreign(foreign) => return Err(belongs_elsewhere(&self.node, &foreign.evidence)),
                // A worker that the run before configured opens its port only once a control plane, which this run may
                // still have to configure, signs its certificate (Talos 1.12, trustd). Its config step waits for it.
                Probe::Closed(_) if waits_for_others && tokio::time::Instant::now() > deadline => {
                    return Ok(Observation::Holds("silent, as a worker is before a control plane runs".to_owned()));
                }
                Probe::Closed(error) if tokio::time::Instant::now() > deadline => return Err(self.silent(&error)),
                Probe::Closed(_) => cx.tell("its port is closed"),
            }
            tokio::time::sleep(KNOCK).await;
        }
    }

    async fn apply(&self, _cx: &StepContext) -> Result<(), StepError> {
        Ok(())
    }
}

pub(super) fn belongs_elsewhere(node: &Node, evidence: &str) -> StepError {
    StepError::wrong_world("the node belongs to another cluster")
        .at(format!("node {} ({})", node.hostname, node.address))
        .because(evidence)
        .next("check the address; to take the node over, reset it with the other cluster's talosconfig first")
        .code("T04")
}
