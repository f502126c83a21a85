//! The Kubernetes API: who may dial where, readiness, watches.

mod access;
mod nodes;

pub use access::{Access, AccessError, connect, readyz};
pub use nodes::{NodeView, nodes, wait_registered};
