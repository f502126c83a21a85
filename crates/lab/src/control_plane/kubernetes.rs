//! Kubernetes: the real API server, controller manager and scheduler, started as Talos 1.12 starts them.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use error_report::ErrorReport;
use process::{Command, Daemon};
use serde_json::json;

use super::forward::PortForward;
use super::kubeconfig::{self, Kubeconfig};
use super::peers::endpoint_host;
use super::program_files::{ProgramFiles, client_subject, server_subject};
use super::{ControlPlane, ControlPlaneError, ControlPlaneHost, hostname, program, stop_all};
use crate::machine_config::{AppliedConfig, PemPair};
use crate::network;
use crate::pki::{CertificateAuthority, IssuedCertificate};
use crate::record::{audit_log, facts};
use crate::spec::ApiServers;
use crate::yaml_text::to_yaml;

/// Between two requests to `/readyz`, which offers no watch.
const RETRY_DELAY: Duration = Duration::from_millis(50);

/// The user name of the lab in its own cluster.
const LAB_USER: &str = "lab";
/// The lab's own kubeconfig in its folder, for the programs that it runs and for tests.
pub(crate) const KUBECONFIG: &str = "lab.kubeconfig";

/// The controller manager and the scheduler.
#[derive(Debug)]
struct Managers {
    address: IpAddr,
    daemons: Vec<Daemon>,
}

/// The node that the virtual IP leads to.
#[derive(Debug)]
struct VipForward {
    address: IpAddr,
    /// Ends with this value.
    _forward: PortForward,
}

/// The Kubernetes programs of a lab.
#[derive(Debug, Default)]
pub(super) struct KubernetesPrograms {
    /// By the address of the node.
    api_servers: BTreeMap<IpAddr, Daemon>,
    /// On the node that was up first.
    managers: Option<Managers>,
    vip: Option<VipForward>,
}

impl KubernetesPrograms {
    pub(super) fn into_daemons(self) -> Vec<Daemon> {
        let managers = self.managers.into_iter().flat_map(|managers| managers.daemons);
        self.api_servers.into_values().chain(managers).collect()
    }
}

impl ControlPlane {
    /// Starts Kubernetes on this machine. If another one was first: an API server only, or a forward to the other's.
    pub(crate) async fn start_kubernetes(
        &self,
        host: ControlPlaneHost<'_>,
        config: &Arc<AppliedConfig>,
    ) -> Result<(), ControlPlaneError> {
        let mut kubernetes = self.kubernetes.lock().await;
        let own = self.listen_address(host.address, self.api_port);
        let first = kubernetes.managers.as_ref().map(|managers| managers.address);
        if let Some(first) = first.filter(|_| self.api_servers == ApiServers::One) {
            let forward = self.forward(own, first).await?;
            self.forwards.lock().await.insert(host.address, forward);
            return Ok(());
        }
        let began = Instant::now();
        let setup = Setup::write(self, host, config).await?;
        kubernetes.api_servers.insert(host.address, setup.start_api_server(self, host, config).await?);
        if first.is_some() {
            return Ok(());
        }
        kubernetes.managers = Some(Managers { address: host.address, daemons: vec![] });
        self.forward_vip(&mut kubernetes, host.address).await?;
        drop(kubernetes);
        setup.write_lab_kubeconfig(self, host)?;
        let client = connect(own, host, &setup).await?;
        self.recorder.record_fact(facts::API_READY, began, [facts::etcd_healthy(host.name)]);
        // They exit if the API rejects them, as it does before it is ready. A kubelet would restart them.
        let daemons =
            [setup.start_controller_manager(self, host, config).await?, setup.start_scheduler(self, host).await?];
        if let Some(managers) = &mut self.kubernetes.lock().await.managers {
            managers.daemons.extend(daemons);
        }
        self.client.send_replace(Some(client));
        Ok(())
    }

    async fn forward(&self, from: SocketAddr, to: IpAddr) -> Result<PortForward, ControlPlaneError> {
        let to = self.listen_address(to, self.api_port);
        PortForward::start(from, to).await.map_err(|source| ControlPlaneError::Forward { from, source })
    }

    /// Leads the virtual IP to a machine, unless it leads to one already.
    async fn forward_vip(&self, kubernetes: &mut KubernetesPrograms, address: IpAddr) -> Result<(), ControlPlaneError> {
        if let Some(vip) = self.vip.filter(|_| kubernetes.vip.is_none()) {
            let forward = self.forward(self.listen_address(vip.ip(), vip.port()), address).await?;
            kubernetes.vip = Some(VipForward { address, _forward: forward });
            self.vip_holder.send_replace(Some(address));
        }
        Ok(())
    }

    /// Ends the programs of a machine. Another one with an API server takes over the virtual IP.
    pub(super) async fn stop_kubernetes(&self, host: ControlPlaneHost<'_>) {
        let mut kubernetes = self.kubernetes.lock().await;
        let mut ended: Vec<Daemon> = kubernetes.api_servers.remove(&host.address).into_iter().collect();
        if let Some(managers) = kubernetes.managers.take_if(|managers| managers.address == host.address) {
            self.client.send_replace(None);
            ended.extend(managers.daemons);
        }
        let had_vip = kubernetes.vip.take_if(|vip| vip.address == host.address).is_some();
        if had_vip {
            self.vip_holder.send_replace(None);
        }
        stop_all(ended).await;
        let successor = kubernetes.api_servers.keys().next().copied();
        if let Some(successor) = successor.filter(|_| had_vip)
            && let Err(error) = self.forward_vip(&mut kubernetes, successor).await
        {
            tracing::error!(error = %ErrorReport::new(&error), "no control plane took over the virtual IP");
        }
    }
}

/// Waits until the API server is ready.
async fn connect(
    address: SocketAddr,
    host: ControlPlaneHost<'_>,
    setup: &Setup,
) -> Result<kube::Client, ControlPlaneError> {
    let mut access = kube::Config::new(format!("https://{address}").parse()?);
    access.root_cert = Some(vec![pem::parse(&setup.authority)?.into_contents()]);
    access.tls_server_name = Some(host.address.to_string());
    access.auth_info.client_certificate_data = Some(STANDARD.encode(&setup.lab_user.certificate));
    access.auth_info.client_key_data = Some(STANDARD.encode(&setup.lab_user.key).into());
    let client = kube::Client::try_from(access)?;
    loop {
        let request = http::Request::get("/readyz").body(Vec::new())?;
        if client.request_text(request).await.is_ok() {
            return Ok(client);
        }
        tokio::time::sleep(RETRY_DELAY).await;
    }
}

/// The files of the control plane on one machine.
struct Setup {
    files: ProgramFiles,
    etcd: super::etcd::MemberAccess,
    /// The Kubernetes CA, as PEM.
    authority: String,
    lab_user: IssuedCertificate,
    server: String,
}

impl Setup {
    async fn write(
        control_plane: &ControlPlane,
        host: ControlPlaneHost<'_>,
        config: &AppliedConfig,
    ) -> Result<Self, ControlPlaneError> {
        let etcd = control_plane.member_access(host).await?;
        let files = ProgramFiles::create(control_plane.folder.join("kubernetes").join(host.address.to_string()))?;
        let read_authority = |name: &'static str, pair: &PemPair| {
            CertificateAuthority::from_pem(&pair.certificate, &pair.key)
                .map_err(|source| ControlPlaneError::Authority { authority: name, node: host.name.to_owned(), source })
        };
        let authority = read_authority("Kubernetes", &config.kubernetes_ca)?;
        let front_proxy = read_authority("aggregator", &config.aggregator_ca)?;
        files.write("ca.crt", &authority.certificate)?;
        files.write("ca.key", &config.kubernetes_ca.key)?;
        files.write("front-proxy-ca.crt", &front_proxy.certificate)?;
        files.write("service-account.key", &config.service_account_key)?;
        let sans = control_plane.api_server_sans(host, config);
        files.issue(&authority, "apiserver", &server_subject("kube-apiserver", sans.addresses, sans.dns_names))?;
        let masters = Some("system:masters");
        files.issue(&authority, "kubelet-client", &client_subject("apiserver-kubelet-client", masters))?;
        files.issue(&front_proxy, "front-proxy-client", &client_subject("front-proxy-client", None))?;
        let lab_user = authority.issue(&client_subject(LAB_USER, masters))?;
        let server = format!("https://{}", control_plane.listen_address(host.address, control_plane.api_port));
        let setup = Self { files, etcd, authority: authority.certificate.clone(), lab_user, server };
        for name in ["kube-controller-manager", "kube-scheduler"] {
            let leaf = authority.issue(&client_subject(&format!("system:{name}"), None))?;
            setup.files.write(&format!("{name}.kubeconfig"), &setup.kubeconfig(&leaf, host))?;
        }
        setup.write_encryption_config(config)?;
        setup.write_admission_config(config)?;
        setup.write_egress_config(&control_plane.folder)?;
        setup.write_audit_policy()?;
        Ok(setup)
    }

    fn kubeconfig(&self, client: &IssuedCertificate, host: ControlPlaneHost<'_>) -> String {
        kubeconfig::to_text(&Kubeconfig {
            cluster: "lab",
            server: &self.server,
            tls_server_name: Some(&host.address.to_string()),
            authority: &self.authority,
            client,
        })
    }

    fn write_lab_kubeconfig(
        &self,
        control_plane: &ControlPlane,
        host: ControlPlaneHost<'_>,
    ) -> Result<(), ControlPlaneError> {
        let folder = ProgramFiles::create(control_plane.folder.clone())?;
        folder.write(KUBECONFIG, &self.kubeconfig(&self.lab_user, host))
    }

    /// Secrets are encrypted at rest with the config's key, as on Talos.
    fn write_encryption_config(&self, config: &AppliedConfig) -> Result<(), ControlPlaneError> {
        let mut providers = vec![];
        if let Some(key) = &config.secretbox_key {
            providers.push(json!({"secretbox": {"keys": [{"name": "key2", "secret": key}]}}));
        }
        providers.push(json!({"identity": {}}));
        let encryption = json!({
            "apiVersion": "apiserver.config.k8s.io/v1", "kind": "EncryptionConfiguration",
            "resources": [{"resources": ["secrets"], "providers": providers}],
        });
        self.files.write("encryption.yaml", &to_yaml(&encryption))
    }

    fn write_admission_config(&self, config: &AppliedConfig) -> Result<(), ControlPlaneError> {
        let admission = json!({
            "apiVersion": "apiserver.config.k8s.io/v1", "kind": "AdmissionConfiguration",
            "plugins": config.admission_control,
        });
        self.files.write("admission.yaml", &to_yaml(&admission))
    }

    /// Every connection into the cluster goes to the lab, since pods have no network.
    fn write_egress_config(&self, folder: &Path) -> Result<(), ControlPlaneError> {
        let selection = json!({
            "apiVersion": "apiserver.k8s.io/v1beta1", "kind": "EgressSelectorConfiguration",
            "egressSelections": [{"name": "cluster", "connection": {
                "proxyProtocol": "HTTPConnect",
                "transport": {"uds": {"udsName": folder.join(network::SOCKET)}},
            }}],
        });
        self.files.write("egress.yaml", &to_yaml(&selection))
    }

    /// Requests are logged without bodies, except those of the cluster's own components and of the lab.
    fn write_audit_policy(&self) -> Result<(), ControlPlaneError> {
        let own = ["system:apiserver", "system:kube-controller-manager", "system:kube-scheduler", LAB_USER];
        let policy = json!({
            "apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["ResponseStarted", "ResponseComplete"],
            "rules": [
                {"level": "None", "users": own},
                {"level": "None", "userGroups": ["system:serviceaccounts"]},
                {"level": "Metadata"},
            ],
        });
        self.files.write("audit-policy.yaml", &to_yaml(&policy))
    }

    async fn start_api_server(
        &self,
        control_plane: &ControlPlane,
        host: ControlPlaneHost<'_>,
        config: &AppliedConfig,
    ) -> Result<Daemon, ControlPlaneError> {
        let (file, etcd) = (|name: &str| self.files.path(name), |name: &str| self.etcd.files.path(name));
        let bind_address = control_plane.addresses.dialled(host.address).to_string();
        let audit_log = control_plane.folder.join(audit_log::FILE_NAME).display().to_string();
        let mut command = program(&control_plane.programs.apiserver)
            .args(["--advertise-address", &host.address.to_string(), "--bind-address", &bind_address])
            .args(["--secure-port", &control_plane.api_port.to_string()])
            .args(["--etcd-servers", &self.etcd.endpoint, "--etcd-cafile", &etcd("ca.crt")])
            .args(["--etcd-certfile", &etcd("client.crt"), "--etcd-keyfile", &etcd("client.key")])
            .args(["--client-ca-file", &file("ca.crt"), "--authorization-mode", "Node,RBAC"])
            .args(["--tls-cert-file", &file("apiserver.crt"), "--tls-private-key-file", &file("apiserver.key")])
            .args(["--kubelet-client-certificate", &file("kubelet-client.crt")])
            .args(["--kubelet-client-key", &file("kubelet-client.key")])
            .args(["--proxy-client-cert-file", &file("front-proxy-client.crt")])
            .args(["--proxy-client-key-file", &file("front-proxy-client.key")])
            .args(["--requestheader-client-ca-file", &file("front-proxy-ca.crt")])
            .args(["--requestheader-allowed-names", "front-proxy-client"])
            .args(["--requestheader-extra-headers-prefix", "X-Remote-Extra-"])
            .args(["--requestheader-group-headers", "X-Remote-Group"])
            .args(["--requestheader-username-headers", "X-Remote-User"])
            .args(["--service-account-issuer", &config.endpoint, "--api-audiences", &config.endpoint])
            .args(["--service-account-key-file", &file("service-account.key")])
            .args(["--service-account-signing-key-file", &file("service-account.key")])
            .args(["--service-cluster-ip-range", &config.service_subnets.join(",")])
            .args(["--encryption-provider-config", &file("encryption.yaml")])
            .args(["--egress-selector-config-file", &file("egress.yaml")])
            .args(["--audit-policy-file", &file("audit-policy.yaml"), "--audit-log-path", &audit_log])
            .args(["--enable-admission-plugins", "NodeRestriction", "--allow-privileged=true"])
            .args(["--anonymous-auth=false", "--enable-bootstrap-token-auth=true", "--profiling=false"]);
        if !config.admission_control.is_empty() {
            command = command.args(["--admission-control-config-file", &file("admission.yaml")]);
        }
        self.start(command, host, "kube-apiserver").await
    }

    async fn start_controller_manager(
        &self,
        control_plane: &ControlPlane,
        host: ControlPlaneHost<'_>,
        config: &AppliedConfig,
    ) -> Result<Daemon, ControlPlaneError> {
        let file = |name: &str| self.files.path(name);
        let command = program(&control_plane.programs.controller_manager)
            .args(["--allocate-node-cidrs=true", "--cluster-cidr", &config.pod_subnets.join(",")])
            .args(["--service-cluster-ip-range", &config.service_subnets.join(",")])
            .args(config.node_cidr_mask_flags.iter())
            .args(["--cluster-signing-cert-file", &file("ca.crt"), "--cluster-signing-key-file", &file("ca.key")])
            .args(["--root-ca-file", &file("ca.crt"), "--use-service-account-credentials=true"])
            .args(["--service-account-private-key-file", &file("service-account.key")])
            .args(["--controllers", "*,tokencleaner"]);
        self.start_manager(command, control_plane, host, "kube-controller-manager").await
    }

    async fn start_scheduler(
        &self,
        control_plane: &ControlPlane,
        host: ControlPlaneHost<'_>,
    ) -> Result<Daemon, ControlPlaneError> {
        let command = program(&control_plane.programs.scheduler);
        self.start_manager(command, control_plane, host, "kube-scheduler").await
    }

    async fn start_manager(
        &self,
        command: Command,
        control_plane: &ControlPlane,
        host: ControlPlaneHost<'_>,
        name: &'static str,
    ) -> Result<Daemon, ControlPlaneError> {
        let kubeconfig = self.files.path(&format!("{name}.kubeconfig"));
        let bind_address = control_plane.addresses.dialled(host.address).to_string();
        let command = command
            .args(["--kubeconfig", &kubeconfig, "--authentication-kubeconfig", &kubeconfig])
            .args(["--authorization-kubeconfig", &kubeconfig, "--bind-address", &bind_address])
            .args(["--leader-elect=false", "--profiling=false"]);
        self.start(command, host, name).await
    }

    async fn start(
        &self,
        command: Command,
        host: ControlPlaneHost<'_>,
        name: &'static str,
    ) -> Result<Daemon, ControlPlaneError> {
        let log = self.files.folder().join(format!("{name}.log"));
        command.spawn_daemon(&log).await.map_err(|source| ControlPlaneError::Start {
            program: name,
            node: host.name.to_owned(),
            source,
        })
    }
}

/// The subject alternative names of a certificate.
struct SubjectAltNames {
    addresses: Vec<IpAddr>,
    dns_names: Vec<String>,
}

impl ControlPlane {
    /// The API server is reached at every name and address that Talos puts into its certificate.
    fn api_server_sans(&self, host: ControlPlaneHost<'_>, config: &AppliedConfig) -> SubjectAltNames {
        let mut addresses: Vec<IpAddr> = self.addresses.iter().map(|(declared, _)| declared).collect();
        addresses.push(Ipv4Addr::LOCALHOST.into());
        addresses.extend(self.vip.map(|vip| vip.ip()));
        let first_service = config.service_subnets.first().and_then(|subnet| subnet.parse::<ipnet::IpNet>().ok());
        addresses.extend(first_service.and_then(|subnet| subnet.hosts().next()));
        let mut dns_names: Vec<String> = [
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "kubernetes.default.svc.cluster.local",
            "localhost",
        ]
        .map(str::to_owned)
        .to_vec();
        dns_names.push(hostname(config, host).to_owned());
        // Talos adds the endpoint's host by itself (`KubernetesCertSANsController`).
        let endpoint = endpoint_host(&config.endpoint);
        for san in config.api_server_sans.iter().map(String::as_str).chain([endpoint]) {
            match san.parse() {
                Ok(address) => addresses.push(address),
                Err(_) => dns_names.push(san.to_owned()),
            }
        }
        addresses.sort();
        addresses.dedup();
        SubjectAltNames { addresses, dns_names }
    }
}
