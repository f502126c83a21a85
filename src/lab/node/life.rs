//! A machine's life, from power-on to power-off.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::serve::serve;
use super::{Node, Stage, boot_id, tls};
use crate::lab::kubelet;
use crate::lab::machine::{MachineConfig, Role};

/// Between an accepted call that takes the machine down and the closing of its port: the answer still gets out.
const LAST_WORDS: Duration = Duration::from_millis(30);

impl Node {
    /// Lives until the lab ends.
    pub(in crate::lab) async fn live(self: Arc<Self>) -> Result<(), String> {
        let config = self.clone().maintenance().await?;
        self.clone().install(&config).await;
        loop {
            Box::pin(self.clone().configured(&config)).await?;
            self.go_down(&config).await;
        }
    }

    async fn maintenance(self: Arc<Self>) -> Result<Arc<MachineConfig>, String> {
        self.stage(Stage::Maintenance);
        let down = CancellationToken::new();
        let server = serve(self.clone(), tls::maintenance(&self)?, down.clone());
        let mut state = self.state.subscribe();
        let configured = async {
            // The sender lives in this very node, so the wait cannot fail.
            let config =
                state.wait_for(|state| state.config.is_some()).await.ok().and_then(|state| state.config.clone());
            tokio::time::sleep(LAST_WORDS).await;
            down.cancel();
            config
        };
        let served = async { server.await.map_err(|error| format!("{}: cannot serve: {error}", self.name())) };
        let ((), config) = tokio::try_join!(served, async { Ok(configured.await) })?;
        config.ok_or_else(|| format!("{}: no config", self.name()))
    }

    async fn install(self: Arc<Self>, _config: &MachineConfig) {
        let began = Instant::now();
        self.stage(Stage::Installing);
        tokio::time::sleep(self.world.scenario.install.duration()).await;
        self.world.recorder.fact(format!("node/{}/installed", self.name()), began, []);
        self.stage(Stage::Rebooting);
    }

    async fn configured(self: Arc<Self>, config: &Arc<MachineConfig>) -> Result<(), String> {
        let began = Instant::now();
        tokio::time::sleep(self.world.scenario.boot.duration()).await;
        self.state.send_modify(|state| {
            state.stage = Stage::Booting;
            state.boot_id = boot_id();
            state.services.clear();
        });
        for service in ["machined", "apid", "containerd", "cri", "kubelet"] {
            self.service(service, "Running", "Started");
            self.service_health(service, true, "");
        }
        let signer = match config.role {
            Role::ControlPlane => {
                self.service("trustd", "Running", "Started");
                self.service_health("trustd", true, "");
                self.world.control_plane.trust(&config.ca);
                config.ca.clone()
            }
            Role::Worker => self.world.control_plane.signer(&config.ca.certificate).await,
        };
        let cause = format!("node/{}/installed", self.name());
        self.world.recorder.fact(format!("node/{}/booted", self.name()), began, [cause]);
        let down = CancellationToken::new();
        let server = serve(self.clone(), tls::configured(&self, config, &signer)?, down.clone());
        let work = async {
            tokio::select! {
                () = self.reboot.notified() => tokio::time::sleep(LAST_WORDS).await,
                () = self.work(config) => {}
            }
            down.cancel();
        };
        let served = async { server.await.map_err(|error| format!("{}: cannot serve: {error}", self.name())) };
        tokio::try_join!(served, async {
            work.await;
            Ok(())
        })?;
        Ok(())
    }

    /// What a machine does besides answering; never ends by itself.
    async fn work(&self, config: &Arc<MachineConfig>) {
        let own = async {
            match config.role {
                Role::Worker => self.stage(Stage::Running),
                Role::ControlPlane => self.etcd(config).await,
            }
        };
        tokio::join!(own, kubelet::run(self, config));
    }

    async fn etcd(&self, config: &Arc<MachineConfig>) {
        let control_plane = &self.world.control_plane;
        if !control_plane.has_data(self) {
            self.service("etcd", "Preparing", "Running pre state");
            self.service_health("etcd", false, "waiting for bootstrap");
        }
        if let Err(reason) = control_plane.join_etcd(self, config).await {
            self.service("etcd", "Failed", &reason);
            tracing::error!(node = self.name(), %reason, "etcd failed");
            return;
        }
        self.service("etcd", "Running", "Started task etcd");
        self.service_health("etcd", true, "");
        self.stage(Stage::Running);
        if let Err(reason) = control_plane.start_kubernetes(self, config).await {
            tracing::error!(node = self.name(), %reason, "the control plane failed");
        }
    }

    async fn go_down(&self, config: &MachineConfig) {
        self.state.send_modify(|state| {
            state.stage = Stage::Rebooting;
            state.registered = false;
            state.node_ready = false;
        });
        if config.role == Role::ControlPlane {
            self.world.control_plane.stop(self).await;
        }
    }
}
