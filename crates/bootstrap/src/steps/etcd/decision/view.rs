//! What a control plane reports, and what the journal records.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use engine::Code;
use engine::journal::RecordedIntent;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// One control plane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    pub node: IpAddr,
    pub state: State,
}

impl View {
    /// Its report, when all of it could be read.
    pub fn facts(&self) -> Option<&Facts> {
        match &self.state {
            State::Known(facts) => Some(facts),
            _ => None,
        }
    }
}

/// What a control plane is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It does not respond, or not to everything, so it may be in any state.
    Unknown {
        reason: String,
    },
    /// It has no config, and perhaps data of an earlier cluster on its disk.
    Unconfigured {
        stage: String,
    },
    /// It belongs to another cluster.
    Foreign {
        evidence: String,
    },
    Known(Facts),
}

/// What a configured control plane reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Differs from one boot to the next.
    pub boot: String,
    pub etcd: Etcd,
    /// It accepted a bootstrap in this boot.
    pub requested: bool,
    /// etcd's data directory is not empty.
    pub data: bool,
    /// Why it would reject a bootstrap now.
    pub blocked: Option<Blocker>,
}

/// What keeps a node from accepting a bootstrap, with the reason that it reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Blocker {
    /// The machine or its container runtime is not up.
    NotUp(String),
    /// An unattended installation is under way (Talos 1.14).
    Installation(String),
    /// The clock is not in sync.
    Clock,
}

impl Blocker {
    pub(super) fn code(&self) -> Code {
        match self {
            Self::NotUp(_) => Code::T06,
            Self::Installation(_) => Code::T07,
            Self::Clock => Code::T08,
        }
    }
}

impl fmt::Display for Blocker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotUp(reason) | Self::Installation(reason) => f.write_str(reason),
            Self::Clock => f.write_str("its clock is not in sync"),
        }
    }
}

/// etcd's service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Etcd {
    /// It waits for a bootstrap or for a cluster to join, or is starting.
    Waiting {
        message: String,
    },
    /// It runs, and lists these members; none when the list could not be read.
    Running {
        members: BTreeSet<u64>,
    },
    Failed {
        reason: String,
    },
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown { reason } => write!(f, "unknown ({reason})"),
            Self::Unconfigured { stage } => write!(f, "without a config ({stage})"),
            Self::Foreign { evidence } => write!(f, "another cluster's ({evidence})"),
            Self::Known(facts) => write!(f, "{facts}"),
        }
    }
}

impl fmt::Display for Facts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.etcd {
            Etcd::Waiting { message } if self.requested || self.data => write!(f, "starting ({message})"),
            Etcd::Waiting { message } => write!(f, "waiting ({message})"),
            Etcd::Running { members } => write!(f, "running, {} members", members.len()),
            Etcd::Failed { reason } => write!(f, "failed ({reason})"),
        }
    }
}

/// A bootstrap that was about to be sent, as the journal keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    pub node: IpAddr,
    /// The node's boot id at that moment.
    pub boot: String,
    /// The node answered that it accepted it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub accepted: bool,
}

/// What became of a bootstrap, as the journal keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum BootstrapOutcome {
    #[serde(rename = "accepted")]
    Accepted,
    /// The node answered that it had accepted one before.
    #[serde(rename = "accepted earlier")]
    AcceptedEarlier,
    /// The node rejected it, so the bootstrap has not started.
    #[serde(rename = "not accepted")]
    NotAccepted,
}

impl Intent {
    /// The newest call on record that may have taken effect. `records` are those of the step, oldest first. An outcome that
    /// this version does not know counts as accepted.
    pub fn from_records(records: &[RecordedIntent]) -> Option<Self> {
        let newest = newest_call(records)?;
        let intent: Self = serde_json::from_value(newest.intent.clone()).ok()?;
        Some(Self { accepted: newest.outcome.is_some(), ..intent })
    }
}

/// The newest call on record that may have taken effect.
pub(in crate::steps) fn newest_call(records: &[RecordedIntent]) -> Option<&RecordedIntent> {
    let rejected = Some(json!(BootstrapOutcome::NotAccepted));
    records.iter().rev().find(|record| record.outcome != rejected)
}
