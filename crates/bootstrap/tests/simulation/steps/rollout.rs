//! Config changes of configured nodes, as the rollout of the program carries them out.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ::kubernetes::Scheduling;
use bootstrap::steps::rollout::{
    ClusterState, Cordon, EtcdPresence, EtcdReport, EtcdState, Health, NodeReport, Outlook, QueuedNode, RebootTurn,
    RebootWait, Turns,
};
use engine::{Code, Effect, StepContext, StepError, StepWait};
use futures::future::join_all;
use retry::policies::API_OUTAGE_LIMIT;
use talos_client::ChangeEffect;
use talos_config::Role;
use tokio::time::Instant;

use super::{RunParts, Wait, stopped};
use crate::cluster::{AfterConfig, ApplyMode, SimulatedCluster, change_effect};
use crate::inputs::declared;
use crate::link::{Lateness, Peer};

const API_AWAY: &str = "the Kubernetes API does not respond";

/// What the nodes of a run share while they take turns.
pub(super) struct Rollout {
    turns: Turns,
    ended_by: Mutex<Option<String>>,
    /// The nodes that an earlier run left cordoned, once the API has responded.
    left_cordoned: tokio::sync::Mutex<Option<BTreeSet<String>>>,
    cordoned: Mutex<BTreeSet<usize>>,
}

impl Rollout {
    pub(super) fn new(max_unavailable: NonZeroU32) -> Self {
        Self {
            turns: Turns::new(max_unavailable),
            ended_by: Mutex::default(),
            left_cordoned: tokio::sync::Mutex::default(),
            cordoned: Mutex::default(),
        }
    }
}

/// How the Kubernetes API takes part in a reboot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ApiAccess {
    Required,
    Away,
}

/// A look at the cluster, and when it began.
struct Look {
    began: Duration,
    cluster: ClusterState,
}

fn role(index: usize) -> Role {
    declared().nodes[index].role
}

/// Read once per run, as soon as the API responds.
pub(super) async fn cordon_of(parts: &RunParts, index: usize) -> Cordon {
    let mut left = parts.rollout.left_cordoned.lock().await;
    if left.is_none() {
        *left = cordoned_by_us(parts).await.ok();
    }
    match &*left {
        None => Cordon::Unknown,
        Some(left) if left.contains(&declared().nodes[index].hostname) => Cordon::Left,
        Some(_) => Cordon::None,
    }
}

/// The nodes that a run cordoned and did not uncordon.
pub(super) async fn cordoned_by_us(parts: &RunParts) -> Result<BTreeSet<String>, StepError> {
    let nodes = parts.api(SimulatedCluster::registered).await?;
    let ours = nodes.into_iter().filter(|(_, node)| node.scheduling == Scheduling::CordonedByUs);
    Ok(ours.map(|(name, _)| name).collect())
}

/// Uncordons them.
pub(super) async fn uncordon_all(parts: &RunParts) -> Result<(), StepError> {
    for name in cordoned_by_us(parts).await? {
        let index = declared().nodes.iter().position(|node| node.hostname == name).unwrap();
        schedule(parts, index, Scheduling::Allowed).await?;
    }
    Ok(())
}

/// Brings the config to a configured node.
pub(super) async fn apply(parts: &RunParts, index: usize, running: u32, cx: &StepContext) -> Result<Effect, StepError> {
    let queued = parts.rollout.turns.join(&declared().nodes, &declared().nodes[index]);
    let effect = change_effect(running, parts.config);
    let mut mode = ApplyMode::NoReboot;
    if effect == ChangeEffect::Reboot {
        let KnownEtcd { presence, looked } = wait_known(parts, cx).await?;
        if presence == EtcdPresence::Exists {
            return in_turn(parts, index, queued, cx).await;
        }
        mode = ApplyMode::BeforeEtcd { looked };
    }
    send(parts, index, mode).await.map(|_| Effect::Complete)
}

async fn send(parts: &RunParts, index: usize, mode: ApplyMode) -> Result<AfterConfig, StepError> {
    let config = parts.config;
    let applied =
        parts.link.send(Peer::Node(index), Lateness::InTime, move |cluster| cluster.apply_config(index, config, mode));
    applied.await?.map_err(|_| StepError::failed_precondition("the config change needs a reboot"))
}

/// Whether etcd exists, and when the run began to look.
struct KnownEtcd {
    presence: EtcdPresence,
    looked: Duration,
}

/// Waits until it is known whether etcd exists.
async fn wait_known(parts: &RunParts, cx: &StepContext) -> Result<KnownEtcd, StepError> {
    let mut wait = Wait::new(cx);
    loop {
        let looked = parts.link.cluster.lock().now();
        match EtcdPresence::from_views(&parts.survey().await) {
            EtcdPresence::Unknown(view) => {
                wait.pause(&format!("it is unknown whether etcd exists: {view}"), Code::T11).await?;
            }
            presence => return Ok(KnownEtcd { presence, looked }),
        }
    }
}

/// Reboots the node into its config when its turn has come. A failure that is not retried ends the rollout.
async fn in_turn(
    parts: &RunParts,
    index: usize,
    queued: QueuedNode<'_>,
    cx: &StepContext,
) -> Result<Effect, StepError> {
    if role(index) == Role::Worker {
        // A worker needs the API, and the reboot of a control plane may bring it back: that one must get its turn.
        reach_api(parts, index, cx).await?;
    }
    cx.waiting(StepWait::new("waits for its turn to reboot").code(Code::T21));
    let turn = tokio::select! {
        biased;
        () = cx.stop_requested() => return Err(stopped()),
        turn = queued.into_turn() => turn,
    };
    if let Some(reason) = &*parts.rollout.ended_by.lock().unwrap_or_else(PoisonError::into_inner) {
        return Err(StepError::failed_precondition("the rollout ended").because(reason).code(Code::T21));
    }
    let rebooted = reboot(parts, index, &turn, cx).await;
    if let Err(error) = &rebooted
        && !error.class.is_retried()
    {
        let mut ended_by = parts.rollout.ended_by.lock().unwrap_or_else(PoisonError::into_inner);
        ended_by.get_or_insert(error.what.clone());
    }
    rebooted.map(|()| Effect::Complete)
}

async fn reboot(parts: &RunParts, index: usize, turn: &RebootTurn<'_>, cx: &StepContext) -> Result<(), StepError> {
    let access = reach_api(parts, index, cx).await?;
    let looked = wait_allowed(parts, index, access, turn, cx).await?;
    let sent = match drain_and_send(parts, index, access, looked, turn, cx).await {
        Ok(sent) => sent,
        Err(error) => {
            // Nothing was changed on the node, so it runs pods again; if that fails too, a resume does it.
            let _ = schedule(parts, index, Scheduling::Allowed).await;
            return Err(error);
        }
    };
    wait_back(parts, index, &sent, access, cx).await?;
    uncordon(parts, index, cx).await
}

/// A config that was sent, in which boot, and what the node does now.
struct Sent {
    boot_id: String,
    after: AfterConfig,
}

async fn drain_and_send(
    parts: &RunParts,
    index: usize,
    access: ApiAccess,
    mut looked: Duration,
    turn: &RebootTurn<'_>,
    cx: &StepContext,
) -> Result<Sent, StepError> {
    if access == ApiAccess::Required {
        parts.rollout.cordoned.lock().unwrap_or_else(PoisonError::into_inner).insert(index);
        schedule(parts, index, Scheduling::CordonedByUs).await?;
        let drain = parts.link.cluster.lock().chance.millis(100..=5_000);
        tokio::select! {
            biased;
            () = cx.stop_requested() => return Err(stopped()),
            () = tokio::time::sleep(drain) => {}
        }
        looked = wait_allowed(parts, index, access, turn, cx).await?;
    }
    let boot_id = parts.link.read(Peer::Node(index), |cluster| cluster.nodes[index].boot_id()).await?;
    let after = send(parts, index, ApplyMode::Auto { looked }).await?;
    Ok(Sent { boot_id, after })
}

async fn schedule(parts: &RunParts, index: usize, scheduling: Scheduling) -> Result<(), StepError> {
    let change = move |cluster: &mut SimulatedCluster| cluster.schedule(index, scheduling);
    Ok(parts.link.send(Peer::Api, Lateness::InTime, change).await?)
}

/// Waits for the Kubernetes API, for a control plane not for long: its reboot may be what brings the API back.
async fn reach_api(parts: &RunParts, index: usize, cx: &StepContext) -> Result<ApiAccess, StepError> {
    let began = Instant::now();
    let mut wait = Wait::new(cx);
    loop {
        if parts.api(|_| ()).await.is_ok() {
            return Ok(ApiAccess::Required);
        }
        if role(index) == Role::ControlPlane && began.elapsed() >= API_OUTAGE_LIMIT {
            cx.progress("the Kubernetes API does not respond: etcd's quorum alone decides");
            return Ok(ApiAccess::Away);
        }
        wait.pause(API_AWAY, Code::K01).await?;
    }
}

/// The cluster around a node; nothing while an API that is required does not respond.
async fn look(parts: &RunParts, index: usize, access: ApiAccess) -> Result<Option<Look>, StepError> {
    let began = parts.link.cluster.lock().now();
    let registered = match (parts.api(SimulatedCluster::registered).await, access) {
        (Ok(registered), _) => Some(registered),
        (Err(_), ApiAccess::Required) => return Ok(None),
        (Err(_), ApiAccess::Away) => None,
    };
    let all = declared().nodes.len();
    let reports = join_all((0..all).map(|other| async move {
        let report = |cluster: &SimulatedCluster| cluster.nodes[other].report(cluster.now());
        let unreachable = |_| NodeReport::Unreachable("its port is closed".to_owned());
        parts.link.read(Peer::Node(other), report).await.unwrap_or_else(unreachable)
    }));
    let (reports, etcd) = tokio::join!(reports, etcd_state(parts));
    let (name, inventory) = (&declared().nodes[index].hostname, &declared().nodes);
    let cluster = ClusterState::from_reports(name, inventory, &reports, registered.as_ref(), etcd?);
    Ok(Some(Look { began, cluster }))
}

async fn etcd_state(parts: &RunParts) -> Result<EtcdState, StepError> {
    let control_planes = declared().control_planes();
    let reports = join_all(control_planes.iter().enumerate().map(|(index, node)| async move {
        let read = |cluster: &SimulatedCluster| {
            Some((cluster.etcd_members(index)?, cluster.etcd_status(index), cluster.etcd_alarms()))
        };
        let (members, status, alarms) = parts.link.read(Peer::Node(index), read).await.ok().flatten()?;
        let is_read = {
            let mut state = parts.link.cluster.lock();
            let rates = state.rates;
            !state.chance.happens(rates.unread_alarms)
        };
        Some(EtcdReport { node, members, status, alarms: is_read.then_some(alarms) })
    }));
    let reports: Vec<EtcdReport<'_>> = reports.await.into_iter().flatten().collect();
    EtcdState::from_reports(&reports, &control_planes)
}

/// Waits until the node may reboot; returns when the look began that allows it.
async fn wait_allowed(
    parts: &RunParts,
    index: usize,
    access: ApiAccess,
    turn: &RebootTurn<'_>,
    cx: &StepContext,
) -> Result<Duration, StepError> {
    let mut wait = Wait::new(cx);
    loop {
        let Some(Look { began, cluster }) = look(parts, index, access).await? else {
            wait.pause(API_AWAY, Code::K01).await?;
            continue;
        };
        match turn.may_reboot(&cluster) {
            Ok(()) => return Ok(began),
            Err(RebootWait { text, code, outlook: Outlook::MayChange }) => {
                wait.pause(&format!("must not reboot yet: {text}"), code).await?;
            }
            Err(RebootWait { text, code, outlook: Outlook::Permanent }) => {
                return Err(StepError::needs_operator("the node must not reboot").because(text).code(code));
            }
        }
    }
}

/// Waits until the node runs its config and serves again, on a control plane with a voting etcd member.
async fn wait_back(
    parts: &RunParts,
    index: usize,
    sent: &Sent,
    access: ApiAccess,
    cx: &StepContext,
) -> Result<(), StepError> {
    let mut wait = Wait::new(cx);
    while let Some(line) = not_back(parts, index, sent, access).await? {
        wait.pause_to_the_end(&line, Code::T11).await?;
    }
    Ok(())
}

/// Why the node is not back yet.
async fn not_back(parts: &RunParts, index: usize, sent: &Sent, access: ApiAccess) -> Result<Option<String>, StepError> {
    let closed = || Ok(Some("its port is closed: rebooting".to_owned()));
    let Ok(boot_id) = parts.link.read(Peer::Node(index), |cluster| cluster.nodes[index].boot_id()).await else {
        return closed();
    };
    if boot_id == sent.boot_id && sent.after == AfterConfig::Reboots {
        return Ok(Some("it has not rebooted yet".to_owned()));
    }
    match parts.runs(index).await {
        Ok(true) => serves(parts, index, access).await,
        Ok(false) => Ok(Some("it does not run the config that was applied".to_owned())),
        Err(_) => closed(),
    }
}

/// Why the node does not serve; nothing when it does.
async fn serves(parts: &RunParts, index: usize, access: ApiAccess) -> Result<Option<String>, StepError> {
    let Some(Look { cluster, .. }) = look(parts, index, access).await? else { return Ok(Some(API_AWAY.to_owned())) };
    if let Health::Down(reason) = cluster.health {
        return Ok(Some(reason));
    }
    if role(index) == Role::Worker {
        return Ok(None);
    }
    let name = &declared().nodes[index].hostname;
    Ok(match cluster.etcd.voters.iter().find(|voter| voter.name == *name).map(|voter| &voter.health) {
        Some(Health::Up) => None,
        Some(Health::Down(reason)) => Some(format!("its etcd member does not serve: {reason}")),
        None => Some("its etcd member does not vote yet".to_owned()),
    })
}

async fn uncordon(parts: &RunParts, index: usize, cx: &StepContext) -> Result<(), StepError> {
    if reach_api(parts, index, cx).await? == ApiAccess::Required {
        schedule(parts, index, Scheduling::Allowed).await?;
    }
    Ok(())
}

/// Uncordons a node that a run of ours cordoned, once it serves. For nodes whose config was applied before.
pub(super) async fn release(parts: &RunParts, index: usize, cx: &StepContext) -> Result<(), StepError> {
    let has_cordoned = parts.rollout.cordoned.lock().unwrap_or_else(PoisonError::into_inner).contains(&index);
    if !has_cordoned && !parts.resumed {
        return Ok(());
    }
    if EtcdPresence::from_views(&parts.survey().await) != EtcdPresence::Exists {
        return Ok(());
    }
    if reach_api(parts, index, cx).await? == ApiAccess::Away {
        return Ok(());
    }
    let nodes = parts.api(SimulatedCluster::registered).await?;
    let name = &declared().nodes[index].hostname;
    if nodes.get(name).is_none_or(|node| node.scheduling != Scheduling::CordonedByUs) {
        return Ok(());
    }
    let mut wait = Wait::new(cx);
    while let Some(line) = serves(parts, index, ApiAccess::Required).await? {
        wait.pause_to_the_end(&line, Code::T11).await?;
    }
    uncordon(parts, index, cx).await
}
