//! What has to hold in a healthy cluster, in Talos's order.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::core::v1::{Node as KubernetesNode, Pod};
use kube::api::ListParams;
use kube::{Api, ResourceExt};

use crate::machine::Role;
use crate::node::{Node, Stage};
use crate::view::is_ready;

/// The cluster, as the machine that was asked knows it.
#[derive(Debug)]
pub(super) struct Cluster {
    pub(super) asked: Arc<Node>,
    pub(super) members: Vec<Arc<Node>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    Ok,
    Skip,
    NotYet(String),
}

#[derive(Debug, Clone, Copy)]
enum What {
    Service(&'static str),
    EtcdConsistent,
    EtcdOnControlPlanes,
    Reachable,
    /// A machine of the lab has as much as is asked for, and no ailment.
    Granted,
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
pub(super) struct Check {
    pub(super) name: &'static str,
    what: What,
}

const fn check(name: &'static str, what: What) -> Check {
    Check { name, what }
}

pub(super) const CHECKS: &[Check] = &[
    check("etcd to be healthy", What::Service("etcd")),
    check("etcd members to be consistent across nodes", What::EtcdConsistent),
    check("etcd members to be control plane nodes", What::EtcdOnControlPlanes),
    check("apid to be ready", What::Reachable),
    check("all nodes memory sizes", What::Granted),
    check("all nodes disk sizes", What::Granted),
    check("no diagnostics", What::Granted),
    check("kubelet to be healthy", What::Service("kubelet")),
    check("all nodes to finish boot sequence", What::Booted),
    check("all k8s nodes to report", What::NodesReported),
    check("all control plane static pods to be running", What::StaticPods),
    check("all control plane components to be ready", What::Components),
    check("all k8s nodes to report ready", What::NodesReady),
    check("kube-proxy to report ready", What::KubeProxy),
    check("coredns to report ready", What::CoreDns),
    check("all k8s nodes to report schedulable", What::Schedulable),
];

const COMPONENTS: [&str; 3] = ["kube-apiserver", "kube-controller-manager", "kube-scheduler"];

type Finding = Result<Verdict, String>;

fn all_well(problems: Vec<String>) -> Finding {
    if problems.is_empty() { Ok(Verdict::Ok) } else { Err(problems.join(", ")) }
}

pub(super) async fn run(check: &Check, cluster: &Cluster) -> Verdict {
    let finding = match check.what {
        What::Service(id) => cluster.service(id),
        What::EtcdConsistent => cluster.etcd_is_consistent().await,
        What::EtcdOnControlPlanes => cluster.etcd_is_on_control_planes().await,
        What::Reachable => cluster.reachable(),
        What::Granted => Ok(Verdict::Ok),
        What::Booted => cluster.booted(),
        What::NodesReported => cluster.nodes_reported().await,
        What::StaticPods => cluster.static_pods().await,
        What::Components => cluster.components().await,
        What::NodesReady => cluster.nodes_ready().await,
        What::KubeProxy => cluster.kube_proxy().await,
        What::CoreDns => cluster.core_dns().await,
        What::Schedulable => cluster.schedulable().await,
    };
    finding.unwrap_or_else(Verdict::NotYet)
}

impl Cluster {
    fn control_planes(&self) -> impl Iterator<Item = &Arc<Node>> {
        let serves = |member: &&Arc<Node>| member.config().is_some_and(|config| config.role == Role::ControlPlane);
        self.members.iter().filter(serves)
    }

    /// From 1.13 on, nothing that needs a network is waited for where there is none of Talos's.
    fn without_cni(&self) -> bool {
        let cni = self.asked.config().map(|config| config.cni.clone());
        self.asked.talos().one_server() && cni.as_deref() == Some("none")
    }

    fn service(&self, id: &str) -> Finding {
        let problem = |member: &Arc<Node>| {
            let (address, state) = (member.address(), member.state.borrow());
            match state.services.get(id) {
                None => Some(format!("{address}: no events recorded yet for service {id:?}")),
                Some(service) if service.state != "Running" => Some(format!(
                    "{address}: service {id:?} not in expected state \"Running\": current state [{}] {}",
                    service.state,
                    service.last_event()
                )),
                Some(service) if service.healthy != Some(true) => {
                    Some(format!("{address}: service is not healthy: {id}"))
                }
                Some(_) => None,
            }
        };
        all_well(self.control_planes().filter_map(problem).collect())
    }

    async fn etcd_is_consistent(&self) -> Finding {
        let mut expected: Option<BTreeSet<(String, u64, bool)>> = None;
        for member in self.control_planes() {
            let address = member.address();
            let list = member.world.control_plane.members(member).await;
            let list = list.map_err(|reason| {
                format!("error getting etcd member list from node {:?}: {reason}", address.to_string())
            })?;
            let own: BTreeSet<_> =
                list.into_iter().map(|member| (member.hostname, member.id, member.is_learner)).collect();
            match &expected {
                Some(expected) if *expected != own => {
                    let names = |set: &BTreeSet<(String, u64, bool)>| {
                        set.iter().map(|(name, ..)| name.clone()).collect::<Vec<_>>().join(" ")
                    };
                    let (expected, own) = (names(expected), names(&own));
                    return Err(format!("{address}: expected to have [{expected}] members, got [{own}]"));
                }
                _ => expected = Some(own),
            }
        }
        Ok(Verdict::Ok)
    }

    async fn etcd_is_on_control_planes(&self) -> Finding {
        let known: Vec<String> = self.control_planes().map(|member| member.address().to_string()).collect();
        let members = self.asked.world.control_plane.members(&self.asked).await?;
        let peers: Vec<String> = members
            .iter()
            .flat_map(|member| &member.peer_urls)
            .filter_map(|url| Some(url.strip_prefix("https://")?.rsplit_once(':')?.0.to_owned()))
            .collect();
        if peers.iter().all(|peer| known.contains(peer)) {
            return Ok(Verdict::Ok);
        }
        Err(format!("etcd member ips {peers:?} are not subset of control plane node ips {known:?}"))
    }

    fn reachable(&self) -> Finding {
        let closed = self.members.iter().filter(|member| member.open.borrow().is_none());
        all_well(
            closed
                .map(|member| format!("error getting version from node {:?}", member.address().to_string()))
                .collect(),
        )
    }

    fn booted(&self) -> Finding {
        let not_yet = self.members.iter().filter(|member| member.state.borrow().stage != Stage::Running);
        let names: Vec<String> = not_yet.map(|member| member.address().to_string()).collect();
        if names.is_empty() { Ok(Verdict::Ok) } else { Err(format!("nodes {names:?} are still in boot sequence")) }
    }

    fn api(&self) -> Result<kube::Client, String> {
        let client = self.asked.world.control_plane.client.borrow().clone();
        client.ok_or_else(|| {
            "Get \"https://localhost:6443/api/v1/nodes\": dial tcp 127.0.0.1:6443: connect: connection refused"
                .to_owned()
        })
    }

    async fn nodes(&self) -> Result<Vec<KubernetesNode>, String> {
        let nodes: Api<KubernetesNode> = Api::all(self.api()?);
        Ok(nodes.list(&ListParams::default()).await.map_err(text)?.items)
    }

    async fn nodes_reported(&self) -> Finding {
        let address = |node: &KubernetesNode| {
            let addresses = node.status.as_ref().and_then(|status| status.addresses.clone()).unwrap_or_default();
            addresses.into_iter().find(|address| address.type_ == "InternalIP").map(|address| address.address)
        };
        let found: BTreeSet<String> = self.nodes().await?.iter().filter_map(address).collect();
        let expected: BTreeSet<String> = self.members.iter().map(|member| member.address().to_string()).collect();
        if found == expected {
            return Ok(Verdict::Ok);
        }
        let missing: Vec<&String> = expected.difference(&found).collect();
        if !missing.is_empty() {
            return Err(format!("can't find expected node with IPs {missing:?}"));
        }
        Err(format!("unexpected nodes with IPs {:?}", found.difference(&expected).collect::<Vec<_>>()))
    }

    async fn pods(&self, selector: &str) -> Result<Vec<Pod>, String> {
        let pods: Api<Pod> = Api::namespaced(self.api()?, "kube-system");
        Ok(pods.list(&ListParams::default().labels(selector)).await.map_err(text)?.items)
    }

    async fn static_pods(&self) -> Finding {
        let found: BTreeSet<String> = self.pods("").await?.iter().map(ResourceExt::name_any).collect();
        for member in self.control_planes() {
            let wanted = COMPONENTS.map(|component| format!("{component}-{}", member.hostname()));
            let missing: Vec<String> = wanted.into_iter().filter(|name| !found.contains(name)).collect();
            if !missing.is_empty() {
                let names: Vec<String> = missing.iter().map(|name| format!("kube-system/{name}")).collect();
                return Err(format!("missing static pods on node {}: {names:?}", member.address()));
            }
        }
        Ok(Verdict::Ok)
    }

    async fn components(&self) -> Finding {
        let expected = self.control_planes().count();
        for component in COMPONENTS {
            let pods = self.pods(&format!("k8s-app={component}")).await?;
            if pods.len() != expected {
                return Err(format!("expected number of pods for {component} to be {expected}, got {}", pods.len()));
            }
            let not_ready: Vec<String> = names(pods.iter().filter(|pod| !is_ready(pod)));
            if !not_ready.is_empty() {
                return Err(format!("some pods are not ready for {component}: [{}]", not_ready.join(" ")));
            }
        }
        Ok(Verdict::Ok)
    }

    async fn nodes_ready(&self) -> Finding {
        if self.without_cni() {
            return Ok(Verdict::Skip);
        }
        let ready = |node: &&KubernetesNode| {
            let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
            !conditions.into_iter().flatten().any(|condition| condition.type_ == "Ready" && condition.status == "True")
        };
        let not_ready = names(self.nodes().await?.iter().filter(ready));
        if not_ready.is_empty() {
            return Ok(Verdict::Ok);
        }
        Err(format!("some nodes are not ready: [{}]", not_ready.join(" ")))
    }

    async fn schedulable(&self) -> Finding {
        let nodes = self.nodes().await?;
        let cordoned = nodes.iter().filter(|node| node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true));
        let cordoned = names(cordoned);
        if cordoned.is_empty() {
            return Ok(Verdict::Ok);
        }
        Err(format!("some nodes are not schedulable: [{}]", cordoned.join(" ")))
    }

    async fn kube_proxy(&self) -> Finding {
        let sets: Api<DaemonSet> = Api::namespaced(self.api()?, "kube-system");
        let sets = sets.list(&ListParams::default().labels("k8s-app=kube-proxy")).await.map_err(text)?;
        let wanted =
            sets.items.first().and_then(|set| set.status.as_ref()).map(|status| status.desired_number_scheduled);
        if sets.items.is_empty() { Ok(Verdict::Skip) } else { self.ready("k8s-app=kube-proxy", wanted).await }
    }

    async fn core_dns(&self) -> Finding {
        let deployments: Api<Deployment> = Api::namespaced(self.api()?, "kube-system");
        let deployments = deployments.list(&ListParams::default().labels("k8s-app=kube-dns")).await.map_err(text)?;
        let wanted = deployments.items.first().and_then(|deployment| deployment.spec.as_ref()?.replicas);
        if deployments.items.is_empty() || self.without_cni() {
            return Ok(Verdict::Skip);
        }
        self.ready("k8s-app=kube-dns", wanted).await
    }

    async fn ready(&self, selector: &str, wanted: Option<i32>) -> Finding {
        let pods = self.pods(selector).await?;
        let missing =
            |what: &str| format!("{what} found for namespace \"kube-system\" and label selector {selector:?}");
        if pods.is_empty() {
            return Err(missing("no pods"));
        }
        let ready = pods.iter().filter(|pod| is_ready(pod)).count();
        if ready == 0 {
            return Err(missing("no ready pods"));
        }
        match wanted.and_then(|wanted| usize::try_from(wanted).ok()).filter(|wanted| *wanted != ready) {
            Some(wanted) => Err(format!("expected {wanted} ready pods, got {ready}")),
            None => Ok(Verdict::Ok),
        }
    }
}

fn names<'o, K: kube::Resource + 'o>(objects: impl Iterator<Item = &'o K>) -> Vec<String> {
    objects.map(ResourceExt::name_any).collect()
}

fn text(error: impl Display) -> String {
    error.to_string()
}
