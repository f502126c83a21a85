//! The Kubernetes API: connections, server-side apply, readiness, watches, wait reasons.
//!
//! Every request is retried for about a minute while the API is away, as it is when static pods restart, and every watch
//! survives that. Decisions (`drift`, `readiness`, `cause`) are pure and apart from the requests.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod access;
mod apply;
mod cause;
mod certificate_requests;
mod condition;
mod config_map;
mod conversion;
mod discovery;
mod drain;
mod drift;
mod error;
mod gate;
mod gate_error;
mod installed;
mod lease;
mod managed_fields;
mod manifest;
mod nodes;
mod object_ref;
mod objects;
mod quantity;
mod readiness;
mod sample;
mod served;
mod wait;
mod wait_all;
mod watch;

pub use access::{Access, AccessError, ReadyzError, connect, from_kubeconfig, ready_server, readyz};
pub use apply::{ApplyOptions, ObjectDrift, apply, dry_run_create, object_drifts, wait_admitted};
pub use certificate_requests::pending_serving_requests;
pub use condition::wait_condition;
pub use config_map::{config_map, set_config_map_key};
pub use conversion::{ServiceName, conversion_failure, converted_by, wait_converted};
pub use discovery::serves;
pub use drain::{CORDONED, DrainError, cordon, drain, uncordon};
pub use drift::{DriftKind, FieldDrift, find_drift};
pub use error::{ApiError, ApiErrorKind, Ownership};
pub use gate::{ExplainPull, wait_ready, wait_ready_explained};
pub use gate_error::GateError;
pub use installed::{InstalledObject, InstalledState, installed_objects};
pub use lease::{
    ClusterLease, ExpiredLease, HolderProcess, LeaseDecision, LeaseError, LeaseRecord, LeaseRequest, LeaseSighting,
    LeaseTerms, Renewal, decide_lease,
};
pub use nodes::{ExpectedNodes, NodeView, Scheduling, nodes, wait_nodes_ready, wait_registered};
pub use object_ref::ObjectRef;
pub use objects::{all_secrets, cluster_uid, delete, get, list, secrets};
pub use readiness::{Readiness, readiness, reported_failure};
pub use served::wait_crds;
pub use wait::{Progress, UnpulledImage, WaitCause, WaitReason};
pub use wait_all::wait_all;
