//! Documents about disks and volumes.

use serde_json::Value;

use super::super::typed::size;
use super::document::{Document, get, text};
use super::legacy::encryption_keys;
use super::links::expression;

/// The system volumes that a VolumeConfig can configure.
const SYSTEM: [&str; 7] = ["STATE", "EPHEMERAL", "IMAGECACHE", "ETCD", "CRI", "KUBELET", "LOG"];
/// The maximum length of a volume name: that of a partition label without its prefix.
const LONGEST_VOLUME: usize = 34;

pub(super) fn check(document: &mut Document<'_, '_>, kind: &str) {
    match kind {
        "VolumeConfig" => system(document),
        "UserVolumeConfig" => user(document),
        "RawVolumeConfig" | "SwapVolumeConfig" => {
            name(document, Some(LONGEST_VOLUME), Underscores::Rejected);
            provisioning(document, Field::Required, VolumeSize::Own);
            encryption(document);
        }
        "ExistingVolumeConfig" => {
            name(document, None, Underscores::Rejected);
            selector(document, "discovery.volumeSelector.match", Field::Required);
        }
        "ExternalVolumeConfig" => external(document),
        "ZswapConfig" => {
            if !(0..=100).contains(&document.number("maxPoolPercent")) {
                document.error("maxPoolPercent", "must be between 0 and 100");
            }
        }
        "FilesystemTrimConfig" => document.reject_negative(&["interval"]),
        "FilesystemScrubConfig" => at_least_ten_seconds(document, "interval"),
        "LVMVolumeGroupConfig" => {
            name(document, Some(63), Underscores::Allowed);
            selector(document, "provisioning.volumeSelector.match", Field::Required);
        }
        "LVMLogicalVolumeConfig" => logical(document),
        "RAIDArrayConfig" => {
            name(document, Some(32), Underscores::Allowed);
            selector(document, "provisioning.volumeSelector.match", Field::Required);
        }
        "UnattendedInstallConfig" => {
            selector(document, "provisioning.diskSelector.match", Field::Required);
            if document.text("installer.image").is_empty() {
                let message = "is not set: the installation only succeeds from an image of the Image Factory";
                document.warn("installer.image", message);
            }
        }
        _ => return,
    }
    document.reject_negative(&["trim.interval"]);
    at_least_ten_seconds(document, "scrub.interval");
}

pub(super) fn at_least_ten_seconds(document: &mut Document<'_, '_>, field: &str) {
    let nanoseconds = super::super::typed::duration::parse(document.text(field)).unwrap_or_default();
    if nanoseconds != 0 && nanoseconds < 10_000_000_000 {
        document.error(field, "must be at least 10s");
    }
}

/// Whether a name may have underscores.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Underscores {
    Allowed,
    Rejected,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Field {
    Required,
    Optional,
}

/// What a volume occupies.
#[derive(Clone, Copy, PartialEq, Eq)]
enum VolumeSize {
    /// A part of a disk, of its own size.
    Own,
    WholeDisk,
}

fn name(document: &mut Document<'_, '_>, longest: Option<usize>, underscores: Underscores) {
    let name = document.text("name");
    if name.is_empty() || longest.is_some_and(|longest| name.len() > longest) {
        let most = longest.map_or(String::new(), |longest| format!(" and at most {longest}"));
        document.error("name", format!("must have at least one character{most}"));
    }
    if !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || (underscores == Underscores::Allowed && c == '_'))
    {
        let more = if underscores == Underscores::Allowed { ", hyphens and underscores" } else { " and hyphens" };
        document.error("name", format!("\"{name}\" can only contain ASCII letters, digits{more}"));
    }
}

fn selector(document: &mut Document<'_, '_>, field: &str, required: Field) {
    if required == Field::Required && document.text(field).is_empty() {
        document.error(field, "a selector is required");
    } else {
        expression(document, field);
    }
}

fn provisioning(document: &mut Document<'_, '_>, required: Field, size: VolumeSize) {
    selector(document, "provisioning.diskSelector.match", required);
    let (least, most) = (document.text("provisioning.minSize"), document.text("provisioning.maxSize"));
    if size == VolumeSize::WholeDisk {
        for field in ["provisioning.minSize", "provisioning.maxSize", "provisioning.grow"] {
            if document.has(field) {
                document.error(field, "is not supported for a volume that is a whole disk");
            }
        }
        return;
    }
    if required == Field::Required && least.is_empty() && most.is_empty() {
        document.error("provisioning.minSize", "a min size or max size is required");
    }
    if least.starts_with('-') {
        document.error("provisioning.minSize", "cannot be negative");
    }
    in_order(document, least, most);
}

fn in_order(document: &mut Document<'_, '_>, least: &str, most: &str) {
    let both = size(least).zip(size(most).filter(|_| !most.contains('%') && !most.starts_with('-')));
    if both.is_some_and(|(least, most)| least > most) {
        document.error("provisioning.minSize", "is greater than the max size");
    }
}

fn encryption(document: &mut Document<'_, '_>) {
    let keys = document.list("encryption.keys");
    if !document.has("encryption") || (matches!(document.text("encryption.provider"), "" | "none") && keys.is_empty()) {
        return;
    }
    if document.text("encryption.provider") != "luks2" {
        document.error("encryption.provider", "must be luks2");
    }
    if keys.is_empty() {
        document.error("encryption.keys", "encryption keys are required");
    }
    encryption_keys(document, "encryption.keys", keys);
    for (index, key) in keys.iter().enumerate() {
        let registers = get(key, "tpm.options.pcrs").and_then(Value::as_array);
        if registers.into_iter().flatten().any(|pcr| !pcr.as_i64().is_some_and(|pcr| (0..=23).contains(&pcr))) {
            document.error(format!("encryption.keys[{index}].tpm.options.pcrs"), "must be between 0 and 23");
        }
    }
}

fn system(document: &mut Document<'_, '_>) {
    let name = document.text("name");
    if !SYSTEM.contains(&name) {
        document.error("name", format!("\"{name}\" is not a system volume: expected one of {}", SYSTEM.join(", ")));
        return;
    }
    let refused: &[&str] = match name {
        "STATE" => &["provisioning", "mount"],
        "IMAGECACHE" => &["mount", "filesystem"],
        "EPHEMERAL" => &[],
        _ if document.has("provisioning") => &[],
        _ => &["mount"],
    };
    for field in refused {
        if document.get(field).and_then(Value::as_object).is_some_and(|map| !map.is_empty()) {
            document.error(*field, format!("is not allowed for the volume {name}"));
        }
    }
    if name == "STATE" {
        for (index, key) in document.list("encryption.keys").iter().enumerate() {
            if get(key, "lockToState") == Some(&Value::Bool(true)) {
                document.error(format!("encryption.keys[{index}].lockToState"), "is not allowed for the volume STATE");
            }
        }
    }
    provisioning(document, Field::Optional, VolumeSize::Own);
    encryption(document);
}

fn user(document: &mut Document<'_, '_>) {
    name(document, Some(LONGEST_VOLUME), Underscores::Rejected);
    match document.text("volumeType") {
        "directory" => {
            for field in ["provisioning", "encryption", "filesystem", "mount"] {
                if document.get(field).and_then(Value::as_object).is_some_and(|map| !map.is_empty()) {
                    document.error(field, "is not valid for the volumeType directory");
                }
            }
        }
        kind @ ("" | "partition" | "disk") => {
            let size = if kind == "disk" { VolumeSize::WholeDisk } else { VolumeSize::Own };
            provisioning(document, Field::Required, size);
            filesystem(document);
            encryption(document);
        }
        other => document.error("volumeType", format!("\"{other}\" is not supported")),
    }
}

fn filesystem(document: &mut Document<'_, '_>) {
    let kind = document.text("filesystem.type");
    if !matches!(kind, "" | "none" | "xfs" | "ext4" | "btrfs") {
        document.error("filesystem.type", format!("\"{kind}\" is not supported"));
    } else if !matches!(kind, "" | "none" | "xfs") {
        for field in ["filesystem.projectQuotaSupport", "filesystem.xfs"] {
            if document.is_true(field) || document.get(field).is_some_and(Value::is_object) {
                document.error(field, "is only available for xfs");
            }
        }
    }
}

fn external(document: &mut Document<'_, '_>) {
    name(document, Some(LONGEST_VOLUME), Underscores::Rejected);
    let kind = document.text("filesystemType");
    if kind != "virtiofs" {
        document.error("filesystemType", format!("\"{kind}\" is not supported: expected virtiofs"));
    } else if document.text("mount.virtiofs.tag").is_empty() {
        document.error("mount.virtiofs.tag", "is required");
    }
}

fn logical(document: &mut Document<'_, '_>) {
    name(document, Some(63), Underscores::Allowed);
    let kind = document.text("type");
    for (field, kinds, least) in [("mirrors", ["raid1", "raid10"], 1), ("stripes", ["raid0", "raid10"], 2)] {
        if document.has(field) && !kinds.contains(&kind) {
            document.error(field, format!("is only valid for {}", kinds.join(" and ")));
        } else if document.has(field) && document.number(field) < least {
            document.error(field, format!("must be at least {least}"));
        }
    }
    document.require(&["provisioning.volumeGroup", "provisioning.maxSize"]);
    let most = document.text("provisioning.maxSize");
    if most.starts_with('-') {
        document.error("provisioning.maxSize", "must not be negative");
    }
    in_order(document, text(document.value, "provisioning.minSize"), most);
}
