//! Disks of simulated machines that match the install disk of a config.

use std::cmp::Ordering;

use serde_json::Value;

use super::{DiskMatch, InstallDisk, Size};
use crate::BlockDevice;

impl InstallDisk {
    /// `disk` with the minimal changes that make it match.
    #[must_use]
    pub fn with_matching_disk(&self, disk: BlockDevice) -> BlockDevice {
        if self.find(std::slice::from_ref(&disk)) != DiskMatch::None {
            return disk;
        }
        match self {
            Self::Device(path) => at(path, disk),
            Self::Expression(expression) => super::simple(expression).map_or(disk.clone(), |path| at(path, disk)),
            Self::Selector(selector) => {
                let criteria = selector.as_object().into_iter().flatten();
                criteria.fold(disk, |disk, (name, wanted)| meeting(name, wanted, disk))
            }
            Self::Unspecified => disk,
        }
    }
}

/// The disk with another device path or link.
fn at(path: &str, disk: BlockDevice) -> BlockDevice {
    if path.starts_with("/dev/disk/") {
        return BlockDevice { symlinks: vec![path.to_owned()], ..disk };
    }
    let transports = [("/dev/nvme", "nvme"), ("/dev/mmcblk", "mmc"), ("/dev/vd", "virtio"), ("/dev/xvd", "xen")];
    let known = transports.iter().find(|(start, _)| path.starts_with(start));
    let transport = known.map_or("sata", |(_, transport)| transport).to_owned();
    BlockDevice { dev_path: path.to_owned(), transport, ..disk }
}

/// The disk changed to match one criterion of a selector.
fn meeting(name: &str, wanted: &Value, mut disk: BlockDevice) -> BlockDevice {
    let wanted = wanted.as_str().map_or_else(|| wanted.to_string(), str::to_owned);
    let field = match name {
        "model" => &mut disk.model,
        "serial" => &mut disk.serial,
        "wwid" => &mut disk.wwid,
        "modalias" => &mut disk.modalias,
        "uuid" => &mut disk.uuid,
        "busPath" => &mut disk.bus_path,
        "size" => {
            if let Some(size) = Size::parse(&wanted).filter(|size| !size.matches(disk.size)) {
                disk.size = size.example();
            }
            return disk;
        }
        "type" => return of_type(&wanted, disk),
        _ => return disk,
    };
    if !super::glob(&wanted, field) {
        *field = wanted.replace('*', "");
    }
    disk
}

fn of_type(kind: &str, disk: BlockDevice) -> BlockDevice {
    if super::is_of_type(&disk, kind) {
        return disk;
    }
    match kind {
        "nvme" => at("/dev/nvme0n1", BlockDevice { rotational: false, ..disk }),
        "sd" => at("/dev/mmcblk0", BlockDevice { rotational: false, ..disk }),
        "hdd" => at("/dev/sda", BlockDevice { rotational: true, ..disk }),
        _ => BlockDevice { rotational: false, ..disk },
    }
}

impl Size {
    /// A size that satisfies the comparison.
    fn example(self) -> u64 {
        let allowed = |ordering: Ordering| self.allowed.contains(&ordering);
        if allowed(Ordering::Equal) {
            self.bytes
        } else if allowed(Ordering::Greater) {
            self.bytes.saturating_add(1 << 30)
        } else {
            (self.bytes - self.bytes / 8).saturating_sub(1)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn usual() -> BlockDevice {
        BlockDevice {
            dev_path: "/dev/nvme0n1".into(),
            size: 512 << 30,
            readonly: false,
            cdrom: false,
            model: "Simulated SSD".into(),
            serial: "1".into(),
            modalias: String::new(),
            uuid: String::new(),
            wwid: String::new(),
            bus_path: String::new(),
            transport: "nvme".into(),
            rotational: false,
            symlinks: vec![],
        }
    }

    fn selector() -> impl Strategy<Value = Value> {
        const SIZES: [&str; 6] = ["> 1TB", ">= 4 TiB", "< 100GB", "<= 64GB", "== 32GB", "480 GB"];
        let text = prop_oneof!["[A-Za-z0-9. ]{1,8}", "[A-Z]{1,4}\\*", "\\*[A-Z]{1,4}\\*[0-9]{1,3}"];
        let size = proptest::sample::select(&SIZES[..]).prop_map(str::to_owned);
        let kind = proptest::sample::select(&["nvme", "sd", "hdd", "ssd"][..]).prop_map(str::to_owned);
        let some = |strategy: BoxedStrategy<String>| proptest::option::of(strategy);
        (some(text.clone().boxed()), some(text.boxed()), some(size.boxed()), some(kind.boxed())).prop_map(
            |(model, serial, size, kind)| {
                let all = [("model", model), ("serial", serial), ("size", size), ("type", kind)];
                all.into_iter().filter_map(|(key, value)| Some((key.to_owned(), json!(value?)))).collect()
            },
        )
    }

    proptest! {
        #[test]
        fn a_generated_disk_matches_its_selector(selector in selector()) {
            let wanted = InstallDisk::Selector(selector);
            let disk = wanted.with_matching_disk(usual());
            prop_assert_eq!(wanted.find(std::slice::from_ref(&disk)), DiskMatch::Found(disk.dev_path));
        }
    }

    #[test]
    fn a_device_gets_the_selected_path_and_a_matching_disk_stays_unchanged() {
        for path in ["/dev/sda", "/dev/vda", "/dev/mmcblk0", "/dev/disk/by-id/wwn-0x5000"] {
            let wanted = InstallDisk::Device(path.to_owned());
            let disk = wanted.with_matching_disk(usual());
            assert!(matches!(wanted.find(&[disk]), DiskMatch::Found(_) | DiskMatch::Unknown), "{path}");
        }
        let large = InstallDisk::Selector(json!({"size": ">= 400GB", "type": "nvme"}));
        assert_eq!(large.with_matching_disk(usual()), usual());
        assert_eq!(InstallDisk::Unspecified.with_matching_disk(usual()), usual());
    }
}
