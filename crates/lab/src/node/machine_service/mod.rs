//! The machine service: all methods, each delegating to the module for its subject.

mod apply;
mod etcd;
mod identity;
mod power;
mod services;

use talos_proto::common::Data;
use talos_proto::machine as api;
use talos_proto::machine::machine_service_server::MachineService;
use tonic::{Request, Response, Status};

use super::api::NodeApi;
use super::events::EventStream;
use super::files::{self, EtcdData, FileStream};
use super::images::LegacyImageStream;
use super::logs::DataStream;

/// A unary response, which Talos wraps into a list of one message per node.
macro_rules! respond {
    ($response:ident, $message:expr) => {
        Ok(Response::new(api::$response { messages: vec![$message] }))
    };
}

#[tonic::async_trait]
impl MachineService for NodeApi {
    type DmesgStream = DataStream;
    type EtcdSnapshotStream = DataStream;
    type EventsStream = EventStream;
    type ImageListStream = LegacyImageStream;
    type KubeconfigStream = DataStream;
    type ListStream = FileStream;
    type LogsStream = DataStream;
    type ReadStream = DataStream;

    async fn apply_configuration(
        &self,
        request: Request<api::ApplyConfigurationRequest>,
    ) -> Result<Response<api::ApplyConfigurationResponse>, Status> {
        respond!(ApplyConfigurationResponse, self.apply(&request)?)
    }

    async fn bootstrap(
        &self,
        request: Request<api::BootstrapRequest>,
    ) -> Result<Response<api::BootstrapResponse>, Status> {
        respond!(BootstrapResponse, self.bootstrap_etcd(&request)?)
    }

    async fn dmesg(&self, request: Request<api::DmesgRequest>) -> Result<Response<DataStream>, Status> {
        Ok(Response::new(self.node.logs.kernel(*request.get_ref())))
    }

    async fn events(&self, request: Request<api::EventsRequest>) -> Result<Response<EventStream>, Status> {
        self.node.events.stream(request.get_ref()).map(Response::new)
    }

    async fn etcd_alarm_disarm(&self, _: Request<()>) -> Result<Response<api::EtcdAlarmDisarmResponse>, Status> {
        respond!(EtcdAlarmDisarmResponse, self.disarm_alarms().await?)
    }

    async fn etcd_alarm_list(&self, _: Request<()>) -> Result<Response<api::EtcdAlarmListResponse>, Status> {
        respond!(EtcdAlarmListResponse, self.alarms().await?)
    }

    async fn etcd_defragment(&self, _: Request<()>) -> Result<Response<api::EtcdDefragmentResponse>, Status> {
        respond!(EtcdDefragmentResponse, self.defragment().await?)
    }

    async fn etcd_forfeit_leadership(
        &self,
        _: Request<api::EtcdForfeitLeadershipRequest>,
    ) -> Result<Response<api::EtcdForfeitLeadershipResponse>, Status> {
        respond!(EtcdForfeitLeadershipResponse, self.forfeit_leadership().await?)
    }

    async fn etcd_leave_cluster(
        &self,
        _: Request<api::EtcdLeaveClusterRequest>,
    ) -> Result<Response<api::EtcdLeaveClusterResponse>, Status> {
        respond!(EtcdLeaveClusterResponse, self.leave_cluster().await?)
    }

    async fn etcd_member_list(
        &self,
        _: Request<api::EtcdMemberListRequest>,
    ) -> Result<Response<api::EtcdMemberListResponse>, Status> {
        respond!(EtcdMemberListResponse, self.members().await?)
    }

    async fn etcd_recover(
        &self,
        request: Request<tonic::Streaming<Data>>,
    ) -> Result<Response<api::EtcdRecoverResponse>, Status> {
        respond!(EtcdRecoverResponse, self.upload_snapshot(request.into_inner()).await?)
    }

    async fn etcd_remove_member_by_id(
        &self,
        request: Request<api::EtcdRemoveMemberByIdRequest>,
    ) -> Result<Response<api::EtcdRemoveMemberByIdResponse>, Status> {
        respond!(EtcdRemoveMemberByIdResponse, self.remove_member(request.get_ref().member_id).await?)
    }

    async fn etcd_snapshot(&self, _: Request<api::EtcdSnapshotRequest>) -> Result<Response<DataStream>, Status> {
        self.snapshot().await.map(Response::new)
    }

    async fn etcd_status(&self, _: Request<()>) -> Result<Response<api::EtcdStatusResponse>, Status> {
        respond!(EtcdStatusResponse, self.member_status().await?)
    }

    async fn generate_client_configuration(
        &self,
        request: Request<api::GenerateClientConfigurationRequest>,
    ) -> Result<Response<api::GenerateClientConfigurationResponse>, Status> {
        respond!(GenerateClientConfigurationResponse, self.client_configuration(request.get_ref())?)
    }

    async fn hostname(&self, _: Request<()>) -> Result<Response<api::HostnameResponse>, Status> {
        respond!(HostnameResponse, api::Hostname { metadata: None, hostname: self.node.hostname() })
    }

    async fn image_list(&self, request: Request<api::ImageListRequest>) -> Result<Response<LegacyImageStream>, Status> {
        self.list_images_legacy(request.get_ref().namespace()).map(Response::new)
    }

    async fn image_pull(
        &self,
        request: Request<api::ImagePullRequest>,
    ) -> Result<Response<api::ImagePullResponse>, Status> {
        respond!(ImagePullResponse, self.pull_image_legacy(request.get_ref()).await?)
    }

    async fn kubeconfig(&self, _: Request<()>) -> Result<Response<DataStream>, Status> {
        self.kubeconfig_archive().map(Response::new)
    }

    async fn list(&self, request: Request<api::ListRequest>) -> Result<Response<FileStream>, Status> {
        let has_data = self.node.lab.control_plane.has_etcd_data(self.node.host());
        let etcd_data = if has_data { EtcdData::Present } else { EtcdData::Absent };
        files::list(&request.get_ref().root, etcd_data).map(Response::new)
    }

    async fn logs(&self, request: Request<api::LogsRequest>) -> Result<Response<DataStream>, Status> {
        self.node.logs.stream(request.get_ref()).map(Response::new)
    }

    async fn logs_containers(&self, _: Request<()>) -> Result<Response<api::LogsContainersResponse>, Status> {
        respond!(LogsContainersResponse, api::LogsContainer { metadata: None, ids: self.node.logs.ids() })
    }

    async fn memory(&self, _: Request<()>) -> Result<Response<api::MemoryResponse>, Status> {
        respond!(MemoryResponse, identity::memory_info())
    }

    async fn meta_delete(
        &self,
        request: Request<api::MetaDeleteRequest>,
    ) -> Result<Response<api::MetaDeleteResponse>, Status> {
        respond!(MetaDeleteResponse, self.delete_meta(request.get_ref().key)?)
    }

    async fn meta_write(
        &self,
        request: Request<api::MetaWriteRequest>,
    ) -> Result<Response<api::MetaWriteResponse>, Status> {
        respond!(MetaWriteResponse, self.write_meta(request.into_inner())?)
    }

    async fn read(&self, request: Request<api::ReadRequest>) -> Result<Response<DataStream>, Status> {
        self.file(&request.get_ref().path).map(Response::new)
    }

    async fn reboot(&self, request: Request<api::RebootRequest>) -> Result<Response<api::RebootResponse>, Status> {
        respond!(RebootResponse, self.request_reboot(*request.get_ref()))
    }

    async fn reset(&self, request: Request<api::ResetRequest>) -> Result<Response<api::ResetResponse>, Status> {
        respond!(ResetResponse, self.request_reset(request.get_ref())?)
    }

    async fn rollback(&self, _: Request<api::RollbackRequest>) -> Result<Response<api::RollbackResponse>, Status> {
        respond!(RollbackResponse, self.request_rollback()?)
    }

    async fn service_list(&self, _: Request<()>) -> Result<Response<api::ServiceListResponse>, Status> {
        respond!(ServiceListResponse, self.services())
    }

    async fn service_restart(
        &self,
        request: Request<api::ServiceRestartRequest>,
    ) -> Result<Response<api::ServiceRestartResponse>, Status> {
        respond!(ServiceRestartResponse, self.restart_service(&request.get_ref().id)?)
    }

    async fn service_start(
        &self,
        request: Request<api::ServiceStartRequest>,
    ) -> Result<Response<api::ServiceStartResponse>, Status> {
        respond!(ServiceStartResponse, self.start_service(&request.get_ref().id)?)
    }

    async fn service_stop(
        &self,
        request: Request<api::ServiceStopRequest>,
    ) -> Result<Response<api::ServiceStopResponse>, Status> {
        respond!(ServiceStopResponse, self.stop_service(&request.get_ref().id)?)
    }

    async fn shutdown(
        &self,
        request: Request<api::ShutdownRequest>,
    ) -> Result<Response<api::ShutdownResponse>, Status> {
        respond!(ShutdownResponse, self.request_shutdown(*request.get_ref()))
    }

    async fn system_stat(&self, _: Request<()>) -> Result<Response<api::SystemStatResponse>, Status> {
        respond!(SystemStatResponse, self.boot_time())
    }

    async fn upgrade(&self, request: Request<api::UpgradeRequest>) -> Result<Response<api::UpgradeResponse>, Status> {
        respond!(UpgradeResponse, self.request_upgrade(request.get_ref()).await?)
    }

    async fn version(&self, _: Request<()>) -> Result<Response<api::VersionResponse>, Status> {
        respond!(VersionResponse, self.version_info())
    }
}
