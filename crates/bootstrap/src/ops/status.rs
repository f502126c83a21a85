//! The last run of a cluster, who holds the lock, and how the cluster is.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use engine::StepError;
use engine::journal::{History, Holder, Journal, Store};
use helmfile::ReleaseId;
use kubernetes::{AccessError, ApiError, ObjectRef, Readiness};
use repository::{Cluster, ReadContext};
use serde_json::Value;

use super::store::journal_store;
use super::{OpsError, Target, Workspace};
use crate::steps::release_changes::left_releases_by;
use crate::steps::removal_command;
use crate::template_programs;

/// How long the cluster may take to answer.
const DEADLINE: Duration = Duration::from_secs(10);
/// The kinds of Flux that are counted.
const FLUX_KINDS: [(&str, &str); 5] = [
    ("source.toolkit.fluxcd.io/v1", "GitRepository"),
    ("source.toolkit.fluxcd.io/v1", "OCIRepository"),
    ("source.toolkit.fluxcd.io/v1", "Bucket"),
    ("kustomize.toolkit.fluxcd.io/v1", "Kustomization"),
    ("helm.toolkit.fluxcd.io/v2", "HelmRelease"),
];

/// What is known of a cluster's runs and of the cluster itself.
#[derive(Debug)]
pub struct StatusReport {
    pub history: History,
    pub lock: Option<Holder>,
    pub cluster: ClusterHealth,
}

/// What the cluster reports about itself.
#[derive(Debug)]
pub enum ClusterHealth {
    /// No run has written a kubeconfig yet.
    NoAccess,
    Unknown(HealthError),
    /// Nodes and Flux objects: a line for each kind, and one for each object that is not ready.
    Reported(Vec<String>),
}

/// Why the state of a cluster is not known.
#[derive(Debug, thiserror::Error)]
pub enum HealthError {
    #[error(transparent)]
    Access(#[from] AccessError),
    #[error(transparent)]
    Api(#[from] ApiError),
    #[error(transparent)]
    Releases(#[from] StepError),
    #[error("no response within {}s", .0.as_secs())]
    Timeout(Duration),
}

/// Reads the journal and the lock, and queries the cluster with the kubeconfig of the last run.
///
/// # Errors
///
/// A damaged journal.
pub async fn status(workspace: &Workspace, cluster: &str, target: &Target) -> Result<StatusReport, OpsError> {
    let folder = workspace.run_folder(cluster, target)?;
    let store = journal_store(&folder);
    Ok(StatusReport {
        history: Journal::read(&store).await?.history,
        lock: store.holder().await,
        cluster: health(&folder.join("kubeconfig"), declared_releases(workspace, cluster)).await,
    })
}

/// The releases of the helmfiles; nothing when these cannot be read, since a status needs no valid files.
fn declared_releases(workspace: &Workspace, cluster: &str) -> Option<BTreeSet<ReleaseId>> {
    let root = workspace.repository().ok()?;
    let programs = template_programs();
    let context = ReadContext { environment: &workspace.variables, programs: Some(&programs) };
    Some(Cluster::declared_releases(&root, cluster, context).ok()?.into_iter().collect())
}

async fn health(kubeconfig: &Path, declared: Option<BTreeSet<ReleaseId>>) -> ClusterHealth {
    if !kubeconfig.exists() {
        return ClusterHealth::NoAccess;
    }
    match tokio::time::timeout(DEADLINE, report(kubeconfig, declared)).await {
        Ok(Ok(lines)) => ClusterHealth::Reported(lines),
        Ok(Err(error)) => ClusterHealth::Unknown(error),
        Err(_) => ClusterHealth::Unknown(HealthError::Timeout(DEADLINE)),
    }
}

async fn report(kubeconfig: &Path, declared: Option<BTreeSet<ReleaseId>>) -> Result<Vec<String>, HealthError> {
    let client = kubernetes::from_kubeconfig(kubeconfig).await?;
    let nodes = kubernetes::nodes(&client).await?;
    let ready = nodes.values().filter(|node| node.ready).count();
    let mut lines = vec![format!("nodes: {ready} of {} Ready", nodes.len())];
    for (api_version, kind) in FLUX_KINDS {
        let objects = kubernetes::list(&client, api_version, kind, None).await?;
        lines.extend(tally(kind, &objects));
    }
    match declared {
        Some(declared) => {
            let left = left_releases_by(&client, &declared).await?;
            lines.extend(left.iter().map(|release| {
                format!("release {release}: no longer in the helmfile; next: {}", removal_command(release, kubeconfig))
            }));
        }
        None => lines.push("releases were not compared with the helmfiles, which cannot be read".to_owned()),
    }
    Ok(lines)
}

/// How many objects of a kind are ready, and why the others are not.
fn tally(kind: &str, objects: &[Value]) -> Vec<String> {
    if objects.is_empty() {
        return vec![];
    }
    let mut lines = vec![];
    for object in objects {
        if let (Readiness::Progressing(reason) | Readiness::Failed(reason), Ok(named)) =
            (kubernetes::readiness(object), ObjectRef::from_manifest(object))
        {
            lines.push(format!("  {named}: {reason}"));
        }
    }
    let ready = objects.len() - lines.len();
    lines.insert(0, format!("{kind}: {ready} of {} Ready", objects.len()));
    lines
}
