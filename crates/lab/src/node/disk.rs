//! What a machine keeps while it is powered off: Talos and its META and STATE partitions. EPHEMERAL, with etcd's data, is
//! a folder of the lab's control plane.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::talos_version::TalosVersion;
use crate::machine_config::AppliedConfig;

/// The contents of the system disk.
#[derive(Debug, Clone, Default)]
pub(crate) struct DiskContents {
    pub(super) installed: Option<TalosVersion>,
    /// The version before the last upgrade.
    pub(super) previous: Option<TalosVersion>,
    /// The version that the next boot installs.
    pub(super) staged: Option<TalosVersion>,
    /// On STATE.
    pub(super) config: Option<Arc<AppliedConfig>>,
    pub(super) meta: BTreeMap<u8, Vec<u8>>,
}

/// A partition of the system disk that a reset can wipe by its label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SystemPartition {
    State,
    Ephemeral,
    Meta,
    /// The boot loader's partitions, without which the disk does not boot.
    Boot,
}

impl SystemPartition {
    pub(super) const LABELS: [(&'static str, Self); 5] = [
        ("STATE", Self::State),
        ("EPHEMERAL", Self::Ephemeral),
        ("META", Self::Meta),
        ("EFI", Self::Boot),
        ("BOOT", Self::Boot),
    ];

    pub(super) fn from_label(label: &str) -> Option<Self> {
        Self::LABELS.iter().find(|(known, _)| *known == label).map(|(_, partition)| *partition)
    }
}

impl DiskContents {
    /// Wipes everything, including the partition table.
    pub(super) fn wipe(&mut self) {
        *self = Self::default();
    }

    /// EPHEMERAL is wiped by the control plane.
    pub(super) fn wipe_partition(&mut self, partition: SystemPartition) {
        match partition {
            SystemPartition::State => self.config = None,
            SystemPartition::Meta => self.meta.clear(),
            SystemPartition::Boot => (self.installed, self.previous, self.staged) = (None, None, None),
            SystemPartition::Ephemeral => {}
        }
    }

    pub(super) fn install(&mut self, talos: TalosVersion) {
        self.previous = self.installed.replace(talos);
    }
}
