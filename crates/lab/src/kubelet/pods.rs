//! The loop that plays every kubelet of the lab: looks at all pods whenever something changes, and writes what changed.

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

use super::lifecycle::{Life, Stage, completes, host_network, images};
use super::nodes::{Network, mark_ready, plugin_on};
use super::status::{Place, status};
use super::{MANAGER, events, mirror, now};
use crate::cluster::Inside;
use crate::node::Node as Machine;
use crate::view::is_ready;

/// Between two tries of a write that the API refused.
const PAUSE: Duration = Duration::from_millis(200);

/// What a kubelet remembers of a pod.
#[derive(Debug)]
struct Memory {
    boot_id: String,
    /// When it was first seen, bound or not.
    seen: Instant,
    bound: Instant,
    unwanted: Option<Instant>,
    address: Option<IpAddr>,
    restarts: u32,
    /// The stage that the API was told last.
    told: Option<Stage>,
    /// The pod's version that came of it.
    version: u64,
    /// A write is under way, or may be tried again only then.
    busy: bool,
    not_before: Option<Instant>,
}

/// A write that came to its end.
#[derive(Debug)]
enum Written {
    /// The pod's version after it; nothing when the API did not take it.
    Pod {
        uid: String,
        stage: Stage,
        version: Option<u64>,
    },
    Node {
        name: String,
        ok: bool,
    },
    Event,
}

/// A machine as this round sees it.
struct Host {
    machine: Arc<Machine>,
    name: String,
    boot_id: String,
    network: Option<Instant>,
}

/// All kubelets of a lab.
pub(crate) struct Kubelets {
    inside: Inside,
    pods: BTreeMap<String, Memory>,
    /// By the machine's name.
    networks: BTreeMap<String, Network>,
    addresses: BTreeSet<IpAddr>,
    writes: JoinSet<Written>,
    /// Nodes whose status is being written.
    busy: BTreeSet<String>,
}

impl Kubelets {
    pub(crate) fn new(inside: Inside) -> Self {
        Self {
            inside,
            pods: BTreeMap::new(),
            networks: BTreeMap::new(),
            addresses: BTreeSet::new(),
            writes: JoinSet::new(),
            busy: BTreeSet::new(),
        }
    }

    /// Runs until the lab ends.
    pub(crate) async fn run(mut self) {
        let machines = self.inside.machines.iter().map(|machine| WatchStream::new(machine.state.subscribe()));
        let mut machines = select_all(machines);
        let mut changes = self.inside.view.changes();
        let mut known = self.inside.world.recorder.known();
        loop {
            changes.mark_unchanged();
            known.mark_unchanged();
            let wake = self.round(Instant::now());
            let timer = async {
                match wake {
                    Some(wake) => tokio::time::sleep_until(wake.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = changes.changed() => {}
                _ = known.changed() => {}
                _ = machines.next() => {}
                Some(written) = self.writes.join_next() => {
                    if let Ok(written) = written {
                        self.written(written);
                    }
                }
                () = timer => {}
            }
        }
    }

    /// Looks at everything once; when to look again although nothing changes.
    fn round(&mut self, now: Instant) -> Option<Instant> {
        let mut wake: Option<Instant> = None;
        let mut earliest = |at: Option<Instant>| wake = [wake, at].into_iter().flatten().min();
        let hosts = self.hosts(now, &mut earliest);
        let known = self.inside.world.recorder.known().borrow().clone();
        let pods = self.inside.view.pods.state();
        let mut present = BTreeSet::new();
        for pod in pods {
            let Some(uid) = pod.uid() else { continue };
            present.insert(uid.clone());
            let host = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).and_then(|name| hosts.get(name));
            let memory = self.pods.entry(uid.clone()).or_insert_with(|| Memory::new(now));
            let Some(host) = host else {
                memory.bound = now;
                continue;
            };
            memory.board(host, &pod, now);
            earliest(self.look(&uid, &pod, host, &known, now));
        }
        let gone: Vec<String> = self.pods.keys().filter(|uid| !present.contains(*uid)).cloned().collect();
        for memory in gone.into_iter().filter_map(|uid| self.pods.remove(&uid)) {
            memory.address.map(|address| self.addresses.remove(&address));
        }
        wake
    }

    /// The machines whose kubelet runs, by node name; their nodes are told Ready when it is time.
    fn hosts(&mut self, now: Instant, earliest: &mut impl FnMut(Option<Instant>)) -> BTreeMap<String, Host> {
        let mut hosts = BTreeMap::new();
        let pace = &self.inside.world.scenario.pods;
        for machine in &self.inside.machines {
            let (registered, boot_id) = {
                let state = machine.state.borrow();
                (state.registered, state.boot_id.clone())
            };
            if !registered {
                continue;
            }
            let name = machine.hostname();
            let network = self.networks.entry(machine.name().to_owned()).or_default();
            if network.boot_id != boot_id {
                *network = Network { boot_id: boot_id.clone(), ..Network::default() };
            }
            if network.plugin.is_none() {
                network.plugin = plugin_on(&self.inside.view, &name, &pace.cni).map(|pod| (now, pod));
            }
            let due = network.due(pace.node_ready.duration());
            if due.is_some_and(|due| due <= now) && self.busy.insert(machine.name().to_owned()) {
                let (client, node, machine) =
                    (self.inside.view.client.clone(), name.clone(), machine.name().to_owned());
                self.writes.spawn(async move {
                    let ok = mark_ready(&client, &node).await.is_ok();
                    Written::Node { name: machine, ok }
                });
            }
            earliest(due.filter(|due| *due > now));
            let host = Host { machine: machine.clone(), name: name.clone(), boot_id, network: network.ready };
            hosts.insert(name, host);
        }
        hosts
    }

    /// Looks at one pod, and writes its next stage when it is another than the API knows.
    fn look(
        &mut self,
        uid: &str,
        pod: &Arc<Pod>,
        host: &Host,
        known: &BTreeSet<String>,
        now: Instant,
    ) -> Option<Instant> {
        let scenario = self.inside.world.scenario.clone();
        let memory = self.pods.get_mut(uid)?;
        let life = Life { pod, bound: memory.bound, unwanted: memory.unwanted, network: host.network, pulled: None };
        let pulled = life.sandbox().filter(|sandbox| *sandbox <= now).map(|_| {
            let static_pod = mirror::is_mirror(pod);
            let wanted = images(pod).filter(|_| !static_pod);
            wanted.map(|image| host.machine.pull_for_pod(image)).fold(memory.bound, Instant::max)
        });
        let next = Life { pulled, ..life }.next(&scenario, known, now);
        if memory.busy {
            return None;
        }
        if memory.told.as_ref() == Some(&next.stage) && !memory.is_contradicted(pod) {
            return next.wake;
        }
        if let Some(not_before) = memory.not_before.filter(|not_before| *not_before > now) {
            return Some(not_before);
        }
        if pulled.is_some() && memory.address.is_none() {
            match self.address(pod, host) {
                Some(address) => self.pods.get_mut(uid)?.address = Some(address),
                // The controller manager has not given the node a range yet; its doing so is a change.
                None => return next.wake,
            }
        }
        self.write(uid, pod, host, next.stage);
        next.wake
    }

    /// A free address out of the node's range, or the node's own.
    fn address(&mut self, pod: &Pod, host: &Host) -> Option<IpAddr> {
        if host_network(pod) {
            return Some(host.machine.address());
        }
        let node = self.inside.view.nodes.find(|node| node.name_any() == host.name)?;
        let range: ipnet::IpNet = node.spec.as_ref()?.pod_cidr.as_ref()?.parse().ok()?;
        // The first address is the node's own in its pod network.
        let free = range.hosts().skip(1).find(|address| !self.addresses.contains(address))?;
        self.addresses.insert(free);
        Some(free)
    }

    fn write(&mut self, uid: &str, pod: &Arc<Pod>, host: &Host, stage: Stage) {
        let Some(memory) = self.pods.get_mut(uid) else { return };
        memory.busy = true;
        let place = Place { host: host.machine.address(), address: memory.address, restarts: memory.restarts };
        let told = events::of_stage(pod, &stage);
        if !told.is_empty() && !mirror::is_mirror(pod) {
            let (client, pod, host) = (self.inside.view.client.clone(), pod.clone(), host.name.clone());
            self.writes.spawn(async move {
                // An event that cannot be written is lost, as a kubelet's is.
                let _ = events::tell(&client, &pod, &host, told).await;
                Written::Event
            });
        }
        let (client, pod, uid) = (self.inside.view.client.clone(), pod.clone(), uid.to_owned());
        self.writes.spawn(async move {
            let version = tell(&client, &pod, &stage, place).await.ok();
            Written::Pod { uid, stage, version }
        });
    }

    fn written(&mut self, written: Written) {
        match written {
            Written::Event => {}
            Written::Node { name, ok } => {
                self.busy.remove(&name);
                if ok {
                    self.node_ready(&name);
                }
            }
            Written::Pod { uid, stage, version } => {
                let Some(memory) = self.pods.get_mut(&uid) else { return };
                memory.busy = false;
                memory.not_before = version.is_none().then(|| Instant::now() + PAUSE);
                let Some(version) = version else { return };
                memory.version = version;
                if memory.told.replace(stage.clone()).as_ref() != Some(&stage) {
                    self.note(&uid, &stage);
                }
            }
        }
    }

    fn node_ready(&mut self, name: &str) {
        let machine = self.inside.machines.iter().find(|machine| machine.name() == name);
        let (Some(network), Some(machine)) = (self.networks.get_mut(name), machine) else { return };
        network.ready = Some(Instant::now());
        if let Some((seen, plugin)) = &network.plugin {
            let causes = [format!("node/{name}/registered"), plugin.clone()];
            self.inside.world.recorder.fact(format!("node/{name}/ready"), *seen, causes);
        }
        machine.change(|state| state.node_ready = true);
    }

    /// Records that a pod became ready or completed.
    fn note(&self, uid: &str, stage: &Stage) {
        let effect = match stage {
            Stage::Running { ready: true } => "ready",
            Stage::Completed => "completed",
            _ => return,
        };
        let pods = &self.inside.view.pods;
        let Some(pod) = pods.find(|pod| pod.uid().as_deref() == Some(uid)) else { return };
        let Some(memory) = self.pods.get(uid) else { return };
        if completes(&pod) && effect == "ready" || mirror::is_mirror(&pod) {
            return;
        }
        let host = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or_default();
        let machine = self.inside.machines.iter().find(|machine| machine.hostname() == host);
        let name = machine.map(|machine| machine.name()).unwrap_or_default();
        let network = self.networks.get(name).and_then(|network| network.ready);
        let began =
            if host_network(&pod) { memory.seen } else { network.map_or(memory.seen, |at| at.max(memory.seen)) };
        let node = if host_network(&pod) { "registered" } else { "ready" };
        let causes = std::iter::once(format!("node/{name}/{node}")).chain(self.inside.causes(&pod));
        let fact = format!("pod/{}/{}/{effect}", pod.namespace().unwrap_or_default(), pod.name_any());
        self.inside.world.recorder.fact(fact, began, causes);
    }
}

impl Memory {
    fn new(now: Instant) -> Self {
        Self {
            boot_id: String::new(),
            seen: now,
            bound: now,
            unwanted: None,
            address: None,
            restarts: 0,
            told: None,
            version: 0,
            busy: false,
            not_before: None,
        }
    }

    /// Whether another has written since that the pod is not what it is: the node controller does so to the pods of
    /// nodes that are not Ready.
    fn is_contradicted(&self, pod: &Pod) -> bool {
        let Some(Stage::Running { ready }) = self.told else { return false };
        version(pod) > self.version && ready != is_ready(pod) && pod.metadata.deletion_timestamp.is_none()
    }

    /// Takes note of where the pod runs; it starts anew when its machine has booted.
    fn board(&mut self, host: &Host, pod: &Pod, now: Instant) {
        if self.boot_id.is_empty() {
            self.bound = now;
        } else if self.boot_id != host.boot_id {
            self.bound = now;
            self.told = None;
            self.restarts += 1;
        }
        host.boot_id.clone_into(&mut self.boot_id);
        if pod.metadata.deletion_timestamp.is_some() {
            self.unwanted.get_or_insert(now);
        }
    }
}

/// The version of a pod; they grow (Kubernetes 1.35), so that later ones can be told from earlier ones.
fn version(pod: &Pod) -> u64 {
    pod.resource_version().and_then(|version| version.parse().ok()).unwrap_or_default()
}

/// Writes a pod's stage: its status, or its end. The pod's version after it.
async fn tell(client: &kube::Client, pod: &Pod, stage: &Stage, place: Place) -> kube::Result<u64> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
    let name = pod.name_any();
    if *stage == Stage::Ended {
        let preconditions = Preconditions { uid: pod.uid(), resource_version: None };
        let params = DeleteParams::default().grace_period(0).preconditions(preconditions);
        return match pods.delete(&name, &params).await {
            Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => Ok(0),
            other => other.map(|_| 0),
        };
    }
    let body = json!({"metadata": {"uid": pod.uid()}, "status": status(pod, stage, place, &now())});
    let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    match pods.patch_status(&name, &params, &Patch::Strategic(&body)).await {
        // It has gone meanwhile, and another of its name may be there.
        Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => Ok(0),
        written => written.map(|pod| version(&pod)),
    }
}
