//! etcd as the machine tells of it and lets it be worked on. The members are real.

use futures::{Stream, StreamExt};
use tonic::{Request, Status};

use super::Api;
use crate::node::Recovery;
use crate::node::logs::{Datas, in_pieces};
use crate::scenario::Trouble;
use talos_proto::common::Data;
use talos_proto::machine as api;

/// What an etcd client's failure looks like: Talos passes it on without a code.
fn failed(what: &str) -> impl Fn(String) -> Status {
    move |reason| Status::unknown(format!("{what}: {reason}"))
}

impl Api {
    pub(super) fn begin_etcd(&self, request: &Request<api::BootstrapRequest>) -> Result<api::Bootstrap, Status> {
        // Not before the installed system has booted.
        if !self.node.runs("cri") {
            return Err(Status::failed_precondition("bootstrap is not available yet"));
        }
        if self.node.talos().names_control_plane_methods() {
            self.control_plane_only("bootstrap")?;
        } else if self.control_plane_only("").is_err() {
            return Err(Status::failed_precondition("bootstrap can only be performed on a control plane node"));
        }
        if self.node.world.control_plane.has_data(&self.node) {
            return Err(Status::already_exists("etcd data directory is not empty"));
        }
        self.node.world.recorder.bootstrap_accepted();
        let wanted = request.get_ref();
        let recovery = Recovery { skip_hash_check: wanted.recover_skip_hash_check };
        // A machine forgets at a reboot what etcd had not begun.
        if request.extensions().get::<Trouble>() != Some(&Trouble::Reboot) {
            self.node.begin_etcd(wanted.recover_etcd.then_some(recovery));
        }
        Ok(api::Bootstrap::default())
    }

    /// Refuses until the machine has what an etcd client needs.
    async fn has_etcd_client(&self) -> Result<(), String> {
        if self.node.world.control_plane.runs_etcd(&self.node).await {
            return Ok(());
        }
        Err("error building etcd client TLS config: open /system/secrets/etcd/admin.crt: no such file or directory"
            .to_owned())
    }

    pub(super) async fn members(&self) -> Result<api::EtcdMembers, Status> {
        self.control_plane_only("member list")?;
        self.has_etcd_client().await.map_err(Status::unknown)?;
        let members = self.node.world.control_plane.members(&self.node).await.map_err(Status::unknown)?;
        let legacy_members = members.iter().map(|member| member.hostname.clone()).collect();
        Ok(api::EtcdMembers { metadata: None, legacy_members, members })
    }

    async fn etcd_client(&self, method: &str) -> Result<(), Status> {
        self.control_plane_only(method)?;
        self.has_etcd_client().await.map_err(failed("failed to create etcd client"))
    }

    pub(super) async fn member_status(&self) -> Result<api::EtcdStatus, Status> {
        self.etcd_client("etcd status").await?;
        let status = self.node.world.control_plane.member_status(&self.node).await;
        let status = status.map_err(failed("failed to query etcd status"))?;
        Ok(api::EtcdStatus { metadata: None, member_status: Some(status) })
    }

    pub(super) async fn snapshot(&self) -> Result<Datas, Status> {
        self.etcd_client("etcd snapshot").await?;
        let snapshot = self.node.world.control_plane.snapshot(&self.node).await;
        Ok(in_pieces(&snapshot.map_err(failed("failed reading etcd snapshot"))?))
    }

    /// Keeps what is uploaded for the Bootstrap call that recovers.
    pub(super) async fn take_snapshot(
        &self,
        mut pieces: impl Stream<Item = Result<Data, Status>> + Unpin,
    ) -> Result<api::EtcdRecover, Status> {
        if !self.node.runs("cri") {
            return Err(Status::failed_precondition("etcd service is not ready for recovery yet"));
        }
        self.control_plane_only("etcd recover")?;
        let mut snapshot = Vec::new();
        while let Some(piece) = pieces.next().await {
            snapshot.extend(piece?.bytes);
        }
        let kept = self.node.world.control_plane.keep_snapshot(&self.node, &snapshot).await;
        kept.map_err(failed("error writing snapshot"))?;
        Ok(api::EtcdRecover::default())
    }

    pub(super) async fn alarms(&self) -> Result<api::EtcdAlarm, Status> {
        self.etcd_client("etcd alarm list").await?;
        let alarms = self.node.world.control_plane.alarms(&self.node).await;
        let member_alarms = alarms.map_err(failed("failed to list etcd alarms"))?;
        Ok(api::EtcdAlarm { metadata: None, member_alarms })
    }

    pub(super) async fn disarm_alarms(&self) -> Result<api::EtcdAlarmDisarm, Status> {
        let new = self.node.talos().names_control_plane_methods();
        self.etcd_client(if new { "etcd alarm disarm" } else { "etcd alarm list" }).await?;
        let alarms = self.node.world.control_plane.disarm_alarms(&self.node).await;
        let member_alarms = alarms.map_err(failed("failed to disarm etcd alarm"))?;
        Ok(api::EtcdAlarmDisarm { metadata: None, member_alarms })
    }

    pub(super) async fn defragment(&self) -> Result<api::EtcdDefragment, Status> {
        self.etcd_client("etcd defragment").await?;
        let done = self.node.world.control_plane.defragment(&self.node).await;
        done.map_err(failed("failed to defragment etcd"))?;
        Ok(api::EtcdDefragment::default())
    }

    pub(super) async fn forfeit_leadership(&self) -> Result<api::EtcdForfeitLeadership, Status> {
        self.etcd_client("etcd forfeit leadership").await?;
        let leader = self.node.world.control_plane.forfeit_leadership(&self.node).await;
        let member = leader.map_err(failed("failed to forfeit leadership"))?;
        Ok(api::EtcdForfeitLeadership { metadata: None, member })
    }

    pub(super) async fn leave_cluster(&self) -> Result<api::EtcdLeaveCluster, Status> {
        self.etcd_client("etcd leave").await?;
        let left = self.node.world.control_plane.leave_etcd(&self.node).await;
        left.map_err(failed("failed to leave cluster"))?;
        self.node.service("etcd", "Stopping", "Sending SIGTERM to task etcd");
        self.node.service("etcd", "Finished", "Service finished successfully");
        self.node.world.control_plane.wipe_etcd(&self.node).map_err(failed("failed to leave cluster"))?;
        Ok(api::EtcdLeaveCluster::default())
    }

    pub(super) async fn remove_member(&self, id: u64) -> Result<api::EtcdRemoveMemberById, Status> {
        self.etcd_client("etcd remove member").await?;
        let removed = self.node.world.control_plane.remove_member(&self.node, id).await;
        removed.map_err(|reason| {
            let text = format!("failed to remove member {id}: {reason}");
            if reason.contains("member not found") {
                Status::not_found(text)
            } else {
                Status::unknown(format!("failed to remove member: {text}"))
            }
        })?;
        Ok(api::EtcdRemoveMemberById::default())
    }

    /// Every member must be there, and enough of them.
    pub(super) async fn validate_etcd_for_upgrade(&self) -> Result<(), Status> {
        self.has_etcd_client().await.map_err(failed("failed to create etcd client"))?;
        let invalid = failed("error validating etcd for upgrade");
        let members = self.node.world.control_plane.members(&self.node).await.map_err(&invalid)?;
        if members.len() == 2 {
            return Err(invalid(
                "etcd member count(2) is insufficient to maintain quorum if upgrade commences".to_owned(),
            ));
        }
        if let Some(member) = members.iter().find(|member| member.hostname.is_empty()) {
            let text = "is not started, all members must be running to perform an upgrade";
            return Err(invalid(format!("etcd member {:016x} {text}", member.id)));
        }
        Ok(())
    }
}
