//! A plan for people and for programs.

use bootstrap::ops::{LeftRelease, PlanReport};
use bootstrap::steps::ReleaseDiff;
use bootstrap::steps::drift::Compared;
use bootstrap::steps::release_changes::ReleaseChange;
use bootstrap::steps::rollout::{Change, ConfigChange};
use engine::{Code, Finding};
use error_report::ErrorReport;
use serde_json::json;

/// A plan as text.
pub(crate) fn plan_text(report: &PlanReport) -> String {
    let PlanReport { plan, findings, .. } = report;
    let mut lines = Vec::new();
    for phase in plan.phases() {
        lines.push(phase.to_string());
        for step in plan.of_phase(phase) {
            lines.push(format!("  {:<32} {}  {}", step.id, step.fingerprint.short(), step.title));
            lines.extend(findings.get(&step.id).map(|finding| format!("      {}", describe(finding))));
        }
    }
    lines.extend(report.notices.iter().map(|notice| format!("notice: {notice}")));
    lines.extend(report.drift.iter().map(|drift| format!("notice[{}]: {drift}", Code::H14)));
    lines.extend(report.compared.iter().map(difference));
    lines.extend(report.configs.iter().map(config_change));
    lines.extend(report.releases.iter().map(release_change));
    lines.extend(report.left.iter().map(left_release));
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
    let line = match &compared.diff {
        Ok(diff) if diff.is_empty() => format!("drift: {}: Flux renders the same", compared.release),
        Ok(diff) => format!("drift: {}:\n{}", compared.release, diff.trim_end()),
        Err(error) => format!("drift: {}: cannot be compared: {}", compared.release, ErrorReport::new(error)),
    };
    std::iter::once(line).chain(without).collect()
}

/// What changes on one configured node.
fn config_change(changed: &ConfigChange) -> String {
    match &changed.change {
        Ok(Change { effect, diff }) if diff.is_empty() => format!("config: {}: {effect}", changed.node),
        Ok(Change { effect, diff }) => format!("config: {}: {effect}\n{}", changed.node, diff.trim_end()),
        Err(error) => format!("config: {}: cannot be compared: {error}", changed.node),
    }
}

/// What changes of one release.
fn release_change(changed: &ReleaseChange) -> String {
    let release = &changed.release;
    match &changed.change {
        Ok(ReleaseDiff { effect, reason, diff }) => {
            let lines = diff.lines().map(|line| format!("\n  {line}")).collect::<String>();
            format!("release: {release}: {effect}: {reason}{lines}")
        }
        Err(error) => format!("release: {release}: cannot be compared: {error}"),
    }
}

/// A release that is installed and no longer declared.
fn left_release(left: &LeftRelease) -> String {
    format!("release: {}: no longer in the helmfile; next: {}", left.release, left.command)
}

fn describe(finding: &Finding) -> String {
    match finding {
        Finding::UpToDate(reason) => format!("up to date: {reason}"),
        Finding::Skipped(reason) => format!("skipped: {reason}"),
        Finding::Degraded(reason) => format!("degraded: {reason}"),
        Finding::Missing(reason) => format!("to apply: {reason}"),
        Finding::InProgress(reason) => format!("in progress: {reason}"),
        Finding::Blocked(need) => format!("blocked by {need}"),
        Finding::Failed(error) => {
            let next = error.next.as_ref().map(|next| format!("; next: {next}")).unwrap_or_default();
            let code = error.code.map(|code| format!("[{code}]")).unwrap_or_default();
            format!("failed{code}: {error}{next}")
        }
    }
}

/// A plan as JSON, format 2.
pub(crate) fn plan_json(report: &PlanReport) -> String {
    let PlanReport { plan, findings, .. } = report;
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
    let drift = report.drift.iter().map(|drift| {
        json!({"code": Code::H14, "release": drift.release.to_string(), "difference": drift.difference,
               "at": drift.at.to_string(), "message": drift.message, "next": drift.next})
    });
    let mut object = json!({"format": 2, "phases": plan.phases(), "steps": steps, "notices": report.notices,
                            "drift": drift.collect::<Vec<_>>(), "fingerprint": plan.fingerprint()});
    if !report.configs.is_empty() {
        let configs = report.configs.iter().map(|changed| match &changed.change {
            Ok(Change { effect, diff }) => json!({"node": changed.node, "change": effect.to_string(), "diff": diff}),
            Err(error) => json!({"node": changed.node, "error": error}),
        });
        object["configs"] = configs.collect::<Vec<_>>().into();
    }
    if !report.releases.is_empty() {
        let releases = report.releases.iter().map(|changed| match &changed.change {
            Ok(ReleaseDiff { effect, reason, diff }) => {
                json!({"release": changed.release.to_string(), "change": effect.to_string(), "reason": reason, "diff": diff})
            }
            Err(error) => json!({"release": changed.release.to_string(), "error": error}),
        });
        object["releases"] = releases.collect::<Vec<_>>().into();
    }
    if !report.left.is_empty() {
        let left = report.left.iter().map(|left| json!({"release": left.release.to_string(), "command": left.command}));
        object["leftReleases"] = left.collect::<Vec<_>>().into();
    }
    if !report.compared.is_empty() {
        let compared = report.compared.iter().map(|compared| {
            let diff = compared.diff.as_ref().ok();
            let error = compared.diff.as_ref().err().map(|error| ErrorReport::new(error).to_string());
            json!({"release": compared.release.to_string(), "diff": diff, "error": error, "without": compared.without})
        });
        object["manifests"] = compared.collect::<Vec<_>>().into();
    }
    object.to_string()
}
