//! Disks. A machine has one, and it is the system's once Talos is installed.

use tonic::{Request, Response, Status};

use super::access::ADMIN;
use super::machine_service::{Api, roles_of};
use crate::proto::storage::storage_service_server::StorageService;
use crate::proto::storage::{
    BlockDeviceWipe, BlockDeviceWipeRequest, BlockDeviceWipeResponse, Disk, Disks, DisksResponse, disk,
};

pub(super) const DISK: &str = "nvme0n1";
pub(super) const SIZE: u64 = 512 << 30;
pub(super) const EPHEMERAL_SIZE: u64 = 500 << 30;

/// A size as people read it: in powers of ten.
pub(super) fn pretty(size: u64) -> String {
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

#[tonic::async_trait]
impl StorageService for Api {
    async fn disks(&self, _: Request<()>) -> Result<Response<DisksResponse>, Status> {
        let disk = Disk {
            size: SIZE,
            model: "Simulated SSD".to_owned(),
            device_name: format!("/dev/{DISK}"),
            serial: "LAB0000000001".to_owned(),
            r#type: disk::DiskType::Nvme.into(),
            system_disk: self.node.state.borrow().disk.installed.is_some(),
            subsystem: "/sys/class/block".to_owned(),
            ..Disk::default()
        };
        Ok(Response::new(DisksResponse { messages: vec![Disks { metadata: None, disks: vec![disk] }] }))
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
            if name != DISK {
                return Err(Status::not_found(format!("blockdevice {name:?} not found")));
            }
            if installed && !device.skip_volume_check {
                let text = format!("blockdevice {name:?} is in use by volume \"EPHEMERAL\"");
                return Err(Status::failed_precondition(text));
            }
        }
        Ok(Response::new(BlockDeviceWipeResponse { messages: vec![BlockDeviceWipe::default()] }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_in_powers_of_ten() {
        let sizes = [512, 1_048_576, 104_857_600, 549_755_813_888];
        assert_eq!(sizes.map(pretty), ["512 B", "1.0 MB", "104 MB", "549 GB"]);
    }
}
