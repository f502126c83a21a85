//! `k8s-bootstrap plan CLUSTER`: what a run would do.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use super::args::{Common, Output, PlanArgs, SecretsArg};
use super::exit::{Exit, Refusal};
use super::output;
use super::setup::{self, Place, Wanted};
use crate::cluster::Cluster;
use crate::engine::{Finding, survey};
use crate::helm;
use crate::journal::FileStore;
use crate::plan::{Plan, StepId};
use crate::secrets::Redactor;
use crate::steps;

/// How each step stands; nothing when the world was not asked.
type Findings = BTreeMap<StepId, Finding>;

pub(super) async fn plan(common: &Common, args: PlanArgs) -> Result<Exit, Refusal> {
    let redactor = Redactor::default();
    let place = if args.lab { Place::Lab } else { Place::Field };
    if args.detailed_exitcode && args.secrets == Some(SecretsArg::Placeholder) && !args.lab {
        return Err(Refusal::input("the world is asked with the cluster's own secrets; placeholders open no door"));
    }
    let wanted = Wanted {
        cluster: &args.cluster,
        place,
        secrets: args.secrets,
        resumed: false,
        bundle: args.bundle.as_deref(),
        forced: None,
        pins: &[],
    };
    let site = setup::site(common, wanted, false, &redactor).await?;
    let (plan, steps) = steps::plan(&site).map_err(|error| Refusal::input(error.to_string()))?;
    let findings = if args.detailed_exitcode {
        let history = FileStore::read(&site.folder.join("journal.jsonl"));
        survey(&plan, &steps, &history.map_err(|error| Refusal::world(error.to_string()))?).await
    } else {
        Findings::new()
    };
    let notices = notices(&site.cluster);
    output::data(&redactor.redact(&match common.output {
        Output::Json => as_json(&plan, &findings, &notices),
        Output::Text => as_text(&plan, &findings, &notices),
    }));
    Ok(verdict(&findings))
}

/// What the operator should know of the helmfiles although nothing is wrong.
fn notices(cluster: &Cluster) -> Vec<String> {
    let bootstrap = &cluster.bootstrap;
    let read = bootstrap.crds.notices.iter().chain(&bootstrap.releases.notices).cloned();
    let mut notices: Vec<String> = read.chain(bootstrap.releases.releases.iter().flat_map(helm::notices)).collect();
    let mut seen = BTreeSet::new();
    notices.retain(|notice| seen.insert(notice.clone()));
    notices
}

fn verdict(findings: &Findings) -> Exit {
    let mut exit = Exit::Done;
    for finding in findings.values() {
        match finding {
            Finding::Failed(_) => return Exit::WrongWorld,
            Finding::Holds(_) => {}
            Finding::Missing(_) | Finding::Underway(_) | Finding::Waits(_) => exit = Exit::Changes,
        }
    }
    exit
}

fn as_text(plan: &Plan, findings: &Findings, notices: &[String]) -> String {
    let mut lines = Vec::new();
    for phase in plan.phases() {
        lines.push(phase.to_string());
        for step in plan.of_phase(phase) {
            lines.push(format!("  {:<32} {}  {}", step.id, step.fingerprint.short(), step.title));
            lines.extend(findings.get(&step.id).map(|finding| format!("      {}", sentence(finding))));
        }
    }
    lines.extend(notices.iter().map(|notice| format!("notice: {notice}")));
    lines.push(format!("{} steps, plan {}", plan.steps().len(), plan.fingerprint().short()));
    if !findings.is_empty() {
        let open = findings.values().filter(|finding| !matches!(finding, Finding::Holds(_))).count();
        lines.push(format!("{} hold, {open} would be worked on", findings.len() - open));
    }
    lines.join("\n")
}

fn sentence(finding: &Finding) -> String {
    match finding {
        Finding::Holds(reason) => format!("holds: {reason}"),
        Finding::Missing(reason) => format!("to be applied: {reason}"),
        Finding::Underway(reason) => format!("to be waited for: {reason}"),
        Finding::Waits(need) => format!("not to be seen before {need} is done"),
        Finding::Failed(error) => {
            let next = error.next.as_ref().map(|next| format!("; next: {next}")).unwrap_or_default();
            format!("cannot be seen: {error}{next}")
        }
    }
}

fn as_json(plan: &Plan, findings: &Findings, notices: &[String]) -> String {
    let steps: Vec<_> = plan
        .steps()
        .iter()
        .map(|step| {
            let mut object = json!({"id": step.id, "phase": step.phase, "title": step.title, "needs": step.needs,
                                    "fingerprint": step.fingerprint});
            if let Some(finding) = findings.get(&step.id) {
                object["finding"] = json!(finding);
            }
            object
        })
        .collect();
    json!({"format": 1, "phases": plan.phases(), "steps": steps, "notices": notices, "fingerprint": plan.fingerprint()})
        .to_string()
}
