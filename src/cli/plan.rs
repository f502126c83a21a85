//! `k8s-bootstrap plan CLUSTER`: what a run would do.

use serde_json::json;

use super::args::{ClusterArgs, Common, Output};
use super::exit::{Exit, Refusal};
use super::output;
use super::setup::{self, Place, Wanted};
use crate::plan::Plan;
use crate::secrets::Redactor;
use crate::steps;

pub(super) async fn plan(common: &Common, args: ClusterArgs) -> Result<Exit, Refusal> {
    let redactor = Redactor::default();
    let wanted = Wanted { cluster: &args.cluster, place: Place::Field, secrets: None, resumed: false };
    let site = setup::site(common, wanted, false, &redactor).await?;
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
