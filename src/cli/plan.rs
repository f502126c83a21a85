//! `k8s-bootstrap plan CLUSTER`: what a run would do.

use bootstrap::ops::{self, PlanOptions, RunOptions};

use super::args::{Common, Output, PlanArgs};
use super::error::CommandError;
use super::exit::Exit;
use super::output;
use super::workspace::{LabFlag, target, workspace};
use crate::report::{plan_json, plan_text};

pub(super) async fn plan(common: &Common, args: PlanArgs) -> Result<Exit, CommandError> {
    let mut workspace = workspace(common);
    // A plan never waits for the operator.
    workspace.operator = None;
    let defaults = RunOptions::new(&args.cluster, target(&workspace, &args.cluster, LabFlag(args.lab))?);
    let options = RunOptions {
        secrets: args.secrets.map_or(defaults.secrets, Into::into),
        bundle: args.bundle.clone(),
        ..defaults
    };
    let depth = PlanOptions { query_cluster: args.detailed_exitcode, compare_manifests: args.drift };
    let report = ops::plan(&workspace, &options, depth).await?;
    output::data(&workspace.redactor.redact(&match common.output {
        Output::Json => plan_json(&report),
        Output::Text => plan_text(&report),
    }));
    Ok(Exit::from(&report))
}
