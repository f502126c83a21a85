//! The views of the control planes during a wait. A node is asked when it reports a change, when it responds again, and
//! otherwise as rarely as [`ETCD_LOOK`] says.

use std::time::Duration;

use futures::future::join_all;
use retry::policies::{ETCD_LOOK, EVENT_SPACING, NOT_READY};
use talos_config::InventoryNode;
use tokio::sync::watch;
use tokio::time::Instant;

use super::super::context::RunContext;
use super::super::etcd_watch::Changes;
use super::decision::{State, View};
use super::reconnect::reconnected;
use super::survey::{RequestsFrom, look};

/// The newest view of each control plane.
pub(super) struct Looks<'c> {
    context: &'c RunContext,
    changes: watch::Receiver<Changes>,
    seen: Vec<Seen<'c>>,
}

/// A control plane and what it was when it was last asked.
struct Seen<'c> {
    node: &'c InventoryNode,
    view: View,
    /// The changes that it had reported by then.
    changes: u64,
    at: Instant,
    link: LinkState,
}

/// Whether a node accepted the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LinkState {
    Open,
    Closed,
}

/// How long a view stays. One that could not be read is read again soon, if the node accepts connections at all.
fn lasts(state: &State, link: LinkState) -> Duration {
    match (state, link) {
        (State::Unknown { .. }, LinkState::Open) => NOT_READY.longest,
        _ => ETCD_LOOK,
    }
}

impl Seen<'_> {
    fn due(&self) -> Instant {
        self.at + lasts(&self.view.state, self.link)
    }
}

impl<'c> Looks<'c> {
    /// Asks every control plane.
    pub(super) async fn new(context: &'c RunContext) -> Self {
        let changes = context.etcd_watches.changes();
        let nodes = context.control_planes();
        let seen = join_all(nodes.into_iter().map(|node| ask(context, node, &changes))).await;
        Self { context, changes, seen }
    }

    pub(super) fn views(&self) -> Vec<View> {
        self.seen.iter().map(|seen| seen.view.clone()).collect()
    }

    /// Waits until a control plane may have changed, and asks it. Nothing is lost when this is dropped.
    pub(super) async fn renew(&mut self) {
        let now = Instant::now();
        let earliest = self.seen.iter().map(|seen| seen.at).max().unwrap_or(now) + EVENT_SPACING;
        let due = self.seen.iter().map(Seen::due).min().unwrap_or(now + ETCD_LOOK);
        let closed: Vec<_> =
            self.seen.iter().filter(|seen| seen.link == LinkState::Closed).map(|seen| seen.node).collect();
        tokio::select! {
            // The sender lives as long as the run.
            _ = self.changes.changed() => {}
            () = reconnected(self.context, &closed) => {}
            () = tokio::time::sleep_until(due) => {}
        }
        tokio::time::sleep_until(earliest).await;
        let now = Instant::now();
        let changes = self.changes.borrow_and_update().clone();
        let is_stale = |seen: &Seen<'_>| {
            seen.link == LinkState::Closed || seen.due() <= now || changes.count(seen.node.address) != seen.changes
        };
        let stale: Vec<_> = self.seen.iter().filter(|seen| is_stale(seen)).map(|seen| seen.node).collect();
        let renewed = join_all(stale.into_iter().map(|node| ask(self.context, node, &self.changes))).await;
        for new in renewed {
            if let Some(old) = self.seen.iter_mut().find(|old| old.node.address == new.node.address) {
                *old = new;
            }
        }
    }
}

async fn ask<'c>(context: &'c RunContext, node: &'c InventoryNode, changes: &watch::Receiver<Changes>) -> Seen<'c> {
    let changes = changes.borrow().count(node.address);
    let view = look(context, node, RequestsFrom::Events).await;
    let link = if context.connections.is_connected(node.address).await { LinkState::Open } else { LinkState::Closed };
    Seen { node, view, changes, at: Instant::now(), link }
}

#[cfg(test)]
mod tests {
    use super::super::decision::{Etcd, Facts};
    use super::*;

    #[test]
    fn a_healthy_control_plane_is_asked_less_than_once_a_second() {
        let facts = Facts {
            boot: "a".to_owned(),
            etcd: Etcd::Waiting { message: String::new() },
            requested: false,
            data: false,
            blocked: None,
        };
        // A look takes at most five calls.
        assert!(lasts(&State::Known(facts), LinkState::Open) >= Duration::from_secs(5));
        let unknown = State::Unknown { reason: "starting".to_owned() };
        assert_eq!(lasts(&unknown, LinkState::Open), Duration::from_secs(1));
        // It is dialled as often as its connection allows, which wakes this wait.
        assert_eq!(lasts(&unknown, LinkState::Closed), ETCD_LOOK);
    }
}
