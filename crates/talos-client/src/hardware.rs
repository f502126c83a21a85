//! Disks and clock of a machine.

use jiff::{SignedDuration, Timestamp};

use super::error::{ClientError, ClientErrorKind};
use super::link::{Link, Wait};
use talos_proto::storage;
use talos_proto::time::{Time, TimeRequest};

/// The disk type as Talos detects it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskType {
    Unknown,
    Ssd,
    Hdd,
    Nvme,
    Sd,
    Cd,
}

/// A disk of a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// Such as `/dev/nvme0n1`.
    pub device: String,
    /// In bytes.
    pub size: u64,
    pub kind: DiskType,
    pub name: String,
    pub model: String,
    pub serial: String,
    pub modalias: String,
    pub uuid: String,
    pub wwid: String,
    pub bus_path: String,
    pub read_only: bool,
    /// Whether Talos is installed on it.
    pub is_system: bool,
}

/// The clock of a machine compared with a time server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clock {
    pub server: String,
    pub local: Timestamp,
    /// Offset of the local clock; positive when it is ahead.
    pub ahead: SignedDuration,
}

impl Disk {
    /// A device of Talos's own system, which every machine has: read-only and of no type.
    fn is_loop_device(&self) -> bool {
        self.read_only && self.kind == DiskType::Unknown
    }
}

pub(super) async fn disks(link: &Link) -> Result<Vec<Disk>, ClientError> {
    let mut client = link.storage();
    let answer = link.one("disks", Wait::Short, client.disks(link.request(()))).await?;
    let disks = answer.disks.into_iter().map(disk);
    Ok(disks.filter(|disk| !disk.is_loop_device()).collect())
}

fn disk(disk: storage::Disk) -> Disk {
    use storage::disk::DiskType as Wire;
    let kind = match disk.r#type() {
        Wire::Unknown => DiskType::Unknown,
        Wire::Ssd => DiskType::Ssd,
        Wire::Hdd => DiskType::Hdd,
        Wire::Nvme => DiskType::Nvme,
        Wire::Sd => DiskType::Sd,
        Wire::Cd => DiskType::Cd,
    };
    Disk {
        device: disk.device_name,
        size: disk.size,
        kind,
        name: disk.name,
        model: disk.model,
        serial: disk.serial,
        modalias: disk.modalias,
        uuid: disk.uuid,
        wwid: disk.wwid,
        bus_path: disk.bus_path,
        read_only: disk.readonly,
        is_system: disk.system_disk,
    }
}

/// Compares the node's clock with `server`, or with the node's configured time server.
pub(super) async fn clock(link: &Link, server: Option<&str>) -> Result<Clock, ClientError> {
    let (call, mut client) = ("time", link.time());
    let answer: Time = match server {
        None => link.one(call, Wait::Short, client.time(link.request(()))).await?,
        Some(server) => {
            let request = link.request(TimeRequest { server: server.to_owned() });
            link.one(call, Wait::Short, client.time_check(request)).await?
        }
    };
    let moment =
        |stamp: Option<prost_types::Timestamp>| stamp.and_then(|stamp| Timestamp::new(stamp.seconds, stamp.nanos).ok());
    match (moment(answer.localtime), moment(answer.remotetime)) {
        (Some(local), Some(remote)) => Ok(Clock { server: answer.server, local, ahead: local.duration_since(remote) }),
        _ => Err(link.error(call, ClientErrorKind::Other, "the response has no time")),
    }
}
