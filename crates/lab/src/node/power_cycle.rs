//! A machine from power-on to power-off, and on to the next power-on.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use error_report::ErrorReport;
use jiff::Timestamp;
use talos_proto::machine::{sequence_event, task_event};
use tokio_util::sync::CancellationToken;

use super::access::ApiMode;
use super::kubelet_start::StaticPods;
use super::port::{reset_connections, serve};
use super::sequence::{NodeSequence, PowerState, RebootMode, SequenceRequest, task_event};
use super::services::{HealthCheck, ServiceState};
use super::{NodeError, NodeStage, PORT, SimulatedNode, UnattendedInstall, registration, tls};
use crate::control_plane::{PeerRoute, SnapshotRecovery, StartedMember};
use crate::machine_config::{AppliedConfig, NodeRole, PemPair};
use crate::record::facts;

/// Why the service that waits to join ends when etcd is bootstrapped.
const CANCELLED: &str = "Failed to run pre stage: failed to build initial etcd cluster: failed to build cluster \
                         arguments: context canceled";

/// Who signs a machine's certificate.
struct CertificateSigner {
    authority: PemPair,
    /// How a worker found a control plane.
    route: Option<PeerRoute>,
}

/// What etcd waits for while it has no address to advertise.
const ETCD_SPEC: &str = "Waiting for etcd spec";

/// What ends maintenance mode.
enum MaintenanceExit {
    Configured(Arc<AppliedConfig>),
    Sequence(SequenceRequest),
}

impl SimulatedNode {
    /// Runs until the lab ends.
    pub(crate) async fn run(self: Arc<Self>) -> Result<(), NodeError> {
        let mut powered_on_at = Instant::now();
        loop {
            let power = Box::pin(self.clone().run_session(powered_on_at)).await?;
            powered_on_at = Instant::now();
            self.lab.control_plane.stop(self.host()).await;
            self.change(|state| {
                state.registered = false;
                state.node_ready = false;
                state.services.clear();
                state.static_pods = StaticPods::default();
            });
            match power {
                PowerState::Reboots => self.reboot().await,
                PowerState::Off => std::future::pending().await,
            }
        }
    }

    /// From power-on to power-off.
    async fn run_session(self: Arc<Self>, powered_on_at: Instant) -> Result<PowerState, NodeError> {
        self.publish_named_sequence("initialize", sequence_event::Action::Start, "");
        self.set_stage(NodeStage::Booting);
        let stored = self.state.borrow().disk.config.clone();
        let config = match stored {
            Some(config) => config,
            None => match self.clone().run_maintenance().await? {
                MaintenanceExit::Configured(config) => config,
                MaintenanceExit::Sequence(request) => return Ok(self.run_sequence(&request, None).await),
            },
        };
        self.change(|state| state.config = Some(config.clone()));
        if self.state.borrow().disk.installed.is_none() {
            return Box::pin(self.install(&config)).await;
        }
        Box::pin(self.run_configured(&config, powered_on_at)).await
    }

    async fn reboot(&self) {
        self.set_stage(NodeStage::Rebooting);
        if let Some(downtime) = self.take_downtime() {
            tokio::select! {
                () = reset_connections(self) => {}
                () = tokio::time::sleep(downtime) => {}
            }
        }
        tokio::time::sleep(self.lab.scenario.boot.duration()).await;
        self.events.clear();
        self.logs.clear();
        self.requested_sequence.send_replace(None);
        self.cancel_trial();
        self.bootstrap.reset();
        self.change(|state| {
            if let Some(talos) = state.disk.staged.take() {
                state.disk.install(talos);
            }
            state.talos = state.disk.installed.clone().unwrap_or_else(|| self.lab.talos.clone());
            state.config = None;
            state.partial = None;
            state.unattended = None;
            state.boot_id = self.boot_ids.uuid();
            state.booted_at = Timestamp::now();
        });
    }

    async fn run_maintenance(self: Arc<Self>) -> Result<MaintenanceExit, NodeError> {
        self.events.publish("", &task_event("runningMaintenance", task_event::Action::Start));
        self.set_stage(NodeStage::Maintenance);
        if self.talos().has_full_maintenance_api() {
            for id in ["machined", "syslogd", "udevd", "containerd", "apid"] {
                self.start_service(id);
            }
        }
        let exit = async {
            tokio::select! {
                config = self.accepted_config() => MaintenanceExit::Configured(config),
                request = self.next_sequence() => MaintenanceExit::Sequence(request),
            }
        };
        let exit = self.serve_while(tls::maintenance(&self)?, ApiMode::Maintenance, exit).await?;
        self.events.publish("", &task_event("runningMaintenance", task_event::Action::Stop));
        Ok(exit)
    }

    /// Waits for a complete config.
    async fn accepted_config(&self) -> Arc<AppliedConfig> {
        let mut state = self.state.subscribe();
        loop {
            if let Some(config) = state.borrow_and_update().config.clone() {
                return config;
            }
            // `self` owns the sender, so this only ever waits.
            let _ = state.changed().await;
        }
    }

    /// Serves the API until `work` is done.
    async fn serve_while<T>(
        self: &Arc<Self>,
        tls: rustls::ServerConfig,
        mode: ApiMode,
        work: impl Future<Output = T>,
    ) -> Result<T, NodeError> {
        let down = CancellationToken::new();
        let server = serve(self.clone(), tls, mode, down.clone());
        let address = SocketAddr::new(self.listen_address(), PORT);
        let served = async { server.await.map_err(|source| NodeError::Serve { address, source }) };
        let work = async {
            let done = work.await;
            down.cancel();
            Ok(done)
        };
        tokio::try_join!(served, work).map(|((), done)| done)
    }

    /// From an accepted config to the reboot into the installed system.
    async fn install(self: Arc<Self>, config: &Arc<AppliedConfig>) -> Result<PowerState, NodeError> {
        let began = Instant::now();
        let talos = self.talos();
        let is_unattended = talos.installs_unattended() && config.unattended_install;
        let installed = async {
            let sequence = if is_unattended {
                self.change(|state| {
                    state.stage = NodeStage::Booting;
                    state.unattended = Some(UnattendedInstall::Installing);
                });
                tokio::time::sleep(self.lab.scenario.install.duration()).await;
                self.change(|state| {
                    state.disk.install(talos.clone());
                    state.unattended = Some(UnattendedInstall::WaitingForReboot);
                });
                NodeSequence::Reboot(RebootMode::Default)
            } else {
                NodeSequence::Install(talos.clone())
            };
            self.run_sequence(&SequenceRequest { sequence, actor: String::new() }, None).await
        };
        let power = if talos.has_full_maintenance_api() {
            Box::pin(self.clone().serve_once_signed(config, installed)).await?
        } else {
            installed.await
        };
        self.lab.recorder.record_fact(facts::node_installed(self.name()), began, []);
        Ok(power)
    }

    /// Does the work and serves the API meanwhile, as soon as the machine's certificate is signed.
    async fn serve_once_signed<T>(
        self: Arc<Self>,
        config: &Arc<AppliedConfig>,
        work: impl Future<Output = T>,
    ) -> Result<T, NodeError> {
        let mut work = std::pin::pin!(work);
        let signer = tokio::select! {
            signer = self.signer(config) => signer,
            done = &mut work => return Ok(done),
        };
        let certificate = tls::CurrentCertificate::issue(&self, config, &signer.authority)?;
        self.serve_while(tls::configured(config, certificate)?, ApiMode::Configured, work).await
    }

    /// The machine CA with its key. A worker finds one on a control plane only.
    async fn signer(&self, config: &AppliedConfig) -> CertificateSigner {
        match config.role {
            NodeRole::ControlPlane => CertificateSigner { authority: config.ca.clone(), route: None },
            NodeRole::Worker => {
                let route = self.lab.control_plane.find_control_planes(config).await;
                let authority = self.lab.control_plane.signer(&config.ca.certificate).await;
                CertificateSigner { authority, route: Some(route) }
            }
        }
    }

    async fn run_configured(
        self: Arc<Self>,
        config: &Arc<AppliedConfig>,
        powered_on_at: Instant,
    ) -> Result<PowerState, NodeError> {
        self.publish_named_sequence("initialize", sequence_event::Action::Stop, "");
        self.publish_named_sequence("boot", sequence_event::Action::Start, "");
        self.change(|state| {
            state.stage = NodeStage::Booting;
            if config.unattended_install && state.talos.installs_unattended() {
                state.unattended = Some(UnattendedInstall::Installed);
            }
        });
        self.start_services(config.role);
        self.add_boot_images(config);
        if config.role == NodeRole::ControlPlane {
            self.lab.control_plane.add_signer(&config.ca);
        }
        let signer = tokio::select! {
            signer = self.signer(config) => signer,
            request = self.next_sequence() => return Ok(self.run_sequence(&request, Some(config)).await),
        };
        let waited_for = signer.route.and_then(PeerRoute::cause);
        // What the machine waited for counts, and not how long.
        let began = if waited_for.is_some() { Instant::now() } else { powered_on_at };
        let causes = std::iter::once(facts::node_installed(self.name())).chain(waited_for);
        self.lab.recorder.record_fact(facts::node_booted(self.name()), began, causes);
        let certificate = tls::CurrentCertificate::issue(&self, config, &signer.authority)?;
        let work = async {
            let request = tokio::select! {
                request = self.next_sequence() => request,
                request = self.run_workloads(config) => request,
                request = self.renew_certificate(&certificate, config, &signer.authority) => request,
            };
            self.run_sequence(&request, Some(config)).await
        };
        Box::pin(self.serve_while(tls::configured(config, certificate.clone())?, ApiMode::Configured, work)).await
    }

    /// Issues the certificate anew whenever the machine gets or loses the virtual IP. Never ends by itself.
    async fn renew_certificate(
        &self,
        certificate: &tls::CurrentCertificate,
        config: &AppliedConfig,
        signer: &PemPair,
    ) -> SequenceRequest {
        let mut holder = self.lab.control_plane.vip_holder();
        let mut had_vip = false;
        loop {
            let has_vip = *holder.borrow_and_update() == Some(self.address());
            if has_vip != had_vip {
                had_vip = has_vip;
                if let Err(error) = certificate.reissue(self, config, signer) {
                    self.log("apid", &format!("failed to issue a certificate: {}", ErrorReport::new(&error)));
                }
            }
            // The control plane owns the sender and outlives every machine, so this only ever waits.
            let _ = holder.changed().await;
        }
    }

    /// Runs etcd, Kubernetes and the kubelet. Never ends by itself.
    async fn run_workloads(&self, config: &Arc<AppliedConfig>) -> SequenceRequest {
        let own = async {
            match config.role {
                NodeRole::Worker => self.finish_boot(),
                NodeRole::ControlPlane => self.run_control_plane(config).await,
            }
        };
        let registered = async {
            self.kubelet_runs().await;
            registration::run(self, config).await;
        };
        tokio::join!(own, registered, self.run_kubelet_fault());
        std::future::pending().await
    }

    fn finish_boot(&self) {
        self.publish_named_sequence("boot", sequence_event::Action::Stop, "");
        self.set_stage(NodeStage::Running);
    }

    async fn run_control_plane(&self, config: &Arc<AppliedConfig>) {
        let control_plane = &self.lab.control_plane;
        self.start_etcd_service(config).await;
        let started = match control_plane.start_etcd(self.host(), config, &self.bootstrap).await {
            Ok(started) => started,
            Err(error) => {
                self.set_service_state("etcd", ServiceState::Failed, &ErrorReport::new(&error).to_string());
                tracing::error!(node = self.name(), error = %ErrorReport::new(&error), "etcd failed");
                return;
            }
        };
        self.set_service_state("etcd", ServiceState::Preparing, "Creating service runner");
        let message = format!("Started task etcd (PID {}) for container etcd", self.next_pid());
        self.set_service_state("etcd", ServiceState::Running, &message);
        let first_check = Instant::now() + self.lab.scenario.etcd.health_check.duration();
        if started.is_learner() {
            tokio::join!(self.wait_for_vote(started), self.wait_for_healthy_etcd(first_check));
        } else {
            self.wait_for_vote(started).await;
            self.wait_for_healthy_etcd(first_check).await;
        }
        self.finish_boot();
        self.start_static_pods().await;
        if let Err(error) = control_plane.start_kubernetes(self.host(), config).await {
            tracing::error!(node = self.name(), error = %ErrorReport::new(&error), "Kubernetes failed to start");
        }
    }

    /// Returns once etcd has all that it starts with. A config may bring it while the machine runs.
    async fn start_etcd_service(&self, config: &AppliedConfig) {
        self.set_service_state("etcd", ServiceState::Starting, "Starting service");
        if !self.advertises_etcd(config) {
            self.set_service_state("etcd", ServiceState::Waiting, ETCD_SPEC);
            let mut state = self.state.subscribe();
            // `self` owns the sender, so this only ever waits.
            let has_spec = |config: &Arc<AppliedConfig>| self.advertises_etcd(config);
            let _ = state.wait_for(|state| state.config.as_ref().is_some_and(has_spec)).await;
        }
        self.set_service_state("etcd", ServiceState::Preparing, "Running pre state");
    }

    /// Talos only logs that a member gets no vote.
    async fn wait_for_vote(&self, started: StartedMember<'_>) {
        if let Err(error) = self.lab.control_plane.wait_for_vote(self.host(), started).await {
            self.log("machined", &format!("failed promoting member: {}", ErrorReport::new(&error)));
        }
    }

    /// Checks etcd's health as Talos does, until it is healthy.
    async fn wait_for_healthy_etcd(&self, first_check: Instant) {
        tokio::time::sleep_until(first_check.into()).await;
        while let Err(error) = self.lab.control_plane.check_etcd_health(self.host()).await {
            // Talos reports changes only.
            if !self.is_service_unhealthy("etcd") {
                self.set_service_health("etcd", HealthCheck::Failed(&ErrorReport::new(&error).to_string()));
            }
            tokio::time::sleep(self.lab.scenario.etcd.health_period.duration()).await;
        }
        self.set_service_health("etcd", HealthCheck::Passed);
    }

    /// Starts etcd on behalf of an accepted Bootstrap call. The waiting service is stopped, reports that it was requested,
    /// and is replaced by a new one without its history (Talos 1.11 to 1.14, `BootstrapEtcd`).
    pub(super) fn bootstrap_etcd(&self, recovery: Option<SnapshotRecovery>) {
        let waits_for_spec =
            self.state.borrow().services.get("etcd").is_some_and(|etcd| etcd.state == ServiceState::Waiting);
        let (cancelled, state, message) = if waits_for_spec {
            ("Condition failed: context canceled", ServiceState::Waiting, ETCD_SPEC)
        } else {
            (CANCELLED, ServiceState::Preparing, "Running pre state")
        };
        self.set_service_state("etcd", ServiceState::Failed, cancelled);
        self.set_service_state("etcd", ServiceState::Finished, "Bootstrap requested");
        self.change(|state| {
            state.services.remove("etcd");
        });
        self.set_service_state("etcd", ServiceState::Starting, "Starting service");
        self.set_service_state("etcd", state, message);
        self.bootstrap.accept(recovery);
    }
}
