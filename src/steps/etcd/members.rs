//! Every control plane a voting member.

use std::sync::Arc;

use async_trait::async_trait;

use super::super::site::{KNOCK, Site, step_error, wait_configured};
use super::connect;
use crate::engine::{Observation, Step, StepContext, StepError};

/// Every control plane is a voting member.
pub(in crate::steps) struct Members(Arc<Site>);

impl Members {
    pub(in crate::steps) fn new(site: Arc<Site>) -> Self {
        Self(site)
    }

    /// What is missing, nothing when every control plane votes.
    async fn missing(&self) -> Result<Option<String>, StepError> {
        let control_planes = self.0.control_planes();
        let mut last = None;
        for node in &control_planes {
            let client = match connect(&self.0, node).await {
                Ok(client) => client,
                Err(error) => {
                    last = Some(error);
                    continue;
                }
            };
            let members = match client.etcd_members().await {
                Ok(members) => members,
                Err(error) => {
                    last = Some(step_error(&error, node));
                    continue;
                }
            };
            let learners = members.iter().filter(|member| member.is_learner).count();
            let voting = members.len() - learners;
            let complete = voting == control_planes.len();
            return Ok((!complete)
                .then(|| format!("{voting} of {} control planes vote, {learners} learn", control_planes.len())));
        }
        Err(last.unwrap_or_else(|| StepError::wrong_input("there is no control plane")))
    }
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
