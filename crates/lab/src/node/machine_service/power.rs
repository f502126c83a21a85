//! Calls that reboot, shut down, reset or upgrade a machine. All of them respond before the sequence starts.

use talos_proto::machine as api;
use talos_proto::machine::reset_request::WipeMode;
use tonic::Status;

use crate::machine_config::NodeRole;
use crate::node::TalosVersion;
use crate::node::api::NodeApi;
use crate::node::disk::SystemPartition;
use crate::node::sequence::{NodeSequence, RebootMode, WipeTarget};

impl NodeApi {
    pub(super) fn request_reboot(&self, request: api::RebootRequest) -> api::Reboot {
        let actor_id = self.node.actor_ids.uuid();
        let mode = match request.mode() {
            api::reboot_request::Mode::Force => RebootMode::Force,
            _ => RebootMode::Default,
        };
        self.node.request_sequence(NodeSequence::Reboot(mode), &actor_id);
        api::Reboot { metadata: None, actor_id }
    }

    pub(super) fn request_shutdown(&self, request: api::ShutdownRequest) -> api::Shutdown {
        let actor_id = self.node.actor_ids.uuid();
        self.node.request_sequence(NodeSequence::Shutdown { force: request.force }, &actor_id);
        api::Shutdown { metadata: None, actor_id }
    }

    pub(super) fn request_reset(&self, request: &api::ResetRequest) -> Result<api::Reset, Status> {
        let actor_id = self.node.actor_ids.uuid();
        let wipe = self.wipe_target(request)?;
        let sequence = NodeSequence::Reset { graceful: request.graceful, reboot: request.reboot, wipe };
        self.node.request_sequence(sequence, &actor_id);
        Ok(api::Reset { metadata: None, actor_id })
    }

    fn wipe_target(&self, request: &api::ResetRequest) -> Result<WipeTarget, Status> {
        let (mode, user_disks) = (request.mode(), &request.user_disks_to_wipe);
        let reject = |message: String| Err(Status::unknown(message));
        if !user_disks.is_empty() && mode == WipeMode::SystemDisk {
            return reject(
                "reset failed: invalid input, wipe mode SYSTEM_DISK doesn't support UserDisksToWipe parameter"
                    .to_owned(),
            );
        }
        if let Some(device) = user_disks.first() {
            return reject(if *device == self.node.spec.disk.path() {
                format!("reset user disk failed: device {device} is the system disk")
            } else {
                format!("reset user disk failed: device {device} wasn't found")
            });
        }
        if mode == WipeMode::UserDisks {
            return if request.system_partitions_to_wipe.is_empty() {
                Ok(WipeTarget::UserDisks)
            } else {
                reject(
                    "reset failed: invalid input, wipe mode USER_DISKS doesn't support SystemPartitionsToWipe parameter"
                        .to_owned(),
                )
            };
        }
        if request.system_partitions_to_wipe.is_empty() {
            return Ok(WipeTarget::SystemDisk);
        }
        let mut partitions = Vec::new();
        for requested in &request.system_partitions_to_wipe {
            let label = &requested.label;
            let Some(partition) = SystemPartition::from_label(label) else {
                let missing =
                    format!("resource VolumeStatuses.block.talos.dev(runtime/{label}@undefined) doesn't exist");
                return reject(format!("failed to get volume status with label {label:?}: {missing}"));
            };
            partitions.extend(requested.wipe.then_some(partition));
        }
        Ok(WipeTarget::Partitions(partitions))
    }

    pub(super) fn request_rollback(&self) -> Result<api::Rollback, Status> {
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
        self.node.request_sequence(NodeSequence::Reboot(RebootMode::Default), "");
        Ok(api::Rollback::default())
    }

    pub(super) async fn request_upgrade(&self, request: &api::UpgradeRequest) -> Result<api::Upgrade, Status> {
        let actor_id = self.node.actor_ids.uuid();
        let image = &request.image;
        let talos = TalosVersion::from_image(image)
            .map_err(|error| Status::unknown(format!("error validating installer image {image:?}: {error}")))?;
        let (role, minor) = (self.node.config().map(|config| config.role), self.node.talos().minor());
        let skips_check = request.force || (minor >= 12 && request.preserve);
        if role == Some(NodeRole::ControlPlane) && !skips_check {
            self.validate_etcd_for_upgrade().await?;
        }
        if request.stage {
            self.node.change(|state| state.disk.staged = Some(talos.clone()));
            self.node.request_sequence(NodeSequence::StageUpgrade(talos), &actor_id);
        } else {
            self.node.request_sequence(NodeSequence::Upgrade(talos), &actor_id);
        }
        Ok(api::Upgrade { metadata: None, ack: "Upgrade request received".to_owned(), actor_id })
    }
}
