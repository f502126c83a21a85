//! One node of a running cluster: what it reports, and what it is ordered to do.

use retry::policies::{NOT_READY, USUAL_BOOT};
use talos_client::{
    Client, ClientError, ClientErrorKind, EventsSince, LogMode, NodeConnections, RebootMode, Stage, Tail,
    UpgradeOutcome,
};
use talos_config::InventoryNode;

use super::{NodeAccess, OpsError, Target, Workspace, find_node, node_access};

/// Receives lines of a log, or events.
pub type Print<'p> = &'p (dyn Fn(&str) + Send + Sync);

/// A node, connected.
#[derive(Debug)]
pub struct NodeSession {
    access: NodeAccess,
    pub node: InventoryNode,
    pub client: Client,
}

/// Whether an operation returns before the node is back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterReboot {
    /// Return when the node has booted again and runs.
    Wait,
    /// Return when the node has accepted the order.
    Return,
}

impl NodeSession {
    /// Connects to a node of a cluster, by its hostname or address.
    ///
    /// # Errors
    ///
    /// Mistakes in the files, an unknown node, a node that does not respond.
    pub async fn connect(workspace: &Workspace, cluster: &str, target: &Target, node: &str) -> Result<Self, OpsError> {
        let access = node_access(workspace, cluster, target).await?;
        let node = find_node(&access.cluster, node)?.clone();
        let client = Client::connect(&access.dialer, node.address, &access.identity).await?;
        Ok(Self { access, node, client })
    }

    /// Prints the log of a service.
    ///
    /// # Errors
    ///
    /// A failed call.
    pub async fn log(&self, service: &str, tail: Tail, mode: LogMode, print: Print<'_>) -> Result<(), OpsError> {
        let mut lines = self.client.log(service, tail, mode).await?;
        while let Some(line) = lines.next().await? {
            print(&line);
        }
        Ok(())
    }

    /// Prints the kernel's log.
    ///
    /// # Errors
    ///
    /// A failed call.
    pub async fn kernel_log(&self, mode: LogMode, print: Print<'_>) -> Result<(), OpsError> {
        let mut lines = self.client.kernel_log(mode).await?;
        while let Some(line) = lines.next().await? {
            print(&line);
        }
        Ok(())
    }

    /// Prints events until the operation is dropped, over reboots: a node forgets its events when it reboots, so after one all that it has
    /// are printed.
    ///
    /// # Errors
    ///
    /// A failed call that a new connection does not solve.
    pub async fn events(&self, workspace: &Workspace, print: Print<'_>) -> Result<(), OpsError> {
        let (mut client, mut boot) = (self.client.clone(), self.client.boot_id().await?);
        let mut since = EventsSince::Everything;
        loop {
            match print_events(&client, &mut since, print).await {
                Ok(()) => {}
                Err(error) if error.kind == ClientErrorKind::Unavailable => {
                    workspace.note(&format!("{}: {}; connecting again", self.node.hostname, error.reason));
                }
                Err(error) => return Err(error.into()),
            }
            let reconnected = self.reconnect().await?;
            if reconnected.boot != boot {
                since = EventsSince::Everything;
            }
            (client, boot) = (reconnected.client, reconnected.boot);
        }
    }

    /// Reboots the node.
    ///
    /// # Errors
    ///
    /// A failed call.
    pub async fn reboot(&self, workspace: &Workspace, mode: RebootMode, after: AfterReboot) -> Result<(), OpsError> {
        let boot = self.client.boot_id().await?;
        self.client.reboot(mode).await?;
        self.wait_rebooted(workspace, &boot, after).await
    }

    /// Installs the Talos of an installer image, and reboots.
    ///
    /// # Errors
    ///
    /// A failed call.
    pub async fn upgrade(&self, workspace: &Workspace, image: &str, after: AfterReboot) -> Result<(), OpsError> {
        let boot = self.client.boot_id().await?;
        let progress = |line: &str| workspace.note(line);
        if self.client.upgrade(image, &progress).await? == UpgradeOutcome::NeedsReboot {
            self.client.reboot(RebootMode::Default).await?;
        }
        self.wait_rebooted(workspace, &boot, after).await
    }

    /// Boots the Talos that ran before the last upgrade.
    ///
    /// # Errors
    ///
    /// A failed call.
    pub async fn rollback(&self, workspace: &Workspace, after: AfterReboot) -> Result<(), OpsError> {
        let boot = self.client.boot_id().await?;
        self.client.rollback().await?;
        self.wait_rebooted(workspace, &boot, after).await
    }

    /// Waits until the node has booted again and runs.
    async fn wait_rebooted(&self, workspace: &Workspace, boot: &str, after: AfterReboot) -> Result<(), OpsError> {
        if after == AfterReboot::Return {
            return Ok(());
        }
        workspace.note(&format!("{}: waiting until it is back", self.node.hostname));
        loop {
            let Connected { client, boot: now } = self.reconnect().await?;
            // The old boot's connection ends with that boot, and a node may go down once more on its way up.
            let runs = client.watch_status(|status| now != boot && status.stage == Stage::Running).await.is_ok();
            if runs && let Ok(version) = client.version().await {
                workspace.note(&format!("{}: back with Talos {version}", self.node.hostname));
                return Ok(());
            }
        }
    }

    /// Connects until the node responds.
    async fn reconnect(&self) -> Result<Connected, OpsError> {
        let connections = NodeConnections::new(self.access.dialer.clone(), self.access.identity.clone());
        let mut looks = NOT_READY.backoff();
        loop {
            match connections.client(self.node.address, USUAL_BOOT).await {
                Ok(client) => {
                    if let Ok(boot) = client.boot_id().await {
                        return Ok(Connected { client, boot });
                    }
                    looks.wait().await;
                }
                Err(error) if error.kind != ClientErrorKind::Unavailable => return Err(error.into()),
                Err(_) => connections.due(self.node.address).await,
            }
        }
    }
}

struct Connected {
    client: Client,
    /// The id of the boot that the connection is to.
    boot: String,
}

/// Prints events until the stream ends, remembering the last one.
async fn print_events(client: &Client, since: &mut EventsSince, print: Print<'_>) -> Result<(), ClientError> {
    let mut events = client.events(since, None).await?;
    while let Some(event) = events.next().await? {
        print(&event.what.to_string());
        *since = EventsSince::After(event.id);
    }
    Ok(())
}
