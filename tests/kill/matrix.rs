//! Every point and random instants, in chains whose results are kept so that an interrupted matrix continues.
//!
//! A chain is killed at one of the first points, and then at points of what is left to do, at equal distances; the
//! chains of a cluster begin one point apart. Which effects were met is kept by their names.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::Mutex;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::chain::{Chain, Inputs, Kills, Undisturbed, undisturbed};
use super::end_state::assert_same;
use crate::common::{TestEnvironment, program_path};

/// Chains that together meet every point.
const STRIDE: usize = 10;
/// Chains of random instants, and how often each is killed.
const RANDOM_CHAINS: u64 = 16;
const KILLS_AT_INSTANTS: usize = 10;

/// A field that Talos applies without a reboot.
const CHANGE: &str = "machine:\n  sysfs:\n    devices.system.cpu.cpu0.cpufreq.scaling_governor: performance\n";

#[derive(Debug, Clone, Copy)]
enum ChainKind {
    Points { first: usize, stride: usize },
    Instants { seed: u64 },
}

/// The chains of some clusters.
pub(super) struct Matrix {
    clusters: Vec<String>,
    progress: Mutex<Progress>,
}

/// What is kept between two attempts.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Progress {
    /// SHA-256 of the program: another one begins anew.
    program: String,
    /// Names of the points that whole runs reach.
    points: BTreeSet<String>,
    converged: BTreeMap<String, Converged>,
}

/// A chain that came out as a run that was not killed.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Converged {
    kills: usize,
    /// Names of the points at which a run was killed.
    killed_at: BTreeSet<String>,
}

impl Matrix {
    pub(super) fn of(clusters: &[&str]) -> Self {
        let program = format!("{:x?}", Sha256::digest(std::fs::read(program_path()).unwrap()).as_slice());
        let kept = std::fs::read(file()).ok().and_then(|text| serde_json::from_slice::<Progress>(&text).ok());
        let progress =
            kept.filter(|kept| kept.program == program).unwrap_or(Progress { program, ..Progress::default() });
        Self { clusters: clusters.iter().map(|&cluster| cluster.to_owned()).collect(), progress: Mutex::new(progress) }
    }

    /// Carries out what is left, the clusters side by side, and returns why chains failed.
    pub(super) fn run(&self) -> Vec<String> {
        std::thread::scope(|scope| {
            let running: Vec<_> = self.clusters.iter().map(|cluster| scope.spawn(|| self.cluster(cluster))).collect();
            running.into_iter().flat_map(|cluster| cluster.join().unwrap()).collect()
        })
    }

    /// The kills of all chains that converged.
    pub(super) fn kills(&self) -> usize {
        self.progress.lock().unwrap().converged.values().map(|chain| chain.kills).sum()
    }

    /// Points of whole runs at which no run was killed.
    pub(super) fn points_not_met(&self) -> BTreeSet<String> {
        let progress = self.progress.lock().unwrap();
        let met: BTreeSet<String> = progress.converged.values().flat_map(|chain| chain.killed_at.clone()).collect();
        progress.points.difference(&met).cloned().collect()
    }

    fn cluster(&self, cluster: &str) -> Vec<String> {
        let expected = undisturbed(cluster);
        let points = expected.points.len();
        self.progress.lock().unwrap().points.extend(expected.points.iter().cloned());
        let mut failures = Vec::new();
        for (kind, inputs) in chains() {
            let name = format!("{cluster}, {points} points, {kind:?}, inputs {inputs:?}");
            if self.progress.lock().unwrap().converged.contains_key(&name) {
                continue;
            }
            let outcome = std::panic::catch_unwind(AssertUnwindSafe(|| run_chain(cluster, kind, inputs, &expected)));
            match outcome {
                Ok(chain) => self.keep(name, chain),
                Err(_) => failures.push(name),
            }
        }
        failures
    }

    fn keep(&self, name: String, chain: Converged) {
        let mut progress = self.progress.lock().unwrap();
        progress.converged.insert(name, chain);
        std::fs::write(file(), serde_json::to_vec_pretty(&*progress).unwrap()).unwrap();
    }
}

fn file() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("kill-matrix.json")
}

fn chains() -> Vec<(ChainKind, Inputs)> {
    let points = |first| (ChainKind::Points { first, stride: STRIDE }, Inputs::Unchanged);
    let changed = |first| (ChainKind::Points { first, stride: 2 * STRIDE }, Inputs::Changed);
    let instants = |seed: u64| {
        let inputs = if seed.is_multiple_of(4) { Inputs::Changed } else { Inputs::Unchanged };
        (ChainKind::Instants { seed }, inputs)
    };
    let odd = (1..=2 * STRIDE).step_by(5);
    (1..=STRIDE).map(points).chain(odd.map(changed)).chain((1..=RANDOM_CHAINS).map(instants)).collect()
}

fn run_chain(cluster: &str, kind: ChainKind, inputs: Inputs, expected: &Undisturbed) -> Converged {
    let environment = TestEnvironment::copy();
    let mut chain = Chain::start(&environment, cluster).kill_at_each_name(&expected.points);
    let (kills, change_at) = match kind {
        ChainKind::Points { first, stride } => (Kills::at_points(first, stride), 4),
        ChainKind::Instants { seed } => (Kills::at_instants(seed, KILLS_AT_INSTANTS), KILLS_AT_INSTANTS / 2),
    };
    let mut has_changed = false;
    let kills = chain.run(kills, |killed| {
        if inputs == Inputs::Unchanged || killed != change_at {
            return Inputs::Unchanged;
        }
        has_changed = true;
        environment.edit(&format!("talos/{cluster}/patches/all.yaml"), "machine:\n", CHANGE);
        Inputs::Changed
    });
    assert_eq!(
        has_changed,
        inputs == Inputs::Changed,
        "{kills} kills, and the change was to come before run {change_at}"
    );
    assert_same(&chain.end_state(), &expected.end_state);
    Converged { kills, killed_at: chain.killed_at }
}
