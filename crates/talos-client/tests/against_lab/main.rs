//! The client against simulated machines of each Talos version: every call at least once.
#![allow(clippy::unwrap_used, unreachable_pub, dead_code)]

#[path = "../../../lab/tests/node/cluster.rs"]
mod cluster;
mod life;
mod mistakes;
#[path = "../../../lab/tests/node/test_lab.rs"]
mod test_lab;

use std::net::IpAddr;

use net::{AddressMap, Dialer};
use talos_client::{Client, ClientErrorKind, ClientIdentity, Maintenance, Stage, connect_delays};
use test_lab::{NAMES, TestLab};

/// Connection attempts before a test fails.
const CONNECT_ATTEMPTS: usize = 600;

/// Simulated machines with a dialer and an identity.
struct Site {
    test_lab: TestLab,
    dialer: Dialer,
    identity: ClientIdentity,
}

/// A client's identity for these roles.
fn identity(cluster: &cluster::Cluster, roles: &[&str]) -> ClientIdentity {
    let client = cluster.client(roles);
    ClientIdentity {
        ca_pem: cluster.machine.certificate.clone(),
        certificate_pem: client.certificate,
        key_pem: client.key.into(),
    }
}

impl Site {
    async fn start(talos: &str) -> Self {
        let test_lab = TestLab::start(talos, "").await;
        let declared = NAMES.map(|name| test_lab.address(name).parse::<IpAddr>().unwrap());
        let identity = identity(&test_lab.cluster, &["os:admin"]);
        Self { dialer: Dialer::lab(AddressMap::loopback(declared)), test_lab, identity }
    }

    fn address(&self, name: &str) -> IpAddr {
        self.test_lab.address(name).parse().unwrap()
    }

    async fn maintenance(&self, name: &str) -> Maintenance {
        for pause in connect_delays().take(CONNECT_ATTEMPTS) {
            if let Ok(client) = Maintenance::connect(&self.dialer, self.address(name), None).await
                && client.machine_status().await.is_ok()
            {
                return client;
            }
            tokio::time::sleep(pause).await;
        }
        panic!("{name} is not in maintenance mode")
    }

    /// Waits until the machine runs its config. From 1.13 on it responds before the installation is complete.
    async fn configured(&self, name: &str) -> Client {
        let up = |stage| matches!(stage, Stage::Booting | Stage::Running);
        self.when(name, async |client: &Client| client.machine_status().await.is_ok_and(|status| up(status.stage)))
            .await
    }

    /// Reconnects until the predicate is true.
    async fn when(&self, name: &str, holds: impl AsyncFn(&Client) -> bool) -> Client {
        for pause in connect_delays().take(CONNECT_ATTEMPTS) {
            match Client::connect(&self.dialer, self.address(name), &self.identity).await {
                Ok(client) if holds(&client).await => return client,
                Ok(_) => {}
                Err(error) => {
                    assert!(matches!(error.kind, ClientErrorKind::Unavailable | ClientErrorKind::Untrusted), "{error}");
                }
            }
            tokio::time::sleep(pause).await;
        }
        panic!("what is waited for does not come about on {name}")
    }

    /// Applies the config and waits until the machine runs it.
    async fn configure(&self, name: &str) -> Client {
        let client = self.maintenance(name).await;
        client.apply_configuration(&self.test_lab.config(name)).await.unwrap();
        self.configured(name).await
    }
}
