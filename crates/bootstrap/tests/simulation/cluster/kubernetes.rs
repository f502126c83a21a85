//! The Kubernetes API, kubelets, Helm's records and processes, and the hook.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use helm::storage::{Status, StoredRelease};
use kubernetes::{NodeView, Scheduling};
use serde_json::{Value, json};

use super::{Power, Shared, SimulatedCluster};
use crate::inputs::{DeclaredRelease, HOOKED, RELEASES, declared};

/// After etcd has a quorum, until an API server responds.
const API_START: Duration = Duration::from_secs(3);
/// After a boot, until the kubelet reports.
const KUBELET_START: Duration = Duration::from_secs(3);
/// A kubelet that has not reported for this long makes its node NotReady.
const KUBELET_SILENCE: Duration = Duration::from_secs(10);
const NO_NETWORK: &str = "runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady";

#[derive(Debug, Clone, Default)]
struct Kubelet {
    boot: u32,
    reported: Duration,
    scheduling: Option<Scheduling>,
}

#[derive(Debug, Default)]
pub(crate) struct Kubernetes {
    pub(super) api_away_until: Duration,
    pub(super) registry_away_until: Duration,
    /// The API has responded at some time.
    pub(crate) has_served: bool,
    pub(crate) namespaces: BTreeSet<&'static str>,
    kubelets: BTreeMap<usize, Kubelet>,
    records: BTreeMap<&'static str, Vec<StoredRelease>>,
    /// Since when the workloads of a release are ready.
    ready_from: BTreeMap<&'static str, Duration>,
    /// Helm processes at work on each release.
    helms: BTreeMap<&'static str, usize>,
    /// How often the hook took effect.
    pub(crate) hook_effects: u32,
    /// The ConfigMap with the records of hooks.
    pub(crate) hook_records: BTreeMap<String, String>,
}

impl Kubernetes {
    pub(super) fn end_faults(&mut self) {
        self.api_away_until = Duration::ZERO;
        self.registry_away_until = Duration::ZERO;
    }

    /// Whether the kubelet of a node has reported from this boot.
    pub(super) fn reports_boot(&self, index: usize, boot: u32) -> bool {
        self.kubelets.get(&index).is_some_and(|kubelet| kubelet.boot == boot)
    }

    pub(super) fn is_cordoned(&self, index: usize) -> bool {
        self.kubelets.get(&index).is_some_and(|kubelet| kubelet.scheduling == Some(Scheduling::CordonedByUs))
    }

    pub(crate) fn newest(&self, release: &str) -> Option<&StoredRelease> {
        self.records.get(release)?.iter().max_by_key(|record| record.revision)
    }

    /// The config that the deployed revision of a release was made from.
    pub(super) fn deployed_config(&self, release: &str) -> Option<u32> {
        let record = self.newest(release).filter(|record| record.status == Status::Deployed)?;
        record.config.get("config").and_then(Value::as_u64).and_then(|config| u32::try_from(config).ok())
    }

    fn is_deployed(&self, release: &str) -> bool {
        self.records.get(release).into_iter().flatten().any(|record| record.status == Status::Deployed)
    }

    pub(crate) fn delete_record(&mut self, release: &str, secret: &str) {
        if let Some(records) = self.records.get_mut(release) {
            records.retain(|record| record.secret_name() != secret);
        }
    }
}

/// The values that a config gives a release.
pub(crate) fn values(config: u32) -> Value {
    json!({ "config": config })
}

impl SimulatedCluster {
    /// Whether an API server responds on this control plane.
    fn api_runs(&self, index: usize) -> bool {
        self.nodes[index].api_since.is_some() && self.now() >= self.kubernetes.api_away_until
    }

    /// Whether any API server responds to an operator.
    pub(crate) fn api_responds(&self, operator: usize) -> bool {
        (0..self.nodes.len()).any(|index| self.api_runs(index) && self.is_reachable(operator, index))
    }

    pub(super) fn api_responds_inside(&self) -> bool {
        (0..self.nodes.len()).any(|index| self.api_runs(index))
    }

    pub(crate) fn registry_responds(&self) -> bool {
        self.now() >= self.kubernetes.registry_away_until
    }

    /// Whether the workloads of a release are ready.
    pub(crate) fn is_ready(&self, release: &str) -> bool {
        self.kubernetes.ready_from.get(release).is_some_and(|from| self.now() >= *from)
    }

    /// The nodes that are registered, by name.
    pub(crate) fn registered(&self) -> BTreeMap<String, NodeView> {
        let now = self.now();
        let has_network = self.is_ready("cilium");
        let view = |(index, kubelet): (&usize, &Kubelet)| {
            let node = &self.nodes[*index];
            let reports = now < kubelet.reported + KUBELET_SILENCE;
            let reason = match (reports, has_network) {
                (true, true) => String::new(),
                (true, false) => NO_NETWORK.to_owned(),
                (false, _) => "Kubelet stopped posting node status.".to_owned(),
            };
            let view = NodeView {
                ready: reports && has_network,
                reason,
                boot_id: format!("{}-{}", node.name, kubelet.boot),
                addresses: vec![node.address],
                scheduling: kubelet.scheduling.unwrap_or(Scheduling::Allowed),
            };
            (node.name.clone(), view)
        };
        self.kubernetes.kubelets.iter().map(view).collect()
    }

    /// Changes whether pods are placed on a node.
    pub(crate) fn schedule(&mut self, index: usize, scheduling: Scheduling) {
        if let Some(kubelet) = self.kubernetes.kubelets.get_mut(&index) {
            kubelet.scheduling = Some(scheduling);
        }
        self.log(|| format!("{} is {scheduling:?}", declared().nodes[index].hostname));
    }

    pub(super) fn tick_kubernetes(&mut self) {
        let now = self.now();
        for index in 0..self.nodes.len() {
            let serves = self.nodes[index].etcd_runs && self.nodes[index].data.is_some_and(|id| self.has_quorum(id));
            let node = &mut self.nodes[index];
            match (serves, node.power) {
                (true, Power::Up { since }) if now >= since + API_START => {
                    node.api_since.get_or_insert(now);
                }
                _ => node.api_since = None,
            }
        }
        if !self.api_responds_inside() {
            return;
        }
        if !self.kubernetes.has_served {
            self.kubernetes.has_served = true;
            self.log(|| "the API responds".to_owned());
        }
        for (index, node) in self.nodes.iter().enumerate() {
            if matches!(node.power, Power::Up { since } if now >= since + KUBELET_START) {
                let kubelet = self.kubernetes.kubelets.entry(index).or_default();
                (kubelet.boot, kubelet.reported) = (node.boot, now);
            }
        }
    }

    fn record(&mut self, release: DeclaredRelease, config: u32) -> u32 {
        let newest = self.kubernetes.newest(release.name);
        let revision = newest.map_or(0, |newest| newest.revision) + 1;
        let status = if newest.is_some() { Status::PendingUpgrade } else { Status::PendingInstall };
        let record = StoredRelease {
            namespace: release.namespace.to_owned(),
            name: release.name.to_owned(),
            revision,
            status,
            description: String::new(),
            chart_name: release.name.to_owned(),
            chart_version: "1.0.0".to_owned(),
            config: values(config),
            manifest: String::new(),
            hooks: Vec::new(),
            labels: BTreeMap::new(),
            apply_method: None,
            last_deployed: None,
        };
        self.log(|| format!("helm records {} revision {revision} as {status}", release.name));
        self.kubernetes.records.entry(release.name).or_default().push(record);
        revision
    }

    fn conclude(&mut self, release: DeclaredRelease, revision: u32) {
        let ready = self.now() + self.chance.millis(1_000..=6_000);
        for record in self.kubernetes.records.entry(release.name).or_default() {
            if record.revision == revision {
                record.status = Status::Deployed;
            } else if record.status == Status::Deployed {
                record.status = Status::Superseded;
            }
        }
        self.kubernetes.ready_from.insert(release.name, ready);
        self.log(|| format!("helm records {} revision {revision} as deployed", release.name));
    }
}

/// Why helm ended without success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HelmFailure {
    /// "another operation is in progress".
    Pending,
    ApiAway,
}

/// A helm process at work. It ends with its run.
struct HelmProcess {
    cluster: Shared,
    release: &'static str,
    is_done: bool,
}

impl HelmProcess {
    fn start(cluster: &Shared, release: &'static str) -> Self {
        let mut state = cluster.lock();
        let at_work = state.kubernetes.helms.entry(release).or_default();
        *at_work += 1;
        if *at_work > 1 {
            state.violate(format!("two helm processes are at work on {release}"));
        }
        drop(state);
        Self { cluster: cluster.clone(), release, is_done: false }
    }
}

impl Drop for HelmProcess {
    fn drop(&mut self) {
        let mut state = self.cluster.lock();
        if let Some(at_work) = state.kubernetes.helms.get_mut(self.release) {
            *at_work -= 1;
        }
        state.counts.interrupted_helms += u64::from(!self.is_done);
    }
}

/// `helm upgrade --install`, as a process of its own on an operator's machine.
pub(crate) async fn helm_upgrade(
    cluster: Shared,
    operator: usize,
    release: DeclaredRelease,
    config: u32,
) -> Result<(), HelmFailure> {
    let mut process = HelmProcess::start(&cluster, release.name);
    let result = upgrade(&cluster, operator, release, config).await;
    process.is_done = true;
    result
}

async fn upgrade(cluster: &Shared, operator: usize, release: DeclaredRelease, config: u32) -> Result<(), HelmFailure> {
    pause(cluster, 100..=1_000).await;
    let revision = {
        let mut state = cluster.lock();
        if !state.api_responds(operator) {
            return Err(HelmFailure::ApiAway);
        }
        if let Some(need) = release.needs.filter(|need| !state.kubernetes.is_deployed(need)) {
            state.violate(format!("{} is installed before {need}", release.name));
        }
        if release.needs == Some(HOOKED) && state.kubernetes.hook_effects == 0 {
            state.violate(format!("{} is installed before the hook of {HOOKED} has run", release.name));
        }
        if state.kubernetes.newest(release.name).is_some_and(|newest| newest.status.is_pending()) {
            return Err(HelmFailure::Pending);
        }
        state.record(release, config)
    };
    pause(cluster, 500..=6_000).await;
    let mut state = cluster.lock();
    // A helm that loses the API leaves its record as it is.
    if !state.api_responds(operator) {
        return Err(HelmFailure::ApiAway);
    }
    state.conclude(release, revision);
    Ok(())
}

async fn pause(cluster: &Shared, millis: std::ops::RangeInclusive<u64>) {
    let pause = cluster.lock().chance.millis(millis);
    tokio::time::sleep(pause).await;
}

/// The hook ended with an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HookFailure;

/// The hook, as a process of its own: it works, takes effect at some moment, and works on.
pub(crate) async fn run_hook(cluster: Shared) -> Result<(), HookFailure> {
    pause(&cluster, 100..=4_000).await;
    {
        let mut state = cluster.lock();
        let rates = state.rates;
        if state.chance.happens(rates.hook_failure) {
            return Err(HookFailure);
        }
        if !RELEASES.iter().any(|release| release.name == HOOKED && state.kubernetes.is_deployed(release.name)) {
            state.violate(format!("the hook of {HOOKED} runs before {HOOKED} is deployed"));
        }
        state.kubernetes.hook_effects += 1;
        state.log(|| "the hook takes effect".to_owned());
        if state.kubernetes.hook_effects > 1 {
            state.violate("the hook took effect twice".to_owned());
        }
    }
    pause(&cluster, 100..=4_000).await;
    let mut state = cluster.lock();
    let rates = state.rates;
    if state.chance.happens(rates.hook_failure / 2) { Err(HookFailure) } else { Ok(()) }
}
