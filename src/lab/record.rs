//! What became true in the lab's world, and when: one monotonic clock for facts and for requests.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use serde::{Deserialize, Serialize};

/// Something that became true.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fact {
    pub name: String,
    /// Seconds since the lab began at which its causes were all there.
    pub began: f64,
    /// Seconds since the lab began at which it was true.
    pub at: f64,
}

/// Everything that was recorded.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Record {
    pub facts: Vec<Fact>,
    /// Calls by node and method.
    pub calls: BTreeMap<String, BTreeMap<String, u64>>,
    /// How many Bootstrap calls nodes accepted, over the lab's whole life.
    pub bootstrap_accepted: u64,
}

/// Shared by everything in the lab.
#[derive(Debug, Clone)]
pub struct Recorder {
    began: Instant,
    record: Arc<Mutex<Record>>,
}

impl Default for Recorder {
    fn default() -> Self {
        Self { began: Instant::now(), record: Arc::default() }
    }
}

impl Recorder {
    fn with<T>(&self, change: impl FnOnce(&mut Record) -> T) -> T {
        change(&mut self.record.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Notes that `name` is true now, and that it took the world since `began`.
    pub(super) fn fact(&self, name: impl Into<String>, began: Instant) {
        let began = began.saturating_duration_since(self.began).as_secs_f64();
        let at = self.began.elapsed().as_secs_f64();
        self.with(|record| record.facts.push(Fact { name: name.into(), began, at }));
    }

    pub(super) fn call(&self, node: &str, method: &str) {
        self.with(|record| {
            *record.calls.entry(node.to_owned()).or_default().entry(method.to_owned()).or_default() += 1;
        });
    }

    pub(super) fn bootstrap_accepted(&self) {
        self.with(|record| record.bootstrap_accepted += 1);
    }

    /// What has been recorded until now.
    pub fn snapshot(&self) -> Record {
        self.with(|record| record.clone())
    }
}
