//! The machine, storage and time services, in both of a machine's modes.

use std::pin::Pin;
use std::sync::Arc;

use futures::Stream;
use jiff::Timestamp;
use tonic::{Request, Response, Status};

use super::serve::Caller;
use super::{Node, Stage};
use crate::lab::machine::{MachineConfig, Rejection, Role};
use crate::lab::scenario::Trouble;
use crate::proto::common;
use crate::proto::machine::apply_configuration_request::Mode;
use crate::proto::machine::machine_service_server::MachineService;
use crate::proto::machine::{self as api};
use crate::proto::storage::storage_service_server::StorageService;
use crate::proto::storage::{Disk, Disks, DisksResponse};
use crate::proto::time::time_service_server::TimeService;
use crate::proto::time::{Time, TimeResponse};

type Data = Pin<Box<dyn Stream<Item = Result<common::Data, Status>> + Send>>;

/// What answers on a machine's port.
#[derive(Debug, Clone)]
pub(super) struct Api {
    pub(super) node: Arc<Node>,
}

/// Who may call a method in configured mode (Talos 1.12 `services/machined.go`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    Admin,
    Operator,
    Reader,
}

impl Api {
    pub(super) fn new(node: Arc<Node>) -> Self {
        Self { node }
    }

    /// Records the call and turns it away when the machine's mode or the caller's roles do not allow it.
    fn admit<T>(&self, method: &'static str, access: Access, request: &Request<T>) -> Result<Option<Trouble>, Status> {
        self.node.world.recorder.call(self.node.name(), method);
        if self.in_maintenance() {
            return Err(Status::unimplemented("API is not implemented in maintenance mode"));
        }
        Self::authorize(access, request)?;
        let trouble = self.node.trouble(method, |what| !what.is_on_the_way());
        match trouble {
            Some(Trouble::NotYet) => return Err(Status::failed_precondition("bootstrap is not available yet")),
            Some(Trouble::Reboot) => self.node.reboot.notify_one(),
            _ => {}
        }
        Ok(trouble)
    }

    fn authorize<T>(access: Access, request: &Request<T>) -> Result<(), Status> {
        let roles = request.extensions().get::<Caller>().map(|caller| caller.roles.as_slice()).unwrap_or_default();
        let enough = |role: &String| match access {
            Access::Admin => role == "os:admin",
            Access::Operator => role == "os:admin" || role == "os:operator",
            Access::Reader => matches!(role.as_str(), "os:admin" | "os:operator" | "os:reader"),
        };
        if roles.iter().any(enough) { Ok(()) } else { Err(Status::permission_denied("not authorized")) }
    }

    pub(super) fn in_maintenance(&self) -> bool {
        self.node.state.borrow().stage == Stage::Maintenance
    }

    fn role(&self) -> Option<Role> {
        self.node.config().map(|config| config.role)
    }

    fn control_plane_only(&self, method: &str) -> Result<(), Status> {
        if self.role() == Some(Role::ControlPlane) {
            return Ok(());
        }
        Err(Status::unimplemented(format!("{method} is only available on control plane nodes")))
    }

    fn apply_in_maintenance(
        &self,
        request: &api::ApplyConfigurationRequest,
    ) -> Result<api::ApplyConfiguration, Status> {
        let mode = request.mode();
        if matches!(mode, Mode::NoReboot | Mode::Staged) {
            let text = format!("apply configuration --mode='{}' is not supported in maintenance mode", spelling(mode));
            return Err(Status::unimplemented(text));
        }
        let config =
            MachineConfig::parse(&String::from_utf8_lossy(&request.data)).map_err(|rejection| match rejection {
                Rejection::Parse(reason) => Status::unknown(format!("failed to parse config: {reason}")),
                Rejection::Invalid(problems) => {
                    Status::invalid_argument(format!("configuration validation failed: {}", findings(&problems)))
                }
            })?;
        let mut answer = api::ApplyConfiguration::default();
        if request.dry_run {
            answer.mode_details =
                "Dry run summary:\nNode is running in maintenance mode and does not have a config yet.".to_owned();
            return Ok(answer);
        }
        self.node.state.send_modify(|state| state.config = Some(Arc::new(config)));
        Ok(answer)
    }

    fn apply_configured(&self, request: &api::ApplyConfigurationRequest) -> Result<api::ApplyConfiguration, Status> {
        let text = String::from_utf8_lossy(&request.data).into_owned();
        let config = MachineConfig::parse(&text).map_err(|rejection| {
            Status::invalid_argument(match rejection {
                Rejection::Parse(reason) => reason,
                Rejection::Invalid(problems) => findings(&problems),
            })
        })?;
        let same = self.node.config().is_some_and(|current| current.text == config.text);
        let mut answer = api::ApplyConfiguration { mode: Mode::NoReboot.into(), ..Default::default() };
        if request.dry_run {
            let change = if same { "No changes." } else { "Config diff:\n(changed)" };
            answer.mode_details =
                format!("Dry run summary:\nApplied configuration without a reboot (skipped in dry-run).\n{change}");
            return Ok(answer);
        }
        answer.mode_details = "Applied configuration without a reboot".to_owned();
        if !same {
            self.node.state.send_modify(|state| state.config = Some(Arc::new(config)));
        }
        Ok(answer)
    }
}

fn spelling(mode: Mode) -> &'static str {
    match mode {
        Mode::Reboot => "reboot",
        Mode::Auto => "auto",
        Mode::NoReboot => "no-reboot",
        Mode::Staged => "staged",
        Mode::Try => "try",
    }
}

fn findings(problems: &[String]) -> String {
    let lines: String = problems.iter().map(|problem| format!("\t* {problem}\n")).collect();
    format!("{} errors occurred:\n{lines}", problems.len())
}

fn once(bytes: Vec<u8>) -> Data {
    Box::pin(futures::stream::iter([Ok(common::Data { metadata: None, bytes })]))
}

#[tonic::async_trait]
impl MachineService for Api {
    type DmesgStream = Data;
    type EtcdSnapshotStream = Data;
    type EventsStream = Pin<Box<dyn Stream<Item = Result<api::Event, Status>> + Send>>;
    type KubeconfigStream = Data;
    type LogsStream = Data;
    type ReadStream = Data;

    async fn apply_configuration(
        &self,
        request: Request<api::ApplyConfigurationRequest>,
    ) -> Result<Response<api::ApplyConfigurationResponse>, Status> {
        let message = if self.in_maintenance() {
            self.node.world.recorder.call(self.node.name(), "ApplyConfiguration");
            self.apply_in_maintenance(request.get_ref())?
        } else {
            self.admit("ApplyConfiguration", Access::Admin, &request)?;
            self.apply_configured(request.get_ref())?
        };
        Ok(Response::new(api::ApplyConfigurationResponse { messages: vec![message] }))
    }

    async fn bootstrap(
        &self,
        request: Request<api::BootstrapRequest>,
    ) -> Result<Response<api::BootstrapResponse>, Status> {
        let trouble = self.admit("Bootstrap", Access::Admin, &request)?;
        if self.role() != Some(Role::ControlPlane) {
            return Err(Status::failed_precondition("bootstrap can only be performed on a control plane node"));
        }
        if self.node.world.control_plane.has_data(&self.node) {
            return Err(Status::already_exists("etcd data directory is not empty"));
        }
        self.node.world.recorder.bootstrap_accepted();
        self.node.service("etcd", "Preparing", "Bootstrap requested");
        // A machine forgets at a reboot what etcd had not begun (before Talos 1.14).
        if trouble != Some(Trouble::Reboot) {
            self.node.bootstrap.notify_one();
        }
        if trouble == Some(Trouble::LostReply) {
            return Err(Status::unavailable("the connection was lost before the answer"));
        }
        Ok(Response::new(api::BootstrapResponse { messages: vec![api::Bootstrap::default()] }))
    }

    async fn dmesg(&self, request: Request<api::DmesgRequest>) -> Result<Response<Data>, Status> {
        self.admit("Dmesg", Access::Reader, &request)?;
        let line = format!("kern:    info: [{}]: a simulated machine has no kernel log\n", Timestamp::now());
        Ok(Response::new(once(line.into_bytes())))
    }

    async fn events(&self, request: Request<api::EventsRequest>) -> Result<Response<Self::EventsStream>, Status> {
        self.admit("Events", Access::Reader, &request)?;
        let hello = futures::stream::iter([Ok(api::Event::default())]);
        Ok(Response::new(Box::pin(futures::StreamExt::chain(hello, futures::stream::pending()))))
    }

    async fn etcd_member_list(
        &self,
        request: Request<api::EtcdMemberListRequest>,
    ) -> Result<Response<api::EtcdMemberListResponse>, Status> {
        self.admit("EtcdMemberList", Access::Reader, &request)?;
        self.control_plane_only("etcd member list")?;
        let members = self.node.world.control_plane.members(&self.node).await;
        let members = members.map_err(|reason| Status::unknown(format!("failed to create etcd client: {reason}")))?;
        let message = api::EtcdMembers { metadata: None, legacy_members: vec![], members };
        Ok(Response::new(api::EtcdMemberListResponse { messages: vec![message] }))
    }

    async fn etcd_status(&self, request: Request<()>) -> Result<Response<api::EtcdStatusResponse>, Status> {
        self.admit("EtcdStatus", Access::Reader, &request)?;
        self.control_plane_only("etcd status")?;
        let status = self.node.world.control_plane.member_status(&self.node).await.map_err(Status::unknown)?;
        let message = api::EtcdStatus { metadata: None, member_status: Some(status) };
        Ok(Response::new(api::EtcdStatusResponse { messages: vec![message] }))
    }

    async fn etcd_recover(
        &self,
        request: Request<tonic::Streaming<common::Data>>,
    ) -> Result<Response<api::EtcdRecoverResponse>, Status> {
        self.admit("EtcdRecover", Access::Admin, &request)?;
        Err(Status::failed_precondition("etcd service is not ready for recovery yet"))
    }

    async fn etcd_snapshot(&self, request: Request<api::EtcdSnapshotRequest>) -> Result<Response<Data>, Status> {
        self.admit("EtcdSnapshot", Access::Operator, &request)?;
        self.control_plane_only("etcd snapshot")?;
        let snapshot = self.node.world.control_plane.snapshot(&self.node).await.map_err(Status::unknown)?;
        Ok(Response::new(once(snapshot)))
    }

    async fn hostname(&self, request: Request<()>) -> Result<Response<api::HostnameResponse>, Status> {
        self.admit("Hostname", Access::Reader, &request)?;
        let message = api::Hostname { metadata: None, hostname: self.node.hostname() };
        Ok(Response::new(api::HostnameResponse { messages: vec![message] }))
    }

    async fn kubeconfig(&self, request: Request<()>) -> Result<Response<Data>, Status> {
        self.admit("Kubeconfig", Access::Admin, &request)?;
        self.control_plane_only("kubeconfig")?;
        let config = self.node.config().ok_or_else(|| Status::failed_precondition("no config"))?;
        let archive = super::super::control_plane::kubeconfig_archive(&config).map_err(Status::internal)?;
        Ok(Response::new(once(archive)))
    }

    async fn logs(&self, request: Request<api::LogsRequest>) -> Result<Response<Data>, Status> {
        self.admit("Logs", Access::Reader, &request)?;
        Ok(Response::new(Box::pin(futures::stream::empty())))
    }

    async fn memory(&self, request: Request<()>) -> Result<Response<api::MemoryResponse>, Status> {
        self.admit("Memory", Access::Reader, &request)?;
        let meminfo = api::MemInfo { memtotal: 32 << 20, memfree: 24 << 20, memavailable: 28 << 20 };
        let message = api::Memory { metadata: None, meminfo: Some(meminfo) };
        Ok(Response::new(api::MemoryResponse { messages: vec![message] }))
    }

    async fn read(&self, request: Request<api::ReadRequest>) -> Result<Response<Data>, Status> {
        self.admit("Read", Access::Admin, &request)?;
        if request.get_ref().path != "/proc/sys/kernel/random/boot_id" {
            return Err(Status::not_found(format!("stat {}: no such file or directory", request.get_ref().path)));
        }
        let boot_id = self.node.state.borrow().boot_id.clone();
        Ok(Response::new(once(format!("{boot_id}\n").into_bytes())))
    }

    async fn reboot(&self, request: Request<api::RebootRequest>) -> Result<Response<api::RebootResponse>, Status> {
        self.admit("Reboot", Access::Operator, &request)?;
        self.node.reboot.notify_one();
        let message = api::Reboot { metadata: None, actor_id: self.node.state.borrow().boot_id.clone() };
        Ok(Response::new(api::RebootResponse { messages: vec![message] }))
    }

    async fn reset(&self, request: Request<api::ResetRequest>) -> Result<Response<api::ResetResponse>, Status> {
        self.admit("Reset", Access::Admin, &request)?;
        Err(Status::unknown("reset failed: a simulated machine of this version cannot be reset"))
    }

    async fn service_list(&self, request: Request<()>) -> Result<Response<api::ServiceListResponse>, Status> {
        self.admit("ServiceList", Access::Reader, &request)?;
        let services = self.node.state.borrow().services.iter().map(|(id, service)| service.info(id)).collect();
        let message = api::ServiceList { metadata: None, services };
        Ok(Response::new(api::ServiceListResponse { messages: vec![message] }))
    }

    async fn system_stat(&self, request: Request<()>) -> Result<Response<api::SystemStatResponse>, Status> {
        self.admit("SystemStat", Access::Reader, &request)?;
        let seconds = u64::try_from(Timestamp::now().as_second()).unwrap_or_default();
        let message = api::SystemStat { metadata: None, boot_time: seconds };
        Ok(Response::new(api::SystemStatResponse { messages: vec![message] }))
    }

    async fn version(&self, request: Request<()>) -> Result<Response<api::VersionResponse>, Status> {
        self.admit("Version", Access::Reader, &request)?;
        let version = api::VersionInfo {
            tag: self.node.world.talos_version.clone(),
            sha: "rehearsal".to_owned(),
            built: String::new(),
            go_version: String::new(),
            os: "linux".to_owned(),
            arch: "amd64".to_owned(),
        };
        let message = api::Version {
            metadata: None,
            version: Some(version),
            platform: Some(api::PlatformInfo { name: "metal".to_owned(), mode: "metal".to_owned() }),
            features: Some(api::FeaturesInfo { rbac: true }),
        };
        Ok(Response::new(api::VersionResponse { messages: vec![message] }))
    }
}

#[tonic::async_trait]
impl StorageService for Api {
    async fn disks(&self, request: Request<()>) -> Result<Response<DisksResponse>, Status> {
        self.node.world.recorder.call(self.node.name(), "Disks");
        if !self.in_maintenance() {
            Self::authorize(Access::Reader, &request)?;
        }
        let disk = Disk {
            size: 512 << 30,
            model: "Simulated SSD".to_owned(),
            device_name: "/dev/nvme0n1".to_owned(),
            name: "nvme0n1".to_owned(),
            r#type: crate::proto::storage::disk::DiskType::Nvme.into(),
            system_disk: !self.in_maintenance(),
            ..Default::default()
        };
        Ok(Response::new(DisksResponse { messages: vec![Disks { metadata: None, disks: vec![disk] }] }))
    }
}

#[tonic::async_trait]
impl TimeService for Api {
    async fn time(&self, request: Request<()>) -> Result<Response<TimeResponse>, Status> {
        self.admit("Time", Access::Reader, &request)?;
        let now = Timestamp::now();
        let stamp = prost_types::Timestamp { seconds: now.as_second(), nanos: now.subsec_nanosecond() };
        let message = Time {
            metadata: None,
            server: "time.cloudflare.com".to_owned(),
            localtime: Some(stamp),
            remotetime: Some(stamp),
        };
        Ok(Response::new(TimeResponse { messages: vec![message] }))
    }
}
