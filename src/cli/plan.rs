//! `k8s-bootstrap plan CLUSTER`: what a run would do.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use super::args::{Common, Output, PlanArgs, SecretsArg};
use super::exit::{Exit, Refusal};
use super::output;
use super::setup;
use super::setup::{Place, Wanted};
use engine::{Finding, survey};
use repository::Cluster;
use repository::drift::Drift;

use bootstrap::steps;
use bootstrap::steps::drift::Compared;
use engine::journal::{FileStore, Journal};
use engine::plan::{Plan, StepId};
use secrets::Redactor;

/// How each step stands; nothing when the world was not asked.
type Findings = BTreeMap<StepId, Finding>;

/// What the operator should know besides the steps.
struct Told {
    notices: Vec<String>,
    /// Where Flux will install something else.
    drift: Vec<Drift>,
    /// The manifests, rendered both ways, when asked for.
    compared: Vec<Compared>,
}

pub(super) async fn plan(common: &Common, args: PlanArgs) -> Result<Exit, Refusal> {
    let redactor = Redactor::default();
    let place = if args.lab { Place::Lab } else { Place::Field };
    if args.detailed_exitcode && args.secrets == Some(SecretsArg::Placeholder) && !args.lab {
        return Err(Refusal::input("the world is asked with the cluster's own secrets; placeholders open no door"));
    }
    let wanted = Wanted {
        person: None,
        cluster: &args.cluster,
        place,
        secrets: args.secrets,
        resumed: false,
        bundle: args.bundle.as_deref(),
        forced: None,
        verdicts: &[],
        pins: &[],
    };
    let site = setup::site(common, wanted, false, &redactor).await?;
    let (plan, steps) = steps::plan(&site).map_err(|error| Refusal::input(error.to_string()))?;
    let findings = if args.detailed_exitcode {
        let history = Journal::read(&FileStore::open(&site.folder)).await;
        survey(&plan, &steps, &history.map_err(|error| Refusal::world(error.to_string()))?.history).await
    } else {
        Findings::new()
    };
    let told = Told {
        notices: notices(&site.cluster),
        drift: site.cluster.drift(),
        compared: if args.drift { steps::drift::compare(&site).await } else { vec![] },
    };
    output::data(&redactor.redact(&match common.output {
        Output::Json => as_json(&plan, &findings, &told),
        Output::Text => as_text(&plan, &findings, &told),
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
            Finding::Failed(_) => return Exit::PreconditionFailed,
            Finding::UpToDate(_) | Finding::Skipped(_) | Finding::Degraded(_) => {}
            Finding::Missing(_) | Finding::InProgress(_) | Finding::Blocked(_) => exit = Exit::Changes,
        }
    }
    exit
}

fn as_text(plan: &Plan, findings: &Findings, told: &Told) -> String {
    let mut lines = Vec::new();
    for phase in plan.phases() {
        lines.push(phase.to_string());
        for step in plan.of_phase(phase) {
            lines.push(format!("  {:<32} {}  {}", step.id, step.fingerprint.short(), step.title));
            lines.extend(findings.get(&step.id).map(|finding| format!("      {}", sentence(finding))));
        }
    }
    lines.extend(told.notices.iter().map(|notice| format!("notice: {notice}")));
    lines.extend(told.drift.iter().map(|drift| format!("notice: {drift}")));
    lines.extend(told.compared.iter().map(difference));
    lines.push(format!("{} steps, plan {}", plan.steps().len(), plan.fingerprint().short()));
    if !findings.is_empty() {
        let open = findings.values().filter(|finding| !finding.is_settled()).count();
        lines.push(format!("{} up to date, {open} to change", findings.len() - open));
    }
    lines.join("\n")
}

/// The manifests of one release, from what the bootstrap installs to what Flux will.
fn difference(compared: &Compared) -> String {
    let without = compared.without.iter().map(|left| format!("\n  without Flux's {left}"));
    let told = match &compared.diff {
        Ok(diff) if diff.is_empty() => format!("drift: {}: Flux renders the same", compared.release),
        Ok(diff) => format!("drift: {}:\n{}", compared.release, diff.trim_end()),
        Err(reason) => format!("drift: {}: cannot be compared: {reason}", compared.release),
    };
    std::iter::once(told).chain(without).collect()
}

fn sentence(finding: &Finding) -> String {
    match finding {
        Finding::UpToDate(reason) => format!("up to date: {reason}"),
        Finding::Skipped(reason) => format!("skipped: {reason}"),
        Finding::Degraded(reason) => format!("degraded: {reason}"),
        Finding::Missing(reason) => format!("to apply: {reason}"),
        Finding::InProgress(reason) => format!("in progress: {reason}"),
        Finding::Blocked(need) => format!("blocked by {need}"),
        Finding::Failed(error) => {
            let next = error.next.as_ref().map(|next| format!("; next: {next}")).unwrap_or_default();
            format!("failed: {error}{next}")
        }
    }
}

fn as_json(plan: &Plan, findings: &Findings, told: &Told) -> String {
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
    let drift = told.drift.iter().map(|drift| {
        json!({"release": drift.release.to_string(), "difference": drift.difference, "at": drift.at.to_string(),
               "message": drift.message, "next": drift.next})
    });
    let mut object = json!({"format": 2, "phases": plan.phases(), "steps": steps, "notices": told.notices,
                            "drift": drift.collect::<Vec<_>>(), "fingerprint": plan.fingerprint()});
    if !told.compared.is_empty() {
        let compared = told.compared.iter().map(|compared| {
            let (diff, error) = (compared.diff.as_ref().ok(), compared.diff.as_ref().err());
            json!({"release": compared.release.to_string(), "diff": diff, "error": error, "without": compared.without})
        });
        object["manifests"] = compared.collect::<Vec<_>>().into();
    }
    object.to_string()
}
