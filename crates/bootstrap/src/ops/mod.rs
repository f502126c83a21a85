//! What each command does, without a terminal: options in, a typed result or a typed error out, progress through events
//! and notes.
//!
//! The lab is not used here: a command that works on a lab gets a [`LabAccess`] from its caller.

mod access;
mod bundle;
mod charts;
mod context;
mod error;
mod inputs;
mod options;
mod plan;
mod render;
mod run;
mod status;
mod workspace;

pub use access::{NodeAccess, find_node, node_access};
pub use bundle::{lab_bundle, open_bundle};
pub use charts::{charts, repository_charts};
pub use context::{Effects, run_context};
pub use error::{Hint, OpsError, ToolPurpose};
pub use inputs::{input_warnings, read_cluster, unused_patch_warnings};
pub use options::{LabAccess, RunOptions, SecretsMode, Target};
pub use plan::{PlanOptions, PlanReport, plan};
pub use render::{Comparison, RenderedNode, render};
pub use run::{FinishedRun, run};
pub use status::{ClusterHealth, HealthError, StatusReport, status};
pub use workspace::{Workspace, create_private_folder};
