//! Turns to reboot: control planes first, and then as the inventory lists them. A turn is needed for every reboot on a
//! living cluster, and it decides whether its node may reboot.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::sync::{Mutex, MutexGuard, PoisonError};

use talos_config::{InventoryNode, Role};
use tokio::sync::{Semaphore, SemaphorePermit, watch};

use super::decision::{ClusterState, RebootLimit, RebootWait, may_reboot};

/// The place of a node: the smallest goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    rank: u8,
    index: usize,
}

/// The turns of a run.
#[derive(Debug)]
pub struct Turns {
    /// The nodes that may have to reboot and have had no turn yet.
    queue: watch::Sender<BTreeSet<Place>>,
    /// A control plane takes every permit, a worker one.
    permits: Semaphore,
    max_unavailable: NonZeroU32,
    limit: Mutex<RebootLimit>,
}

impl Turns {
    /// `max_unavailable`: how many nodes may be down while a worker reboots, itself included.
    pub fn new(max_unavailable: NonZeroU32) -> Self {
        let most = usize::try_from(max_unavailable.get()).unwrap_or(usize::MAX);
        Self {
            queue: watch::Sender::new(BTreeSet::new()),
            permits: Semaphore::new(most.min(Semaphore::MAX_PERMITS)),
            max_unavailable,
            limit: Mutex::new(RebootLimit { max_unavailable: most, allowed: BTreeSet::new() }),
        }
    }

    /// Takes a node's place in the queue, until the returned value is dropped.
    pub fn join<'t>(&'t self, inventory: &[InventoryNode], node: &'t InventoryNode) -> QueuedNode<'t> {
        let rank = match node.role {
            Role::ControlPlane => 0,
            Role::Worker => 1,
        };
        let index = inventory.iter().position(|other| other.hostname == node.hostname).unwrap_or(inventory.len());
        let place = Place { rank, index };
        self.queue.send_modify(|places| {
            places.insert(place);
        });
        QueuedNode { turns: self, place, node }
    }

    fn limit(&self) -> MutexGuard<'_, RebootLimit> {
        self.limit.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A node's place in the queue.
#[derive(Debug)]
pub struct QueuedNode<'t> {
    turns: &'t Turns,
    place: Place,
    node: &'t InventoryNode,
}

impl<'t> QueuedNode<'t> {
    /// Returns once no node is before this one and its turn is free.
    pub async fn into_turn(self) -> RebootTurn<'t> {
        // The queue owns the sender, so this only ever waits.
        let _ = self.turns.queue.subscribe().wait_for(|places| places.first() == Some(&self.place)).await;
        let permits = match self.node.role {
            Role::ControlPlane => self.turns.max_unavailable.get(),
            Role::Worker => 1,
        };
        #[expect(clippy::expect_used, reason = "the semaphore is never closed")]
        let permit = self.turns.permits.acquire_many(permits).await.expect("the semaphore is open");
        RebootTurn { turns: self.turns, node: self.node, _permit: permit }
    }
}

impl Drop for QueuedNode<'_> {
    fn drop(&mut self) {
        self.turns.queue.send_modify(|places| {
            places.remove(&self.place);
        });
    }
}

/// A node's turn. It ends when this is dropped.
#[derive(Debug)]
pub struct RebootTurn<'t> {
    turns: &'t Turns,
    node: &'t InventoryNode,
    _permit: SemaphorePermit<'t>,
}

impl RebootTurn<'_> {
    /// Whether the node may reboot in the cluster as it was seen. A node that may counts as down for the others, from this
    /// moment until its turn ends or it is asked again and may not.
    ///
    /// # Errors
    ///
    /// Why it must not.
    pub fn may_reboot(&self, cluster: &ClusterState) -> Result<(), RebootWait> {
        let name = &self.node.hostname;
        let mut limit = self.turns.limit();
        let decision = may_reboot(name, self.node.role, cluster, &limit);
        if decision.is_ok() {
            limit.allowed.insert(name.clone());
        } else {
            limit.allowed.remove(name);
        }
        decision
    }
}

impl Drop for RebootTurn<'_> {
    fn drop(&mut self) {
        self.turns.limit().allowed.remove(&self.node.hostname);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::super::cordons::Cordon;
    use super::super::decision::{EtcdState, Health, OtherNode};
    use super::*;

    fn node(name: &str, role: Role) -> InventoryNode {
        InventoryNode {
            hostname: name.to_owned(),
            address: std::net::IpAddr::from([10, 0, 0, 1]),
            role,
            at: yaml::Location {
                origin: yaml::Origin::new("talconfig.yaml"),
                position: yaml::Position { line: 1, column: 1 },
            },
        }
    }

    /// Turns of which `max_unavailable` may be had at once.
    fn turns(max_unavailable: u32) -> Turns {
        Turns::new(NonZeroU32::new(max_unavailable).unwrap())
    }

    #[test]
    fn control_planes_come_first_and_then_the_order_of_the_inventory() {
        let nodes = [node("w", Role::Worker), node("b", Role::ControlPlane), node("c", Role::ControlPlane)];
        let turns = turns(2);
        let [mut worker, mut first, mut second] =
            [0, 1, 2].map(|index: usize| Box::pin(turns.join(&nodes, &nodes[index]).into_turn()));
        assert!(second.as_mut().now_or_never().is_none() && worker.as_mut().now_or_never().is_none());
        let turn = first.as_mut().now_or_never().unwrap();
        assert!(second.as_mut().now_or_never().is_none(), "two control planes have their turn");
        drop((turn, first));
        let turn = second.as_mut().now_or_never().unwrap();
        assert!(worker.as_mut().now_or_never().is_none(), "a worker has its turn beside a control plane");
        drop((turn, second));
        assert!(worker.as_mut().now_or_never().is_some());
    }

    /// The cluster around a worker; the others that are named are dead.
    fn around(name: &str, dead: &[&str]) -> ClusterState {
        let other = |other: &str| OtherNode {
            name: other.to_owned(),
            role: Role::Worker,
            health: if dead.contains(&other) { Health::Down("NotReady".to_owned()) } else { Health::Up },
            cordon: Cordon::None,
        };
        let others = ["w1", "w2", "w3"].into_iter().filter(|other| *other != name).map(other).collect();
        ClusterState { etcd: EtcdState::default(), others, health: Health::Up }
    }

    #[test]
    fn a_worker_that_may_reboot_counts_as_down_although_it_still_looks_healthy() {
        let nodes = ["w1", "w2", "w3"].map(|name| node(name, Role::Worker));
        let turns = turns(2);
        let turn = |index: usize| turns.join(&nodes, &nodes[index]).into_turn().now_or_never().unwrap();
        let (first, second) = (turn(0), turn(1));
        // w3 is dead, so one more may be down.
        let (around_first, around_second) = (around("w1", &["w3"]), around("w2", &["w3"]));
        assert_eq!(first.may_reboot(&around_first), Ok(()));
        let refused = second.may_reboot(&around_second).unwrap_err();
        assert_eq!(refused.text, "2 of at most 2 nodes are down: w1 (about to reboot); w3 (NotReady)");
        // It is asked again after its drain.
        assert_eq!(first.may_reboot(&around_first), Ok(()));
        drop(first);
        assert_eq!(second.may_reboot(&around_second), Ok(()));
    }

    #[test]
    fn a_node_that_dies_meanwhile_blocks_one_of_two_workers_and_not_both() {
        let nodes = ["w1", "w2", "w3"].map(|name| node(name, Role::Worker));
        let turns = turns(2);
        let turn = |index: usize| turns.join(&nodes, &nodes[index]).into_turn().now_or_never().unwrap();
        let (first, second) = (turn(0), turn(1));
        assert_eq!(first.may_reboot(&around("w1", &[])), Ok(()));
        assert_eq!(second.may_reboot(&around("w2", &[])), Ok(()));
        // w3 dies while both are drained.
        assert!(first.may_reboot(&around("w1", &["w3"])).is_err());
        assert_eq!(second.may_reboot(&around("w2", &["w3"])), Ok(()));
    }
}
