//! The storage service. Beside the loop device of its system a machine has one disk, which is the system disk once Talos is installed.

use talos_proto::storage::storage_service_server::StorageService;
use talos_proto::storage::{
    BlockDeviceWipe, BlockDeviceWipeRequest, BlockDeviceWipeResponse, Disk, Disks, DisksResponse, disk,
};
use tonic::{Request, Response, Status};

use super::access::ADMIN;
use super::api::{NodeApi, roles_of};
use super::resources::{LOOP_DISK, LOOP_DISK_SIZE};
use crate::spec::DiskSpec;

/// The size of all system partitions except EPHEMERAL.
const SYSTEM_SIZE: u64 = 12 << 30;

/// The size of EPHEMERAL, which fills the rest of the disk.
pub(super) fn ephemeral_size(disk: &DiskSpec) -> u64 {
    disk.size.saturating_sub(SYSTEM_SIZE)
}

/// A size in decimal units, as Talos formats it.
pub(super) fn format_size(size: u64) -> String {
    const UNITS: [&str; 6] = ["B", "kB", "MB", "GB", "TB", "PB"];
    let (mut rest, mut unit) = (size, 0);
    let mut tenths = 0;
    while rest >= 1000 && unit + 1 < UNITS.len() {
        tenths = rest % 1000 / 100;
        rest /= 1000;
        unit += 1;
    }
    if unit > 0 && rest < 10 { format!("{rest}.{tenths} {}", UNITS[unit]) } else { format!("{rest} {}", UNITS[unit]) }
}

fn disk_type(disk: &DiskSpec) -> disk::DiskType {
    match disk.transport.as_str() {
        "nvme" => disk::DiskType::Nvme,
        "mmc" => disk::DiskType::Sd,
        _ if disk.rotational => disk::DiskType::Hdd,
        _ => disk::DiskType::Ssd,
    }
}

#[tonic::async_trait]
impl StorageService for NodeApi {
    async fn disks(&self, _: Request<()>) -> Result<Response<DisksResponse>, Status> {
        let spec = self.node.spec.disk.clone();
        let disk = Disk {
            size: spec.size,
            device_name: spec.path(),
            r#type: disk_type(&spec).into(),
            model: spec.model,
            serial: spec.serial,
            modalias: spec.modalias,
            uuid: spec.uuid,
            wwid: spec.wwid,
            bus_path: spec.bus_path,
            system_disk: self.node.state.borrow().disk.installed.is_some(),
            subsystem: "/sys/class/block".to_owned(),
            ..Disk::default()
        };
        let loop_disk = Disk {
            size: LOOP_DISK_SIZE,
            device_name: format!("/dev/{LOOP_DISK}"),
            subsystem: "/sys/class/block".to_owned(),
            readonly: true,
            ..Disk::default()
        };
        Ok(Response::new(DisksResponse { messages: vec![Disks { metadata: None, disks: vec![loop_disk, disk] }] }))
    }

    async fn block_device_wipe(
        &self,
        request: Request<BlockDeviceWipeRequest>,
    ) -> Result<Response<BlockDeviceWipeResponse>, Status> {
        if !self.in_maintenance() && !roles_of(&request).iter().any(|role| role == ADMIN) {
            return Err(Status::permission_denied("not authorized"));
        }
        let installed = self.node.state.borrow().disk.installed.is_some();
        for device in &request.get_ref().devices {
            let name = &device.device;
            if *name != self.node.spec.disk.name {
                return Err(Status::not_found(format!("blockdevice {name:?} not found")));
            }
            if installed && !device.skip_volume_check {
                let message = format!("blockdevice {name:?} is in use by volume \"EPHEMERAL\"");
                return Err(Status::failed_precondition(message));
            }
        }
        Ok(Response::new(BlockDeviceWipeResponse { messages: vec![BlockDeviceWipe::default()] }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_decimal_units() {
        let sizes = [512, 1_048_576, 104_857_600, 549_755_813_888];
        assert_eq!(sizes.map(format_size), ["512 B", "1.0 MB", "104 MB", "549 GB"]);
    }
}
