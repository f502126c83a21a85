//! The Kubernetes API: ready, and every node in it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use secrecy::{ExposeSecret, SecretString};

use super::boots::NodeGoal;
use super::context::RunContext;
use super::control_plane_health::ApiWait;
use super::credentials::{same_cluster, same_nodes};
use super::epoch::learn_kubernetes;
use crate::private_file::write_private;
use engine::journal::ClusterFact;
use engine::{Action, Check, CheckResult, Code, Effect, Observation, StepContext, StepError};
use error_report::ErrorReport;
use kubernetes::NodeView;
use retry::policies::api_start;
use tokio::time::Instant;

/// The kubeconfig and the talosconfig.
fn credential_files(context: &RunContext) -> [(PathBuf, SecretString); 2] {
    [(context.kubeconfig_path(), context.kubeconfig()), (context.talosconfig_path(), context.talosconfig())]
}

fn write(path: &Path, content: &SecretString) -> Result<(), StepError> {
    write_private(path, &path.with_extension("new"), content.expose_secret().as_bytes()).map_err(|error| {
        StepError::failed_precondition("a credential file cannot be written")
            .with_place(path.display().to_string())
            .caused_by(&error)
            .code(Code::P02)
    })
}

/// The operator has a kubeconfig and a talosconfig from the beginning: they are needed when the API does not respond. Those
/// of another cluster stay until it does.
pub(super) struct Credentials(Arc<RunContext>);

impl Credentials {
    pub(super) fn new(context: Arc<RunContext>) -> Self {
        Self(context)
    }
}

#[async_trait]
impl Action for Credentials {
    async fn observe(&self, _cx: &StepContext) -> Result<Observation, StepError> {
        let missing = credential_files(&self.0).into_iter().find(|(path, _)| !path.exists());
        Ok(match missing {
            None => Observation::UpToDate("they are there".to_owned()),
            Some((path, _)) => Observation::Missing(format!("{} is not written yet", path.display())),
        })
    }

    async fn apply(&self, _cx: &StepContext) -> Result<Effect, StepError> {
        for (path, content) in credential_files(&self.0).into_iter().filter(|(path, _)| !path.exists()) {
            write(&path, &content)?;
        }
        Ok(Effect::Complete)
    }

    async fn gate(&self, _cx: &StepContext) -> Result<(), StepError> {
        Ok(())
    }
}

/// The API server responds, and the operator has the files to use it.
pub(super) struct Ready(Arc<RunContext>);

impl Ready {
    pub(super) fn new(context: Arc<RunContext>) -> Self {
        Self(context)
    }

    /// Why the files do not lead to this cluster, if they do not.
    fn outdated(&self) -> Option<String> {
        let context = &self.0;
        let (kubeconfig, talosconfig) = (context.kubeconfig(), context.talosconfig());
        stale("kubeconfig", &context.kubeconfig_path(), |existing| same_cluster(existing, kubeconfig.expose_secret()))
            .or_else(|| {
                let is_same = |existing: &str| same_nodes(existing, talosconfig.expose_secret());
                stale("talosconfig", &context.talosconfig_path(), is_same)
            })
    }

    async fn wait_ready(&self, cx: &StepContext, wait: &ApiWait<'_>) -> Result<(), StepError> {
        let began = Instant::now();
        loop {
            match kubernetes::connect(&self.0.access(), &self.0.dialer).await {
                Ok(client) => match kubernetes::cluster_uid(&client).await {
                    Ok(Some(uid)) => {
                        learn_kubernetes(cx, uid).await?;
                        return self.0.kubernetes().await.map(drop);
                    }
                    // The API server creates the namespace right after its start.
                    Ok(None) => wait.not_ready("the namespace kube-system does not exist yet".to_owned()),
                    Err(error) => wait.not_ready(ErrorReport::new(&error).to_string()),
                },
                Err(error) => wait.not_ready(ErrorReport::new(&error).to_string()),
            }
            tokio::time::sleep(api_start(began.elapsed()).first).await;
        }
    }
}

/// Why a file is to be written, if it is.
fn stale(name: &str, path: &Path, is_same: impl Fn(&str) -> bool) -> Option<String> {
    match std::fs::read_to_string(path) {
        Ok(existing) if is_same(&existing) => None,
        Ok(_) => Some(format!("the {name} is of another cluster")),
        Err(_) => Some(format!("the {name} is not written yet")),
    }
}

#[async_trait]
impl Action for Ready {
    async fn observe(&self, cx: &StepContext) -> Result<Observation, StepError> {
        match kubernetes::connect(&self.0.access(), &self.0.dialer).await {
            Ok(client) => {
                if let Ok(Some(uid)) = kubernetes::cluster_uid(&client).await {
                    learn_kubernetes(cx, uid).await?;
                }
                Ok(match self.outdated() {
                    None => Observation::UpToDate("it responds".to_owned()),
                    Some(reason) => Observation::Missing(format!("it responds; {reason}")),
                })
            }
            Err(error) if error.is_retryable() => Ok(Observation::Missing(ErrorReport::new(&error).to_string())),
            Err(error) => Err(StepError::invalid_input("the Kubernetes API cannot be used").caused_by(&error)),
        }
    }

    async fn apply(&self, _cx: &StepContext) -> Result<Effect, StepError> {
        for (path, content) in credential_files(&self.0) {
            write(&path, &content)?;
        }
        Ok(Effect::Complete)
    }

    async fn gate(&self, cx: &StepContext) -> Result<(), StepError> {
        let wait = ApiWait::new(&self.0, cx);
        tokio::select! {
            ready = self.wait_ready(cx, &wait) => ready,
            never = wait.follow_control_planes() => match never {},
        }
    }
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
    async fn observe(&self, cx: &StepContext) -> Result<CheckResult, StepError> {
        let found = kubernetes::nodes(&self.0.kubernetes().await?).await;
        let found = found.map_err(|error| super::api_errors::api_error(&error))?;
        let expected = self.0.expected_nodes().await;
        let is_registered =
            |name: &String, boot: Option<&str>| found.get(name).is_some_and(|node| node.is_current(boot));
        let missing = expected.into_iter().filter(|(name, boot)| !is_registered(name, boot.as_deref()));
        let missing: Vec<String> = missing.map(|(name, _)| name).collect();
        Ok(if missing.is_empty() {
            learn_boots(cx, &found).await;
            CheckResult::Passed("all are registered".to_owned())
        } else {
            CheckResult::Pending(format!("not registered yet: {}", missing.join(", ")))
        })
    }

    async fn wait(&self, cx: &StepContext) -> Result<(), StepError> {
        let client = self.0.kubernetes().await?;
        super::boots::wait_for_nodes(&self.0, &client, NodeGoal::Registered, cx)
            .await
            .map_err(|error| super::api_errors::gate_error(&error).code(Code::K03))?;
        // Without a list now, the next run learns the boots.
        if let Ok(found) = kubernetes::nodes(&client).await {
            learn_boots(cx, &found).await;
        }
        Ok(())
    }
}

/// Records the boot of each node.
async fn learn_boots(cx: &StepContext, nodes: &BTreeMap<String, NodeView>) {
    for (node, view) in nodes.iter().filter(|(_, view)| !view.boot_id.is_empty()) {
        cx.learn(ClusterFact::NodeBoot { node: node.clone(), boot: view.boot_id.clone() }).await;
    }
}
