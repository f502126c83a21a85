//! A machine's life, from power-on to power-off, and on to the next power-on.

use std::sync::Arc;
use std::time::Instant;

use futures::FutureExt;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::access::Mode;
use super::port::serve;
use super::sequence::{After, Order, Sequence, task_event};
use super::{Node, Recovery, Stage, Unattended, random_id, tls};
use crate::kubelet;
use crate::machine::{MachineConfig, Pair, Role};
use talos_proto::machine::{sequence_event, task_event};

/// What ends maintenance mode.
enum Left {
    Configured(Arc<MachineConfig>),
    Ordered(Order),
}

impl Node {
    /// Lives until the lab ends.
    pub(crate) async fn live(self: Arc<Self>) -> Result<(), String> {
        let mut switched_on = Instant::now();
        loop {
            let after = Box::pin(self.clone().session(switched_on)).await?;
            switched_on = Instant::now();
            self.world.control_plane.stop(&self).await;
            self.change(|state| {
                state.registered = false;
                state.node_ready = false;
                state.services.clear();
            });
            match after {
                After::Rebooting => self.boot().await,
                After::Off => std::future::pending().await,
            }
        }
    }

    /// From power-on to power-off.
    async fn session(self: Arc<Self>, switched_on: Instant) -> Result<After, String> {
        self.tell_named_sequence("initialize", sequence_event::Action::Start, "");
        self.stage(Stage::Booting);
        let kept = self.state.borrow().disk.config.clone();
        let config = match kept {
            Some(config) => config,
            None => match self.clone().maintenance().await? {
                Left::Configured(config) => config,
                Left::Ordered(order) => return Ok(self.carry_out(&order, None).await),
            },
        };
        self.change(|state| state.config = Some(config.clone()));
        if self.state.borrow().disk.installed.is_none() {
            return Box::pin(self.install(&config)).await;
        }
        Box::pin(self.configured(&config, switched_on)).await
    }

    async fn boot(&self) {
        self.stage(Stage::Rebooting);
        tokio::time::sleep(self.world.scenario.boot.duration()).await;
        self.events.forget();
        self.logs.forget();
        self.ordered.send_replace(None);
        self.drop_trial();
        // A Bootstrap call that etcd had not begun with is forgotten.
        let _ = self.bootstrap.notified().now_or_never();
        *self.recovery.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = None;
        self.change(|state| {
            if let Some(talos) = state.disk.staged.take() {
                state.disk.install(talos);
            }
            state.talos = state.disk.installed.clone().unwrap_or_else(|| self.world.talos.clone());
            state.config = None;
            state.partial = None;
            state.unattended = None;
            state.boot_id = random_id();
            state.booted_at = Timestamp::now();
        });
    }

    async fn maintenance(self: Arc<Self>) -> Result<Left, String> {
        self.events.tell("", &task_event("runningMaintenance", task_event::Action::Start));
        self.stage(Stage::Maintenance);
        if self.talos().one_server() {
            for id in ["machined", "syslogd", "udevd", "containerd", "apid"] {
                self.start_service(id);
            }
        }
        let mut state = self.state.subscribe();
        let left = async {
            tokio::select! {
                // The sender lives in this very node, so the wait cannot fail.
                Ok(state) = state.wait_for(|state| state.config.is_some()) => state.config.clone().map(Left::Configured),
                order = self.next_order() => Some(Left::Ordered(order)),
            }
        };
        let left = self.serve_while(tls::maintenance(&self)?, Mode::Maintenance, left).await?;
        self.events.tell("", &task_event("runningMaintenance", task_event::Action::Stop));
        left.ok_or_else(|| format!("{}: no config", self.name()))
    }

    /// Keeps the port open until the work is done.
    async fn serve_while<T>(
        self: &Arc<Self>,
        tls: rustls::ServerConfig,
        mode: Mode,
        work: impl Future<Output = T>,
    ) -> Result<T, String> {
        let down = CancellationToken::new();
        let server = serve(self.clone(), tls, mode, down.clone());
        let served = async { server.await.map_err(|error| format!("{}: cannot serve: {error}", self.name())) };
        let work = async {
            let done = work.await;
            down.cancel();
            Ok(done)
        };
        tokio::try_join!(served, work).map(|((), done)| done)
    }

    /// From an accepted config to the reboot into the installed system.
    async fn install(self: Arc<Self>, config: &Arc<MachineConfig>) -> Result<After, String> {
        let began = Instant::now();
        let talos = self.talos();
        let unattended = talos.installs_unattended() && config.unattended_install;
        let installed = async {
            if unattended {
                self.change(|state| {
                    state.stage = Stage::Booting;
                    state.unattended = Some(Unattended::Installing);
                });
                tokio::time::sleep(self.world.scenario.install.duration()).await;
                self.change(|state| {
                    state.disk.install(talos.clone());
                    state.unattended = Some(Unattended::WaitingForReboot);
                });
                let order = Order { what: Sequence::Reboot { force: false }, actor: String::new() };
                self.carry_out(&order, None).await
            } else {
                let order = Order { what: Sequence::Install(talos.clone()), actor: String::new() };
                self.carry_out(&order, None).await
            }
        };
        let after = if talos.one_server() {
            Box::pin(self.clone().work_behind_port(config, installed)).await?
        } else {
            installed.await
        };
        self.world.recorder.fact(format!("node/{}/installed", self.name()), began, []);
        Ok(after)
    }

    /// Does the work, with the port open as soon as somebody has signed the machine's certificate.
    async fn work_behind_port<T>(
        self: Arc<Self>,
        config: &Arc<MachineConfig>,
        work: impl Future<Output = T>,
    ) -> Result<T, String> {
        let mut work = std::pin::pin!(work);
        let signer = tokio::select! {
            signer = self.signer(config) => signer,
            done = &mut work => return Ok(done),
        };
        self.serve_while(tls::configured(&self, config, &signer)?, Mode::Configured, work).await
    }

    async fn signer(&self, config: &MachineConfig) -> Pair {
        match config.role {
            Role::ControlPlane => config.ca.clone(),
            Role::Worker => self.world.control_plane.signer(&config.ca.certificate).await,
        }
    }

    async fn configured(self: Arc<Self>, config: &Arc<MachineConfig>, switched_on: Instant) -> Result<After, String> {
        self.tell_named_sequence("initialize", sequence_event::Action::Stop, "");
        self.tell_named_sequence("boot", sequence_event::Action::Start, "");
        self.change(|state| {
            state.stage = Stage::Booting;
            if config.unattended_install && state.talos.installs_unattended() {
                state.unattended = Some(Unattended::Installed);
            }
        });
        self.start_services(config.role);
        self.note_images(config);
        if config.role == Role::ControlPlane {
            self.world.control_plane.trust(&config.ca);
        }
        let signer = tokio::select! {
            signer = self.signer(config) => signer,
            order = self.next_order() => return Ok(self.carry_out(&order, Some(config)).await),
        };
        let cause = format!("node/{}/installed", self.name());
        self.world.recorder.fact(format!("node/{}/booted", self.name()), switched_on, [cause]);
        let work = async {
            let order = tokio::select! {
                order = self.next_order() => order,
                order = self.work(config) => order,
            };
            self.carry_out(&order, Some(config)).await
        };
        Box::pin(self.serve_while(tls::configured(&self, config, &signer)?, Mode::Configured, work)).await
    }

    /// What a machine does besides answering; never ends by itself.
    async fn work(&self, config: &Arc<MachineConfig>) -> Order {
        let own = async {
            match config.role {
                Role::Worker => self.booted(),
                Role::ControlPlane => self.etcd(config).await,
            }
        };
        tokio::join!(own, kubelet::run(self, config));
        std::future::pending().await
    }

    fn booted(&self) {
        self.tell_named_sequence("boot", sequence_event::Action::Stop, "");
        self.stage(Stage::Running);
    }

    async fn etcd(&self, config: &Arc<MachineConfig>) {
        let control_plane = &self.world.control_plane;
        self.service("etcd", "Starting", "Starting service");
        self.service("etcd", "Preparing", "Running pre state");
        if !control_plane.has_data(self) {
            self.service_health("etcd", false, "waiting for bootstrap");
        }
        if let Err(reason) = control_plane.join_etcd(self, config).await {
            self.service("etcd", "Failed", &reason);
            tracing::error!(node = self.name(), %reason, "etcd failed");
            return;
        }
        self.service("etcd", "Running", "Started task etcd");
        self.service_health("etcd", true, "");
        self.booted();
        if let Err(reason) = control_plane.start_kubernetes(self, config).await {
            tracing::error!(node = self.name(), %reason, "the control plane failed");
        }
    }

    /// An accepted Bootstrap call: etcd leaves its waiting and begins.
    pub(super) fn begin_etcd(&self, recovery: Option<Recovery>) {
        *self.recovery.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = recovery;
        self.service("etcd", "Finished", "Bootstrap requested");
        self.service("etcd", "Preparing", "Running pre state");
        self.bootstrap.notify_one();
    }

    /// How the Bootstrap call that was accepted wants etcd to begin.
    pub(crate) fn take_recovery(&self) -> Option<Recovery> {
        self.recovery.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take()
    }
}
