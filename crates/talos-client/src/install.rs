//! The install disk of a config, matched with the disks of a machine (failure T10).
//!
//! Facts from Talos 1.11 to 1.14: `machine.install.disk` is a device or a link to one; `machine.install.diskSelector`
//! matches by patterns with `*`, by size and by type, and never a read-only disk or one without a transport; from 1.14
//! on `UnattendedInstallConfig` has a CEL expression instead, of which only `disk.dev_path == "…"` is evaluated.

mod matching;

use std::cmp::Ordering;
use std::fmt;

use serde_json::Value;

use crate::BlockDevice;
use talos_schema::Documents;

/// The disk that a config selects for the installation.
#[derive(Debug, Clone, PartialEq)]
pub enum InstallDisk {
    Device(String),
    Selector(Value),
    /// From 1.14 on.
    Expression(String),
    /// The config selects no disk.
    Unspecified,
}

/// The result of matching the selection with the disks of a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiskMatch {
    /// The path of the matching device.
    Found(String),
    None,
    /// Only the machine itself can evaluate the selection.
    Unknown,
}

impl InstallDisk {
    /// The selection of a config.
    pub fn from_config(config: &Documents) -> Self {
        let install = config.legacy().and_then(|legacy| legacy.pointer("/machine/install"));
        let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
        let selector = install.and_then(|install| install.get("diskSelector"));
        // A selector wins over a device, as in Talos.
        if let Some(selector) = selector.filter(|selector| selector.as_object().is_some_and(|map| !map.is_empty())) {
            return Self::Selector(selector.clone());
        }
        if let Some(device) = install.and_then(|install| install.get("disk")).and_then(text) {
            return Self::Device(device);
        }
        let unattended = config
            .0
            .iter()
            .find(|document| document.get("kind").and_then(Value::as_str) == Some("UnattendedInstallConfig"));
        unattended
            .and_then(|document| document.pointer("/provisioning/diskSelector/match"))
            .and_then(text)
            .map_or(Self::Unspecified, Self::Expression)
    }

    /// Finds the selected disk.
    pub fn find(&self, disks: &[BlockDevice]) -> DiskMatch {
        match self {
            Self::Unspecified => DiskMatch::Unknown,
            Self::Device(device) => by_device(device, disks),
            Self::Selector(selector) => by_selector(selector, disks),
            Self::Expression(expression) => match simple(expression) {
                Some(device) => by_device(device, disks),
                None => DiskMatch::Unknown,
            },
        }
    }
}

impl fmt::Display for InstallDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device(device) => f.write_str(device),
            Self::Selector(selector) => write!(f, "{selector}"),
            Self::Expression(expression) => f.write_str(expression),
            Self::Unspecified => f.write_str("no disk"),
        }
    }
}

/// A description of a disk for the operator.
pub fn describe(disk: &BlockDevice) -> String {
    let facts = [("model", &disk.model), ("serial", &disk.serial), ("wwid", &disk.wwid), ("bus", &disk.bus_path)];
    let facts = facts.into_iter().filter(|(_, value)| !value.is_empty());
    let facts: String = facts.map(|(name, value)| format!(", {name} {value}")).collect();
    format!("{} ({} GB{facts})", disk.dev_path, disk.size / 1_000_000_000)
}

fn first<'d>(mut disks: impl Iterator<Item = &'d BlockDevice>) -> DiskMatch {
    disks.next().map_or(DiskMatch::None, |disk| DiskMatch::Found(disk.dev_path.clone()))
}

fn by_device(device: &str, disks: &[BlockDevice]) -> DiskMatch {
    let has_links = disks.iter().any(|disk| !disk.symlinks.is_empty());
    // Old versions do not report links, so the link may exist.
    if device.starts_with("/dev/disk/") && !has_links {
        return DiskMatch::Unknown;
    }
    first(disks.iter().filter(|disk| disk.dev_path == device || disk.symlinks.iter().any(|link| link == device)))
}

/// The device of `disk.dev_path == "…"`, the expression of generated configs.
fn simple(expression: &str) -> Option<&str> {
    let (field, device) = expression.split_once("==")?;
    let device = device.trim().strip_prefix('"')?.strip_suffix('"')?;
    (field.trim() == "disk.dev_path" && !device.contains('"')).then_some(device)
}

fn by_selector(selector: &Value, disks: &[BlockDevice]) -> DiskMatch {
    let Some(criteria) = selector.as_object() else { return DiskMatch::Unknown };
    let mut matching: Vec<&BlockDevice> = disks.iter().filter(|disk| disk.can_be_installed()).collect();
    for (name, wanted) in criteria {
        let wanted = wanted.as_str().map_or_else(|| wanted.to_string(), str::to_owned);
        let field: fn(&BlockDevice) -> &str = match name.as_str() {
            "model" => |disk| &disk.model,
            "serial" => |disk| &disk.serial,
            "wwid" => |disk| &disk.wwid,
            "modalias" => |disk| &disk.modalias,
            "uuid" => |disk| &disk.uuid,
            "busPath" => |disk| &disk.bus_path,
            "size" => {
                let Some(size) = Size::parse(&wanted) else { return DiskMatch::Unknown };
                matching.retain(|disk| size.matches(disk.size));
                continue;
            }
            "type" => {
                matching.retain(|disk| is_of_type(disk, &wanted));
                continue;
            }
            _ => return DiskMatch::Unknown,
        };
        matching.retain(|disk| glob(&wanted, field(disk)));
    }
    first(matching.into_iter())
}

impl BlockDevice {
    /// Whether Talos can be installed on the device. Loop devices are read-only and have no transport, and every machine
    /// has some (seen on 1.12.4).
    pub fn can_be_installed(&self) -> bool {
        !self.readonly && !self.cdrom && !self.transport.is_empty()
    }
}

fn is_of_type(disk: &BlockDevice, kind: &str) -> bool {
    match kind {
        "nvme" => disk.transport == "nvme",
        "sd" => disk.transport == "mmc",
        "hdd" => disk.rotational,
        "ssd" => !disk.rotational,
        _ => false,
    }
}

/// Matches a pattern in which `*` stands for any text, also none.
fn glob(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|start| text.strip_prefix(start)) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(end) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(end)
}

/// A size with a comparison, such as `>= 100GB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Size {
    /// The accepted results of comparing a disk's size with `bytes`.
    allowed: &'static [Ordering],
    bytes: u64,
}

impl Size {
    fn parse(text: &str) -> Option<Self> {
        use Ordering::{Equal, Greater, Less};
        const OPERATORS: [(&str, &[Ordering]); 5] =
            [(">=", &[Greater, Equal]), ("<=", &[Less, Equal]), ("==", &[Equal]), (">", &[Greater]), ("<", &[Less])];
        let text = text.trim();
        let found = OPERATORS.iter().find_map(|(sign, allowed)| Some((text.strip_prefix(sign)?, *allowed)));
        let (amount, allowed) = found.unwrap_or((text, &[Equal]));
        Some(Self { allowed, bytes: bytes(amount)? })
    }

    fn matches(self, size: u64) -> bool {
        self.allowed.contains(&size.cmp(&self.bytes))
    }
}

/// `100`, `100GB` in powers of ten, `100 GiB` in powers of two.
fn bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let split = text.find(|letter: char| !(letter.is_ascii_digit() || letter == '.')).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let unit = unit.trim().to_ascii_lowercase();
    let (letter, base) = match unit.strip_suffix("ib").or_else(|| unit.strip_suffix('i')) {
        Some(letter) => (letter, 1024_u64),
        None => (unit.strip_suffix('b').unwrap_or(&unit), 1000),
    };
    let power = match letter {
        "" => 0,
        letter => u32::try_from(["k", "m", "g", "t", "p", "e"].iter().position(|known| *known == letter)?).ok()? + 1,
    };
    let factor = base.checked_pow(power)?;
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let digits = u32::try_from(part.len()).ok()?;
    let part: u64 = if part.is_empty() { 0 } else { part.parse().ok()? };
    whole.checked_mul(factor)?.checked_add(part.checked_mul(factor)? / 10_u64.checked_pow(digits)?)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn disk(path: &str, size: u64) -> BlockDevice {
        BlockDevice {
            dev_path: path.into(),
            size,
            readonly: false,
            cdrom: false,
            model: "Samsung SSD 980".into(),
            serial: "S64DNF".into(),
            modalias: String::new(),
            uuid: String::new(),
            wwid: "eui.0025".into(),
            bus_path: "/pci0000:00".into(),
            transport: "nvme".into(),
            rotational: false,
            symlinks: vec!["/dev/disk/by-id/nvme-S64DNF".into()],
        }
    }

    fn disks() -> Vec<BlockDevice> {
        let spinning = BlockDevice {
            model: "WDC".into(),
            serial: "WD-1".into(),
            transport: "sata".into(),
            rotational: true,
            symlinks: vec![],
            ..disk("/dev/sda", 4_000_000_000_000)
        };
        let stick = BlockDevice { readonly: true, symlinks: vec![], ..disk("/dev/sdb", 16_000_000_000) };
        let virtual_disk = BlockDevice { transport: String::new(), symlinks: vec![], ..disk("/dev/dm-0", 1_000) };
        vec![virtual_disk, stick, spinning, disk("/dev/nvme0n1", 500_000_000_000)]
    }

    fn find(config: Value) -> DiskMatch {
        InstallDisk::from_config(&Documents(vec![json!({"machine": {"install": config}})])).find(&disks())
    }

    fn found(device: &str) -> DiskMatch {
        DiskMatch::Found(device.into())
    }

    #[test]
    fn selectors_match_as_in_talos() {
        let table = [
            (json!({"model": "Samsung*"}), found("/dev/nvme0n1")),
            (json!({"model": "Samsung"}), DiskMatch::None),
            (json!({"model": "*SSD*", "size": "<= 1TB"}), found("/dev/nvme0n1")),
            (json!({"size": ">= 1 TiB"}), found("/dev/sda")),
            (json!({"size": "500GB"}), found("/dev/nvme0n1")),
            (json!({"size": "> 4TB"}), DiskMatch::None),
            (json!({"size": "16GB"}), DiskMatch::None),
            (json!({"type": "hdd"}), found("/dev/sda")),
            (json!({"type": "sd"}), DiskMatch::None),
            (json!({"serial": "WD-1", "type": "ssd"}), DiskMatch::None),
            (json!({"busPath": "/pci*"}), found("/dev/sda")),
            (json!({"name": "sda"}), DiskMatch::Unknown),
        ];
        for (selector, expected) in table {
            assert_eq!(find(json!({"diskSelector": selector, "disk": "/dev/sda"})), expected, "{selector}");
        }
    }

    #[test]
    fn devices_and_links_to_them() {
        assert_eq!(find(json!({"disk": "/dev/sda"})), found("/dev/sda"));
        assert_eq!(find(json!({"disk": "/dev/sdz"})), DiskMatch::None);
        assert_eq!(find(json!({"disk": "/dev/disk/by-id/nvme-S64DNF"})), found("/dev/nvme0n1"));
        assert_eq!(find(json!({"disk": "/dev/disk/by-id/other"})), DiskMatch::None);
        assert_eq!(find(json!({})), DiskMatch::Unknown);
        let no_links: Vec<_> = disks().into_iter().map(|disk| BlockDevice { symlinks: vec![], ..disk }).collect();
        assert_eq!(InstallDisk::Device("/dev/disk/by-id/other".into()).find(&no_links), DiskMatch::Unknown);
    }

    #[test]
    fn an_expression_is_evaluated_when_it_is_a_device() {
        let config = |text: &str| {
            let document = json!({"apiVersion": "v1alpha1", "kind": "UnattendedInstallConfig",
                                  "provisioning": {"diskSelector": {"match": text}}});
            InstallDisk::from_config(&Documents(vec![json!({"machine": {}}), document])).find(&disks())
        };
        assert_eq!(config("disk.dev_path == \"/dev/sda\""), found("/dev/sda"));
        assert_eq!(config("disk.dev_path == \"/dev/sdz\""), DiskMatch::None);
        assert_eq!(config("disk.transport == \"nvme\" && !system_disk"), DiskMatch::Unknown);
    }

    #[test]
    fn sizes() {
        assert_eq!(bytes("100"), Some(100));
        assert_eq!(bytes("1.5 kB"), Some(1_500));
        assert_eq!(bytes("4 GiB"), Some(4 << 30));
        assert_eq!(bytes("4Gi"), Some(4 << 30));
        assert_eq!(bytes("many"), None);
        assert_eq!(bytes("1QB"), None);
    }
}
