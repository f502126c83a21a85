//! `k8s-bootstrap status CLUSTER`: where the last run stands, who holds the lock.

use serde_json::json;

use super::args::{Common, Output, StatusArgs};
use super::exit::{Exit, Refusal};
use super::output;
use super::setup;
use crate::journal::{FileStore, History, Holder, Lock, RunEnd};

pub(super) async fn status(common: &Common, args: StatusArgs) -> Result<Exit, Refusal> {
    let state = setup::state_folder(common)?;
    let folder =
        if args.lab { crate::lab::lab_folder(&state, &args.cluster).join("run") } else { state.join(&args.cluster) };
    let history = FileStore::read(&folder.join("journal.jsonl")).map_err(|error| Refusal::world(error.to_string()))?;
    let holder = Lock::holder(&folder.join("lock"));
    output::data(&match common.output {
        Output::Json => as_json(&history, holder.as_ref()),
        Output::Text => as_text(&args, &history, holder.as_ref()),
    });
    Ok(Exit::Done)
}

fn as_text(args: &StatusArgs, history: &History, holder: Option<&Holder>) -> String {
    let mut lines = Vec::new();
    match holder {
        Some(holder) => lines.push(format!("running: `{}`, process {} on {}", holder.command, holder.pid, holder.host)),
        None => lines.push("no run holds the lock".to_owned()),
    }
    let Some(last) = &history.last else {
        lines.push(format!("no run of `{}` is on record", args.cluster));
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
    if last.unfinished() && holder.is_none() {
        let lab = if args.lab { " --lab" } else { "" };
        lines.push(format!("next: k8s-bootstrap {}{lab} --resume", args.cluster));
    }
    lines.join("\n")
}

fn as_json(history: &History, holder: Option<&Holder>) -> String {
    let last = history.last.as_ref().map(|last| {
        json!({"run": last.run, "started": last.started, "end": last.end, "steps": last.plan.len(),
               "done": last.done.keys().collect::<Vec<_>>(), "failed": last.failed})
    });
    json!({"format": 1, "lock": holder, "last": last}).to_string()
}
