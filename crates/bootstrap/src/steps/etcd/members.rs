//! Every control plane a voting member.

use std::sync::Arc;

use async_trait::async_trait;

use super::super::context::{PROBE_INTERVAL, RunContext};
use super::super::errors::step_error;
use super::super::node_wait::wait_configured;
use super::connect;
use engine::{Check, CheckResult, Code, StepContext, StepError, StepWait};
use error_report::ErrorReport;
use talos_client::{Client, ClientError};
use talos_config::InventoryNode;

/// Every control plane is a voting member.
pub(in crate::steps) struct Members(Arc<RunContext>);

impl Members {
    pub(in crate::steps) fn new(context: Arc<RunContext>) -> Self {
        Self(context)
    }

    /// What is missing; nothing when every control plane votes. Any control plane with a member list will do.
    async fn missing(&self) -> Result<Option<String>, StepError> {
        let control_planes = self.0.control_planes();
        let mut last = None;
        for node in &control_planes {
            match self.counted(node, control_planes.len()).await {
                Ok(missing) => return Ok(missing),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| StepError::invalid_input("the cluster has no control plane")))
    }

    async fn counted(&self, node: &InventoryNode, expected: usize) -> Result<Option<String>, StepError> {
        let client = connect(&self.0, node).await?;
        let members = client.etcd_members().await.map_err(|error| step_error(&error, node))?;
        let learners = members.iter().filter(|member| member.is_learner).count();
        let voting = members.len() - learners;
        if voting == expected {
            return Ok(None);
        }
        let mut text = format!("{voting} of {expected} control planes vote, {learners} are learners");
        for (member, alarm) in client.etcd_alarms().await.unwrap_or_default() {
            let name = members.iter().find(|known| known.id == member).map_or("a member", |known| &known.hostname);
            text = format!("{text}; {name} raises the alarm {alarm}");
        }
        for node in self.0.control_planes() {
            if let Some(problem) = self.problem(node).await {
                text = format!("{text}; {}: {problem}", node.hostname);
            }
        }
        Ok(Some(text))
    }

    /// Why one control plane does not vote, as far as it knows.
    async fn problem(&self, node: &InventoryNode) -> Option<String> {
        let client = connect(&self.0, node).await.ok()?;
        match client.etcd_status().await {
            Ok(status) if status.is_learner => {
                let behind = status.raft_index.saturating_sub(status.raft_applied_index);
                Some(format!("learner, {behind} entries behind"))
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
impl Check for Members {
    async fn observe(&self, _cx: &StepContext) -> Result<CheckResult, StepError> {
        Ok(match self.missing().await? {
            None => CheckResult::Passed("every control plane votes".to_owned()),
            Some(reason) => CheckResult::Pending(reason),
        })
    }

    async fn wait(&self, cx: &StepContext) -> Result<(), StepError> {
        for node in self.0.control_planes() {
            wait_configured(&self.0, node, cx).await?;
        }
        loop {
            match self.missing().await {
                Ok(None) => return Ok(()),
                Ok(Some(reason)) => cx.waiting(StepWait::new(reason).code(Code::T13)),
                Err(error) => cx.progress(&ErrorReport::new(&error).to_string()),
            }
            tokio::time::sleep(PROBE_INTERVAL).await;
        }
    }
}
