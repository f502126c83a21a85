//! Charts, releases, and the hook that must not run twice.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use bootstrap::steps::etcd::decision::Intent;
use bootstrap::steps::hooks::{
    COMPLETE, Completeness, Doubt, HookDecision, HookIdentity, HookIntent, HookKey, HookRecord, HookRecords, HookState,
    Repetition, decide,
};
use engine::plan::{Fingerprint, StepId};
use engine::{Action, Check, CheckResult, Code, Effect, Observation, StepContext, StepError, StepWait};
use helm::storage::{DesiredRelease, Recovery, ReleaseState, StoredRelease, recovery, release_state};
use serde_json::json;

use super::{Child, LOOK, RunParts};
use crate::cluster::{HelmFailure, SimulatedCluster, helm_upgrade, run_hook, values};
use crate::inputs::DeclaredRelease;
use crate::link::{Lateness, Peer};

/// Every chart can be pulled.
pub(super) struct Charts(pub(super) Arc<RunParts>);

#[async_trait]
impl Check for Charts {
    async fn observe(&self, _cx: &StepContext) -> Result<CheckResult, StepError> {
        self.0.link.life.pass().await;
        if self.0.link.cluster.lock().registry_responds() {
            return Ok(CheckResult::Passed("every chart is available".to_owned()));
        }
        Err(StepError::unavailable("the registry does not respond").code(Code::H10))
    }
}

/// The release is deployed with these values, and everything in it is ready.
pub(super) struct Installed {
    pub(super) parts: Arc<RunParts>,
    pub(super) release: DeclaredRelease,
}

impl Installed {
    async fn stored(&self) -> Result<Option<StoredRelease>, StepError> {
        let name = self.release.name;
        Ok(self.parts.api(|cluster| cluster.kubernetes.newest(name).cloned()).await?)
    }

    /// Deletes a pending record, which a helm that died left behind.
    async fn clear_pending(&self, cx: &StepContext) -> Result<(), StepError> {
        let Recovery::DeleteRecord { secret, reason, .. } = recovery(self.stored().await?.as_ref()) else {
            return Ok(());
        };
        cx.progress(&reason);
        let name = self.release.name;
        let delete = move |cluster: &mut SimulatedCluster| {
            cluster.kubernetes.delete_record(name, &secret);
        };
        Ok(self.parts.link.send(Peer::Api, Lateness::InTime, delete).await?)
    }

    async fn is_ready(&self) -> Result<bool, StepError> {
        let name = self.release.name;
        Ok(self.parts.api(|cluster| cluster.is_ready(name)).await?)
    }
}

#[async_trait]
impl Action for Installed {
    async fn observe(&self, _cx: &StepContext) -> Result<Observation, StepError> {
        let stored = self.stored().await?;
        let values = values(self.parts.config);
        let desired = DesiredRelease { chart_name: self.release.name, chart_version: "1.0.0", values: &values };
        Ok(match release_state(stored.as_ref(), &desired) {
            ReleaseState::Absent => Observation::Missing("not installed".to_owned()),
            ReleaseState::Outdated(reason) | ReleaseState::Failed(reason) => Observation::Missing(reason),
            ReleaseState::Pending { revision, status } => {
                Observation::Missing(format!("revision {revision} was left {status}"))
            }
            ReleaseState::Deployed if self.is_ready().await? => Observation::UpToDate("deployed and ready".to_owned()),
            ReleaseState::Deployed => Observation::InProgress("its pods are starting".to_owned()),
        })
    }

    async fn apply(&self, cx: &StepContext) -> Result<Effect, StepError> {
        self.clear_pending(cx).await?;
        if !self.parts.link.cluster.lock().registry_responds() {
            return Err(StepError::unavailable("the registry does not respond").code(Code::H10));
        }
        self.parts.link.life.pass().await;
        let link = &self.parts.link;
        let helm = Child::start(helm_upgrade(link.cluster.clone(), link.operator, self.release, self.parts.config));
        let ended = helm.wait().await;
        link.life.pass().await;
        match ended {
            Ok(()) => Ok(Effect::Complete),
            Err(HelmFailure::ApiAway) => Err(StepError::unavailable("helm failed").code(Code::K07)),
            Err(HelmFailure::Pending) => {
                Err(StepError::failed_precondition("another operation is in progress").code(Code::H01))
            }
        }
    }

    async fn gate(&self, cx: &StepContext) -> Result<(), StepError> {
        while !self.is_ready().await? {
            cx.waiting(StepWait::new("its pods are starting"));
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }
}

/// A command that must not run twice; its outcome is journaled, and recorded in the cluster.
pub(super) struct Hook {
    parts: Arc<RunParts>,
    key: HookKey,
}

impl Hook {
    /// The only hook of the plan, so any key of its own identifies it.
    pub(super) fn new(parts: Arc<RunParts>, step: &Fingerprint) -> Self {
        Self { parts, key: HookKey::from(step) }
    }

    fn began_here(&self, cx: &StepContext) -> bool {
        let own = cx.all_recorded_intents().get(&StepId::new("etcd/bootstrap"));
        self.parts.has_bootstrapped() || own.is_some_and(|own| Intent::from_records(own).is_some())
    }

    async fn decide(&self, cx: &StepContext) -> Result<HookDecision, StepError> {
        let data = self.parts.api(|cluster| cluster.kubernetes.hook_records.clone()).await?;
        let is_known = data.contains_key(COMPLETE) || self.began_here(cx);
        let completeness = if is_known { Completeness::Complete } else { Completeness::Unknown };
        let in_cluster = HookRecords::from_cluster(&data).unwrap();
        let records = HookRecords::from_journal(cx.all_recorded_intents()).merged(in_cluster);
        let plan = BTreeSet::from([self.key.clone()]);
        let hook = HookIdentity {
            key: self.key.clone(),
            command: "sh".to_owned(),
            owner_and_events: "state file, Postsync".to_owned(),
        };
        Ok(decide(&hook, &records, Repetition::Never, self.parts.answer, &plan, completeness))
    }

    async fn set(&self, key: String, value: String) -> Result<(), StepError> {
        let set = move |cluster: &mut SimulatedCluster| {
            cluster.kubernetes.hook_records.insert(key, value);
        };
        Ok(self.parts.link.send(Peer::Api, Lateness::InTime, set).await?)
    }

    async fn record(&self, state: HookState) -> Result<(), StepError> {
        let record = HookRecord { state, command: "sh".to_owned(), once: true, owner_and_events: None };
        self.set(self.key.as_str().to_owned(), json!(record).to_string()).await
    }

    async fn conclude(&self, cx: &StepContext) -> Result<Effect, StepError> {
        cx.conclude(json!(HookState::Done)).await?;
        Ok(match self.record(HookState::Done).await {
            Ok(()) => Effect::Complete,
            Err(error) => Effect::Degraded(format!("the cluster has no record of it: {error}")),
        })
    }
}

fn unknown(doubt: &Doubt) -> StepError {
    StepError::failed_precondition("the outcome of the hook is unknown").because(doubt).code(Code::H12)
}

#[async_trait]
impl Action for Hook {
    async fn observe(&self, cx: &StepContext) -> Result<Observation, StepError> {
        match self.decide(cx).await? {
            HookDecision::HasRun => Ok(Observation::UpToDate("has run".to_owned())),
            HookDecision::Ask(doubt) => Err(unknown(&doubt)),
            HookDecision::Run | HookDecision::Conclude => {
                Ok(Observation::Missing("has not run to completion".to_owned()))
            }
        }
    }

    async fn apply(&self, cx: &StepContext) -> Result<Effect, StepError> {
        let decision = self.decide(cx).await?;
        if let HookDecision::Ask(doubt) = &decision {
            return Err(unknown(doubt));
        }
        if self.began_here(cx) {
            self.set(COMPLETE.to_owned(), "true".to_owned()).await?;
        }
        let hook = self.key.clone();
        let intent = HookIntent { hook, command: "sh".to_owned(), once: true, owner_and_events: None };
        cx.intend(json!(intent)).await?;
        if decision != HookDecision::Run {
            return self.conclude(cx).await;
        }
        self.record(HookState::Begun).await?;
        let link = &self.parts.link;
        let ended = Child::start(run_hook(link.cluster.clone())).wait().await;
        link.life.pass().await;
        if ended.is_ok() {
            return self.conclude(cx).await;
        }
        cx.conclude(json!(HookState::Failed)).await?;
        let _ = self.record(HookState::Failed).await;
        Err(StepError::failed_precondition("the hook failed").code(Code::H12))
    }
}
