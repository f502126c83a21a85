//! etcd: started on exactly one control plane, then joined by the others.
//!
//! `decision` decides without I/O, `survey` asks the nodes, `Bootstrap` acts, `members` waits for the others. By the
//! subscriptions of `steps::etcd_watch`, `looks` asks a node only when something may have changed there.

pub mod decision;
mod looks;
mod members;
pub mod membership;
mod reconnect;
mod survey;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use serde_json::json;
use tokio::time::Instant;

use super::context::RunContext;
use super::errors::{place, step_error};
use decision::{
    Absence, BootstrapOutcome, Context, Decision, Intent, Reason, State, Unreachable, View, agreed, decide, newest_call,
};
use engine::journal::{RecordedIntent, RecordedIntents};
use engine::plan::StepId;
use engine::{Action, Code, Effect, Observation, StepContext, StepError, StepWait};
use looks::Looks;
pub(super) use members::Members;
pub(super) use survey::survey;
use survey::survey_before_call;
use talos_client::{Client, ClientErrorKind, EtcdBootstrap};
use talos_config::InventoryNode;

/// A call whose answer was lost may still be in progress on the node: for so long its absence proves nothing.
const GRACE: Duration = Duration::from_secs(10);

/// The one call that must never reach two nodes.
pub(super) struct Bootstrap {
    context: Arc<RunContext>,
    /// The call that this run has sent; the journal has those of earlier runs.
    sent: Mutex<Option<Intent>>,
    /// Since when this run has not reached a control plane.
    unreachable: Mutex<BTreeMap<IpAddr, (Timestamp, Instant)>>,
}

impl Bootstrap {
    pub(super) fn new(context: Arc<RunContext>) -> Self {
        Self { context, sent: Mutex::default(), unreachable: Mutex::default() }
    }

    /// The control planes that do not respond now, and since when.
    fn unreachable(&self, views: &[View]) -> Vec<Unreachable> {
        let mut known = self.unreachable.lock().unwrap_or_else(PoisonError::into_inner);
        let away: Vec<IpAddr> =
            views.iter().filter(|view| matches!(view.state, State::Unknown { .. })).map(|view| view.node).collect();
        known.retain(|node, _| away.contains(node));
        let now = Instant::now();
        away.into_iter()
            .map(|node| {
                let (since, began) = *known.entry(node).or_insert((Timestamp::now(), now));
                Unreachable { node, since, lasted: now - began }
            })
            .collect()
    }

    /// Why nothing can be done yet. `--force-bootstrap-node` is named only beside the evidence that it needs.
    fn wait(&self, reason: &Reason, views: &[View]) -> StepWait {
        let outages = self.unreachable(views);
        let absence = Absence::find(views, &outages);
        match absence {
            Some(absence) if reason.code.is_none() => {
                StepWait::new(absence.to_string()).code(Code::T11).next(self.force_hint(&absence))
            }
            _ => StepWait::new(&reason.text).code(reason.code.unwrap_or(Code::T11)),
        }
    }

    fn force_hint(&self, absence: &Absence) -> Option<String> {
        let node = self.node(absence.forced_node()?).ok()?;
        let lost: Vec<String> = absence.unreachable_nodes().map(|node| node.to_string()).collect();
        Some(format!(
            "start {lost}; if it is lost for good: `k8s-bootstrap {} --resume --force-bootstrap-node {}`",
            self.context.cluster.name,
            node.hostname,
            lost = lost.join(", ")
        ))
    }

    fn decide(&self, cx: &StepContext, views: &[View]) -> Decision {
        decide(views, Context { intent: self.intent(cx).as_ref(), forced: self.context.choices.forced })
    }

    /// The newest intent that may have taken effect.
    fn intent(&self, cx: &StepContext) -> Option<Intent> {
        self.sent().clone().or_else(|| Intent::from_records(cx.recorded_intents()))
    }

    fn sent(&self) -> std::sync::MutexGuard<'_, Option<Intent>> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn node(&self, address: IpAddr) -> Result<&InventoryNode, StepError> {
        self.context.control_planes().into_iter().find(|node| node.address == address).ok_or_else(|| {
            StepError::failed_precondition(format!("{address} is not a control plane of this cluster")).code(Code::T03)
        })
    }

    /// Sends the call over a connection to the boot that was decided about.
    async fn bootstrap(&self, cx: &StepContext, address: IpAddr, boot: String) -> Result<(), StepError> {
        let node = self.node(address)?;
        let client = connect(&self.context, node).await?;
        if client.boot_id().await.map_err(|error| step_error(&error, node))? != boot {
            return Err(StepError::not_ready("the node rebooted while it was observed")
                .with_place(place(node))
                .code(Code::T11));
        }
        let intent = Intent { node: address, boot, accepted: false };
        cx.intend(json!(intent)).await?;
        self.context.note_etcd_bootstrap();
        *self.sent() = Some(intent.clone());
        match client.bootstrap(EtcdBootstrap::New).await {
            Ok(()) => self.accepted(cx, intent, BootstrapOutcome::Accepted).await,
            Err(error) if error.kind == ClientErrorKind::AlreadyExists => {
                self.accepted(cx, intent, BootstrapOutcome::AcceptedEarlier).await
            }
            Err(error) if is_rejected(error.kind) => {
                *self.sent() = None;
                cx.conclude(json!(BootstrapOutcome::NotAccepted)).await?;
                let rejected = step_error(&error, node);
                Err(if error.kind == ClientErrorKind::NotReady { rejected.code(Code::T06) } else { rejected })
            }
            // The answer may be lost and the call not: the next observation decides.
            Err(error) => Err(step_error(&error, node).code(Code::T01)),
        }
    }

    async fn accepted(&self, cx: &StepContext, intent: Intent, outcome: BootstrapOutcome) -> Result<(), StepError> {
        *self.sent() = Some(Intent { accepted: true, ..intent });
        cx.conclude(json!(outcome)).await
    }
}

/// The id of the step.
const BOOTSTRAP: &str = "etcd/bootstrap";

/// Whether the journal has the beginning of this etcd: a call that may have been accepted.
pub(super) fn began_in(intents: &RecordedIntents) -> bool {
    intents.get(&StepId::new(BOOTSTRAP)).is_some_and(|own| may_have_bootstrapped(own))
}

/// Whether a call of an earlier run has started etcd, or may have.
pub(super) fn may_have_bootstrapped(recorded: &[RecordedIntent]) -> bool {
    newest_call(recorded).is_some()
}

pub(super) async fn connect(context: &RunContext, node: &InventoryNode) -> Result<Client, StepError> {
    context.node_client(node).await.map_err(|error| step_error(&error, node))
}

#[async_trait]
impl Action for Bootstrap {
    async fn observe(&self, cx: &StepContext) -> Result<Observation, StepError> {
        let views = survey(&self.context).await;
        match self.decide(cx, &views) {
            Decision::Adopt => Ok(Observation::UpToDate("etcd runs".to_owned())),
            Decision::Verify(node) => Ok(Observation::InProgress(format!("accepted by {node}, not running yet"))),
            Decision::Bootstrap { node, .. } => {
                Ok(Observation::Missing(format!("etcd runs on no control plane; {node} is bootstrapped")))
            }
            // The gate waits for it, by watching.
            Decision::WaitFor(reason) => Ok(Observation::InProgress(self.wait(&reason, &views).line)),
            Decision::Refuse(reason) => Err(refused(&reason)),
        }
    }

    async fn apply(&self, cx: &StepContext) -> Result<Effect, StepError> {
        let first = self.decide(cx, &survey(&self.context).await);
        match agreed(&first, self.decide(cx, &survey_before_call(&self.context).await)) {
            Decision::Bootstrap { node, boot } => {
                self.bootstrap(cx, node, boot).await?;
                Ok(Effect::Complete)
            }
            Decision::Adopt | Decision::Verify(_) => Ok(Effect::Complete),
            Decision::WaitFor(reason) => Err(not_yet(&reason)),
            Decision::Refuse(reason) => Err(refused(&reason)),
        }
    }

    async fn gate(&self, cx: &StepContext) -> Result<(), StepError> {
        let in_doubt_until = Instant::now() + GRACE;
        let mut looks = Looks::new(&self.context).await;
        loop {
            let views = looks.views();
            match self.decide(cx, &views) {
                Decision::Adopt => return Ok(()),
                // Views of different moments are no evidence against a cluster.
                Decision::Refuse(_) => match self.decide(cx, &survey(&self.context).await) {
                    Decision::Refuse(reason) => return Err(refused(&reason)),
                    _ => looks = Looks::new(&self.context).await,
                },
                Decision::Bootstrap { node, boot } => match self.intent(cx) {
                    Some(intent) if intent.boot == boot && Instant::now() < in_doubt_until => {
                        cx.waiting(StepWait::new(summary(&views)).code(Code::T01));
                        tokio::select! {
                            () = looks.renew() => {}
                            () = tokio::time::sleep_until(in_doubt_until) => {}
                        }
                    }
                    Some(intent) => {
                        return Err(if intent.boot == boot { never_arrived(node) } else { lost_to_reboot(node) });
                    }
                    None => {
                        return Err(StepError::not_ready("etcd can be bootstrapped now").with_place(node.to_string()));
                    }
                },
                Decision::WaitFor(reason) => {
                    cx.waiting(self.wait(&reason, &views));
                    looks.renew().await;
                }
                Decision::Verify(_) => {
                    cx.waiting(StepWait::new(summary(&views)).code(Code::T14));
                    looks.renew().await;
                }
            }
        }
    }
}

/// The error of a call without effect in the same boot.
fn never_arrived(node: IpAddr) -> StepError {
    StepError::unavailable("the bootstrap never arrived")
        .because("the node is in the same boot, and its log has no bootstrap request")
        .code(Code::T01)
        .with_place(node.to_string())
}

/// The error of an accepted call that a reboot undid.
fn lost_to_reboot(node: IpAddr) -> StepError {
    StepError::unavailable("the accepted bootstrap was lost to a reboot")
        .because("the node has rebooted since, and its etcd has no data")
        .code(Code::T02)
        .with_place(node.to_string())
}

/// The control planes changed between two surveys.
fn not_yet(reason: &Reason) -> StepError {
    StepError::not_ready("etcd is not bootstrapped yet").because(&reason.text).code(reason.code.unwrap_or(Code::T11))
}

fn refused(reason: &Reason) -> StepError {
    StepError::needs_operator("etcd needs a manual decision")
        .because(&reason.text)
        .code(reason.code.unwrap_or(Code::T03))
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
            | ClientErrorKind::Unsupported
            | ClientErrorKind::Unimplemented
    )
}

/// Ids of etcd's members as the journal has them.
pub(super) fn member_ids(ids: impl Iterator<Item = u64>) -> BTreeSet<String> {
    ids.map(|id| format!("{id:016x}")).collect()
}
