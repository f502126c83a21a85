//! How the nodes of a lab find each other.

use std::sync::{Arc, OnceLock, Weak};

use super::SimulatedNode;

/// All nodes of a lab.
#[derive(Debug, Clone, Default)]
pub(crate) struct NodeDirectory(Arc<OnceLock<Vec<Weak<SimulatedNode>>>>);

impl NodeDirectory {
    /// Sets the nodes. Only the first call has an effect.
    pub(crate) fn register(&self, nodes: &[Arc<SimulatedNode>]) {
        self.0.get_or_init(|| nodes.iter().map(Arc::downgrade).collect());
    }

    pub(super) fn all(&self) -> Vec<Arc<SimulatedNode>> {
        self.0.get().into_iter().flatten().filter_map(Weak::upgrade).collect()
    }

    /// Finds a node by address or host name.
    pub(super) fn find(&self, target: &str) -> Option<Arc<SimulatedNode>> {
        self.all().into_iter().find(|node| node.is_addressed_by(target))
    }
}
