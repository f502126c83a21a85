//! The machines of a lab as they find each other.

use std::sync::{Arc, OnceLock, Weak};

use super::Node;

/// All machines of a lab, once they exist.
#[derive(Debug, Clone, Default)]
pub(crate) struct Neighbours(Arc<OnceLock<Vec<Weak<Node>>>>);

impl Neighbours {
    /// Says who they are; the first call counts.
    pub(crate) fn settle(&self, nodes: &[Arc<Node>]) {
        self.0.get_or_init(|| nodes.iter().map(Arc::downgrade).collect());
    }

    pub(super) fn all(&self) -> Vec<Arc<Node>> {
        self.0.get().into_iter().flatten().filter_map(Weak::upgrade).collect()
    }

    /// By address or hostname.
    pub(super) fn find(&self, target: &str) -> Option<Arc<Node>> {
        self.all().into_iter().find(|node| node.is_called(target))
    }
}
