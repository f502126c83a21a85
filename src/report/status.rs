//! The status of a cluster for people and for programs.

use bootstrap::ops::{ClusterHealth, StatusReport};
use engine::journal::RunEnd;
use error_report::ErrorReport;
use serde_json::json;

/// A status as text. `target` is the end of the command line that means the same cluster: `infra --lab`.
pub(crate) fn status_text(cluster: &str, report: &StatusReport, target: &str) -> String {
    let (holder, health) = (report.lock.as_ref(), health_lines(&report.cluster));
    let mut lines = Vec::new();
    match holder {
        Some(holder) => lines.push(format!("running: `{}`, process {} on {}", holder.command, holder.pid, holder.host)),
        None => lines.push("no run holds the lock".to_owned()),
    }
    let Some(last) = &report.history.last else {
        lines.push(format!("no run of `{cluster}` is on record"));
        lines.extend(health);
        return lines.join("\n");
    };
    let end = match last.end {
        Some(RunEnd::Complete) => "complete",
        Some(RunEnd::Failed) => "failed",
        Some(RunEnd::Stopped) => "stopped",
        None if holder.is_some() => "under way",
        None => "interrupted",
    };
    lines.push(format!("run {}: {end}, {} of {} steps done", last.run, last.done.len(), last.plan.len()));
    for (step, error) in &last.failed {
        lines.push(format!("  failed  {step}: {error}"));
    }
    lines.extend(health);
    if last.is_unfinished() && holder.is_none() {
        lines.push(format!("next: k8s-bootstrap {target} --resume"));
    }
    lines.join("\n")
}

/// A status as JSON, format 1.
pub(crate) fn status_json(report: &StatusReport) -> String {
    let last = report.history.last.as_ref().map(|last| {
        json!({"run": last.run, "started": last.started, "end": last.end, "steps": last.plan.len(),
               "done": last.done.keys().collect::<Vec<_>>(), "failed": last.failed})
    });
    json!({"format": 1, "lock": report.lock, "last": last, "cluster": health_lines(&report.cluster)}).to_string()
}

fn health_lines(health: &ClusterHealth) -> Vec<String> {
    match health {
        ClusterHealth::NoAccess => vec!["the cluster was not queried: no run has written a kubeconfig yet".to_owned()],
        ClusterHealth::Unknown(error) => {
            vec![format!("the cluster does not respond: {}", ErrorReport::new(error))]
        }
        ClusterHealth::Reported(lines) => lines.clone(),
    }
}
