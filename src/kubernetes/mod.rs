//! The Kubernetes API: who may dial where, server-side apply, readiness, gates.
//!
//! [`readiness`], [`covers`] and the digging for causes decide without I/O; gates watch and never poll where the API
//! offers a watch.

mod access;
mod apply;
mod cause;
mod covers;
mod error;
mod gate;
mod nodes;
mod objects;
mod readiness;
mod retry;
mod watch;

pub use access::{Access, AccessError, connect, from_kubeconfig, ready_server, readyz};
pub use apply::{ApplyOptions, apply, differences, dry_run_create, wait_admitted};
pub use covers::{Difference, covers};
pub use error::ApiError;
pub use gate::{GateError, missing_crds, wait_crds, wait_kind, wait_object, wait_ready};
pub use nodes::{NodeView, nodes, wait_nodes_ready, wait_registered};
pub use objects::{ObjectRef, delete, get, list, secrets};
pub use readiness::{Readiness, readiness};

/// Tells in one line what is being waited for and why.
pub type Tell<'t> = dyn Fn(&str) + Send + Sync + 't;
