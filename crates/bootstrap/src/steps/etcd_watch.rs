//! What the control planes report of etcd by themselves: a subscription to the events of each, over its kept connection.
//!
//! The subscription begins before the log is read, so the log is read once per connection and nothing is missed after it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use talos_client::{Client, ClientError, EventsSince, LogMode, MachineEventDetail, MachineEvents, Tail};
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// Talos's event for an accepted bootstrap (1.11 to 1.14). The service is loaded again right after it, so its own history
/// does not have the event; the log of the daemon does, until the next boot.
const REQUESTED: &str = "Bootstrap requested";
const ETCD: &str = "etcd";
/// Lines of the log that are newer than any event that is still on its way.
const RECENT: u16 = 200;

/// The subscriptions of a run.
#[derive(Debug)]
pub(super) struct EtcdWatches {
    nodes: Mutex<BTreeMap<IpAddr, Arc<Slot>>>,
    /// How many changes each control plane has reported.
    changes: Arc<watch::Sender<Changes>>,
}

impl Default for EtcdWatches {
    fn default() -> Self {
        Self { nodes: Mutex::default(), changes: Arc::new(watch::Sender::new(Changes::default())) }
    }
}

type Slot = tokio::sync::Mutex<Option<Arc<WatchedNode>>>;

/// How many changes each control plane has reported in this run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Changes(BTreeMap<IpAddr, u64>);

impl Changes {
    pub(super) fn count(&self, node: IpAddr) -> u64 {
        self.0.get(&node).copied().unwrap_or_default()
    }
}

/// A control plane in one boot.
#[derive(Debug)]
pub(super) struct WatchedNode {
    pub(super) client: Client,
    /// The id of the boot that the connection is to.
    pub(super) boot: String,
    requested: Arc<AtomicBool>,
    ended: Arc<AtomicBool>,
    task: AbortHandle,
}

impl WatchedNode {
    /// Whether the node accepted a bootstrap in this boot.
    pub(super) fn is_requested(&self) -> bool {
        self.requested.load(Ordering::SeqCst)
    }

    /// Reads the end of the log as well, for the moment before a call: an event may still be on its way.
    pub(super) async fn confirm_requests(&self) -> Result<(), ClientError> {
        if is_logged(&self.client, Tail::Lines(RECENT)).await? {
            self.requested.store(true, Ordering::SeqCst);
        }
        Ok(())
    }

    fn is_watched(&self) -> bool {
        !self.ended.load(Ordering::SeqCst) && !self.client.is_lost()
    }
}

impl Drop for WatchedNode {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl EtcdWatches {
    /// The changes so far, and later ones as they happen.
    pub(super) fn changes(&self) -> watch::Receiver<Changes> {
        self.changes.subscribe()
    }

    /// A control plane over its kept connection, subscribed to.
    pub(super) async fn node(
        &self,
        address: IpAddr,
        connect: impl Future<Output = Result<Client, ClientError>>,
    ) -> Result<Arc<WatchedNode>, ClientError> {
        let slot = self.nodes.lock().unwrap_or_else(PoisonError::into_inner).entry(address).or_default().clone();
        let mut slot = slot.lock().await;
        if let Some(watched) = slot.as_ref().filter(|watched| watched.is_watched()) {
            return Ok(watched.clone());
        }
        *slot = None;
        let watched = Arc::new(self.subscribe(connect.await?, address).await?);
        *slot = Some(watched.clone());
        Ok(watched)
    }

    async fn subscribe(&self, client: Client, node: IpAddr) -> Result<WatchedNode, ClientError> {
        let events = client.events(&EventsSince::Now, None).await?;
        let (boot, is_logged) = tokio::try_join!(client.boot_id(), is_logged(&client, Tail::Everything))?;
        let (requested, ended) = (Arc::new(AtomicBool::new(is_logged)), Arc::new(AtomicBool::new(false)));
        let (sees, ends, changes) = (requested.clone(), ended.clone(), self.changes.clone());
        let task = tokio::spawn(async move {
            follow(events, |event| {
                if event == EtcdEvent::BootstrapRequested {
                    sees.store(true, Ordering::SeqCst);
                }
                changes.send_modify(|changes| *changes.0.entry(node).or_default() += 1);
            })
            .await;
            ends.store(true, Ordering::SeqCst);
            changes.send_modify(|changes| *changes.0.entry(node).or_default() += 1);
        });
        Ok(WatchedNode { client, boot, requested, ended, task: task.abort_handle() })
    }
}

/// An event that may change what etcd is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum EtcdEvent {
    BootstrapRequested,
    Other,
}

/// Reports events until the subscription ends.
async fn follow(mut events: MachineEvents, mut report: impl FnMut(EtcdEvent)) {
    while let Ok(Some(event)) = events.next().await {
        match event.what {
            MachineEventDetail::Service { id, message, .. } if id == ETCD && message.contains(REQUESTED) => {
                report(EtcdEvent::BootstrapRequested);
            }
            MachineEventDetail::Service { id, .. } if id == ETCD => report(EtcdEvent::Other),
            MachineEventDetail::Machine { .. } => report(EtcdEvent::Other),
            _ => {}
        }
    }
}

/// Whether the node's log has an accepted bootstrap.
async fn is_logged(client: &Client, tail: Tail) -> Result<bool, ClientError> {
    let log = client.log("machined", tail, LogMode::Existing).await?.collect().await?;
    Ok(log.iter().any(|line| line.contains("service[etcd]") && line.contains(REQUESTED)))
}
