//! The conditions of a healthy cluster, in Talos's order.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::core::v1::{Node as KubernetesNode, Pod};
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use talos_proto::machine::EtcdMember;

use crate::cluster_cache::is_ready;
use crate::control_plane::EtcdError;
use crate::machine_config::NodeRole;
use crate::node::services::ServiceState;
use crate::node::{NodeStage, SimulatedNode};

/// The nodes to check, as one of them knows them.
#[derive(Debug)]
pub(super) struct CheckedCluster {
    /// The node that runs the check.
    pub(super) node: Arc<SimulatedNode>,
    pub(super) members: Vec<Arc<SimulatedNode>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CheckOutcome {
    Passed,
    Skipped,
}

/// Why a condition does not hold yet, as Talos reports it.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotYet {
    #[error("{0}")]
    Condition(String),
    #[error(transparent)]
    Kubernetes(#[from] kube::Error),
    #[error(transparent)]
    Etcd(#[from] EtcdError),
}

#[derive(Debug, Clone, Copy)]
enum Condition {
    Service(&'static str),
    EtcdConsistent,
    EtcdOnControlPlanes,
    Reachable,
    /// Always true for simulated machines.
    AlwaysTrue,
    Booted,
    NodesReported,
    StaticPods,
    Components,
    NodesReady,
    KubeProxy,
    CoreDns,
    Schedulable,
}

#[derive(Debug)]
pub(super) struct HealthCheckItem {
    pub(super) name: &'static str,
    condition: Condition,
}

const fn check(name: &'static str, condition: Condition) -> HealthCheckItem {
    HealthCheckItem { name, condition }
}

pub(super) const CHECKS: &[HealthCheckItem] = &[
    check("etcd to be healthy", Condition::Service("etcd")),
    check("etcd members to be consistent across nodes", Condition::EtcdConsistent),
    check("etcd members to be control plane nodes", Condition::EtcdOnControlPlanes),
    check("apid to be ready", Condition::Reachable),
    check("all nodes memory sizes", Condition::AlwaysTrue),
    check("all nodes disk sizes", Condition::AlwaysTrue),
    check("no diagnostics", Condition::AlwaysTrue),
    check("kubelet to be healthy", Condition::Service("kubelet")),
    check("all nodes to finish boot sequence", Condition::Booted),
    check("all k8s nodes to report", Condition::NodesReported),
    check("all control plane static pods to be running", Condition::StaticPods),
    check("all control plane components to be ready", Condition::Components),
    check("all k8s nodes to report ready", Condition::NodesReady),
    check("kube-proxy to report ready", Condition::KubeProxy),
    check("coredns to report ready", Condition::CoreDns),
    check("all k8s nodes to report schedulable", Condition::Schedulable),
];

/// Identifies a member when lists of several nodes are compared.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct MemberIdentity {
    hostname: String,
    id: u64,
    is_learner: bool,
}

const COMPONENTS: [&str; 3] = ["kube-apiserver", "kube-controller-manager", "kube-scheduler"];

type CheckResult = Result<CheckOutcome, NotYet>;

fn passed_unless(problems: Vec<String>) -> CheckResult {
    if problems.is_empty() { Ok(CheckOutcome::Passed) } else { Err(NotYet::Condition(problems.join(", "))) }
}

pub(super) async fn run(check: &HealthCheckItem, cluster: &CheckedCluster) -> CheckResult {
    match check.condition {
        Condition::Service(id) => cluster.service(id),
        Condition::EtcdConsistent => cluster.etcd_is_consistent().await,
        Condition::EtcdOnControlPlanes => cluster.etcd_is_on_control_planes().await,
        Condition::Reachable => cluster.reachable(),
        Condition::AlwaysTrue => Ok(CheckOutcome::Passed),
        Condition::Booted => cluster.booted(),
        Condition::NodesReported => cluster.nodes_reported().await,
        Condition::StaticPods => cluster.static_pods().await,
        Condition::Components => cluster.components().await,
        Condition::NodesReady => cluster.nodes_ready().await,
        Condition::KubeProxy => cluster.kube_proxy().await,
        Condition::CoreDns => cluster.core_dns().await,
        Condition::Schedulable => cluster.schedulable().await,
    }
}

impl CheckedCluster {
    fn control_planes(&self) -> impl Iterator<Item = &Arc<SimulatedNode>> {
        let is_control_plane =
            |member: &&Arc<SimulatedNode>| member.config().is_some_and(|config| config.role == NodeRole::ControlPlane);
        self.members.iter().filter(is_control_plane)
    }

    /// Since 1.13, checks that need a pod network are skipped if Talos installs no CNI.
    fn without_cni(&self) -> bool {
        let cni = self.node.config().map(|config| config.cni.clone());
        self.node.talos().has_full_maintenance_api() && cni.as_deref() == Some("none")
    }

    fn service(&self, id: &str) -> CheckResult {
        let problem = |member: &Arc<SimulatedNode>| {
            let (address, state) = (member.address(), member.state.borrow());
            match state.services.get(id) {
                None => Some(format!("{address}: no events recorded yet for service {id:?}")),
                Some(service) if service.state != ServiceState::Running => Some(format!(
                    "{address}: service {id:?} not in expected state \"Running\": current state [{}] {}",
                    service.state.name(),
                    service.last_message()
                )),
                Some(service) if service.healthy != Some(true) => {
                    Some(format!("{address}: service is not healthy: {id}"))
                }
                Some(_) => None,
            }
        };
        passed_unless(self.control_planes().filter_map(problem).collect())
    }

    async fn etcd_is_consistent(&self) -> CheckResult {
        let mut expected: Option<BTreeSet<MemberIdentity>> = None;
        for member in self.control_planes() {
            let address = member.address();
            let list = member.lab.control_plane.members(member.host()).await;
            let list = list.map_err(|error| {
                NotYet::Condition(format!(
                    "error getting etcd member list from node {:?}: {error}",
                    address.to_string()
                ))
            })?;
            let identity = |member: EtcdMember| MemberIdentity {
                hostname: member.hostname,
                id: member.id,
                is_learner: member.is_learner,
            };
            let own: BTreeSet<_> = list.into_iter().map(identity).collect();
            match &expected {
                Some(expected) if *expected != own => {
                    let names = |set: &BTreeSet<MemberIdentity>| {
                        set.iter().map(|member| member.hostname.as_str()).collect::<Vec<_>>().join(" ")
                    };
                    let (expected, own) = (names(expected), names(&own));
                    return Err(NotYet::Condition(format!(
                        "{address}: expected to have [{expected}] members, got [{own}]"
                    )));
                }
                _ => expected = Some(own),
            }
        }
        Ok(CheckOutcome::Passed)
    }

    async fn etcd_is_on_control_planes(&self) -> CheckResult {
        let known: Vec<String> = self.control_planes().map(|member| member.address().to_string()).collect();
        let members = self.node.lab.control_plane.members(self.node.host()).await?;
        let peers: Vec<String> = members
            .iter()
            .flat_map(|member| &member.peer_urls)
            .filter_map(|url| Some(url.strip_prefix("https://")?.rsplit_once(':')?.0.to_owned()))
            .collect();
        if peers.iter().all(|peer| known.contains(peer)) {
            return Ok(CheckOutcome::Passed);
        }
        Err(NotYet::Condition(format!("etcd member ips {peers:?} are not subset of control plane node ips {known:?}")))
    }

    fn reachable(&self) -> CheckResult {
        let closed = self.members.iter().filter(|member| member.open.borrow().is_none());
        passed_unless(
            closed
                .map(|member| format!("error getting version from node {:?}", member.address().to_string()))
                .collect(),
        )
    }

    fn booted(&self) -> CheckResult {
        let booting = self.members.iter().filter(|member| member.state.borrow().stage != NodeStage::Running);
        let names: Vec<String> = booting.map(|member| member.address().to_string()).collect();
        if names.is_empty() {
            return Ok(CheckOutcome::Passed);
        }
        Err(NotYet::Condition(format!("nodes {names:?} are still in boot sequence")))
    }

    fn api(&self) -> Result<kube::Client, NotYet> {
        let client = self.node.lab.control_plane.client.borrow().clone();
        client.ok_or_else(|| {
            let url = "https://localhost:6443/api/v1/nodes";
            NotYet::Condition(format!("Get {url:?}: dial tcp 127.0.0.1:6443: connect: connection refused"))
        })
    }

    async fn nodes(&self) -> Result<Vec<KubernetesNode>, NotYet> {
        let nodes: Api<KubernetesNode> = Api::all(self.api()?);
        Ok(nodes.list(&ListParams::default()).await?.items)
    }

    async fn nodes_reported(&self) -> CheckResult {
        let address = |node: &KubernetesNode| {
            let addresses = node.status.as_ref().and_then(|status| status.addresses.clone()).unwrap_or_default();
            addresses.into_iter().find(|address| address.type_ == "InternalIP").map(|address| address.address)
        };
        let found: BTreeSet<String> = self.nodes().await?.iter().filter_map(address).collect();
        let expected: BTreeSet<String> = self.members.iter().map(|member| member.address().to_string()).collect();
        if found == expected {
            return Ok(CheckOutcome::Passed);
        }
        let missing: Vec<&String> = expected.difference(&found).collect();
        if !missing.is_empty() {
            return Err(NotYet::Condition(format!("can't find expected node with IPs {missing:?}")));
        }
        Err(NotYet::Condition(format!(
            "unexpected nodes with IPs {:?}",
            found.difference(&expected).collect::<Vec<_>>()
        )))
    }

    async fn pods(&self, selector: &str) -> Result<Vec<Pod>, NotYet> {
        let pods: Api<Pod> = Api::namespaced(self.api()?, "kube-system");
        Ok(pods.list(&ListParams::default().labels(selector)).await?.items)
    }

    async fn static_pods(&self) -> CheckResult {
        let found: BTreeSet<String> = self.pods("").await?.iter().map(ResourceExt::name_any).collect();
        for member in self.control_planes() {
            let expected = COMPONENTS.map(|component| format!("{component}-{}", member.hostname()));
            let missing: Vec<String> = expected.into_iter().filter(|name| !found.contains(name)).collect();
            if !missing.is_empty() {
                let names: Vec<String> = missing.iter().map(|name| format!("kube-system/{name}")).collect();
                return Err(NotYet::Condition(format!("missing static pods on node {}: {names:?}", member.address())));
            }
        }
        Ok(CheckOutcome::Passed)
    }

    async fn components(&self) -> CheckResult {
        let expected = self.control_planes().count();
        for component in COMPONENTS {
            let pods = self.pods(&format!("k8s-app={component}")).await?;
            if pods.len() != expected {
                let count = pods.len();
                let problem = format!("expected number of pods for {component} to be {expected}, got {count}");
                return Err(NotYet::Condition(problem));
            }
            let not_ready: Vec<String> = names(pods.iter().filter(|pod| !is_ready(pod)));
            if !not_ready.is_empty() {
                let not_ready = not_ready.join(" ");
                return Err(NotYet::Condition(format!("some pods are not ready for {component}: [{not_ready}]")));
            }
        }
        Ok(CheckOutcome::Passed)
    }

    async fn nodes_ready(&self) -> CheckResult {
        if self.without_cni() {
            return Ok(CheckOutcome::Skipped);
        }
        let is_not_ready = |node: &&KubernetesNode| {
            let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
            !conditions.into_iter().flatten().any(|condition| condition.type_ == "Ready" && condition.status == "True")
        };
        let not_ready = names(self.nodes().await?.iter().filter(is_not_ready));
        if not_ready.is_empty() {
            return Ok(CheckOutcome::Passed);
        }
        Err(NotYet::Condition(format!("some nodes are not ready: [{}]", not_ready.join(" "))))
    }

    async fn schedulable(&self) -> CheckResult {
        let nodes = self.nodes().await?;
        let cordoned = nodes.iter().filter(|node| node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true));
        let cordoned = names(cordoned);
        if cordoned.is_empty() {
            return Ok(CheckOutcome::Passed);
        }
        Err(NotYet::Condition(format!("some nodes are not schedulable: [{}]", cordoned.join(" "))))
    }

    async fn kube_proxy(&self) -> CheckResult {
        let sets: Api<DaemonSet> = Api::namespaced(self.api()?, "kube-system");
        let sets = sets.list(&ListParams::default().labels("k8s-app=kube-proxy")).await?;
        let expected =
            sets.items.first().and_then(|set| set.status.as_ref()).map(|status| status.desired_number_scheduled);
        if sets.items.is_empty() {
            Ok(CheckOutcome::Skipped)
        } else {
            self.ready_pods("k8s-app=kube-proxy", expected).await
        }
    }

    async fn core_dns(&self) -> CheckResult {
        let deployments: Api<Deployment> = Api::namespaced(self.api()?, "kube-system");
        let deployments = deployments.list(&ListParams::default().labels("k8s-app=kube-dns")).await?;
        let expected = deployments.items.first().and_then(|deployment| deployment.spec.as_ref()?.replicas);
        if deployments.items.is_empty() || self.without_cni() {
            return Ok(CheckOutcome::Skipped);
        }
        self.ready_pods("k8s-app=kube-dns", expected).await
    }

    async fn ready_pods(&self, selector: &str, expected: Option<i32>) -> CheckResult {
        let pods = self.pods(selector).await?;
        let missing = |pods: &str| {
            NotYet::Condition(format!("{pods} found for namespace \"kube-system\" and label selector {selector:?}"))
        };
        if pods.is_empty() {
            return Err(missing("no pods"));
        }
        let ready = pods.iter().filter(|pod| is_ready(pod)).count();
        if ready == 0 {
            return Err(missing("no ready pods"));
        }
        match expected.and_then(|expected| usize::try_from(expected).ok()).filter(|expected| *expected != ready) {
            Some(expected) => Err(NotYet::Condition(format!("expected {expected} ready pods, got {ready}"))),
            None => Ok(CheckOutcome::Passed),
        }
    }
}

fn names<'o, K: kube::Resource + 'o>(objects: impl Iterator<Item = &'o K>) -> Vec<String> {
    objects.map(ResourceExt::name_any).collect()
}
