//! Every control plane a voting member.

use std::sync::Arc;

use async_trait::async_trait;

use super::super::site::{KNOCK, Site, step_error, wait_configured};
use super::connect;
use engine::{Observation, Step, StepContext, StepError};
use talos_client::{Client, ClientError};
use talos_config::InventoryNode;

/// Every control plane is a voting member.
pub(in crate::steps) struct Members(Arc<Site>);

impl Members {
    pub(in crate::steps) fn new(site: Arc<Site>) -> Self {
        Self(site)
    }

    /// What is missing, nothing when every control plane votes. Any control plane that has a list will do.
    async fn missing(&self) -> Result<Option<String>, StepError> {
        let control_planes = self.0.control_planes();
        let mut last = None;
        for node in &control_planes {
            match self.counted(node, control_planes.len()).await {
                Ok(missing) => return Ok(missing),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| StepError::wrong_input("there is no control plane")))
    }

    async fn counted(&self, node: &InventoryNode, wanted: usize) -> Result<Option<String>, StepError> {
        let client = connect(&self.0, node).await?;
        let members = client.etcd_members().await.map_err(|error| step_error(&error, node))?;
        let learners = members.iter().filter(|member| member.is_learner).count();
        let voting = members.len() - learners;
        if voting == wanted {
            return Ok(None);
        }
        let mut text = format!("{voting} of {wanted} control planes vote, {learners} learn");
        for (member, alarm) in client.etcd_alarms().await.unwrap_or_default() {
            let name = members.iter().find(|known| known.id == member).map_or("a member", |known| &known.hostname);
            text = format!("{text}; {name} raises the alarm {alarm:?}");
        }
        for node in self.0.control_planes() {
            if let Some(trouble) = self.trouble(node).await {
                text = format!("{text}; {}: {trouble}", node.hostname);
            }
        }
        Ok(Some(text))
    }

    /// Why one control plane does not vote, as far as it can say itself.
    async fn trouble(&self, node: &InventoryNode) -> Option<String> {
        let client = connect(&self.0, node).await.ok()?;
        match client.etcd_status().await {
            Ok(status) if status.is_learner => {
                let behind = status.raft_index.saturating_sub(status.raft_applied_index);
                Some(format!("learns, {behind} entries behind"))
            }
            Ok(status) => status.errors.first().cloned(),
            Err(_) => service(&client).await.ok(),
        }
    }
}

/// The state of etcd's service and why.
async fn service(client: &Client) -> Result<String, ClientError> {
    let services = client.services().await?;
    let etcd = services.into_iter().find(|service| service.id == "etcd");
    Ok(etcd.map_or_else(
        || "does not list etcd".to_owned(),
        |etcd| format!("{} ({})", etcd.state.to_lowercase(), etcd.events.last().cloned().unwrap_or_default()),
    ))
}

#[async_trait]
impl Step for Members {
    async fn observe(&self, _cx: &StepContext) -> Result<Observation, StepError> {
        Ok(match self.missing().await? {
            None => Observation::Holds("every control plane votes".to_owned()),
            Some(reason) => Observation::Underway(reason),
        })
    }

    async fn apply(&self, _cx: &StepContext) -> Result<(), StepError> {
        Ok(())
    }

    async fn gate(&self, cx: &StepContext) -> Result<(), StepError> {
        for node in self.0.control_planes() {
            wait_configured(&self.0, node, cx.teller()).await?;
        }
        loop {
            match self.missing().await {
                Ok(None) => return Ok(()),
                Ok(Some(reason)) => cx.tell(&reason),
                Err(error) => cx.tell(&error.to_string()),
            }
            tokio::time::sleep(KNOCK).await;
        }
    }
}
