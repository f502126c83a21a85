//! etcd: started on exactly one control plane, then joined by the others.

pub mod decision;

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use serde_json::json;

use super::site::{KNOCK, Site, step_error, wait_configured};
use crate::engine::{ErrorClass, Observation, Step, StepContext, StepError};
use crate::talos::client::{Client, Kind};
use crate::talos::config::Node;
use decision::{Decision, Etcd, Intent, View, decide};

/// The one call that must never reach two nodes.
pub(super) struct Bootstrap {
    site: Arc<Site>,
    /// What this run has sent itself; the journal knows what earlier ones did.
    sent: Mutex<Option<Intent>>,
}

impl Bootstrap {
    pub(super) fn new(site: Arc<Site>) -> Self {
        Self { site, sent: Mutex::default() }
    }

    async fn views(&self) -> Vec<View> {
        futures::future::join_all(self.site.control_planes().into_iter().map(|node| view(&self.site, node))).await
    }

    async fn decide(&self, cx: &StepContext) -> Decision {
        decide(&self.views().await, self.intent(cx).as_ref())
    }

    /// The newest intent that is not known to have come to nothing.
    fn intent(&self, cx: &StepContext) -> Option<Intent> {
        self.sent().clone().or_else(|| recorded(cx))
    }

    fn sent(&self) -> std::sync::MutexGuard<'_, Option<Intent>> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn node(&self, address: std::net::IpAddr) -> Result<&Node, StepError> {
        self.site
            .control_planes()
            .into_iter()
            .find(|node| node.address == address)
            .ok_or_else(|| StepError::wrong_world(format!("{address} is no control plane of this cluster")))
    }

    async fn bootstrap(&self, cx: &StepContext, address: std::net::IpAddr) -> Result<(), StepError> {
        let node = self.node(address)?;
        let client = connect(&self.site, node).await?;
        let boot = client.boot_id().await.map_err(|error| step_error(&error, node))?;
        let intent = Intent { node: address, boot };
        cx.intend(json!(intent))?;
        *self.sent() = Some(intent);
        match client.bootstrap().await {
            Ok(()) => cx.conclude(json!("accepted")),
            Err(error) if error.kind == Kind::AlreadyDone => cx.conclude(json!("accepted earlier")),
            Err(error) if error.kind == Kind::NotYet => {
                *self.sent() = None;
                cx.conclude(json!("not accepted"))?;
                Err(step_error(&error, node))
            }
            // The answer may be lost and the call not: the next observation asks the nodes.
            Err(error) => Err(step_error(&error, node)),
        }
    }
}

/// What the journal knows of earlier runs.
fn recorded(cx: &StepContext) -> Option<Intent> {
    let last = cx.priors.last()?;
    if last.outcome.as_ref() == Some(&json!("not accepted")) {
        return None;
    }
    serde_json::from_value(last.intent.clone()).ok()
}

async fn connect(site: &Site, node: &Node) -> Result<Client, StepError> {
    Client::connect(&site.dialer, node.address, &site.talos).await.map_err(|error| step_error(&error, node))
}

/// What one control plane says of its etcd.
async fn view(site: &Site, node: &Node) -> View {
    let etcd = match look(site, node).await {
        Ok(etcd) => etcd,
        Err(error) => Etcd::Unknown { reason: error.to_string() },
    };
    View { node: node.address, etcd }
}

async fn look(site: &Site, node: &Node) -> Result<Etcd, StepError> {
    let failed = |error| step_error(&error, node);
    let client = connect(site, node).await?;
    let boot = client.boot_id().await.map_err(failed)?;
    let Some(service) = client.service("etcd").await.map_err(failed)? else {
        return Ok(Etcd::Unknown { reason: "the node does not list etcd yet".to_owned() });
    };
    let requested = service.events.iter().any(|event| event.contains("Bootstrap requested"));
    match service.state.as_str() {
        "Running" => {
            let members = client.etcd_members().await.map_err(failed)?;
            Ok(Etcd::Running { members: members.into_iter().map(|member| member.id).collect() })
        }
        "Failed" => Ok(Etcd::Failed { reason: service.last_message }),
        _ if requested => Ok(Etcd::Requested { boot }),
        _ => Ok(Etcd::Waiting { boot }),
    }
}

#[async_trait]
impl Step for Bootstrap {
    async fn observe(&self, cx: &StepContext) -> Result<Observation, StepError> {
        match self.decide(cx).await {
            Decision::Adopt => Ok(Observation::Holds("etcd runs".to_owned())),
            Decision::Verify(node) => Ok(Observation::Underway(format!("accepted by {node}, not running yet"))),
            Decision::Bootstrap(node) => {
                Ok(Observation::Missing(format!("no etcd anywhere, {node} will be the first")))
            }
            Decision::WaitFor(reason) => Err(StepError::retryable(reason)),
            Decision::Refuse(reason) => Err(refused(&reason)),
        }
    }

    async fn apply(&self, cx: &StepContext) -> Result<(), StepError> {
        match self.decide(cx).await {
            Decision::Bootstrap(node) => self.bootstrap(cx, node).await,
            Decision::Adopt | Decision::Verify(_) => Ok(()),
            Decision::WaitFor(reason) => Err(StepError::retryable(reason)),
            Decision::Refuse(reason) => Err(refused(&reason)),
        }
    }

    async fn gate(&self, cx: &StepContext) -> Result<(), StepError> {
        loop {
            let views = self.views().await;
            let intent = self.intent(cx);
            match decide(&views, intent.as_ref()) {
                Decision::Adopt => return Ok(()),
                Decision::Refuse(reason) => return Err(refused(&reason)),
                Decision::Bootstrap(node) if lost(&views, intent.as_ref()) => {
                    return Err(StepError::retryable("the accepted bootstrap was lost to a reboot")
                        .at(node.to_string())
                        .because("the node has booted again since, and its etcd has no data")
                        .code("T02"));
                }
                _ => cx.tell(&summary(&views)),
            }
            tokio::time::sleep(KNOCK).await;
        }
    }
}

/// Whether the node that was to bootstrap has booted since: then it has forgotten the call.
fn lost(views: &[View], intent: Option<&Intent>) -> bool {
    let booted = |intent: &Intent| {
        views.iter().any(|view| {
            view.node == intent.node && matches!(&view.etcd, Etcd::Waiting { boot } if *boot != intent.boot)
        })
    };
    // Nobody waits for a call that nobody has sent.
    intent.is_none_or(booted)
}

fn refused(reason: &str) -> StepError {
    StepError::new(ErrorClass::NeverAgain, "etcd is in a state that needs a person")
        .because(reason)
        .next("compare `talosctl etcd members` of every control plane before anything else is done")
        .code("T03")
}

fn summary(views: &[View]) -> String {
    let texts: Vec<String> = views.iter().map(|view| format!("{}: {}", view.node, view.etcd)).collect();
    texts.join("; ")
}

/// Every control plane is a voting member.
pub(super) struct Members(Arc<Site>);

impl Members {
    pub(super) fn new(site: Arc<Site>) -> Self {
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
