//! `k8s-bootstrap plan CLUSTER`: what a run would do.

use serde_json::json;

use super::args::{ClusterArgs, Common, Output, SecretsArg};
use super::exit::{Exit, Refusal};
use super::output;
use super::setup::{self, Place};
use crate::dial::Dialer;
use crate::plan::Plan;
use crate::secrets::Redactor;
use crate::steps::{self, Site};

pub(super) async fn plan(common: &Common, args: ClusterArgs) -> Result<Exit, Refusal> {
    let redactor = Redactor::default();
    let cluster = setup::cluster(common, &args.cluster)?;
    let bundle = setup::bundle(common, &cluster, Place::Field, SecretsArg::Real, &redactor).await?;
    let folder = setup::state_folder(common)?.join(&args.cluster);
    let site = Site::new(cluster, bundle, Dialer::direct(), folder, false);
    let site = std::sync::Arc::new(site.map_err(|error| Refusal::input(error.to_string()))?);
    let (plan, _) = steps::plan(&site).map_err(|error| Refusal::input(error.to_string()))?;
    output::data(&match common.output {
        Output::Json => as_json(&plan),
        Output::Text => as_text(&plan),
    });
    Ok(Exit::Done)
}

fn as_text(plan: &Plan) -> String {
    let mut lines = Vec::new();
    for phase in plan.phases() {
        lines.push(phase.to_string());
        for step in plan.of_phase(phase) {
            lines.push(format!("  {:<32} {}  {}", step.id, step.fingerprint.short(), step.title));
        }
    }
    lines.push(format!("{} steps, plan {}", plan.steps().len(), plan.fingerprint().short()));
    lines.join("\n")
}

fn as_json(plan: &Plan) -> String {
    let steps: Vec<_> = plan
        .steps()
        .iter()
        .map(|step| {
            json!({"id": step.id, "phase": step.phase, "title": step.title, "needs": step.needs,
                   "fingerprint": step.fingerprint})
        })
        .collect();
    json!({"format": 1, "phases": plan.phases(), "steps": steps, "fingerprint": plan.fingerprint()}).to_string()
}
