//! The Kubernetes API: who may dial where, server-side apply, readiness, watches, root causes.
//!
//! Every request is sent again for about a minute while the API is away, as it is when static pods are started anew, and
//! every watch goes on when it is back. What decides is pure (`covers`, `readiness`, the search for a cause) and apart
//! from the requests.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod access;
mod apply;
mod cause;
mod condition;
mod conversion;
mod covers;
mod discovery;
mod error;
mod gate;
mod kind;
mod manifest;
mod nodes;
mod objects;
mod quantity;
mod readiness;
mod sample;
mod served;
mod watch;

pub use access::{Access, AccessError, connect, from_kubeconfig, ready_server, readyz};
pub use apply::{ApplyOptions, Deviation, apply, differences, dry_run_create, wait_admitted};
pub use cause::Unpulled;
pub use condition::wait_condition;
pub use conversion::{ServiceName, conversion_trouble, converted_by, wait_converted};
pub use covers::{Difference, How, covers};
pub use discovery::serves;
pub use error::{ApiError, ApiErrorKind, Ownership};
pub use gate::{Explain, GateError, wait_ready, wait_ready_explained};
pub use kind::wait_all;
pub use nodes::{NodeView, nodes, wait_nodes_ready, wait_registered};
pub use objects::{ObjectRef, delete, get, list, secrets};
pub use readiness::{Readiness, readiness};
pub use served::wait_crds;
