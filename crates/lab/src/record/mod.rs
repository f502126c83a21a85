//! What became true in the lab's world, and when: one monotonic clock for facts and for requests.
//!
//! Every fact names the facts that caused it, so that the shortest time in which this world could have come about is
//! the longest path through the record ([`CriticalPath`]). None of it is the orchestrator's own view.

mod critical_path;
pub(super) mod requests;

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
    /// Seconds since the lab began at which its causes were all there.
    pub began: f64,
    /// Seconds since the lab began at which it was true.
    pub at: f64,
    /// The facts that caused it, by name.
    pub after: Vec<String>,
}

/// A request of the orchestrator, or of a tool that it started.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// The node that was asked, or `kubernetes`.
    pub to: String,
    /// A method of the Talos API, or a verb and a path.
    pub what: String,
    /// Seconds since the lab began.
    pub at: f64,
}

/// Everything that was recorded.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// In the order in which they became true.
    pub facts: Vec<Fact>,
    /// In the order in which they arrived, for each of those asked.
    pub requests: Vec<Request>,
    /// Calls by node and method.
    pub calls: BTreeMap<String, BTreeMap<String, u64>>,
    /// How many Bootstrap calls nodes accepted, over the lab's whole life.
    pub bootstrap_accepted: u64,
}

/// Shared by everything in the lab.
#[derive(Debug, Clone)]
pub struct Recorder {
    began: Instant,
    /// The same moment on the clock that logs are written by.
    began_at: Timestamp,
    record: Arc<Mutex<Record>>,
    /// The names of all facts, for those who wait for one.
    known: Arc<watch::Sender<BTreeSet<String>>>,
}

impl Default for Recorder {
    fn default() -> Self {
        Self { began: Instant::now(), began_at: Timestamp::now(), record: Arc::default(), known: Arc::default() }
    }
}

impl Recorder {
    fn with<T>(&self, change: impl FnOnce(&mut Record) -> T) -> T {
        change(&mut self.record.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Notes that `name` is true now because the facts in `after` are, and that it took the world since `began`.
    pub(super) fn fact(&self, name: impl Into<String>, began: Instant, after: impl IntoIterator<Item = String>) {
        let name = name.into();
        let began = began.saturating_duration_since(self.began).as_secs_f64();
        let at = self.began.elapsed().as_secs_f64();
        let fact = Fact { name: name.clone(), began: began.min(at), at, after: after.into_iter().collect() };
        self.with(|record| record.facts.push(fact));
        self.known.send_modify(|known| {
            known.insert(name);
        });
    }

    /// The names of all facts, now and as they come.
    pub(super) fn known(&self) -> watch::Receiver<BTreeSet<String>> {
        self.known.subscribe()
    }

    pub(super) fn call(&self, node: &str, method: &str) {
        let at = self.began.elapsed().as_secs_f64();
        self.with(|record| {
            *record.calls.entry(node.to_owned()).or_default().entry(method.to_owned()).or_default() += 1;
            record.requests.push(Request { to: node.to_owned(), what: method.to_owned(), at });
        });
    }

    pub(super) fn bootstrap_accepted(&self) {
        self.with(|record| record.bootstrap_accepted += 1);
    }

    /// What has been recorded until now, with the requests to the Kubernetes API of the lab in `folder`.
    pub(super) fn snapshot(&self, folder: &Path) -> Record {
        let mut record = self.with(|record| record.clone());
        record.requests.extend(requests::read(folder, self.began_at));
        record
    }
}
