//! One line of the journal.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{ClusterFact, Epoch};
use crate::plan::{Fingerprint, StepId};

/// The version of the record format that this program writes. Format 1 had no checksum, format 2 no durations; both are still
/// read.
pub const FORMAT: u32 = 3;

/// The name of a run: its start in UTC and some random digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunId(String);

impl RunId {
    pub fn new(started: Timestamp) -> Self {
        Self(format!("{}-{:04x}", started.strftime("%Y%m%dT%H%M%SZ"), rand::random::<u16>()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which cluster a run is about: names repeat, a certificate authority does not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub name: String,
    /// Cilium's `cluster.id`, where the inputs give one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_id: Option<u32>,
    /// SHA-256 of the Talos CA certificate, in hexadecimal digits; absent while the secrets are not opened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub talos_ca: Option<String>,
}

/// One record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The format version, [`FORMAT`] when written by this program.
    pub v: u32,
    pub at: Timestamp,
    pub run: RunId,
    /// The epoch of the cluster that the run is about. Absent in older records, but for those that begin a run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<Epoch>,
    #[serde(flatten)]
    pub entry: Entry,
}

/// What a record reports.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "entry", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum Entry {
    RunStarted {
        tool: String,
        identity: Identity,
        resumed: bool,
        plan: BTreeMap<StepId, Fingerprint>,
    },
    StepDone {
        step: StepId,
        fingerprint: Fingerprint,
        /// The longest time that the step made no progress, in seconds; absent where that was not worth learning.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        quiet_seconds: Option<u64>,
    },
    StepFailed {
        step: StepId,
        error: String,
    },
    /// Written and synced before an effect that must never happen twice.
    Intent {
        step: StepId,
        intent: serde_json::Value,
    },
    /// The outcome of the last intent of the step.
    Concluded {
        step: StepId,
        outcome: serde_json::Value,
    },
    /// Something about the cluster was seen for the first time.
    Learned {
        fact: ClusterFact,
    },
    RunEnded {
        end: RunEnd,
    },
}

/// How a run ended. A run without such a record was interrupted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunEnd {
    Complete,
    Failed,
    Stopped,
}
