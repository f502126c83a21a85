//! What each command does, without a terminal: options in, a typed result or a typed error out, progress through events
//! and notes.
//!
//! The lab is not used here: a command that works on a lab gets a [`LabAccess`] from its caller.

mod access;
mod charts;
mod context;
mod create_bundle;
mod error;
mod etcd;
mod inputs;
mod kubeconfig;
mod machine_config;
mod node;
mod options;
mod plan;
mod releases;
mod render;
mod run;
mod secret_sources;
mod secrets_bundle;
mod status;
mod store;
mod workspace;

pub use access::{NodeAccess, find_node, node_access};
pub use charts::{charts, repository_charts};
pub use context::{Effects, run_context};
pub use create_bundle::{CreatedBundle, create_bundle};
pub use error::{Hint, OpsError};
pub use etcd::{MemberReport, MemberRole, MemberState, etcd_disarm, etcd_snapshot, etcd_status};
pub use inputs::{input_warnings, read_cluster};
pub use kubeconfig::merge_kubeconfig;
pub use machine_config::{
    GenerateRequest, GeneratedFile, NamedText, PatchArguments, Strictness, generate_machine_configs, generate_secrets,
    in_workspace, patch_machine_config, validate_machine_config,
};
pub use node::{AfterReboot, NodeSession, Print};
pub use options::{LabAccess, RunOptions, SecretsMode, Target};
pub use plan::{LeftRelease, PlanOptions, PlanReport, plan};
pub use releases::{ReleaseQuery, release_manifests, releases};
pub use render::{Comparison, RenderedNode, render};
pub use run::{FinishedRun, run};
pub use secrets_bundle::{lab_bundle, open_bundle};
pub use status::{ClusterHealth, HealthError, StatusReport, status};
pub use workspace::{Workspace, create_private_folder};
