//! The machine service: every method in one place, each answered by the room that knows the answer.

mod apply;
mod etcd;
mod identity;
mod orders;
mod services;

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::Node;
use super::access::Mode;
use super::events::Events;
use super::files;
use super::files::Files;
use super::images::OldImages;
use super::logs::Datas;
use super::port::Caller;
use crate::machine::{MachineConfig, Role};
use talos_proto::common::Data;
use talos_proto::machine as api;
use talos_proto::machine::machine_service_server::MachineService;

/// What answers on a machine's port.
#[derive(Debug, Clone)]
pub(super) struct Api {
    pub(super) node: Arc<Node>,
    pub(super) mode: Mode,
}

pub(super) fn roles_of<T>(request: &Request<T>) -> &[String] {
    request.extensions().get::<Caller>().map(|caller| caller.roles.as_slice()).unwrap_or_default()
}

impl Api {
    pub(super) fn in_maintenance(&self) -> bool {
        self.mode == Mode::Maintenance
    }

    /// The config of a control plane; refuses elsewhere. `method` is what Talos calls it there.
    pub(super) fn control_plane_only(&self, method: &str) -> Result<Arc<MachineConfig>, Status> {
        match self.node.config() {
            Some(config) if config.role == Role::ControlPlane => Ok(config),
            Some(_) => Err(Status::unimplemented(format!("{method} is only available on control plane nodes"))),
            None => Err(Status::unimplemented(format!("machine type is not set, cannot use {method} API"))),
        }
    }
}

/// One answer in the list that every unary answer is.
macro_rules! answer {
    ($response:ident, $message:expr) => {
        Ok(Response::new(api::$response { messages: vec![$message] }))
    };
}

#[tonic::async_trait]
impl MachineService for Api {
    type DmesgStream = Datas;
    type EtcdSnapshotStream = Datas;
    type EventsStream = Events;
    type ImageListStream = OldImages;
    type KubeconfigStream = Datas;
    type ListStream = Files;
    type LogsStream = Datas;
    type ReadStream = Datas;

    async fn apply_configuration(
        &self,
        request: Request<api::ApplyConfigurationRequest>,
    ) -> Result<Response<api::ApplyConfigurationResponse>, Status> {
        answer!(ApplyConfigurationResponse, self.apply(&request)?)
    }

    async fn bootstrap(
        &self,
        request: Request<api::BootstrapRequest>,
    ) -> Result<Response<api::BootstrapResponse>, Status> {
        answer!(BootstrapResponse, self.begin_etcd(&request)?)
    }

    async fn dmesg(&self, request: Request<api::DmesgRequest>) -> Result<Response<Datas>, Status> {
        Ok(Response::new(self.node.logs.kernel(*request.get_ref())))
    }

    async fn events(&self, request: Request<api::EventsRequest>) -> Result<Response<Events>, Status> {
        self.node.events.stream(request.get_ref()).map(Response::new)
    }

    async fn etcd_alarm_disarm(&self, _: Request<()>) -> Result<Response<api::EtcdAlarmDisarmResponse>, Status> {
        answer!(EtcdAlarmDisarmResponse, self.disarm_alarms().await?)
    }

    async fn etcd_alarm_list(&self, _: Request<()>) -> Result<Response<api::EtcdAlarmListResponse>, Status> {
        answer!(EtcdAlarmListResponse, self.alarms().await?)
    }

    async fn etcd_defragment(&self, _: Request<()>) -> Result<Response<api::EtcdDefragmentResponse>, Status> {
        answer!(EtcdDefragmentResponse, self.defragment().await?)
    }

    async fn etcd_forfeit_leadership(
        &self,
        _: Request<api::EtcdForfeitLeadershipRequest>,
    ) -> Result<Response<api::EtcdForfeitLeadershipResponse>, Status> {
        answer!(EtcdForfeitLeadershipResponse, self.forfeit_leadership().await?)
    }

    async fn etcd_leave_cluster(
        &self,
        _: Request<api::EtcdLeaveClusterRequest>,
    ) -> Result<Response<api::EtcdLeaveClusterResponse>, Status> {
        answer!(EtcdLeaveClusterResponse, self.leave_cluster().await?)
    }

    async fn etcd_member_list(
        &self,
        _: Request<api::EtcdMemberListRequest>,
    ) -> Result<Response<api::EtcdMemberListResponse>, Status> {
        answer!(EtcdMemberListResponse, self.members().await?)
    }

    async fn etcd_recover(
        &self,
        request: Request<tonic::Streaming<Data>>,
    ) -> Result<Response<api::EtcdRecoverResponse>, Status> {
        answer!(EtcdRecoverResponse, self.take_snapshot(request.into_inner()).await?)
    }

    async fn etcd_remove_member_by_id(
        &self,
        request: Request<api::EtcdRemoveMemberByIdRequest>,
    ) -> Result<Response<api::EtcdRemoveMemberByIdResponse>, Status> {
        answer!(EtcdRemoveMemberByIdResponse, self.remove_member(request.get_ref().member_id).await?)
    }

    async fn etcd_snapshot(&self, _: Request<api::EtcdSnapshotRequest>) -> Result<Response<Datas>, Status> {
        self.snapshot().await.map(Response::new)
    }

    async fn etcd_status(&self, _: Request<()>) -> Result<Response<api::EtcdStatusResponse>, Status> {
        answer!(EtcdStatusResponse, self.member_status().await?)
    }

    async fn generate_client_configuration(
        &self,
        request: Request<api::GenerateClientConfigurationRequest>,
    ) -> Result<Response<api::GenerateClientConfigurationResponse>, Status> {
        answer!(GenerateClientConfigurationResponse, self.client_configuration(request.get_ref())?)
    }

    async fn hostname(&self, _: Request<()>) -> Result<Response<api::HostnameResponse>, Status> {
        answer!(HostnameResponse, api::Hostname { metadata: None, hostname: self.node.hostname() })
    }

    async fn image_list(&self, request: Request<api::ImageListRequest>) -> Result<Response<OldImages>, Status> {
        self.old_images(request.get_ref().namespace()).map(Response::new)
    }

    async fn image_pull(
        &self,
        request: Request<api::ImagePullRequest>,
    ) -> Result<Response<api::ImagePullResponse>, Status> {
        answer!(ImagePullResponse, self.pull_image_as_of_old(request.get_ref()).await?)
    }

    async fn kubeconfig(&self, _: Request<()>) -> Result<Response<Datas>, Status> {
        self.kubeconfig_archive().map(Response::new)
    }

    async fn list(&self, request: Request<api::ListRequest>) -> Result<Response<Files>, Status> {
        let has_data = self.node.world.control_plane.has_data(&self.node);
        files::list(&request.get_ref().root, has_data).map(Response::new)
    }

    async fn logs(&self, request: Request<api::LogsRequest>) -> Result<Response<Datas>, Status> {
        self.node.logs.stream(request.get_ref()).map(Response::new)
    }

    async fn logs_containers(&self, _: Request<()>) -> Result<Response<api::LogsContainersResponse>, Status> {
        answer!(LogsContainersResponse, api::LogsContainer { metadata: None, ids: self.node.logs.ids() })
    }

    async fn memory(&self, _: Request<()>) -> Result<Response<api::MemoryResponse>, Status> {
        answer!(MemoryResponse, identity::memory_info())
    }

    async fn meta_delete(
        &self,
        request: Request<api::MetaDeleteRequest>,
    ) -> Result<Response<api::MetaDeleteResponse>, Status> {
        answer!(MetaDeleteResponse, self.delete_meta(request.get_ref().key)?)
    }

    async fn meta_write(
        &self,
        request: Request<api::MetaWriteRequest>,
    ) -> Result<Response<api::MetaWriteResponse>, Status> {
        answer!(MetaWriteResponse, self.write_meta(request.into_inner())?)
    }

    async fn read(&self, request: Request<api::ReadRequest>) -> Result<Response<Datas>, Status> {
        self.file(&request.get_ref().path).map(Response::new)
    }

    async fn reboot(&self, request: Request<api::RebootRequest>) -> Result<Response<api::RebootResponse>, Status> {
        answer!(RebootResponse, self.order_reboot(*request.get_ref()))
    }

    async fn reset(&self, request: Request<api::ResetRequest>) -> Result<Response<api::ResetResponse>, Status> {
        answer!(ResetResponse, self.order_reset(request.get_ref())?)
    }

    async fn rollback(&self, _: Request<api::RollbackRequest>) -> Result<Response<api::RollbackResponse>, Status> {
        answer!(RollbackResponse, self.order_rollback()?)
    }

    async fn service_list(&self, _: Request<()>) -> Result<Response<api::ServiceListResponse>, Status> {
        answer!(ServiceListResponse, self.services())
    }

    async fn service_restart(
        &self,
        request: Request<api::ServiceRestartRequest>,
    ) -> Result<Response<api::ServiceRestartResponse>, Status> {
        answer!(ServiceRestartResponse, self.restart_service(&request.get_ref().id)?)
    }

    async fn service_start(
        &self,
        request: Request<api::ServiceStartRequest>,
    ) -> Result<Response<api::ServiceStartResponse>, Status> {
        answer!(ServiceStartResponse, self.start_service(&request.get_ref().id)?)
    }

    async fn service_stop(
        &self,
        request: Request<api::ServiceStopRequest>,
    ) -> Result<Response<api::ServiceStopResponse>, Status> {
        answer!(ServiceStopResponse, self.stop_service(&request.get_ref().id)?)
    }

    async fn shutdown(
        &self,
        request: Request<api::ShutdownRequest>,
    ) -> Result<Response<api::ShutdownResponse>, Status> {
        answer!(ShutdownResponse, self.order_shutdown(*request.get_ref()))
    }

    async fn system_stat(&self, _: Request<()>) -> Result<Response<api::SystemStatResponse>, Status> {
        answer!(SystemStatResponse, self.boot_time())
    }

    async fn upgrade(&self, request: Request<api::UpgradeRequest>) -> Result<Response<api::UpgradeResponse>, Status> {
        answer!(UpgradeResponse, self.order_upgrade(request.get_ref()).await?)
    }

    async fn version(&self, _: Request<()>) -> Result<Response<api::VersionResponse>, Status> {
        answer!(VersionResponse, self.version_info())
    }
}
