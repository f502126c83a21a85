//! Whether the cluster is still the one in the journal (O11): what it shows at the start of a run. Changes nothing.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::future::join_all;
use tokio::time::timeout;

use super::context::RunContext;
use super::etcd;
use engine::journal::{
    ClusterFact, EpochDecision, EpochEnd, History, Identity, Learned, ObservedCluster, ObservedNode, RecordedCluster,
    RecordedEtcd, decide_epoch,
};
use engine::plan::StepId;
use engine::{Code, StepContext, StepError};
use talos_client::{Client, Probe};
use talos_config::{CertificateError, InventoryNode};

/// What responds does so within this; what does not is unknown, and shows nothing.
const RESPONSE: Duration = Duration::from_secs(3);

/// The cluster as this run's inputs name it.
///
/// # Errors
///
/// When the bundle holds no certificate.
pub(crate) fn identity(context: &RunContext) -> Result<Identity, CertificateError> {
    Ok(Identity {
        name: context.cluster.name.clone(),
        cluster_id: context.cluster.cluster_id(),
        talos_ca: Some(context.talos_ca()?),
    })
}

/// Why the epoch of a journal has ended, if it has. Without a recorded run nothing is dialled.
///
/// # Errors
///
/// When the bundle holds no certificate.
pub(crate) async fn find_epoch_end(
    context: &RunContext,
    history: &History,
) -> Result<Option<EpochEnd>, CertificateError> {
    let Some(known) = &history.identity else { return Ok(None) };
    let recorded = RecordedCluster { identity: known, facts: &history.facts, etcd: recorded_etcd(history) };
    Ok(match decide_epoch(recorded, &observe(context, identity(context)?).await) {
        EpochDecision::Same => None,
        EpochDecision::New(reason) => Some(reason),
    })
}

/// Whether a run of this history has started etcd, or may have.
fn recorded_etcd(history: &History) -> RecordedEtcd {
    let step = StepId::new("etcd/bootstrap");
    let sent = history.recorded_intents.get(&step).is_some_and(|intents| etcd::may_have_bootstrapped(intents));
    let seen = history.facts.kube_system.is_some() || !history.facts.etcd_members.is_empty();
    if sent || seen || history.ever_done.contains(&step) {
        RecordedEtcd::Bootstrapped
    } else {
        RecordedEtcd::NotBootstrapped
    }
}

async fn observe(context: &RunContext, identity: Identity) -> ObservedCluster {
    let control_planes = context.control_planes();
    let workers: Vec<&InventoryNode> =
        context.cluster.inventory.nodes.iter().filter(|node| !control_planes.contains(node)).collect();
    let (control_planes, workers, kube_system) = tokio::join!(
        join_all(control_planes.into_iter().map(|node| look(context, node))),
        join_all(workers.into_iter().map(|node| look(context, node))),
        timeout(RESPONSE, kube_system(context)),
    );
    let views = join_all(control_planes.iter().map(|(node, client)| etcd_view(*node, client.as_ref()))).await;
    let states = |nodes: Vec<(ObservedNode, Option<Client>)>| nodes.into_iter().map(|(node, _)| node).collect();
    ObservedCluster {
        identity,
        control_planes: states(control_planes),
        workers: states(workers),
        etcd_members: all_members(&views),
        kube_system: kube_system.ok().flatten(),
    }
}

/// What a control plane shows of etcd.
#[derive(Debug, Clone, PartialEq, Eq)]
enum EtcdView {
    /// The ids on its member list.
    Listed(Vec<u64>),
    /// It has no config.
    None,
    Unknown,
}

async fn etcd_view(node: ObservedNode, client: Option<&Client>) -> EtcdView {
    match (node, client) {
        (ObservedNode::Maintenance, _) => EtcdView::None,
        (_, Some(client)) => match timeout(RESPONSE, client.etcd_members()).await {
            Ok(Ok(members)) => EtcdView::Listed(members.iter().map(|member| member.id).collect()),
            Ok(Err(_)) | Err(_) => EtcdView::Unknown,
        },
        (_, None) => EtcdView::Unknown,
    }
}

/// The ids on all member lists; none while a control plane that may run etcd gives no list. Of two etcds one may be the
/// cluster on record, and its journal must not be put aside for the other one.
fn all_members(views: &[EtcdView]) -> BTreeSet<String> {
    if views.contains(&EtcdView::Unknown) {
        return BTreeSet::new();
    }
    let ids = views.iter().filter_map(|view| match view {
        EtcdView::Listed(ids) => Some(ids),
        EtcdView::None | EtcdView::Unknown => None,
    });
    etcd::member_ids(ids.flatten().copied())
}

/// The state of a node, and a client if it belongs to this cluster.
async fn look(context: &RunContext, node: &InventoryNode) -> (ObservedNode, Option<Client>) {
    match timeout(RESPONSE, context.probe(node)).await {
        Ok(Ok(Probe::Maintenance { .. })) => (ObservedNode::Maintenance, None),
        Ok(Ok(Probe::Configured { client, .. })) => (ObservedNode::Configured, Some(client)),
        Ok(Ok(Probe::Foreign(_))) => (ObservedNode::Foreign, None),
        Ok(Ok(Probe::Closed(_)) | Err(_)) | Err(_) => (ObservedNode::Unknown, None),
    }
}

async fn kube_system(context: &RunContext) -> Option<String> {
    let client = kubernetes::connect(&context.access(), &context.dialer).await.ok()?;
    kubernetes::cluster_uid(&client).await.ok()?
}

/// Records which Kubernetes this is. The start of the run has compared it already where it responded then; here it is
/// another one that came up since, and what is recorded about hooks is not about it.
pub(super) async fn learn_kubernetes(cx: &StepContext, uid: String) -> Result<(), StepError> {
    match cx.learn(ClusterFact::KubeSystem(uid.clone())).await {
        Learned::New | Learned::Known => Ok(()),
        Learned::Contradicts(recorded) => Err(StepError::needs_operator("Kubernetes is not the one in the journal")
            .because(format!("the namespace kube-system has the UID {uid}; the journal has {recorded}"))
            .code(Code::O11)),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use async_trait::async_trait;
    use engine::journal::{ClusterFacts, RecordedIntent};
    use engine::{StepLog, StepWait};
    use serde_json::{Value, json};

    use super::*;

    /// A journal that has these facts.
    struct Facts(Mutex<ClusterFacts>);

    #[async_trait]
    impl StepLog for Facts {
        fn waiting(&self, _step: &StepId, _wait: &StepWait) {}

        async fn intend(&self, _step: &StepId, _intent: Value) -> Result<(), StepError> {
            Ok(())
        }

        async fn learn(&self, fact: ClusterFact) -> Learned {
            self.0.lock().unwrap().learn(&fact)
        }

        async fn conclude(&self, _step: &StepId, _outcome: Value) -> Result<(), StepError> {
            Ok(())
        }
    }

    #[test]
    fn of_two_etcds_the_one_on_record_keeps_its_journal() {
        let known = Identity { name: "blue".into(), cluster_id: None, talos_ca: None };
        let facts = ClusterFacts { etcd_members: etcd::member_ids([1, 2].into_iter()), ..ClusterFacts::default() };
        let decide = |views: &[EtcdView]| {
            let observed = ObservedCluster {
                identity: known.clone(),
                control_planes: vec![ObservedNode::Configured; views.len()],
                workers: vec![],
                etcd_members: all_members(views),
                kube_system: None,
            };
            let recorded = RecordedCluster { identity: &known, facts: &facts, etcd: RecordedEtcd::Bootstrapped };
            decide_epoch(recorded, &observed)
        };
        let (ours, other) = (EtcdView::Listed(vec![1, 2]), EtcdView::Listed(vec![7]));
        // Whichever of the two is listed first, and while the one on record does not respond.
        for views in [[other.clone(), ours.clone()], [ours, other.clone()], [other.clone(), EtcdView::Unknown]] {
            assert_eq!(decide(&views), EpochDecision::Same, "{views:?}");
        }
        for views in [[other.clone(), other.clone()], [other, EtcdView::None]] {
            assert_eq!(decide(&views), EpochDecision::New(EpochEnd::OtherEtcd), "{views:?}");
        }
    }

    #[tokio::test]
    async fn another_kubernetes_that_came_up_during_a_run_stops_it() {
        let log = Arc::new(Facts(Mutex::default()));
        let cx = StepContext::new(StepId::new("kubernetes-api/ready"), 1, Arc::default(), log);
        learn_kubernetes(&cx, "uid-1".into()).await.unwrap();
        learn_kubernetes(&cx, "uid-1".into()).await.unwrap();
        let error = learn_kubernetes(&cx, "uid-2".into()).await.unwrap_err();
        assert_eq!((error.class, error.code), (engine::ErrorClass::NeedsOperator, Some(Code::O11)));
        assert!(error.to_string().contains("uid-2; the journal has uid-1"), "{error}");
    }

    #[test]
    fn etcd_counts_as_bootstrapped_once_a_call_may_have_been_accepted() {
        let step = StepId::new("etcd/bootstrap");
        let with = |outcome: Option<&str>| {
            let intent = RecordedIntent { intent: json!({}), outcome: outcome.map(|outcome| json!(outcome)) };
            let mut history = History::default();
            history.recorded_intents.insert(step.clone(), vec![intent]);
            recorded_etcd(&history)
        };
        assert_eq!(recorded_etcd(&History::default()), RecordedEtcd::NotBootstrapped);
        assert_eq!(with(Some("not accepted")), RecordedEtcd::NotBootstrapped);
        assert_eq!(with(Some("accepted")), RecordedEtcd::Bootstrapped);
        assert_eq!(with(None), RecordedEtcd::Bootstrapped);
        let mut adopted = History::default();
        adopted.ever_done.insert(step.clone());
        assert_eq!(recorded_etcd(&adopted), RecordedEtcd::Bootstrapped);
    }
}
