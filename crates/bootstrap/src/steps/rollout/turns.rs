//! The order in which nodes take their turns: control planes first, and then as the inventory lists them.

use std::collections::BTreeSet;

use talos_config::{InventoryNode, Role};
use tokio::sync::watch;

use super::super::context::RunContext;

/// The place of a node: the smallest goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    rank: u8,
    index: usize,
}

/// The nodes that may have to reboot and have had no turn yet.
#[derive(Debug)]
pub(super) struct Queue(watch::Sender<BTreeSet<Place>>);

impl Default for Queue {
    fn default() -> Self {
        Self(watch::Sender::new(BTreeSet::new()))
    }
}

impl Queue {
    /// Takes a place, until the returned value is dropped.
    pub(super) fn join<'q>(&'q self, context: &RunContext, node: &InventoryNode) -> QueuedNode<'q> {
        let nodes = &context.cluster.inventory.nodes;
        let index = nodes.iter().position(|other| other.hostname == node.hostname).unwrap_or(nodes.len());
        self.join_at(node.role, index)
    }

    fn join_at(&self, role: Role, index: usize) -> QueuedNode<'_> {
        let rank = match role {
            Role::ControlPlane => 0,
            Role::Worker => 1,
        };
        let place = Place { rank, index };
        self.0.send_modify(|places| {
            places.insert(place);
        });
        QueuedNode { queue: self, place }
    }
}

/// A node's place in the queue.
#[derive(Debug)]
pub(super) struct QueuedNode<'q> {
    queue: &'q Queue,
    place: Place,
}

impl QueuedNode<'_> {
    /// Returns once no node is before this one.
    pub(super) async fn until_next(&self) {
        // The queue owns the sender, so this only ever waits.
        let _ = self.queue.0.subscribe().wait_for(|places| places.first() == Some(&self.place)).await;
    }
}

impl Drop for QueuedNode<'_> {
    fn drop(&mut self) {
        self.queue.0.send_modify(|places| {
            places.remove(&self.place);
        });
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn control_planes_come_first_and_then_the_order_of_the_inventory() {
        let queue = Queue::default();
        let worker = queue.join_at(Role::Worker, 0);
        assert!(worker.until_next().now_or_never().is_some());
        let second = queue.join_at(Role::ControlPlane, 2);
        let first = queue.join_at(Role::ControlPlane, 1);
        assert!(first.until_next().now_or_never().is_some());
        assert!(second.until_next().now_or_never().is_none() && worker.until_next().now_or_never().is_none());
        drop(first);
        assert!(second.until_next().now_or_never().is_some());
        drop(second);
        assert!(worker.until_next().now_or_never().is_some());
    }
}
