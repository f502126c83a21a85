//! Calls about etcd. The members are real.

use std::time::Duration;

use error_report::ErrorReport;
use futures::{Stream, StreamExt};
use talos_proto::common::Data;
use talos_proto::machine as api;
use tonic::{Request, Status};

use crate::control_plane::{EtcdError, SnapshotRecovery};
use crate::node::api::NodeApi;
use crate::node::logs::{DataStream, to_chunks};
use crate::node::services::ServiceState;
use crate::scenario::CallFaultKind;

/// Talos reports the errors of its etcd client without a specific code.
fn failed<E: Into<Box<dyn std::error::Error>>>(action: &str) -> impl Fn(E) -> Status {
    move |error| Status::unknown(format!("{action}: {}", ErrorReport::new(&*error.into())))
}

/// Between two looks at an etcd that does not run.
const BLOCKED: Duration = Duration::from_millis(100);

/// The error of Talos 1.12 before etcd has started.
#[derive(Debug, thiserror::Error)]
#[error("error building etcd client TLS config: open /system/secrets/etcd/admin.crt: no such file or directory")]
struct EtcdClientMissing;

impl NodeApi {
    pub(super) fn bootstrap_etcd(&self, request: &Request<api::BootstrapRequest>) -> Result<api::Bootstrap, Status> {
        // Before the installed system has booted.
        if !self.node.is_service_running("cri") {
            return Err(Status::failed_precondition("bootstrap is not available yet"));
        }
        if self.node.talos().rejects_control_plane_methods_uniformly() {
            self.control_plane_only("bootstrap")?;
        } else if self.control_plane_only("").is_err() {
            return Err(Status::failed_precondition("bootstrap can only be performed on a control plane node"));
        }
        let has_authority = self.node.config().is_some_and(|config| !config.etcd_ca.certificate.is_empty());
        if self.node.talos().checks_etcd_before_bootstrap() && !has_authority {
            return Err(Status::invalid_argument("etcd is not configured, bootstrap is not possible"));
        }
        // Talos waits 5 s for it first (1.12, `v1alpha1_server.go`).
        if !self.node.has_synced_clock() {
            return Err(Status::failed_precondition("time is not in sync yet"));
        }
        if self.node.lab.control_plane.has_etcd_data(self.node.host()) {
            return Err(Status::already_exists("etcd data directory is not empty"));
        }
        self.node.lab.recorder.record_accepted_bootstrap();
        let message = request.get_ref();
        let recovery = message.recover_etcd.then_some(if message.recover_skip_hash_check {
            SnapshotRecovery::SkipHashCheck
        } else {
            SnapshotRecovery::VerifyHash
        });
        // A reboot drops a call that etcd has not started from.
        if request.extensions().get::<CallFaultKind>() != Some(&CallFaultKind::Reboot) {
            self.node.bootstrap_etcd(recovery);
        }
        Ok(api::Bootstrap::default())
    }

    /// Fails until the machine has the files of an etcd client.
    async fn check_etcd_client(&self) -> Result<(), EtcdClientMissing> {
        if self.node.lab.control_plane.is_etcd_running(self.node.host()).await {
            return Ok(());
        }
        Err(EtcdClientMissing)
    }

    /// Blocks until etcd runs, or the caller gives up (seen on Talos 1.12.4: the client has its certificates, and nothing
    /// listens).
    async fn etcd_answers(&self) {
        while self.check_etcd_client().await.is_err() {
            tokio::time::sleep(BLOCKED).await;
        }
    }

    pub(super) async fn members(&self) -> Result<api::EtcdMembers, Status> {
        self.control_plane_only("member list")?;
        self.etcd_answers().await;
        let members = self.node.lab.control_plane.members(self.node.host()).await;
        let members = members.map_err(|error| Status::unknown(ErrorReport::new(&error).to_string()))?;
        let legacy_members = members.iter().map(|member| member.hostname.clone()).collect();
        Ok(api::EtcdMembers { metadata: None, legacy_members, members })
    }

    async fn require_etcd_client(&self, method: &str) -> Result<(), Status> {
        self.control_plane_only(method)?;
        self.check_etcd_client().await.map_err(failed("failed to create etcd client"))
    }

    pub(super) async fn member_status(&self) -> Result<api::EtcdStatus, Status> {
        self.control_plane_only("etcd status")?;
        self.etcd_answers().await;
        let status = self.node.lab.control_plane.member_status(self.node.host()).await;
        let status = status.map_err(failed("failed to query etcd status"))?;
        Ok(api::EtcdStatus { metadata: None, member_status: Some(status) })
    }

    pub(super) async fn snapshot(&self) -> Result<DataStream, Status> {
        self.require_etcd_client("etcd snapshot").await?;
        let snapshot = self.node.lab.control_plane.snapshot(self.node.host()).await;
        Ok(to_chunks(&snapshot.map_err(failed("failed reading etcd snapshot"))?))
    }

    /// Stores an uploaded snapshot for the Bootstrap call that recovers from it.
    pub(super) async fn upload_snapshot(
        &self,
        mut chunks: impl Stream<Item = Result<Data, Status>> + Unpin,
    ) -> Result<api::EtcdRecover, Status> {
        if !self.node.is_service_running("cri") {
            return Err(Status::failed_precondition("etcd service is not ready for recovery yet"));
        }
        self.control_plane_only("etcd recover")?;
        let mut snapshot = Vec::new();
        while let Some(chunk) = chunks.next().await {
            snapshot.extend(chunk?.bytes);
        }
        let stored = self.node.lab.control_plane.store_snapshot(self.node.host(), &snapshot).await;
        stored.map_err(failed("error writing snapshot"))?;
        Ok(api::EtcdRecover::default())
    }

    pub(super) async fn alarms(&self) -> Result<api::EtcdAlarm, Status> {
        self.control_plane_only("etcd alarm list")?;
        self.etcd_answers().await;
        let alarms = self.node.lab.control_plane.alarms(self.node.host()).await;
        let member_alarms = alarms.map_err(failed("failed to list etcd alarms"))?;
        Ok(api::EtcdAlarm { metadata: None, member_alarms })
    }

    pub(super) async fn disarm_alarms(&self) -> Result<api::EtcdAlarmDisarm, Status> {
        let is_new = self.node.talos().rejects_control_plane_methods_uniformly();
        self.require_etcd_client(if is_new { "etcd alarm disarm" } else { "etcd alarm list" }).await?;
        let alarms = self.node.lab.control_plane.disarm_alarms(self.node.host()).await;
        let member_alarms = alarms.map_err(failed("failed to disarm etcd alarm"))?;
        Ok(api::EtcdAlarmDisarm { metadata: None, member_alarms })
    }

    pub(super) async fn defragment(&self) -> Result<api::EtcdDefragment, Status> {
        self.require_etcd_client("etcd defragment").await?;
        let done = self.node.lab.control_plane.defragment(self.node.host()).await;
        done.map_err(failed("failed to defragment etcd"))?;
        Ok(api::EtcdDefragment::default())
    }

    pub(super) async fn forfeit_leadership(&self) -> Result<api::EtcdForfeitLeadership, Status> {
        self.require_etcd_client("etcd forfeit leadership").await?;
        let leader = self.node.lab.control_plane.forfeit_leadership(self.node.host()).await;
        let member = leader.map_err(failed("failed to forfeit leadership"))?;
        Ok(api::EtcdForfeitLeadership { metadata: None, member })
    }

    pub(super) async fn leave_cluster(&self) -> Result<api::EtcdLeaveCluster, Status> {
        self.require_etcd_client("etcd leave").await?;
        let left = self.node.lab.control_plane.leave_etcd(self.node.host()).await;
        left.map_err(failed("failed to leave cluster"))?;
        self.node.set_service_state("etcd", ServiceState::Stopping, "Sending SIGTERM to task etcd");
        self.node.set_service_state("etcd", ServiceState::Finished, "Service finished successfully");
        self.node.lab.control_plane.wipe_etcd(self.node.host()).map_err(failed("failed to leave cluster"))?;
        Ok(api::EtcdLeaveCluster::default())
    }

    pub(super) async fn remove_member(&self, id: u64) -> Result<api::EtcdRemoveMemberById, Status> {
        self.require_etcd_client("etcd remove member").await?;
        let removed = self.node.lab.control_plane.remove_member(self.node.host(), id).await;
        removed.map_err(|error| {
            let message = format!("failed to remove member {id}: {error}");
            match error {
                EtcdError::MemberNotFound(_) => Status::not_found(message),
                _ => Status::unknown(format!("failed to remove member: {message}")),
            }
        })?;
        Ok(api::EtcdRemoveMemberById::default())
    }

    /// All members must be running, and there must be enough of them to keep the quorum.
    pub(super) async fn validate_etcd_for_upgrade(&self) -> Result<(), Status> {
        self.check_etcd_client().await.map_err(failed("failed to create etcd client"))?;
        let invalid = "error validating etcd for upgrade";
        let members = self.node.lab.control_plane.members(self.node.host()).await.map_err(failed(invalid))?;
        if members.len() == 2 {
            let message = "etcd member count(2) is insufficient to maintain quorum if upgrade commences";
            return Err(failed(invalid)(message));
        }
        if let Some(member) = members.iter().find(|member| member.hostname.is_empty()) {
            let problem = "is not started, all members must be running to perform an upgrade";
            return Err(failed(invalid)(format!("etcd member {:016x} {problem}", member.id)));
        }
        Ok(())
    }
}
