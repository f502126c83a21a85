//! etcd: started on exactly one control plane, then joined by the others.
//!
//! `decision` decides without I/O, `look` asks the nodes, `Bootstrap` acts, `members` waits for the others.

pub mod decision;
mod look;
mod members;

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::site::{KNOCK, Site, place, step_error};
use decision::{Context, Decision, Intent, Reason, View, agreed, decide};
use engine::{ErrorClass, Observation, Step, StepContext, StepError};
use look::look;
pub(super) use members::Members;
use talos_client::{Client, ClientErrorKind, EtcdBootstrap};
use talos_config::InventoryNode;

/// A call whose answer was lost may still be at work on the node: so long nothing of it need be seen.
const GRACE: Duration = Duration::from_secs(10);

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

    fn decide(&self, cx: &StepContext, views: &[View]) -> Decision {
        decide(views, Context { intent: self.intent(cx).as_ref(), forced: self.site.forced })
    }

    /// The newest intent that is not known to have come to nothing.
    fn intent(&self, cx: &StepContext) -> Option<Intent> {
        self.sent().clone().or_else(|| recorded(cx))
    }

    fn sent(&self) -> std::sync::MutexGuard<'_, Option<Intent>> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn node(&self, address: IpAddr) -> Result<&InventoryNode, StepError> {
        self.site
            .control_planes()
            .into_iter()
            .find(|node| node.address == address)
            .ok_or_else(|| StepError::wrong_world(format!("{address} is no control plane of this cluster")))
    }

    /// Sends the call over a connection to the very boot that was decided about.
    async fn bootstrap(&self, cx: &StepContext, address: IpAddr, boot: String) -> Result<(), StepError> {
        let node = self.node(address)?;
        let client = connect(&self.site, node).await?;
        if client.boot_id().await.map_err(|error| step_error(&error, node))? != boot {
            return Err(StepError::retryable("the node has booted again while it was looked at").at(place(node)));
        }
        let intent = Intent { node: address, boot, accepted: false };
        cx.intend(json!(intent))?;
        *self.sent() = Some(intent.clone());
        match client.bootstrap(EtcdBootstrap::New).await {
            Ok(()) => self.accepted(cx, intent, ACCEPTED),
            Err(error) if error.kind == ClientErrorKind::AlreadyExists => self.accepted(cx, intent, ACCEPTED_EARLIER),
            Err(error) if is_rejected(error.kind) => {
                *self.sent() = None;
                cx.conclude(json!(NOT_ACCEPTED))?;
                Err(step_error(&error, node))
            }
            // The answer may be lost and the call not: the next observation asks the nodes.
            Err(error) => Err(step_error(&error, node)),
        }
    }

    fn accepted(&self, cx: &StepContext, intent: Intent, outcome: &str) -> Result<(), StepError> {
        *self.sent() = Some(Intent { accepted: true, ..intent });
        cx.conclude(json!(outcome))
    }
}

const ACCEPTED: &str = "accepted";
const ACCEPTED_EARLIER: &str = "accepted earlier";
const NOT_ACCEPTED: &str = "not accepted";

/// What the journal knows of earlier runs: the newest call that may have been accepted.
fn recorded(cx: &StepContext) -> Option<Intent> {
    let prior =
        cx.priors.iter().rev().find(|prior| prior.outcome.as_ref().and_then(Value::as_str) != Some(NOT_ACCEPTED))?;
    let intent: Intent = serde_json::from_value(prior.intent.clone()).ok()?;
    Some(Intent { accepted: prior.outcome.is_some(), ..intent })
}

async fn connect(site: &Site, node: &InventoryNode) -> Result<Client, StepError> {
    Client::connect(&site.dialer, node.address, &site.client_identity).await.map_err(|error| step_error(&error, node))
}

#[async_trait]
impl Step for Bootstrap {
    async fn observe(&self, cx: &StepContext) -> Result<Observation, StepError> {
        match self.decide(cx, &look(&self.site).await) {
            Decision::Adopt => Ok(Observation::Holds("etcd runs".to_owned())),
            Decision::Verify(node) => Ok(Observation::Underway(format!("accepted by {node}, not running yet"))),
            Decision::Bootstrap { node, .. } => {
                Ok(Observation::Missing(format!("no etcd anywhere, {node} will be the first")))
            }
            Decision::WaitFor(reason) => Err(wait(&reason)),
            Decision::Refuse(reason) => Err(refused(&reason)),
        }
    }

    async fn apply(&self, cx: &StepContext) -> Result<(), StepError> {
        let first = self.decide(cx, &look(&self.site).await);
        match agreed(&first, self.decide(cx, &look(&self.site).await)) {
            Decision::Bootstrap { node, boot } => self.bootstrap(cx, node, boot).await,
            Decision::Adopt | Decision::Verify(_) => Ok(()),
            Decision::WaitFor(reason) => Err(wait(&reason)),
            Decision::Refuse(reason) => Err(refused(&reason)),
        }
    }

    async fn gate(&self, cx: &StepContext) -> Result<(), StepError> {
        let began = Instant::now();
        loop {
            let views = look(&self.site).await;
            match self.decide(cx, &views) {
                Decision::Adopt => return Ok(()),
                Decision::Refuse(reason) => return Err(refused(&reason)),
                Decision::Bootstrap { node, boot } => match self.intent(cx) {
                    Some(intent) if intent.boot == boot && began.elapsed() < GRACE => cx.tell(&summary(&views)),
                    Some(intent) => return Err(lost(node, intent.boot == boot)),
                    None => return Err(StepError::retryable("no bootstrap has been sent").at(node.to_string())),
                },
                Decision::WaitFor(_) | Decision::Verify(_) => cx.tell(&summary(&views)),
            }
            tokio::time::sleep(KNOCK).await;
        }
    }
}

/// The call came to nothing: it never arrived in this boot, or a later boot has forgotten it.
fn lost(node: IpAddr, same_boot: bool) -> StepError {
    let error = if same_boot {
        StepError::retryable("the bootstrap never arrived")
            .because("the node is in the same boot, and its log has no bootstrap in it")
            .code("T01")
    } else {
        StepError::retryable("the accepted bootstrap was lost to a reboot")
            .because("the node has booted again since, and its etcd has no data")
            .code("T02")
    };
    error.at(node.to_string())
}

fn wait(reason: &Reason) -> StepError {
    let error = StepError::retryable(&reason.text);
    match reason.code {
        Some(code) => error.code(code),
        None => error.next(
            "bring that control plane up; if it is gone for good, say so: --resume --force-bootstrap-node <another one>",
        ),
    }
}

fn refused(reason: &Reason) -> StepError {
    StepError::new(ErrorClass::NeverAgain, "etcd is in a state that needs a person")
        .because(&reason.text)
        .next("compare `talosctl etcd members` of every control plane before anything else is done")
        .code(reason.code.unwrap_or("T03"))
}

fn summary(views: &[View]) -> String {
    let texts: Vec<String> = views.iter().map(|view| format!("{}: {}", view.node, view.state)).collect();
    texts.join("; ")
}

/// Whether the node rejected the call, so that the bootstrap has not started.
fn is_rejected(kind: ClientErrorKind) -> bool {
    matches!(
        kind,
        ClientErrorKind::NotReady
            | ClientErrorKind::Rejected
            | ClientErrorKind::PermissionDenied
            | ClientErrorKind::ResourceExhausted
            | ClientErrorKind::Unimplemented
    )
}
