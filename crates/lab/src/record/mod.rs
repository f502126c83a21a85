//! What became true in the lab, and when: one monotonic clock for facts and for requests.
//!
//! Every fact names the facts that caused it, so the shortest time in which the test cluster can come up is the longest
//! path through the record ([`CriticalPath`]). Nothing in it comes from the orchestrator.

pub(super) mod audit_log;
mod critical_path;
pub(super) mod facts;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

pub use critical_path::CriticalPath;

/// Something that became true.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fact {
    pub name: String,
    /// Seconds from the start of the lab until all of its causes were true.
    pub began: f64,
    /// Seconds from the start of the lab until it was true.
    pub at: f64,
    /// The names of the facts that caused it.
    pub after: Vec<String>,
}

/// A request from the orchestrator or from a tool that it started.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RecordedRequest {
    /// The node that received it, or `kubernetes`.
    pub to: String,
    /// A method of the Talos API, or a verb and a path.
    pub what: String,
    /// Seconds from the start of the lab.
    pub at: f64,
}

/// Everything that was recorded.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LabRecord {
    /// In the order in which they became true.
    pub facts: Vec<Fact>,
    /// In the order of arrival for each recipient.
    pub requests: Vec<RecordedRequest>,
    /// Calls by node and method.
    pub calls: BTreeMap<String, BTreeMap<String, u64>>,
    /// How many Bootstrap calls the nodes have accepted since the lab started.
    pub bootstrap_accepted: u64,
    /// Workloads whose pods were restarted because Flux adopted their release under another pod template.
    #[serde(default)]
    pub restarted_by_flux: Vec<String>,
    /// What kustomize-controller was served.
    #[serde(default)]
    pub flux_tree: Option<ServedTree>,
    /// Objects of Flux that the lab cannot play, each once.
    #[serde(default)]
    pub not_judged: BTreeSet<String>,
}

/// The working tree as Flux's source.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServedTree {
    pub files: usize,
    /// Files whose encrypted values were replaced by placeholders.
    pub replaced: Vec<String>,
}

/// Shared by everything in the lab.
#[derive(Debug, Clone)]
pub struct Recorder {
    began: Instant,
    /// The same moment as wall-clock time, which the audit log uses.
    began_at: Timestamp,
    record: Arc<Mutex<LabRecord>>,
    /// The names of all facts, for tasks that wait for one.
    known: Arc<watch::Sender<BTreeSet<String>>>,
}

impl Default for Recorder {
    fn default() -> Self {
        Self { began: Instant::now(), began_at: Timestamp::now(), record: Arc::default(), known: Arc::default() }
    }
}

impl Recorder {
    fn update<T>(&self, change: impl FnOnce(&mut LabRecord) -> T) -> T {
        change(&mut self.record.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Records that `name` became true now, caused by the facts in `after`, after work that started at `began`.
    pub(super) fn record_fact(&self, name: impl Into<String>, began: Instant, after: impl IntoIterator<Item = String>) {
        let name = name.into();
        let began = began.saturating_duration_since(self.began).as_secs_f64();
        let at = self.began.elapsed().as_secs_f64();
        let fact = Fact { name: name.clone(), began: began.min(at), at, after: after.into_iter().collect() };
        self.update(|record| record.facts.push(fact));
        self.known.send_modify(|known| {
            known.insert(name);
        });
    }

    /// The names of all facts so far, and of later ones as they become true.
    pub(super) fn known_facts(&self) -> watch::Receiver<BTreeSet<String>> {
        self.known.subscribe()
    }

    pub(super) fn record_call(&self, node: &str, method: &str) {
        let at = self.began.elapsed().as_secs_f64();
        self.update(|record| {
            *record.calls.entry(node.to_owned()).or_default().entry(method.to_owned()).or_default() += 1;
            record.requests.push(RecordedRequest { to: node.to_owned(), what: method.to_owned(), at });
        });
    }

    pub(super) fn record_accepted_bootstrap(&self) {
        self.update(|record| record.bootstrap_accepted += 1);
    }

    pub(super) fn record_restarts(&self, workloads: impl IntoIterator<Item = String>) {
        self.update(|record| record.restarted_by_flux.extend(workloads));
    }

    pub(super) fn record_tree(&self, tree: ServedTree) {
        self.update(|record| record.flux_tree = Some(tree));
    }

    pub(super) fn record_not_judged(&self, object: String) {
        self.update(|record| record.not_judged.insert(object));
    }

    /// Everything recorded so far, including the requests to the Kubernetes API of the lab in `folder`.
    pub(super) fn snapshot(&self, folder: &Path) -> LabRecord {
        let mut record = self.update(|record| record.clone());
        record.requests.extend(audit_log::read(folder, self.began_at));
        record
    }
}
