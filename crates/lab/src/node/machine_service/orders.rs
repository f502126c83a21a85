//! Calls that end a machine's present life. All are answered before anything happens.

use tonic::Status;

use super::Api;
use crate::machine::Role;
use crate::node::disk::Partition;
use crate::node::sequence::{Sequence, Wipe};
use crate::node::{Talos, random_id};
use api::reset_request::WipeMode;
use talos_proto::machine as api;

impl Api {
    pub(super) fn order_reboot(&self, request: api::RebootRequest) -> api::Reboot {
        let actor_id = random_id();
        let force = request.mode() == api::reboot_request::Mode::Force;
        self.node.order(Sequence::Reboot { force }, &actor_id);
        api::Reboot { metadata: None, actor_id }
    }

    pub(super) fn order_shutdown(&self, request: api::ShutdownRequest) -> api::Shutdown {
        let actor_id = random_id();
        self.node.order(Sequence::Shutdown { force: request.force }, &actor_id);
        api::Shutdown { metadata: None, actor_id }
    }

    pub(super) fn order_reset(&self, request: &api::ResetRequest) -> Result<api::Reset, Status> {
        let actor_id = random_id();
        let wipe = self.wipe(request)?;
        let what = Sequence::Reset { graceful: request.graceful, reboot: request.reboot, wipe };
        self.node.order(what, &actor_id);
        Ok(api::Reset { metadata: None, actor_id })
    }

    fn wipe(&self, request: &api::ResetRequest) -> Result<Wipe, Status> {
        let (mode, user_disks) = (request.mode(), &request.user_disks_to_wipe);
        let refuse = |why: String| Err(Status::unknown(why));
        if !user_disks.is_empty() && mode == WipeMode::SystemDisk {
            return refuse(
                "reset failed: invalid input, wipe mode SYSTEM_DISK doesn't support UserDisksToWipe parameter"
                    .to_owned(),
            );
        }
        if let Some(device) = user_disks.first() {
            return refuse(if *device == self.node.spec.disk.path() {
                format!("reset user disk failed: device {device} is the system disk")
            } else {
                format!("reset user disk failed: device {device} wasn't found")
            });
        }
        if mode == WipeMode::UserDisks {
            return if request.system_partitions_to_wipe.is_empty() {
                Ok(Wipe::UserDisks)
            } else {
                refuse(
                    "reset failed: invalid input, wipe mode USER_DISKS doesn't support SystemPartitionsToWipe parameter"
                        .to_owned(),
                )
            };
        }
        if request.system_partitions_to_wipe.is_empty() {
            return Ok(Wipe::SystemDisk);
        }
        let mut partitions = Vec::new();
        for wanted in &request.system_partitions_to_wipe {
            let label = &wanted.label;
            let Some(partition) = Partition::labelled(label) else {
                let missing =
                    format!("resource VolumeStatuses.block.talos.dev(runtime/{label}@undefined) doesn't exist");
                return refuse(format!("failed to get volume status with label {label:?}: {missing}"));
            };
            partitions.extend(wanted.wipe.then_some(partition));
        }
        Ok(Wipe::Partitions(partitions))
    }

    pub(super) fn order_rollback(&self) -> Result<api::Rollback, Status> {
        let previous = {
            let state = self.node.state.borrow();
            if state.disk.installed.is_none() {
                return Err(Status::failed_precondition("system disk not found"));
            }
            state
                .disk
                .previous
                .clone()
                .ok_or_else(|| Status::unknown("cannot rollback to \"\", label does not exist"))?
        };
        self.node.change(|state| state.disk.install(previous));
        self.node.order(Sequence::Reboot { force: false }, "");
        Ok(api::Rollback::default())
    }

    pub(super) async fn order_upgrade(&self, request: &api::UpgradeRequest) -> Result<api::Upgrade, Status> {
        let actor_id = random_id();
        let image = &request.image;
        let talos = Talos::of_image(image)
            .map_err(|reason| Status::unknown(format!("error validating installer image {image:?}: {reason}")))?;
        let (role, minor) = (self.node.config().map(|config| config.role), self.node.talos().minor());
        let unchecked = request.force || (minor >= 12 && request.preserve);
        if role == Some(Role::ControlPlane) && !unchecked {
            self.validate_etcd_for_upgrade().await?;
        }
        if request.stage {
            self.node.change(|state| state.disk.staged = Some(talos.clone()));
            self.node.order(Sequence::StageUpgrade(talos), &actor_id);
        } else {
            self.node.order(Sequence::Upgrade(talos), &actor_id);
        }
        Ok(api::Upgrade { metadata: None, ack: "Upgrade request received".to_owned(), actor_id })
    }
}
