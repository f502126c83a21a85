//! Which roles may call which method, by Talos version and mode.

use tonic::Status;

use super::talos_version::TalosVersion;

pub(super) const ADMIN: &str = "os:admin";
pub(super) const OPERATOR: &str = "os:operator";
pub(super) const READER: &str = "os:reader";
const ETCD_BACKUP: &str = "os:etcd:backup";
const META_WRITER: &str = "os:meta:writer";
const IMAGE_VERIFIER: &str = "os:image:verifier";

const ADMINS: &[&str] = &[ADMIN];
const OPERATORS: &[&str] = &[ADMIN, OPERATOR];
const READERS: &[&str] = &[ADMIN, OPERATOR, READER];
const ETCD_READERS: &[&str] = &[ADMIN, OPERATOR, READER, ETCD_BACKUP];
const ETCD_BACKUPS: &[&str] = &[ADMIN, OPERATOR, ETCD_BACKUP];
const META_WRITERS: &[&str] = &[ADMIN, META_WRITER];
const VERIFIERS: &[&str] = &[ADMIN, OPERATOR, READER, IMAGE_VERIFIER];

const MACHINE: &str = "machine.MachineService";
const STORAGE: &str = "storage.StorageService";
const STATE: &str = "cosi.resource.State";

/// Whether the API serves a machine without a config or with one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ApiMode {
    Maintenance,
    Configured,
}

/// The caller of a request.
#[derive(Debug, Clone, Default)]
pub(super) struct Caller {
    /// From the client certificate. Empty in maintenance mode.
    pub(super) roles: Vec<String>,
}

/// A service and its method, from a request's path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct GrpcMethod<'p> {
    pub(super) service: &'p str,
    pub(super) name: &'p str,
}

impl<'p> GrpcMethod<'p> {
    pub(super) fn from_path(path: &'p str) -> Self {
        let (service, name) = path.trim_start_matches('/').split_once('/').unwrap_or((path, ""));
        Self { service, name }
    }

    /// Whether Talos's proxy treats the response as a stream.
    pub(super) fn is_streaming(self) -> bool {
        const STREAMED: &[&str] = &[
            "Copy",
            "DiskUsage",
            "Dmesg",
            "EtcdSnapshot",
            "Events",
            "ImageList",
            "Kubeconfig",
            "List",
            "Logs",
            "PacketCapture",
            "Read",
        ];
        match self.service {
            MACHINE => STREAMED.contains(&self.name),
            "cluster.ClusterService" => self.name == "HealthCheck",
            "machine.LifecycleService" => true,
            "machine.ImageService" => matches!(self.name, "List" | "Pull"),
            STATE => matches!(self.name, "List" | "Watch"),
            _ => false,
        }
    }
}

/// The roles that may call a method in configured mode. `None` if this version has no such method.
fn allowed_roles(talos: &TalosVersion, method: GrpcMethod<'_>) -> Option<&'static [&'static str]> {
    let is_new = talos.minor() >= 13;
    let allowed = match (method.service, method.name) {
        (MACHINE, name) => return machine_roles(talos, name),
        ("cluster.ClusterService", "HealthCheck")
        | ("time.TimeService", "Time" | "TimeCheck")
        | ("inspect.InspectService", "ControllerRuntimeDependencies")
        | (STORAGE, "Disks")
        | (STATE, "Get" | "List" | "Watch") => READERS,
        (STATE, "Create" | "Destroy" | "Update") => ADMINS,
        (STATE, "Teardown" | "TeardownAndDestroy") if talos.minor() >= 14 => ADMINS,
        // The handler checks for maintenance mode itself since 1.13.
        (STORAGE, "BlockDeviceWipe") => {
            if is_new {
                READERS
            } else {
                ADMINS
            }
        }
        ("machine.ImageService", "List") if is_new => READERS,
        ("machine.ImageService", "Verify") if is_new => VERIFIERS,
        ("machine.ImageService", "Pull") if is_new => OPERATORS,
        ("machine.ImageService", "Import" | "Remove")
        | ("machine.LifecycleService", "Install" | "Upgrade")
        | ("machine.DebugService", "ContainerRun")
            if is_new =>
        {
            ADMINS
        }
        _ => return None,
    };
    Some(allowed)
}

fn machine_roles(talos: &TalosVersion, name: &str) -> Option<&'static [&'static str]> {
    let is_new = talos.minor() >= 13;
    let allowed = match name {
        "ApplyConfiguration" => {
            if is_new {
                READERS
            } else {
                ADMINS
            }
        }
        "GenerateConfiguration" => return (!is_new).then_some(ADMINS),
        "MetaWrite" | "MetaDelete" => {
            if is_new {
                META_WRITERS
            } else {
                ADMINS
            }
        }
        "Bootstrap"
        | "Copy"
        | "EtcdDowngradeCancel"
        | "EtcdDowngradeEnable"
        | "EtcdDowngradeValidate"
        | "EtcdForfeitLeadership"
        | "EtcdLeaveCluster"
        | "EtcdRecover"
        | "EtcdRemoveMemberByID"
        | "GenerateClientConfiguration"
        | "Kubeconfig"
        | "Read"
        | "Reset"
        | "Rollback"
        | "Upgrade" => ADMINS,
        "EtcdAlarmDisarm" | "EtcdDefragment" | "ImagePull" | "PacketCapture" | "Reboot" | "Restart"
        | "ServiceRestart" | "ServiceStart" | "ServiceStop" | "Shutdown" => OPERATORS,
        "EtcdAlarmList" | "EtcdMemberList" | "EtcdStatus" => ETCD_READERS,
        "EtcdSnapshot" => ETCD_BACKUPS,
        "CPUFreqStats" | "CPUInfo" | "Containers" | "DiskStats" | "DiskUsage" | "Dmesg" | "Events" | "Hostname"
        | "ImageList" | "List" | "LoadAvg" | "Logs" | "LogsContainers" | "Memory" | "Mounts" | "NetworkDeviceStats"
        | "Netstat" | "Processes" | "ServiceList" | "Stats" | "SystemStat" | "Version" => READERS,
        _ => return None,
    };
    Some(allowed)
}

/// The error of a gRPC server for a method that it does not have.
pub(super) fn unknown_method(talos: &TalosVersion, method: GrpcMethod<'_>) -> Status {
    let known = matches!(
        method.service,
        MACHINE | STORAGE | STATE | "cluster.ClusterService" | "time.TimeService" | "inspect.InspectService"
    ) || talos.minor() >= 13
        && matches!(method.service, "machine.ImageService" | "machine.LifecycleService" | "machine.DebugService");
    if known {
        Status::unimplemented(format!("unknown method {} for service {}", method.name, method.service))
    } else {
        Status::unimplemented(format!("unknown service {}", method.service))
    }
}

/// Checks whether the call may reach its handler.
pub(super) fn admit(
    talos: &TalosVersion,
    mode: ApiMode,
    caller: &[String],
    method: GrpcMethod<'_>,
) -> Result<(), Status> {
    let allowed = allowed_roles(talos, method);
    if mode == ApiMode::Maintenance && !talos.has_full_maintenance_api() {
        admit_to_maintenance_server(talos, method)?;
        return reject_writes(method);
    }
    let allowed = allowed.ok_or_else(|| unknown_method(talos, method))?;
    let has = |role: &&str| match mode {
        ApiMode::Maintenance => **role == *READER,
        ApiMode::Configured => caller.iter().any(|held| held == role),
    };
    if !allowed.iter().any(has) {
        return Err(Status::permission_denied("not authorized"));
    }
    reject_writes(method)
}

/// COSI resources are read-only for callers.
fn reject_writes(method: GrpcMethod<'_>) -> Result<(), Status> {
    if method.service == STATE && !matches!(method.name, "Get" | "List" | "Watch") {
        return Err(Status::permission_denied("write access is not allowed"));
    }
    Ok(())
}

/// The separate maintenance server of 1.11 and 1.12, which does not check roles.
fn admit_to_maintenance_server(talos: &TalosVersion, method: GrpcMethod<'_>) -> Result<(), Status> {
    let exists = allowed_roles(talos, method).is_some();
    match (method.service, method.name) {
        (MACHINE, "ApplyConfiguration") => Ok(()),
        (STORAGE | STATE, _) if exists => Ok(()),
        (MACHINE, "Version" | "Upgrade" | "Reset" | "MetaWrite" | "MetaDelete") => {
            Err(Status::unimplemented("API is not implemented in maintenance mode"))
        }
        (MACHINE, "GenerateClientConfiguration") => {
            Err(Status::unimplemented("client configuration (talosconfig) can't be generated in the maintenance mode"))
        }
        (MACHINE, name) if exists => Err(Status::unimplemented(format!("method {name} not implemented"))),
        (MACHINE | STORAGE | STATE, _) => Err(unknown_method(talos, method)),
        (service, _) => Err(Status::unimplemented(format!("unknown service {service}"))),
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    fn ask(tag: &str, mode: ApiMode, roles: &[&str], path: &str) -> (Code, String) {
        let roles: Vec<String> = roles.iter().map(|&role| role.to_owned()).collect();
        let answer = admit(&TalosVersion::parse(tag).unwrap(), mode, &roles, GrpcMethod::from_path(path));
        answer.map_or_else(|status| (status.code(), status.message().to_owned()), |()| (Code::Ok, String::new()))
    }

    #[test]
    fn roles_decide_in_configured_mode() {
        let configured = |roles: &[&str], method: &str| ask("v1.12.4", ApiMode::Configured, roles, method).0;
        let path = |name: &str| format!("/machine.MachineService/{name}");
        assert_eq!(configured(&[READER], &path("Version")), Code::Ok);
        assert_eq!(configured(&[READER], &path("Reboot")), Code::PermissionDenied);
        assert_eq!(configured(&[OPERATOR], &path("Reboot")), Code::Ok);
        assert_eq!(configured(&[OPERATOR], &path("Bootstrap")), Code::PermissionDenied);
        assert_eq!(configured(&[ETCD_BACKUP], &path("EtcdSnapshot")), Code::Ok);
        assert_eq!(configured(&[ETCD_BACKUP], &path("Version")), Code::PermissionDenied);
        assert_eq!(configured(&[READER], &path("ApplyConfiguration")), Code::PermissionDenied);
        assert_eq!(configured(&[], &path("Version")), Code::PermissionDenied);
    }

    #[test]
    fn the_old_maintenance_server_has_few_methods() {
        let old = |path: &str| ask("v1.12.4", ApiMode::Maintenance, &[], path);
        assert_eq!(old("/machine.MachineService/ApplyConfiguration").0, Code::Ok);
        assert_eq!(old("/cosi.resource.State/Get").0, Code::Ok);
        let unimplemented = |text: &str| (Code::Unimplemented, text.to_owned());
        let version = old("/machine.MachineService/Version");
        assert_eq!(version, unimplemented("API is not implemented in maintenance mode"));
        let reboot = old("/machine.MachineService/Reboot");
        assert_eq!(reboot, unimplemented("method Reboot not implemented"));
        assert_eq!(old("/time.TimeService/Time"), unimplemented("unknown service time.TimeService"));
    }

    #[test]
    fn every_caller_is_a_reader_in_maintenance_mode_since_1_13() {
        let new = |path: &str| ask("v1.13.0", ApiMode::Maintenance, &[], path).0;
        assert_eq!(new("/machine.MachineService/Version"), Code::Ok);
        assert_eq!(new("/machine.MachineService/ApplyConfiguration"), Code::Ok);
        assert_eq!(new("/machine.MachineService/Reboot"), Code::PermissionDenied);
        assert_eq!(new("/machine.LifecycleService/Upgrade"), Code::PermissionDenied);
    }

    #[test]
    fn methods_depend_on_the_version() {
        let admin = |tag: &str, path: &str| ask(tag, ApiMode::Configured, &[ADMIN], path);
        assert_eq!(admin("v1.13.0", "/machine.LifecycleService/Upgrade").0, Code::Ok);
        let (code, text) = admin("v1.12.4", "/machine.LifecycleService/Upgrade");
        assert_eq!((code, text.as_str()), (Code::Unimplemented, "unknown service machine.LifecycleService"));
        let (_, text) = admin("v1.13.0", "/machine.MachineService/GenerateConfiguration");
        assert_eq!(text, "unknown method GenerateConfiguration for service machine.MachineService");
    }
}
