//! The simulated cluster: what exists, how it goes on by itself, and the rules that no run may violate.
//!
//! It knows nothing of the program under test but the plan's inputs. Steps reach it through `link` only.

mod checks;
mod etcd;
mod faults;
mod kubernetes;
mod node;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use talos_client::ChangeEffect;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::chance::{Chance, FaultRates};
use crate::inputs::declared;
use crate::link::Life;

pub(crate) use checks::Counts;
pub(crate) use etcd::BootstrapReply;
pub(crate) use kubernetes::{HelmFailure, helm_upgrade, run_hook, values};
pub(crate) use node::{AfterConfig, ApplyMode, Cause, Node, Power};

/// The cluster goes on in steps of this.
pub(crate) const TICK: Duration = Duration::from_secs(1);

/// Number of operators, each on a machine of their own.
pub(crate) const OPERATORS: usize = 2;

/// A machine config, as a number. The inputs begin with the first.
pub(crate) const FIRST_CONFIG: u32 = 1;
/// A correction that takes effect after a reboot.
pub(crate) const REBOOTING_CONFIG: u32 = 2;
/// A correction that takes effect at once.
pub(crate) const LIVE_CONFIG: u32 = 3;

pub(crate) fn change_effect(running: u32, applied: u32) -> ChangeEffect {
    match (running, applied) {
        (running, applied) if running == applied => ChangeEffect::None,
        (FIRST_CONFIG, LIVE_CONFIG) => ChangeEffect::Live,
        _ => ChangeEffect::Reboot,
    }
}

/// The simulated cluster as everything in a simulation shares it.
#[derive(Clone)]
pub(crate) struct Shared(Arc<Mutex<SimulatedCluster>>);

impl Shared {
    pub(crate) fn lock(&self) -> MutexGuard<'_, SimulatedCluster> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) struct SimulatedCluster {
    began: Instant,
    pub(crate) chance: Chance,
    pub(crate) rates: FaultRates,
    /// When faults end.
    faults_end: Duration,
    pub(crate) faults_ended: bool,
    pub(crate) has_second_operator: bool,
    /// When the operator corrects the inputs, if at all, and to what.
    correction: Option<(Duration, u32)>,
    /// The config that the inputs give now.
    pub(crate) inputs: u32,
    pub(crate) nodes: Vec<Node>,
    pub(crate) etcd: BTreeMap<u64, etcd::EtcdCluster>,
    /// When the first etcd cluster was created.
    pub(super) etcd_created: Option<Duration>,
    pub(crate) kubernetes: kubernetes::Kubernetes,
    /// How many nodes may be down while a run reboots a worker.
    pub(crate) max_unavailable: NonZeroU32,
    /// When etcd raised its last alarm, and until when.
    pub(super) alarm_since: Duration,
    pub(super) alarm_until: Duration,
    /// Until when a machine cannot write its disk, by operator.
    disk_full_until: [Duration; OPERATORS],
    /// How many more workers fail while others have their turn to reboot, other faults ended or not.
    pub(super) worker_failures_left: u32,
    /// The runs that may be killed.
    lives: Vec<Arc<Life>>,
    pub(crate) counts: Counts,
    log: Option<String>,
    violation: Option<String>,
    violated: Arc<Notify>,
}

impl SimulatedCluster {
    pub(crate) fn begin(seed: u64, log: Log) -> Shared {
        let mut chance = Chance::new(seed);
        let rates = FaultRates::draw(&mut chance);
        let faults_end = Duration::from_secs(chance.within(30..=120));
        let has_second_operator = chance.happens(400);
        let correction = chance.happens(600).then(|| {
            let config = if chance.happens(750) { REBOOTING_CONFIG } else { LIVE_CONFIG };
            (Duration::from_secs(chance.within(10..=90)), config)
        });
        let cluster = Self {
            began: Instant::now(),
            rates,
            faults_end,
            faults_ended: false,
            has_second_operator,
            correction,
            inputs: FIRST_CONFIG,
            nodes: declared().nodes.iter().map(Node::new).collect(),
            etcd: BTreeMap::new(),
            etcd_created: None,
            kubernetes: kubernetes::Kubernetes::default(),
            max_unavailable: NonZeroU32::new(u32::try_from(chance.within(1..=2)).unwrap()).unwrap(),
            alarm_since: Duration::ZERO,
            alarm_until: Duration::ZERO,
            disk_full_until: [Duration::ZERO; OPERATORS],
            worker_failures_left: if chance.happens(600) { 3 } else { 0 },
            lives: Vec::new(),
            counts: Counts::default(),
            log: (log == Log::Kept).then(String::new),
            violation: None,
            violated: Arc::default(),
            chance,
        };
        Shared(Arc::new(Mutex::new(cluster)))
    }

    /// Since the simulation began.
    pub(crate) fn now(&self) -> Duration {
        self.began.elapsed()
    }

    pub(crate) fn log(&mut self, line: impl FnOnce() -> String) {
        let now = self.now();
        if let Some(log) = &mut self.log {
            writeln!(log, "{:>9.3} {}", now.as_secs_f64(), line()).unwrap();
        }
    }

    /// Everything that happened so far.
    pub(crate) fn take_log(&mut self) -> String {
        self.log.take().unwrap_or_default()
    }

    /// Ends the simulation: a rule was violated.
    pub(crate) fn violate(&mut self, rule: String) {
        self.log(|| format!("VIOLATION {rule}"));
        self.violation.get_or_insert(rule);
        self.violated.notify_one();
    }

    pub(crate) fn violation(&self) -> Option<&String> {
        self.violation.as_ref()
    }

    pub(crate) fn violated(&self) -> Arc<Notify> {
        self.violated.clone()
    }

    /// Registers a run, which is not killed any more once faults have ended.
    pub(crate) fn register(&mut self, life: &Arc<Life>) {
        self.lives.retain(|life| Arc::strong_count(life) > 1);
        self.lives.push(life.clone());
    }

    pub(crate) fn disk_is_full(&self, operator: usize) -> bool {
        self.now() < self.disk_full_until[operator]
    }

    /// Goes on by one tick.
    fn tick(&mut self) {
        let now = self.now();
        if now >= self.faults_end && !self.faults_ended {
            self.end_faults();
        }
        self.correct_inputs();
        self.tick_faults();
        self.tick_worker_failure();
        for index in 0..self.nodes.len() {
            self.tick_node(index);
        }
        self.tick_etcd();
        self.tick_kubernetes();
        self.check();
    }

    /// The operator corrects a file. Two operators at once have the same files, so then only once etcd exists, from when on
    /// they work one after the other.
    fn correct_inputs(&mut self) {
        let now = self.now();
        let is_due = |(due, _): &(Duration, u32)| now >= *due || self.faults_ended;
        let may_differ = !self.has_second_operator || self.etcd_exists();
        if let Some((_, config)) = self.correction.filter(|correction| is_due(correction) && may_differ) {
            self.correction = None;
            self.inputs = config;
            self.log(|| format!("the inputs are corrected: config {config}"));
        }
    }

    fn end_faults(&mut self) {
        self.faults_ended = true;
        self.rates = FaultRates::default();
        self.alarm_until = self.now();
        self.disk_full_until = [Duration::ZERO; OPERATORS];
        self.kubernetes.end_faults();
        for node in &mut self.nodes {
            node.end_faults();
        }
        for life in self.lives.drain(..) {
            life.spare();
        }
        self.log(|| "faults end".to_owned());
    }
}

/// Whether a simulation keeps its log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Log {
    Kept,
    Dropped,
}

/// Lets the cluster go on until the simulation ends.
pub(crate) async fn go_on(cluster: Shared) {
    loop {
        tokio::time::sleep(TICK).await;
        cluster.lock().tick();
    }
}
