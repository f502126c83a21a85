//! Every control plane a voting member.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use async_trait::async_trait;
use futures::future::join_all;
use retry::policies::{ETCD_LOOK, EVENT_SPACING, MEMBERS_LOOK};
use tokio::sync::watch;
use tokio::time::Instant;

use super::super::context::RunContext;
use super::super::etcd_watch::Changes;
use super::super::node_wait::wait_configured;
use super::membership::{Membership, RESPONSE, member_lists, outsider};
use super::{connect, member_ids};
use engine::journal::ClusterFact;
use engine::{Check, CheckResult, Code, StepContext, StepError, StepWait};
use error_report::ErrorReport;
use talos_client::{Client, ClientError, EtcdAlarm};
use talos_config::InventoryNode;

/// Every control plane is a voting member.
pub(in crate::steps) struct Members(Arc<RunContext>);

impl Members {
    pub(in crate::steps) fn new(context: Arc<RunContext>) -> Self {
        Self(context)
    }

    /// What is missing; nothing when every control plane votes. Members are matched with control planes by identity.
    async fn missing(&self, cx: &StepContext) -> Result<Option<StepWait>, StepError> {
        let control_planes = self.0.control_planes();
        let Some(list) = member_lists(&self.0).await?.into_iter().next() else {
            return Err(StepError::invalid_input("the cluster has no control plane"));
        };
        let membership = Membership::new(list.members, &control_planes);
        if let Some(member) = membership.outsiders.first() {
            return Err(outsider(&self.0, member).await);
        }
        let (voting, expected) = (membership.voting(), control_planes.len());
        if voting == expected && membership.unstarted == 0 {
            let ids = member_ids(membership.matched.iter().map(|matched| matched.member.id));
            cx.learn(ClusterFact::EtcdMembers(ids)).await;
            return Ok(None);
        }
        let learners = membership.matched.len() - voting + membership.unstarted;
        let mut text = format!("{voting} of {expected} control planes vote, {learners} are learners");
        let alarms = self.alarms().await;
        let code = code(learners, &alarms);
        for (id, alarm) in alarms {
            let known = membership.matched.iter().find(|matched| matched.member.id == id);
            let name = known.map_or("a member", |matched| &matched.node.hostname);
            text = format!("{text}; {name} raises the alarm {alarm}");
        }
        let problem = async |node: &'_ InventoryNode| (node.hostname.clone(), self.problem(node).await);
        for (name, problem) in join_all(control_planes.into_iter().map(problem)).await {
            text.extend(problem.map(|problem| format!("; {name}: {problem}")));
        }
        // A learner that falls behind makes no progress, whatever it counts.
        Ok(Some(StepWait::new(text).code(code).stuck()))
    }

    /// The alarms that any control plane reports.
    async fn alarms(&self) -> Vec<(u64, EtcdAlarm)> {
        let alarms = async |node| connect(&self.0, node).await.ok()?.etcd_alarms().await.ok();
        join_all(self.0.control_planes().into_iter().map(alarms)).await.into_iter().flatten().next().unwrap_or_default()
    }

    /// Why one control plane does not vote, as far as it knows.
    async fn problem(&self, node: &InventoryNode) -> Option<String> {
        let client = connect(&self.0, node).await.ok()?;
        match client.etcd_status().await {
            Ok(status) if status.is_learner => {
                let behind = status.raft_index.saturating_sub(status.raft_applied_index);
                Some(format!("learner, {behind} entries behind"))
            }
            Ok(status) => status.errors.first().cloned(),
            Err(_) => service(&client).await.ok(),
        }
    }
}

/// Members that have yet to catch up are waited for (T12); an alarm, or a member that is missing, is a fault (T13).
fn code(learners: usize, alarms: &[(u64, EtcdAlarm)]) -> Code {
    if learners > 0 && alarms.is_empty() { Code::T12 } else { Code::T13 }
}

/// The state of etcd's service and why.
async fn service(client: &Client) -> Result<String, ClientError> {
    let services = client.services().await?;
    let etcd = services.into_iter().find(|service| service.id == "etcd");
    Ok(etcd.map_or_else(
        || "does not list etcd".to_owned(),
        |etcd| format!("{} ({})", etcd.state.to_lowercase(), etcd.events.last().cloned().unwrap_or_default()),
    ))
}

/// A member as a list shows it: its id, and whether it votes.
type ListedMember = (u64, Vote);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Vote {
    Voter,
    Learner,
}

/// The member list that each control plane has shown last. A control plane lists what it has replicated, so two lists may
/// differ for a moment.
struct ListedMembers {
    lists: BTreeMap<IpAddr, Vec<ListedMember>>,
    events: watch::Receiver<Changes>,
}

impl ListedMembers {
    fn new(context: &RunContext) -> Self {
        Self { lists: BTreeMap::new(), events: context.etcd_watches.changes() }
    }

    /// Returns once the members may have changed: a control plane reports an event, or lists other members than before.
    /// One control plane is asked at a time.
    async fn changed(&mut self, context: &RunContext) {
        let until = Instant::now() + ETCD_LOOK;
        for node in context.control_planes().into_iter().cycle() {
            tokio::select! {
                _ = self.events.changed() => return tokio::time::sleep(EVENT_SPACING).await,
                () = tokio::time::sleep(MEMBERS_LOOK) => {}
            }
            let listed = tokio::time::timeout(RESPONSE, listed(context, node)).await;
            if let Ok(Some(listed)) = listed
                && self.lists.insert(node.address, listed.clone()).is_some_and(|before| before != listed)
            {
                return;
            }
            if Instant::now() >= until {
                return;
            }
        }
    }
}

async fn listed(context: &RunContext, node: &InventoryNode) -> Option<Vec<ListedMember>> {
    let watched = context.watched(node).await.ok()?;
    let members = watched.client.etcd_members().await.ok()?;
    let vote = |is_learner| if is_learner { Vote::Learner } else { Vote::Voter };
    let mut listed: Vec<_> = members.into_iter().map(|member| (member.id, vote(member.is_learner))).collect();
    listed.sort_unstable_by_key(|(id, _)| *id);
    Some(listed)
}

#[async_trait]
impl Check for Members {
    async fn observe(&self, cx: &StepContext) -> Result<CheckResult, StepError> {
        Ok(match self.missing(cx).await {
            Ok(None) => CheckResult::Passed("every control plane votes".to_owned()),
            Ok(Some(wait)) => CheckResult::Pending(wait.line),
            Err(error) if error.class.is_retried() => CheckResult::Pending(error.to_string()),
            Err(error) => return Err(error),
        })
    }

    async fn wait(&self, cx: &StepContext) -> Result<(), StepError> {
        for node in self.0.control_planes() {
            wait_configured(&self.0, node, cx).await?;
        }
        let mut lists = ListedMembers::new(&self.0);
        loop {
            match self.missing(cx).await {
                Ok(None) => return Ok(()),
                Ok(Some(wait)) => cx.waiting(wait),
                Err(error) if error.class.is_retried() => {
                    let line = ErrorReport::new(&error).to_string();
                    cx.waiting(StepWait::new(line).code(error.code.unwrap_or(Code::T13)));
                }
                Err(error) => return Err(error),
            }
            lists.changed(&self.0).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_learner_is_distinguished_from_a_member_that_is_unhealthy_or_missing() {
        assert_eq!(code(1, &[]), Code::T12);
        assert_eq!(code(0, &[]), Code::T13);
        assert_eq!(code(1, &[(7, EtcdAlarm::NoSpace)]), Code::T13);
    }
}
