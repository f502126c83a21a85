//! The loop behind all kubelets of the lab: computes every pod's stage on each change and writes the stages that changed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream::select_all;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, ResourceExt};
use serde_json::json;
use tokio::task::JoinSet;
use tokio_stream::wrappers::WatchStream;

use super::events;
use super::lifecycle::{PodStage, PodTimeline, completes, images, uses_host_network};
use super::nodes::{NodeNetwork, ReadyPlugin, ready_plugin_on};
use super::status::{PodPlacement, status};
use crate::cluster_cache::is_ready;
use crate::cluster_context::ClusterContext;
use crate::kubelet_reports::{KUBELET, mark_ready};
use crate::node::SimulatedNode;
use crate::node::static_pods::is_mirror_pod;
use crate::record::facts;
use crate::timestamp;

/// Before a write that the API rejected is retried.
const RETRY_DELAY: Duration = Duration::from_millis(200);

/// What a kubelet remembers about a pod.
#[derive(Debug)]
struct TrackedPod {
    boot_id: String,
    /// When it was first seen, bound or not.
    seen: Instant,
    bound: Instant,
    deleted: Option<Instant>,
    address: Option<IpAddr>,
    restarts: u32,
    /// The stage that was written to the API last.
    written_stage: Option<PodStage>,
    /// The pod's resource version after that write.
    written_version: u64,
    is_being_written: bool,
    /// The next write must not start before this.
    not_before: Option<Instant>,
}

/// The result of a write.
#[derive(Debug)]
enum WriteResult {
    Pod {
        uid: String,
        stage: PodStage,
        /// The pod's resource version after it. `None` if the API rejected the write.
        version: Option<u64>,
    },
    NodeReady {
        node: String,
        result: kube::Result<()>,
    },
    Event,
}

/// A node whose kubelet runs.
struct PodHost {
    node: Arc<SimulatedNode>,
    /// The name of the Kubernetes node.
    name: String,
    boot_id: String,
    /// When its network became ready.
    network: Option<Instant>,
}

/// The earliest of several times.
#[derive(Debug, Default)]
struct NextWake(Option<Instant>);

impl NextWake {
    fn add(&mut self, at: Option<Instant>) {
        self.0 = [self.0, at].into_iter().flatten().min();
    }
}

/// All kubelets of a lab.
pub(crate) struct Kubelets {
    context: ClusterContext,
    /// By UID.
    pods: BTreeMap<String, TrackedPod>,
    /// By the name of the simulated node.
    networks: BTreeMap<String, NodeNetwork>,
    /// Pod addresses in use.
    addresses: BTreeSet<IpAddr>,
    writes: JoinSet<WriteResult>,
    /// Simulated nodes whose Ready condition is being written.
    nodes_being_written: BTreeSet<String>,
}

impl Kubelets {
    pub(crate) fn new(context: ClusterContext) -> Self {
        Self {
            context,
            pods: BTreeMap::new(),
            networks: BTreeMap::new(),
            addresses: BTreeSet::new(),
            writes: JoinSet::new(),
            nodes_being_written: BTreeSet::new(),
        }
    }

    /// Runs until the lab ends.
    pub(crate) async fn run(mut self) {
        let nodes = self.context.nodes.iter().map(|node| WatchStream::new(node.state.subscribe()));
        let mut nodes = select_all(nodes);
        let mut changes = self.context.cache.changes();
        let mut known = self.context.lab.recorder.known_facts();
        loop {
            changes.mark_unchanged();
            known.mark_unchanged();
            let wake = self.update_all(Instant::now());
            let timer = async {
                match wake {
                    Some(wake) => tokio::time::sleep_until(wake.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = changes.changed() => {}
                _ = known.changed() => {}
                _ = nodes.next() => {}
                Some(written) = self.writes.join_next() => {
                    if let Ok(written) = written {
                        self.finish_write(written);
                    }
                }
                () = timer => {}
            }
        }
    }

    /// Updates all nodes and pods. Returns when the next stage changes by itself.
    fn update_all(&mut self, now: Instant) -> Option<Instant> {
        let mut wake = NextWake::default();
        let hosts = self.hosts(now, &mut wake);
        let known = self.context.lab.recorder.known_facts().borrow().clone();
        let pods = self.context.cache.pods.state();
        let mut present = BTreeSet::new();
        for pod in pods {
            let Some(uid) = pod.uid() else { continue };
            present.insert(uid.clone());
            let host = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).and_then(|name| hosts.get(name));
            let tracked = self.pods.entry(uid.clone()).or_insert_with(|| TrackedPod::new(now));
            let Some(host) = host else {
                tracked.bound = now;
                continue;
            };
            tracked.observe(host, &pod, now);
            wake.add(self.update_pod(&uid, &pod, host, &known, now));
        }
        let gone: Vec<String> = self.pods.keys().filter(|uid| !present.contains(*uid)).cloned().collect();
        for tracked in gone.into_iter().filter_map(|uid| self.pods.remove(&uid)) {
            tracked.address.map(|address| self.addresses.remove(&address));
        }
        wake.0
    }

    /// The nodes whose kubelet runs, by Kubernetes node name. Marks nodes Ready when they are due.
    fn hosts(&mut self, now: Instant, wake: &mut NextWake) -> BTreeMap<String, PodHost> {
        let mut hosts = BTreeMap::new();
        let timings = &self.context.lab.scenario.pods;
        for node in &self.context.nodes {
            let (is_registered, boot_id) = {
                let state = node.state.borrow();
                (state.registered, state.boot_id.clone())
            };
            if !is_registered {
                continue;
            }
            let name = node.hostname();
            let network = self.networks.entry(node.name().to_owned()).or_default();
            if network.boot_id != boot_id {
                *network = NodeNetwork { boot_id: boot_id.clone(), ..NodeNetwork::default() };
            }
            if network.plugin.is_none() {
                let fact = ready_plugin_on(&self.context.cache, &name, &timings.cni);
                network.plugin = fact.map(|fact| ReadyPlugin { seen: now, fact });
            }
            let due = network.due(timings.node_ready.duration());
            if due.is_some_and(|due| due <= now) && self.nodes_being_written.insert(node.name().to_owned()) {
                let (client, name) = (self.context.cache.client.clone(), name.clone());
                let node = node.name().to_owned();
                self.writes.spawn(async move {
                    let result = mark_ready(&client, &name).await;
                    WriteResult::NodeReady { node, result }
                });
            }
            wake.add(due.filter(|due| *due > now));
            let host = PodHost { node: node.clone(), name: name.clone(), boot_id, network: network.ready };
            hosts.insert(name, host);
        }
        hosts
    }

    /// Computes a pod's stage and writes it if it differs from the written one. Returns when it changes by itself.
    fn update_pod(
        &mut self,
        uid: &str,
        pod: &Arc<Pod>,
        host: &PodHost,
        known: &BTreeSet<String>,
        now: Instant,
    ) -> Option<Instant> {
        let scenario = self.context.lab.scenario.clone();
        let tracked = self.pods.get_mut(uid)?;
        let timeline =
            PodTimeline { pod, bound: tracked.bound, deleted: tracked.deleted, network: host.network, pulled: None };
        let pulled = timeline.sandbox().filter(|sandbox| *sandbox <= now).map(|_| {
            let is_static = is_mirror_pod(pod);
            let to_pull = images(pod).filter(|_| !is_static);
            to_pull.map(|image| host.node.pull_for_pod(image)).fold(tracked.bound, Instant::max)
        });
        let next = PodTimeline { pulled, ..timeline }.next(&scenario, known, now);
        if tracked.is_being_written {
            return None;
        }
        if tracked.written_stage.as_ref() == Some(&next.stage) && !tracked.is_contradicted(pod) {
            return next.wake;
        }
        if let Some(not_before) = tracked.not_before.filter(|not_before| *not_before > now) {
            return Some(not_before);
        }
        if pulled.is_some() && tracked.address.is_none() {
            match self.allocate_address(pod, host) {
                Some(address) => self.pods.get_mut(uid)?.address = Some(address),
                // The controller manager has not set the node's pod CIDR yet. That will be a change.
                None => return next.wake,
            }
        }
        self.write(uid, pod, host, next.stage);
        next.wake
    }

    /// A free address in the node's pod CIDR, or the node's own.
    fn allocate_address(&mut self, pod: &Pod, host: &PodHost) -> Option<IpAddr> {
        if uses_host_network(pod) {
            return Some(host.node.address());
        }
        let node = self.context.cache.nodes.find(|node| node.name_any() == host.name)?;
        let range: ipnet::IpNet = node.spec.as_ref()?.pod_cidr.as_ref()?.parse().ok()?;
        // The first address is the node's own in its pod network.
        let free = range.hosts().skip(1).find(|address| !self.addresses.contains(address))?;
        self.addresses.insert(free);
        Some(free)
    }

    fn write(&mut self, uid: &str, pod: &Arc<Pod>, host: &PodHost, stage: PodStage) {
        let Some(tracked) = self.pods.get_mut(uid) else { return };
        tracked.is_being_written = true;
        let placement =
            PodPlacement { host: host.node.address(), address: tracked.address, restarts: tracked.restarts };
        let events = events::for_stage(pod, &stage);
        if !events.is_empty() && !is_mirror_pod(pod) {
            let (client, pod, host) = (self.context.cache.client.clone(), pod.clone(), host.name.clone());
            self.writes.spawn(async move {
                // A kubelet does not retry events either.
                let _ = events::write(&client, &pod, &host, events).await;
                WriteResult::Event
            });
        }
        let (client, pod, uid) = (self.context.cache.client.clone(), pod.clone(), uid.to_owned());
        self.writes.spawn(async move {
            let version = write_stage(&client, &pod, &stage, placement).await.ok();
            WriteResult::Pod { uid, stage, version }
        });
    }

    fn finish_write(&mut self, written: WriteResult) {
        match written {
            WriteResult::Event => {}
            WriteResult::NodeReady { node, result } => {
                self.nodes_being_written.remove(&node);
                if result.is_ok() {
                    self.record_ready_node(&node);
                }
            }
            WriteResult::Pod { uid, stage, version } => {
                let Some(tracked) = self.pods.get_mut(&uid) else { return };
                tracked.is_being_written = false;
                tracked.not_before = version.is_none().then(|| Instant::now() + RETRY_DELAY);
                let Some(version) = version else { return };
                tracked.written_version = version;
                if tracked.written_stage.replace(stage.clone()).as_ref() != Some(&stage) {
                    self.record_stage(&uid, &stage);
                }
            }
        }
    }

    fn record_ready_node(&mut self, name: &str) {
        let node = self.context.nodes.iter().find(|node| node.name() == name);
        let (Some(network), Some(node)) = (self.networks.get_mut(name), node) else { return };
        network.ready = Some(Instant::now());
        if let Some(plugin) = &network.plugin {
            let causes = [facts::node_registered(name), plugin.fact.clone()];
            self.context.lab.recorder.record_fact(facts::node_ready(name), plugin.seen, causes);
        }
        node.change(|state| state.node_ready = true);
    }

    /// Records that a pod became ready or completed.
    fn record_stage(&self, uid: &str, stage: &PodStage) {
        let pods = &self.context.cache.pods;
        let Some(pod) = pods.find(|pod| pod.uid().as_deref() == Some(uid)) else { return };
        let Some(tracked) = self.pods.get(uid) else { return };
        let fact = match stage {
            PodStage::Running { ready: true } if !completes(&pod) => facts::pod_ready(&pod),
            PodStage::Completed => facts::pod_completed(&pod),
            _ => return,
        };
        if is_mirror_pod(&pod) {
            return;
        }
        let host = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or_default();
        let node = self.context.nodes.iter().find(|node| node.hostname() == host);
        let name = node.map(|node| node.name()).unwrap_or_default();
        let (began, node_fact) = if uses_host_network(&pod) {
            (tracked.seen, facts::node_registered(name))
        } else {
            let network = self.networks.get(name).and_then(|network| network.ready);
            (network.map_or(tracked.seen, |at| at.max(tracked.seen)), facts::node_ready(name))
        };
        let causes = std::iter::once(node_fact).chain(self.context.pod_causes(&pod));
        self.context.lab.recorder.record_fact(fact, began, causes);
    }
}

impl TrackedPod {
    fn new(now: Instant) -> Self {
        Self {
            boot_id: String::new(),
            seen: now,
            bound: now,
            deleted: None,
            address: None,
            restarts: 0,
            written_stage: None,
            written_version: 0,
            is_being_written: false,
            not_before: None,
        }
    }

    /// Whether another writer has changed the pod's Ready condition, as the node controller does on nodes that are not
    /// Ready.
    fn is_contradicted(&self, pod: &Pod) -> bool {
        let Some(PodStage::Running { ready }) = self.written_stage else { return false };
        resource_version(pod) > self.written_version
            && ready != is_ready(pod)
            && pod.metadata.deletion_timestamp.is_none()
    }

    /// Notes the pod's host and deletion. The pod starts again after its host has booted.
    fn observe(&mut self, host: &PodHost, pod: &Pod, now: Instant) {
        if self.boot_id.is_empty() {
            self.bound = now;
        } else if self.boot_id != host.boot_id {
            self.bound = now;
            self.written_stage = None;
            self.restarts += 1;
        }
        host.boot_id.clone_into(&mut self.boot_id);
        if pod.metadata.deletion_timestamp.is_some() {
            self.deleted.get_or_insert(now);
        }
    }
}

/// The pod's resource version, which increases with each change (Kubernetes 1.35).
fn resource_version(pod: &Pod) -> u64 {
    pod.resource_version().and_then(|version| version.parse().ok()).unwrap_or_default()
}

/// Writes the status of a stage, or deletes an ended pod. Returns the pod's resource version after it.
async fn write_stage(client: &kube::Client, pod: &Pod, stage: &PodStage, placement: PodPlacement) -> kube::Result<u64> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
    let name = pod.name_any();
    if *stage == PodStage::Ended {
        let preconditions = Preconditions { uid: pod.uid(), resource_version: None };
        let params = DeleteParams::default().grace_period(0).preconditions(preconditions);
        return match pods.delete(&name, &params).await {
            Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => Ok(0),
            other => other.map(|_| 0),
        };
    }
    let body = json!({"metadata": {"uid": pod.uid()}, "status": status(pod, stage, placement, &timestamp::now())});
    let params = PatchParams { field_manager: Some(KUBELET.to_owned()), ..PatchParams::default() };
    match pods.patch_status(&name, &params, &Patch::Strategic(&body)).await {
        // The pod is gone, or was replaced by another one of the same name.
        Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => Ok(0),
        written => written.map(|pod| resource_version(&pod)),
    }
}
