//! Config changes on configured nodes. Before etcd exists all nodes change at once; on a living cluster those that need a
//! reboot take turns.
//!
//! `decision` decides without I/O, `state` reads the cluster, this file acts. The order follows from the cluster's state
//! alone, so it holds after a kill.

mod changes;
mod cordons;
mod decision;
mod shared;
mod state;
mod turns;

use std::time::Duration;

use secrecy::ExposeSecret;
use tokio::time::Instant;

use super::choices::{Reboots, WithoutLease};
use super::config_errors::{config_error, dry_run_error};
use super::context::RunContext;
use super::errors::{place, step_error};
use super::etcd::membership::outsider;
use super::etcd::{connect, survey};
use super::node_config::runs;
use engine::{Code, Effect, StepContext, StepError, StepWait};
use error_report::ErrorReport;
use kubernetes::{DrainError, Scheduling};
use retry::policies::{API_OUTAGE_LIMIT, ROLLOUT_LOOK};
use state::cluster_state;
use talos_client::{ApplyMode, ChangeEffect, Client, ProgressTimeout, RebootMode};
use talos_config::{InventoryNode, Role};

pub use changes::{Change, ConfigChange, config_changes};
pub use cordons::Cordon;
pub(super) use cordons::{still_cordoned, uncordon_all};
pub use decision::{
    Alarms, ClusterState, EtcdPresence, EtcdState, Health, OtherNode, Outlook, RebootLimit, RebootWait, Voter,
    may_reboot,
};
pub(super) use shared::Rollout;
pub use state::{EtcdReport, MachineReport, NodeReport, PendingReboot, node_health};
pub use turns::{QueuedNode, RebootTurn, Turns};

/// For one attempt to reach the API.
const API_ATTEMPT: Duration = Duration::from_secs(10);
const API_AWAY: &str = "the Kubernetes API does not respond";

/// Fails when the change needs a reboot that the operator forbids.
pub(super) fn check_allowed(context: &RunContext, node: &InventoryNode, effect: ChangeEffect) -> Result<(), StepError> {
    if effect != ChangeEffect::Reboot || context.choices.rollout.reboots == Reboots::Allowed {
        return Ok(());
    }
    Err(StepError::failed_precondition("the config change needs a reboot, which --no-reboot forbids")
        .with_place(place(node))
        .next(format!(
            "show the change with `k8s-bootstrap plan {} --detailed-exitcode`; run without --no-reboot",
            context.cluster.name
        ))
        .code(Code::T21))
}

/// Whether the operator forbids reboots, so that changes are classified before anything is applied.
pub(super) fn reboots(context: &RunContext) -> Reboots {
    context.choices.rollout.reboots
}

/// Brings the config to a configured node.
pub(super) async fn apply(
    rollout: &Rollout,
    node: &InventoryNode,
    client: &Client,
    cx: &StepContext,
) -> Result<Effect, StepError> {
    let context = &*rollout.context;
    let queued = rollout.turns.join(&context.cluster.inventory.nodes, node);
    let text = context.config_text(node);
    let effect = client.change_effect(text.expose_secret()).await;
    let effect = effect.map_err(|error| dry_run_error(context, &error, node))?;
    check_allowed(context, node, effect)?;
    if effect != ChangeEffect::Reboot {
        if EtcdPresence::from_views(&survey(context).await) == EtcdPresence::Exists {
            reach_api_for_change(context, node, cx).await?;
        }
        return send(context, node, client, ApplyMode::NoReboot, cx).await.map(|_| Effect::Complete);
    }
    if wait_known(context, node, cx).await? == EtcdPresence::Exists {
        return in_turn(rollout, node, queued, cx).await;
    }
    let sent = send_and_reboot(context, node, client, cx).await?;
    let mut wait = Wait::new(context, node, cx);
    while let Some(line) = not_rebooted(context, node, &sent).await? {
        wait.pause_to_the_end(&line, Code::T11).await?;
    }
    Ok(Effect::Complete)
}

/// Whether the node reboots after a config was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AfterApply {
    Reboots,
    /// It reported that it runs the config without a reboot.
    Continues,
}

async fn send(
    context: &RunContext,
    node: &InventoryNode,
    client: &Client,
    mode: ApplyMode,
    cx: &StepContext,
) -> Result<AfterApply, StepError> {
    let text = context.config_text(node);
    let applied = client.apply_configuration(text.expose_secret(), mode).await;
    let applied = applied.map_err(|error| config_error(context, &error, node))?;
    for line in context.config_warnings.note(&node.hostname, applied.warnings) {
        cx.progress(&line);
    }
    Ok(if applied.rebooting { AfterApply::Reboots } else { AfterApply::Continues })
}

/// Sends a config that takes effect after a reboot, and has the node reboot.
async fn send_and_reboot(
    context: &RunContext,
    node: &InventoryNode,
    client: &Client,
    cx: &StepContext,
) -> Result<Sent, StepError> {
    let failed = |error| step_error(&error, node);
    let boot_id = client.boot_id().await.map_err(failed)?;
    let after = if client.version().await.map_err(failed)?.reports_reboots() {
        send(context, node, client, ApplyMode::Auto, cx).await?
    } else {
        // Talos 1.14 reboots for no config: its documentation has the operator apply and reboot. A staged config becomes
        // active with the reboot, so a run that is killed in between leaves a node that still has to change.
        send(context, node, client, ApplyMode::Staged, cx).await?;
        client.reboot(RebootMode::Default).await.map_err(failed)?;
        AfterApply::Reboots
    };
    Ok(Sent { boot_id, after })
}

/// Waits until it is known whether etcd exists.
async fn wait_known(context: &RunContext, node: &InventoryNode, cx: &StepContext) -> Result<EtcdPresence, StepError> {
    let mut wait = Wait::new(context, node, cx);
    loop {
        match EtcdPresence::from_views(&survey(context).await) {
            EtcdPresence::Unknown(view) => {
                wait.pause(&format!("it is unknown whether etcd exists: {view}"), Code::T11).await?;
            }
            known => return Ok(known),
        }
    }
}

/// A wait that reports why, ends with the run, and fails after the node's boot limit without a change.
struct Wait<'w> {
    node: &'w InventoryNode,
    cx: &'w StepContext,
    timeout: ProgressTimeout,
}

impl<'w> Wait<'w> {
    fn new(context: &RunContext, node: &'w InventoryNode, cx: &'w StepContext) -> Self {
        Self { node, cx, timeout: ProgressTimeout::new(context.boot_limit(node), Instant::now()) }
    }

    /// Pauses before the next look. For waits before anything was changed: they end when the run is to stop.
    async fn pause(&mut self, line: &str, code: Code) -> Result<(), StepError> {
        self.pause_for(StepWait::new(line).code(code)).await
    }

    async fn pause_for(&mut self, wait: StepWait) -> Result<(), StepError> {
        self.note(wait)?;
        tokio::select! {
            () = tokio::time::sleep(ROLLOUT_LOOK) => Ok(()),
            () = self.cx.stop_requested() => Err(stopped(self.node)),
        }
    }

    /// The same for waits that have to go on.
    async fn pause_to_the_end(&mut self, line: &str, code: Code) -> Result<(), StepError> {
        self.note(StepWait::new(line).code(code))?;
        tokio::time::sleep(ROLLOUT_LOOK).await;
        Ok(())
    }

    fn note(&mut self, wait: StepWait) -> Result<(), StepError> {
        self.cx.waiting(wait.clone());
        self.timeout.note(&wait.line, Instant::now()).map_err(|overdue| {
            let minutes = overdue.elapsed.as_secs() / 60;
            let mut error = StepError::failed_precondition(format!("no progress for {minutes}m"))
                .with_place(place(self.node))
                .because(&wait.line);
            error.next = wait.next;
            error.code(wait.code.unwrap_or(Code::T11))
        })
    }
}

fn stopped(node: &InventoryNode) -> StepError {
    StepError::unavailable("the run was stopped before the node was changed").with_place(place(node)).code(Code::O07)
}

/// Reboots the node into its config when its turn has come. A failure that is not retried ends the rollout.
async fn in_turn(
    rollout: &Rollout,
    node: &InventoryNode,
    queued: QueuedNode<'_>,
    cx: &StepContext,
) -> Result<Effect, StepError> {
    let context = &*rollout.context;
    if node.role == Role::Worker {
        // A worker needs the API, and the reboot of a control plane may bring it back: that one must get its turn.
        reach_api(context, node, cx).await?;
    }
    cx.waiting(StepWait::new("waits for its turn to reboot").code(Code::T21));
    let turn = tokio::select! {
        biased;
        () = cx.stop_requested() => return Err(stopped(node)),
        turn = queued.into_turn() => turn,
    };
    rollout.check_goes_on(node)?;
    let rebooted = reboot(rollout, node, &turn, cx).await;
    if let Err(error) = &rebooted
        && !error.class.is_retried()
    {
        rollout.end(node, error);
    }
    rebooted.map(|()| Effect::Complete)
}

async fn reboot(
    rollout: &Rollout,
    node: &InventoryNode,
    turn: &RebootTurn<'_>,
    cx: &StepContext,
) -> Result<(), StepError> {
    let context = &*rollout.context;
    let access = reach_api_for_change(context, node, cx).await?;
    wait_allowed(context, node, access, turn, cx).await?;
    let sent = match drain_and_send(rollout, node, access, turn, cx).await {
        Ok(sent) => sent,
        Err(error) => {
            // Nothing was changed on the node, so it runs pods again; if that fails too, a resume does it.
            if let Ok(api) = context.kubernetes().await {
                let _ = kubernetes::uncordon(&api, &node.hostname).await;
            }
            return Err(error);
        }
    };
    wait_back(context, node, &sent, access, cx).await?;
    uncordon(context, node, cx).await
}

/// How the Kubernetes API takes part in a reboot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ApiAccess {
    /// It is reachable, and is waited for when it goes away.
    Required,
    /// It was away before the reboot.
    Away,
}

/// A config that was sent.
struct Sent {
    /// The boot in which it was sent.
    boot_id: String,
    after: AfterApply,
}

async fn drain_and_send(
    rollout: &Rollout,
    node: &InventoryNode,
    access: ApiAccess,
    turn: &RebootTurn<'_>,
    cx: &StepContext,
) -> Result<Sent, StepError> {
    let context = &*rollout.context;
    if access == ApiAccess::Required {
        let api = context.kubernetes().await?;
        cordon(rollout, &api, node).await?;
        tokio::select! {
            biased;
            () = cx.stop_requested() => return Err(stopped(node)),
            drained = drain(&api, node, context.choices.rollout.drain_timeout, cx) => drained?,
        }
        // A drain may take minutes.
        wait_allowed(context, node, access, turn, cx).await?;
    }
    send_and_reboot(context, node, &connect(context, node).await?, cx).await
}

/// Waits for the Kubernetes API, for a control plane not for long: it may not come back without that one.
async fn reach_api(context: &RunContext, node: &InventoryNode, cx: &StepContext) -> Result<ApiAccess, StepError> {
    let began = Instant::now();
    let mut wait = Wait::new(context, node, cx);
    while !has_api(context).await? {
        if node.role == Role::ControlPlane && began.elapsed() >= API_OUTAGE_LIMIT {
            return Ok(ApiAccess::Away);
        }
        wait.pause(API_AWAY, Code::K01).await?;
    }
    Ok(ApiAccess::Required)
}

/// Whether the Kubernetes API responds, and this run has the cluster's lease.
async fn has_api(context: &RunContext) -> Result<bool, StepError> {
    match tokio::time::timeout(API_ATTEMPT, context.kubernetes()).await {
        Ok(Ok(_)) => Ok(true),
        // Such as a lease that another run has.
        Ok(Err(error)) if !error.class.is_retried() => Err(error),
        Ok(Err(_)) | Err(_) => Ok(false),
    }
}

/// Waits for the Kubernetes API before a node of a living cluster is changed: with it, this run has the cluster's lease. Only
/// where the operator has made sure that no other run works is a node changed without, since that may be what brings the API
/// back.
async fn reach_api_for_change(
    context: &RunContext,
    node: &InventoryNode,
    cx: &StepContext,
) -> Result<ApiAccess, StepError> {
    if context.choices.without_lease == WithoutLease::GoesOn {
        let access = reach_api(context, node, cx).await?;
        if access == ApiAccess::Away {
            cx.progress(
                "the Kubernetes API does not respond: etcd's quorum alone decides, and the node is not drained",
            );
        }
        return Ok(access);
    }
    let mut wait = Wait::new(context, node, cx);
    let line = format!("{API_AWAY}, so another run may be changing nodes");
    let next = format!(
        "if the API is not coming back by itself and no other run works: `k8s-bootstrap {} --resume --take-over`",
        context.cluster.name
    );
    while !has_api(context).await? {
        wait.pause_for(StepWait::new(&line).code(Code::K01).next(next.clone())).await?;
    }
    Ok(ApiAccess::Required)
}

/// The cluster around a node; nothing while an API that is required does not respond.
async fn look(
    context: &RunContext,
    node: &InventoryNode,
    access: ApiAccess,
) -> Result<Option<ClusterState>, StepError> {
    let api = match (tokio::time::timeout(API_ATTEMPT, context.kubernetes()).await, access) {
        (Ok(Ok(client)), _) => Some(client),
        (Ok(Err(error)), _) if !error.class.is_retried() => return Err(error),
        (_, ApiAccess::Required) => return Ok(None),
        (_, ApiAccess::Away) => None,
    };
    cluster_state(context, node, api.as_ref()).await.map(Some)
}

async fn wait_allowed(
    context: &RunContext,
    node: &InventoryNode,
    access: ApiAccess,
    turn: &RebootTurn<'_>,
    cx: &StepContext,
) -> Result<(), StepError> {
    let mut wait = Wait::new(context, node, cx);
    loop {
        let Some(cluster) = look(context, node, access).await? else {
            wait.pause(API_AWAY, Code::K01).await?;
            continue;
        };
        let Err(RebootWait { text, code, outlook }) = turn.may_reboot(&cluster) else { return Ok(()) };
        // Whether it left the inventory or is a stranger takes evidence.
        if let (Code::T22, Some(member)) = (code, cluster.etcd.outsiders.first()) {
            return Err(outsider(context, member).await);
        }
        match outlook {
            Outlook::MayChange => wait.pause(&format!("must not reboot yet: {text}"), code).await?,
            Outlook::Permanent => {
                return Err(StepError::needs_operator("the node must not reboot")
                    .with_place(place(node))
                    .because(text)
                    .code(code));
            }
        }
    }
}

fn api_error(node: &InventoryNode, error: &kubernetes::ApiError) -> StepError {
    let what = "the Kubernetes API rejected a request about the node";
    StepError::new(super::api_errors::api_error_class(error), what)
        .caused_by(error)
        .with_place(place(node))
        .code(Code::K07)
}

async fn cordon(rollout: &Rollout, api: &kube::Client, node: &InventoryNode) -> Result<(), StepError> {
    rollout.note_cordon(node);
    kubernetes::cordon(api, &node.hostname).await.map_err(|error| api_error(node, &error))
}

/// Evicts the pods of the node, if another node can run them.
async fn drain(api: &kube::Client, node: &InventoryNode, limit: Duration, cx: &StepContext) -> Result<(), StepError> {
    let nodes = kubernetes::nodes(api).await.map_err(|error| api_error(node, &error))?;
    let mut others = nodes.iter().filter(|(name, _)| **name != node.hostname).map(|(_, other)| other);
    if !others.any(|other| other.ready && other.scheduling == Scheduling::Allowed) {
        cx.progress("no other node can run its pods, so it is not drained");
        return Ok(());
    }
    let report = |reason: &kubernetes::WaitReason| cx.waiting(StepWait::new(&reason.text).code(Code::T24));
    kubernetes::drain(api, &node.hostname, limit, &report).await.map_err(|error| match error {
        DrainError::Api(error) => api_error(node, &error),
        stuck @ DrainError::Stuck { .. } => StepError::needs_operator("the node cannot be drained")
            .with_place(place(node))
            .because(stuck)
            .code(Code::T24),
    })
}

/// Waits until the node runs its config and serves again, on a control plane with a voting etcd member.
async fn wait_back(
    context: &RunContext,
    node: &InventoryNode,
    sent: &Sent,
    access: ApiAccess,
    cx: &StepContext,
) -> Result<(), StepError> {
    let began = Instant::now();
    let mut wait = Wait::new(context, node, cx);
    loop {
        let Some(line) = not_back(context, node, sent, access).await? else {
            context.learn_boot(node, began.elapsed(), cx).await;
            return Ok(());
        };
        wait.pause_to_the_end(&line, Code::T11).await?;
    }
}

/// Why the node does not run its config in a new boot yet.
async fn not_rebooted(context: &RunContext, node: &InventoryNode, sent: &Sent) -> Result<Option<String>, StepError> {
    let Ok(client) = connect(context, node).await else { return Ok(Some("its port is closed: rebooting".to_owned())) };
    match client.boot_id().await {
        Ok(boot_id) if boot_id == sent.boot_id && sent.after == AfterApply::Reboots => {
            return Ok(Some("it has not rebooted yet".to_owned()));
        }
        Ok(_) => {}
        Err(error) => return Ok(Some(ErrorReport::new(&error).to_string())),
    }
    Ok(match runs(context, node, &client).await {
        Ok(true) => None,
        Ok(false) => Some("it does not run the config that was applied".to_owned()),
        Err(error) => Some(ErrorReport::new(&error).to_string()),
    })
}

/// Why the node is not back yet.
async fn not_back(
    context: &RunContext,
    node: &InventoryNode,
    sent: &Sent,
    access: ApiAccess,
) -> Result<Option<String>, StepError> {
    match not_rebooted(context, node, sent).await? {
        None => serves(context, node, access).await,
        waiting => Ok(waiting),
    }
}

/// Why the node does not serve; nothing when it does.
async fn serves(context: &RunContext, node: &InventoryNode, access: ApiAccess) -> Result<Option<String>, StepError> {
    let Some(cluster) = look(context, node, access).await? else { return Ok(Some(API_AWAY.to_owned())) };
    if let Health::Down(reason) = cluster.health {
        return Ok(Some(reason));
    }
    if node.role == Role::Worker {
        return Ok(None);
    }
    let own = cluster.etcd.voters.iter().find(|voter| voter.name == node.hostname);
    Ok(match own.map(|voter| &voter.health) {
        Some(Health::Up) => None,
        Some(Health::Down(reason)) => Some(format!("its etcd member does not serve: {reason}")),
        None => Some("its etcd member does not vote yet".to_owned()),
    })
}

async fn uncordon(context: &RunContext, node: &InventoryNode, cx: &StepContext) -> Result<(), StepError> {
    if reach_api(context, node, cx).await? == ApiAccess::Required {
        let api = context.kubernetes().await?;
        kubernetes::uncordon(&api, &node.hostname).await.map_err(|error| api_error(node, &error))?;
    }
    Ok(())
}

/// Uncordons a node that a run of ours cordoned, once it serves. For nodes whose config was applied before.
pub(super) async fn release(rollout: &Rollout, node: &InventoryNode, cx: &StepContext) -> Result<(), StepError> {
    let context = &*rollout.context;
    if !rollout.has_cordoned(node) && !context.choices.resumed {
        return Ok(());
    }
    if EtcdPresence::from_views(&survey(context).await) != EtcdPresence::Exists {
        return Ok(());
    }
    if reach_api(context, node, cx).await? == ApiAccess::Away {
        return Ok(());
    }
    let api = context.kubernetes().await?;
    let nodes = kubernetes::nodes(&api).await.map_err(|error| api_error(node, &error))?;
    if nodes.get(&node.hostname).is_none_or(|node| node.scheduling != Scheduling::CordonedByUs) {
        return Ok(());
    }
    let mut wait = Wait::new(context, node, cx);
    while let Some(line) = serves(context, node, ApiAccess::Required).await? {
        wait.pause_to_the_end(&line, Code::T11).await?;
    }
    uncordon(context, node, cx).await
}
