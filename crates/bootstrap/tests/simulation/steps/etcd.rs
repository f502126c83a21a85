//! etcd: started once, then joined.

use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bootstrap::steps::etcd::decision::{
    BootstrapOutcome, Context, Decision, Intent, Reason, State, View, agreed, decide,
};
use bootstrap::steps::etcd::membership::{MemberList, Membership, check_one_cluster};
use engine::{Action, Check, CheckResult, Code, Effect, Observation, StepContext, StepError, StepWait};
use futures::future::join_all;
use serde_json::json;
use talos_config::Role;
use tokio::time::Instant;

use super::{LOOK, RunParts};
use crate::cluster::BootstrapReply;
use crate::inputs::declared;
use crate::link::{Lateness, Peer};

/// A call whose answer was lost may still be in progress on the node: for so long its absence proves nothing.
const GRACE: Duration = Duration::from_secs(10);

fn control_planes() -> impl Iterator<Item = usize> {
    let all = declared().nodes.iter().enumerate();
    all.filter(|(_, node)| node.role == Role::ControlPlane).map(|(index, _)| index)
}

fn index_of(address: IpAddr) -> Result<usize, StepError> {
    let found = declared().nodes.iter().position(|node| node.address == address);
    found.ok_or_else(|| StepError::failed_precondition("the node is not a control plane of this cluster"))
}

impl RunParts {
    /// Every control plane, all at once.
    pub(super) async fn survey(&self) -> Vec<View> {
        join_all(control_planes().map(|index| async move {
            let state = self.link.read(Peer::Node(index), |cluster| cluster.etcd_view(index)).await;
            let state = state.unwrap_or_else(|_| State::Unknown { reason: "it does not respond".to_owned() });
            View { node: declared().nodes[index].address, state }
        }))
        .await
    }

    async fn boot_id(&self, index: usize) -> Result<String, StepError> {
        Ok(self.link.read(Peer::Node(index), |cluster| cluster.nodes[index].boot_id()).await?)
    }
}

/// The one call that must never reach two nodes.
pub(super) struct Bootstrap {
    parts: Arc<RunParts>,
    sent: Mutex<Option<Intent>>,
}

impl Bootstrap {
    pub(super) fn new(parts: Arc<RunParts>) -> Self {
        Self { parts, sent: Mutex::default() }
    }

    fn sent(&self) -> MutexGuard<'_, Option<Intent>> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn intent(&self, cx: &StepContext) -> Option<Intent> {
        self.sent().clone().or_else(|| Intent::from_records(cx.recorded_intents()))
    }

    async fn decide(&self, cx: &StepContext) -> Decision {
        decide(&self.parts.survey().await, Context { intent: self.intent(cx).as_ref(), forced: None })
    }

    /// Sends the call over a connection to the boot that was decided about.
    async fn bootstrap(&self, cx: &StepContext, address: IpAddr, boot: String) -> Result<(), StepError> {
        let index = index_of(address)?;
        if self.parts.boot_id(index).await? != boot {
            return Err(StepError::unavailable("the node rebooted while it was observed"));
        }
        let intent = Intent { node: address, boot: boot.clone(), accepted: false };
        cx.intend(json!(intent)).await?;
        *self.sent() = Some(intent.clone());
        self.parts.bootstrapped.store(true, Ordering::SeqCst);
        let call = self.parts.link.send(Peer::Node(index), Lateness::MayBeLate, move |cluster| {
            // The call goes over the connection to that boot.
            (cluster.nodes[index].boot_id() == boot).then(|| cluster.bootstrap(index))
        });
        match call.await?.ok_or_else(|| StepError::unavailable("the connection is gone"))? {
            BootstrapReply::Accepted => self.accepted(cx, intent, BootstrapOutcome::Accepted).await,
            BootstrapReply::AlreadyExists => self.accepted(cx, intent, BootstrapOutcome::AcceptedEarlier).await,
            BootstrapReply::NotYet => {
                *self.sent() = None;
                cx.conclude(json!(BootstrapOutcome::NotAccepted)).await?;
                Err(StepError::not_ready("bootstrap failed").because("not available yet").code(Code::T06))
            }
        }
    }

    async fn accepted(&self, cx: &StepContext, intent: Intent, outcome: BootstrapOutcome) -> Result<(), StepError> {
        *self.sent() = Some(Intent { accepted: true, ..intent });
        cx.conclude(json!(outcome)).await
    }
}

#[async_trait]
impl Action for Bootstrap {
    async fn observe(&self, cx: &StepContext) -> Result<Observation, StepError> {
        match self.decide(cx).await {
            Decision::Adopt => Ok(Observation::UpToDate("etcd runs".to_owned())),
            Decision::Verify(node) => Ok(Observation::InProgress(format!("accepted by {node}, not running yet"))),
            Decision::Bootstrap { node, .. } => Ok(Observation::Missing(format!("{node} is bootstrapped"))),
            // The gate waits for it.
            Decision::WaitFor(reason) => Ok(Observation::InProgress(reason.text)),
            Decision::Refuse(reason) => Err(refused(&reason)),
        }
    }

    async fn apply(&self, cx: &StepContext) -> Result<Effect, StepError> {
        let first = self.decide(cx).await;
        match agreed(&first, self.decide(cx).await) {
            Decision::Bootstrap { node, boot } => {
                self.bootstrap(cx, node, boot).await?;
                Ok(Effect::Complete)
            }
            Decision::Adopt | Decision::Verify(_) => Ok(Effect::Complete),
            Decision::WaitFor(reason) => Err(wait(&reason)),
            Decision::Refuse(reason) => Err(refused(&reason)),
        }
    }

    async fn gate(&self, cx: &StepContext) -> Result<(), StepError> {
        let began = Instant::now();
        loop {
            match self.decide(cx).await {
                Decision::Adopt => return Ok(()),
                // Views of different moments are no evidence against a cluster.
                Decision::Refuse(_) => {
                    if let Decision::Refuse(reason) = self.decide(cx).await {
                        return Err(refused(&reason));
                    }
                }
                Decision::Bootstrap { boot, .. } => match self.intent(cx) {
                    Some(intent) if intent.boot == boot && began.elapsed() < GRACE => {
                        cx.waiting(StepWait::new("the call may be in progress").code(Code::T01));
                    }
                    Some(_) => {
                        return Err(StepError::unavailable("the bootstrap never arrived or was lost to a reboot"));
                    }
                    None => return Err(StepError::not_ready("etcd can be bootstrapped now")),
                },
                Decision::WaitFor(reason) => cx.waiting(StepWait::new(reason.text).code(reason.code)),
                Decision::Verify(_) => cx.waiting(StepWait::new("accepted, not running yet").code(Code::T14)),
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

fn wait(reason: &Reason) -> StepError {
    let error = StepError::not_ready(&reason.text);
    match reason.code {
        Some(code) => error.code(code),
        None => error,
    }
}

fn refused(reason: &Reason) -> StepError {
    StepError::needs_operator("etcd needs a manual decision")
        .because(&reason.text)
        .code(reason.code.unwrap_or(Code::T03))
}

/// Every control plane is a voting member.
pub(super) struct Members(pub(super) Arc<RunParts>);

impl Members {
    async fn missing(&self) -> Result<Option<String>, StepError> {
        let declared = declared().control_planes();
        let lists = join_all(control_planes().map(|index| async move {
            let members = self.0.link.read(Peer::Node(index), |cluster| cluster.etcd_members(index)).await.ok()??;
            Some(MemberList { node: declared_address(index), members })
        }));
        let lists: Vec<MemberList> = lists.await.into_iter().flatten().collect();
        check_one_cluster(&lists)?;
        let Some(list) = lists.into_iter().next() else {
            return Err(StepError::unavailable("no control plane lists etcd's members"));
        };
        let membership = Membership::new(list.members, &declared);
        if let Some(member) = membership.outsiders.first() {
            return Err(StepError::needs_operator(format!("{} is a stranger", member.hostname)).code(Code::T23));
        }
        let voting = membership.voting();
        Ok((voting < declared.len()).then(|| format!("{voting} of {} control planes vote", declared.len())))
    }
}

fn declared_address(index: usize) -> IpAddr {
    declared().nodes[index].address
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
        for index in control_planes() {
            self.0.wait_configured(index, cx).await?;
        }
        loop {
            match self.missing().await {
                Ok(None) => return Ok(()),
                Ok(Some(reason)) => cx.waiting(StepWait::new(reason).code(Code::T13)),
                Err(error) if error.class.is_retried() => cx.progress(&error.what),
                Err(error) => return Err(error),
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}
