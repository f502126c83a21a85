//! The step after a release whose webhooks convert custom resources.

use std::sync::Arc;

use async_trait::async_trait;
use engine::{Check, CheckResult, StepContext, StepError};

use super::api_errors::api_error;
use super::conversion::wait;
use super::release::Installed;

/// The release's conversion webhooks serve every version.
pub(super) struct Converts(Arc<Installed>);

impl Converts {
    pub(super) fn new(installed: Arc<Installed>) -> Self {
        Self(installed)
    }
}

#[async_trait]
impl Check for Converts {
    async fn observe(&self, _cx: &StepContext) -> Result<CheckResult, StepError> {
        let client = self.0.client().await?;
        let names =
            kubernetes::converted_by(&client, &self.0.services().await?).await.map_err(|error| api_error(&error))?;
        for name in &names {
            let failure = kubernetes::conversion_failure(&client, name).await.map_err(|error| api_error(&error))?;
            if let Some(failure) = failure {
                return Ok(CheckResult::Pending(format!("{name}: {failure}")));
            }
        }
        Ok(CheckResult::Passed(match names.len() {
            0 => "it has no conversion webhook".to_owned(),
            count => format!("{count} kinds are served in every version"),
        }))
    }

    async fn wait(&self, cx: &StepContext) -> Result<(), StepError> {
        wait(&self.0.client().await?, &self.0.services().await?, cx).await
    }
}
