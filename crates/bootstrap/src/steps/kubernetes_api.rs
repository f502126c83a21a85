//! The Kubernetes API: ready, and every node in it.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use secrecy::{ExposeSecret, SecretString};

use super::context::RunContext;
use engine::{Action, Check, CheckResult, Code, Effect, Observation, StepContext, StepError, StepWait};
use error_report::ErrorReport;
use retry::policies::api_start;
use tokio::time::Instant;

/// The API server responds, and the operator has the files to use it.
pub(super) struct Ready(Arc<RunContext>);

impl Ready {
    pub(super) fn new(context: Arc<RunContext>) -> Self {
        Self(context)
    }
}

#[async_trait]
impl Action for Ready {
    async fn observe(&self, _cx: &StepContext) -> Result<Observation, StepError> {
        let written = self.0.kubeconfig_path().exists() && self.0.talosconfig_path().exists();
        match kubernetes::connect(&self.0.access(), &self.0.dialer).await {
            Ok(_) if written => Ok(Observation::UpToDate("it responds".to_owned())),
            Ok(_) => Ok(Observation::Missing("it responds; the kubeconfig is not written yet".to_owned())),
            Err(error) if error.is_retryable() => Ok(Observation::Missing(ErrorReport::new(&error).to_string())),
            Err(error) => Err(StepError::invalid_input("the Kubernetes API cannot be used").caused_by(&error)),
        }
    }

    async fn apply(&self, _cx: &StepContext) -> Result<Effect, StepError> {
        for (path, content) in
            [(self.0.kubeconfig_path(), self.0.kubeconfig()), (self.0.talosconfig_path(), self.0.talosconfig())]
        {
            write_private(&path, &content).map_err(|error| {
                StepError::failed_precondition("a credential file cannot be written")
                    .with_place(path.display().to_string())
                    .caused_by(&error)
            })?;
        }
        Ok(Effect::Complete)
    }

    async fn gate(&self, cx: &StepContext) -> Result<(), StepError> {
        let began = Instant::now();
        loop {
            match kubernetes::connect(&self.0.access(), &self.0.dialer).await {
                Ok(_) => return Ok(()),
                Err(error) => cx.waiting(StepWait::new(ErrorReport::new(&error).to_string()).code(Code::K01)),
            }
            tokio::time::sleep(api_start(began.elapsed()).first).await;
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

/// Every node of the inventory is registered; they become Ready once the pod network works.
pub(super) struct Nodes(Arc<RunContext>);

impl Nodes {
    pub(super) fn new(context: Arc<RunContext>) -> Self {
        Self(context)
    }
}

#[async_trait]
impl Check for Nodes {
    async fn observe(&self, _cx: &StepContext) -> Result<CheckResult, StepError> {
        let found = kubernetes::nodes(&self.0.kubernetes().await?).await;
        let found = found.map_err(|error| super::objects::api_error(&error))?;
        let missing: Vec<String> = self.0.hostnames().into_iter().filter(|name| !found.contains_key(name)).collect();
        Ok(if missing.is_empty() {
            CheckResult::Passed("all are registered".to_owned())
        } else {
            CheckResult::Pending(format!("not registered yet: {}", missing.join(", ")))
        })
    }

    async fn wait(&self, cx: &StepContext) -> Result<(), StepError> {
        kubernetes::wait_registered(&self.0.kubernetes().await?, &self.0.hostnames(), &super::objects::progress(cx))
            .await
            .map_err(|error| super::objects::gate_error(&error).code(Code::K03))
    }
}
