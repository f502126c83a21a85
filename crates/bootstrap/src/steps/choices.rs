//! What the operator decided for a run.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use engine::plan::StepId;
use talos_client::CertificateFingerprint;

/// How long a drain may go on without a pod leaving, unless the operator sets it.
const DRAIN_TIMEOUT: Duration = Duration::from_mins(5);

/// What the operator decided for a run; nodes are addresses of the inventory.
#[derive(Debug)]
pub(crate) struct Choices {
    /// An earlier run is continued, so an unreachable node may be rebooting.
    pub(crate) resumed: bool,
    /// The control plane that may bootstrap etcd although others are unreachable.
    pub(crate) forced: Option<IpAddr>,
    /// About hooks that must not run twice.
    pub(crate) hook_answers: BTreeMap<StepId, HookAnswer>,
    /// The certificates that nodes must show in maintenance mode.
    pub(crate) pins: BTreeMap<IpAddr, CertificateFingerprint>,
    /// How config changes reach configured nodes.
    pub(crate) rollout: RolloutOptions,
    /// What becomes of them while no run can hold the cluster's lease.
    pub(crate) without_lease: WithoutLease,
}

/// What becomes of a change of a node of a living cluster while the Kubernetes API, and with it the cluster's lease, is away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WithoutLease {
    /// Another run may be changing nodes too.
    Waits,
    /// `--take-over`: the operator has made sure that none does.
    GoesOn,
}

/// The operator's answer about a hook that must not run twice and whose outcome is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HookAnswer {
    /// It has done its work.
    Done,
    /// It has not, or may safely run again.
    Again,
}

/// Whether a config change may reboot a configured node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reboots {
    Allowed,
    /// `--no-reboot`.
    Forbidden,
}

/// How config changes reach configured nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RolloutOptions {
    pub reboots: Reboots,
    /// How many workers may be down at once.
    pub max_unavailable: NonZeroU32,
    /// How long a drain may go on without a pod leaving.
    pub drain_timeout: Duration,
}

impl Default for RolloutOptions {
    fn default() -> Self {
        Self { reboots: Reboots::Allowed, max_unavailable: NonZeroU32::MIN, drain_timeout: DRAIN_TIMEOUT }
    }
}
