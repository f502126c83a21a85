//! The Kubernetes API, its nodes, and the namespaces.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use engine::{Action, Check, CheckResult, Code, Effect, Observation, StepContext, StepError, StepWait};

use super::{LOOK, RunParts, rollout};
use crate::cluster::SimulatedCluster;
use crate::inputs::{RELEASES, declared};
use crate::link::{Lateness, Peer};

/// The operator's files, which need no API.
pub(super) struct Credentials(pub(super) Arc<RunParts>);

#[async_trait]
impl Action for Credentials {
    async fn observe(&self, _cx: &StepContext) -> Result<Observation, StepError> {
        Ok(if self.0.has_files.load(Ordering::SeqCst) {
            Observation::UpToDate("they are there".to_owned())
        } else {
            Observation::Missing("the kubeconfig is not written yet".to_owned())
        })
    }

    async fn apply(&self, _cx: &StepContext) -> Result<Effect, StepError> {
        self.0.link.life.pass().await;
        self.0.has_files.store(true, Ordering::SeqCst);
        Ok(Effect::Complete)
    }

    async fn gate(&self, _cx: &StepContext) -> Result<(), StepError> {
        Ok(())
    }
}

/// The API server responds, and the operator has the files to use it.
pub(super) struct Ready(pub(super) Arc<RunParts>);

#[async_trait]
impl Action for Ready {
    async fn observe(&self, _cx: &StepContext) -> Result<Observation, StepError> {
        Ok(match self.0.api(|_| ()).await {
            Ok(()) if self.0.has_files.load(Ordering::SeqCst) => Observation::UpToDate("it responds".to_owned()),
            Ok(()) => Observation::Missing("the kubeconfig is not written yet".to_owned()),
            Err(_) => Observation::Missing("it does not respond".to_owned()),
        })
    }

    async fn apply(&self, _cx: &StepContext) -> Result<Effect, StepError> {
        self.0.link.life.pass().await;
        self.0.has_files.store(true, Ordering::SeqCst);
        Ok(Effect::Complete)
    }

    async fn gate(&self, cx: &StepContext) -> Result<(), StepError> {
        while self.0.api(|_| ()).await.is_err() {
            cx.waiting(StepWait::new("the API does not respond").code(Code::K01));
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }
}

/// The nodes that are not yet as they have to be.
fn missing(cluster: &SimulatedCluster, is_missing: impl Fn(Option<&::kubernetes::NodeView>) -> bool) -> Option<String> {
    let registered = cluster.registered();
    let names = declared().nodes.iter().map(|node| node.hostname.as_str());
    let missing: Vec<&str> = names.filter(|name| is_missing(registered.get(*name))).collect();
    (!missing.is_empty()).then(|| missing.join(", "))
}

fn result(missing: Option<String>) -> CheckResult {
    missing.map_or_else(|| CheckResult::Passed("all".to_owned()), CheckResult::Pending)
}

/// Every node is registered.
pub(super) struct Registered(pub(super) Arc<RunParts>);

#[async_trait]
impl Check for Registered {
    async fn observe(&self, _cx: &StepContext) -> Result<CheckResult, StepError> {
        Ok(result(self.0.api(|cluster| missing(cluster, |node| node.is_none())).await?))
    }

    async fn wait(&self, cx: &StepContext) -> Result<(), StepError> {
        while let Some(names) = self.0.api(|cluster| missing(cluster, |node| node.is_none())).await? {
            cx.waiting(StepWait::new(format!("not registered yet: {names}")).code(Code::K03));
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }
}

/// Every node is Ready, so the pod network works, and none is left cordoned by a run.
pub(super) struct NodesReady(pub(super) Arc<RunParts>);

fn not_ready(cluster: &SimulatedCluster) -> Option<String> {
    missing(cluster, |node| node.is_none_or(|node| !node.ready))
}

#[async_trait]
impl Action for NodesReady {
    async fn observe(&self, _cx: &StepContext) -> Result<Observation, StepError> {
        if !rollout::cordoned_by_us(&self.0).await?.is_empty() {
            return Ok(Observation::Missing("nodes are left cordoned".to_owned()));
        }
        Ok(match self.0.api(not_ready).await? {
            None => Observation::UpToDate("all are Ready".to_owned()),
            Some(names) => Observation::InProgress(format!("not Ready yet: {names}")),
        })
    }

    async fn apply(&self, _cx: &StepContext) -> Result<Effect, StepError> {
        rollout::uncordon_all(&self.0).await.map(|()| Effect::Complete)
    }

    async fn gate(&self, cx: &StepContext) -> Result<(), StepError> {
        while let Some(names) = self.0.api(not_ready).await? {
            cx.waiting(StepWait::new(format!("not Ready yet: {names}")).code(Code::K02));
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }
}

/// The namespaces of every release.
pub(super) struct Namespaces(pub(super) Arc<RunParts>);

#[async_trait]
impl Action for Namespaces {
    async fn observe(&self, _cx: &StepContext) -> Result<Observation, StepError> {
        let has_all = |cluster: &SimulatedCluster| {
            RELEASES.iter().all(|release| cluster.kubernetes.namespaces.contains(release.namespace))
        };
        Ok(if self.0.api(has_all).await? {
            Observation::UpToDate("they exist".to_owned())
        } else {
            Observation::Missing("they do not exist".to_owned())
        })
    }

    async fn apply(&self, _cx: &StepContext) -> Result<Effect, StepError> {
        for release in RELEASES {
            let create = move |cluster: &mut SimulatedCluster| {
                cluster.kubernetes.namespaces.insert(release.namespace);
            };
            self.0.link.send(Peer::Api, Lateness::InTime, create).await?;
        }
        Ok(Effect::Complete)
    }
}
