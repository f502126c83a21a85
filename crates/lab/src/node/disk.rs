//! What a machine keeps when it is switched off: Talos and its META and STATE partitions. EPHEMERAL, with etcd's data,
//! is a folder of the lab's control plane.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::talos::Talos;
use crate::machine::MachineConfig;

/// A system disk.
#[derive(Debug, Clone, Default)]
pub(crate) struct Disk {
    pub(super) installed: Option<Talos>,
    /// What ran before the last upgrade.
    pub(super) previous: Option<Talos>,
    /// What the next boot installs first.
    pub(super) staged: Option<Talos>,
    /// STATE.
    pub(super) config: Option<Arc<MachineConfig>>,
    pub(super) meta: BTreeMap<u8, Vec<u8>>,
}

/// A partition of the system disk that can be wiped by its label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Partition {
    State,
    Ephemeral,
    Meta,
    /// The boot loader's; without them there is no system.
    Boot,
}

impl Partition {
    pub(super) const LABELS: [(&'static str, Self); 5] = [
        ("STATE", Self::State),
        ("EPHEMERAL", Self::Ephemeral),
        ("META", Self::Meta),
        ("EFI", Self::Boot),
        ("BOOT", Self::Boot),
    ];

    pub(super) fn labelled(label: &str) -> Option<Self> {
        Self::LABELS.iter().find(|(known, _)| *known == label).map(|(_, partition)| *partition)
    }
}

impl Disk {
    /// Everything, the partition table included.
    pub(super) fn wipe(&mut self) {
        *self = Self::default();
    }

    /// EPHEMERAL is not on this disk.
    pub(super) fn wipe_partition(&mut self, partition: Partition) {
        match partition {
            Partition::State => self.config = None,
            Partition::Meta => self.meta.clear(),
            Partition::Boot => (self.installed, self.previous, self.staged) = (None, None, None),
            Partition::Ephemeral => {}
        }
    }

    pub(super) fn install(&mut self, talos: Talos) {
        self.previous = self.installed.replace(talos);
    }
}
