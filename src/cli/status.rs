//! `k8s-bootstrap status CLUSTER`: where the last run stands, who holds the lock.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::args::{Common, Output, StatusArgs};
use super::exit::{Exit, Refusal};
use super::output;
use super::setup;
use engine::journal::{FileStore, History, Holder, Journal, RunEnd, Store};
use kubernetes::{ObjectRef, Readiness};

/// How long the cluster may take to say how it is.
const PATIENCE: Duration = Duration::from_secs(10);
/// What of Flux is counted.
const FLUX: [(&str, &str); 3] = [
    ("source.toolkit.fluxcd.io/v1", "GitRepository"),
    ("kustomize.toolkit.fluxcd.io/v1", "Kustomization"),
    ("helm.toolkit.fluxcd.io/v2", "HelmRelease"),
];

pub(super) async fn status(common: &Common, args: StatusArgs) -> Result<Exit, Refusal> {
    let state = setup::state_folder(common)?;
    let folder = if args.lab { lab::lab_folder(&state, &args.cluster).join("run") } else { state.join(&args.cluster) };
    let store = FileStore::open(&folder);
    let history = Journal::read(&store).await.map_err(|error| Refusal::world(error.to_string()))?.history;
    let holder = store.holder().await;
    let world = world(&folder.join("kubeconfig")).await;
    output::data(&match common.output {
        Output::Json => as_json(&history, holder.as_ref(), &world),
        Output::Text => as_text(&args, &history, holder.as_ref(), &world),
    });
    Ok(Exit::Done)
}

/// What the cluster says now, in lines; asked with the kubeconfig that the last run wrote.
async fn world(kubeconfig: &Path) -> Vec<String> {
    if !kubeconfig.exists() {
        return vec!["the cluster was not asked: no run has written a kubeconfig yet".to_owned()];
    }
    let asked = async {
        let client = kubernetes::from_kubeconfig(kubeconfig).await?;
        let nodes = kubernetes::nodes(&client).await.map_err(|error| error.to_string())?;
        let ready = nodes.values().filter(|node| node.ready).count();
        let mut lines = vec![format!("nodes: {ready} of {} Ready", nodes.len())];
        for (api_version, kind) in FLUX {
            let objects =
                kubernetes::list(&client, api_version, kind, None).await.map_err(|error| error.to_string())?;
            lines.extend(tally(kind, &objects));
        }
        Ok::<_, String>(lines)
    };
    match tokio::time::timeout(PATIENCE, asked).await {
        Ok(Ok(lines)) => lines,
        Ok(Err(reason)) => vec![format!("the cluster does not answer: {reason}")],
        Err(_) => vec![format!("the cluster does not answer within {PATIENCE:?}")],
    }
}

/// How many are Ready, and why the others are not.
fn tally(kind: &str, objects: &[Value]) -> Vec<String> {
    if objects.is_empty() {
        return vec![];
    }
    let mut lines = Vec::new();
    let mut ready = 0;
    for object in objects {
        match (kubernetes::readiness(object), ObjectRef::of(object)) {
            (Readiness::Progressing(reason) | Readiness::Failed(reason), Ok(named)) => {
                lines.push(format!("  {named}: {reason}"));
            }
            _ => ready += 1,
        }
    }
    lines.insert(0, format!("{kind}: {ready} of {} Ready", objects.len()));
    lines
}

fn as_text(args: &StatusArgs, history: &History, holder: Option<&Holder>, world: &[String]) -> String {
    let mut lines = Vec::new();
    match holder {
        Some(holder) => lines.push(format!("running: `{}`, process {} on {}", holder.command, holder.pid, holder.host)),
        None => lines.push("no run holds the lock".to_owned()),
    }
    let Some(last) = &history.last else {
        lines.push(format!("no run of `{}` is on record", args.cluster));
        lines.extend(world.iter().cloned());
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
    lines.extend(world.iter().cloned());
    if last.is_unfinished() && holder.is_none() {
        let lab = if args.lab { " --lab" } else { "" };
        lines.push(format!("next: k8s-bootstrap {}{lab} --resume", args.cluster));
    }
    lines.join("\n")
}

fn as_json(history: &History, holder: Option<&Holder>, world: &[String]) -> String {
    let last = history.last.as_ref().map(|last| {
        json!({"run": last.run, "started": last.started, "end": last.end, "steps": last.plan.len(),
               "done": last.done.keys().collect::<Vec<_>>(), "failed": last.failed})
    });
    json!({"format": 1, "lock": holder, "last": last, "world": world}).to_string()
}
