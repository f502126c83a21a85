//! The Kubernetes API: ready, and every node in it.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use secrecy::{ExposeSecret, SecretString};

use super::site::{KNOCK, Site};
use engine::{Observation, Step, StepContext, StepError};
use kubernetes::AccessError;

/// The API server answers, and the operator has the files to use it.
pub(super) struct Ready(Arc<Site>);

impl Ready {
    pub(super) fn new(site: Arc<Site>) -> Self {
        Self(site)
    }
}

#[async_trait]
impl Step for Ready {
    async fn observe(&self, _cx: &StepContext) -> Result<Observation, StepError> {
        let written = self.0.kubeconfig_path().exists() && self.0.talosconfig_path().exists();
        match kubernetes::connect(&self.0.access(), &self.0.dialer).await {
            Ok(_) if written => Ok(Observation::Holds("it answers".to_owned())),
            Ok(_) => Ok(Observation::Missing("it answers; no kubeconfig is written yet".to_owned())),
            Err(AccessError::Unreachable(reason)) => Ok(Observation::Missing(reason)),
            Err(error) => Err(StepError::wrong_input("the Kubernetes API cannot be used").because(error)),
        }
    }

    async fn apply(&self, _cx: &StepContext) -> Result<(), StepError> {
        for (path, content) in
            [(self.0.kubeconfig_path(), self.0.kubeconfig()), (self.0.talosconfig_path(), self.0.talosconfig())]
        {
            write_private(&path, &content).map_err(|error| {
                StepError::wrong_world("a credential file cannot be written")
                    .at(path.display().to_string())
                    .because(error)
            })?;
        }
        Ok(())
    }

    async fn gate(&self, cx: &StepContext) -> Result<(), StepError> {
        loop {
            match kubernetes::connect(&self.0.access(), &self.0.dialer).await {
                Ok(_) => return Ok(()),
                Err(error) => cx.tell(&error.to_string()),
            }
            tokio::time::sleep(KNOCK).await;
        }
    }
}

/// Writes a file that only its owner can read, whole or not at all.
fn write_private(path: &Path, content: &SecretString) -> std::io::Result<()> {
    let temporary = path.with_extension("new");
    let mut file = std::fs::OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&temporary)?;
    file.write_all(content.expose_secret().as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)
}

/// Every node of the inventory is registered; Ready they are when there is a network.
pub(super) struct Nodes(Arc<Site>);

impl Nodes {
    pub(super) fn new(site: Arc<Site>) -> Self {
        Self(site)
    }
}

#[async_trait]
impl Step for Nodes {
    async fn observe(&self, _cx: &StepContext) -> Result<Observation, StepError> {
        let found = kubernetes::nodes(&self.0.kubernetes().await?).await;
        let found = found.map_err(|error| super::objects::api_error(&error))?;
        let missing: Vec<String> = self.0.hostnames().into_iter().filter(|name| !found.contains_key(name)).collect();
        Ok(if missing.is_empty() {
            Observation::Holds("all are registered".to_owned())
        } else {
            Observation::Underway(format!("not registered yet: {}", missing.join(", ")))
        })
    }

    async fn apply(&self, _cx: &StepContext) -> Result<(), StepError> {
        Ok(())
    }

    async fn gate(&self, cx: &StepContext) -> Result<(), StepError> {
        kubernetes::wait_registered(&self.0.kubernetes().await?, &self.0.hostnames(), cx.teller())
            .await
            .map_err(|error| super::objects::gate_error(&error).code("K03"))
    }
}
