//! What a run would change of each release, for a plan, and the releases that left the helmfiles.

use std::collections::{BTreeMap, BTreeSet};

use engine::StepError;
use futures::StreamExt;
use helm::storage::Status;
use helmfile::ReleaseId;

use super::api_errors::api_error;
use super::handoff::HelmRelease;
use super::release::Installed;
use super::release_diff::ReleaseDiff;
use super::release_state::INPUTS_LABEL;
use super::{ReleaseSteps, RunContext};

/// Rendering keeps a processor busy; more at once only wait for each other.
const LANES: usize = 2;

/// The change of a release.
#[derive(Debug)]
pub struct ReleaseChange {
    pub release: ReleaseId,
    pub change: Result<ReleaseDiff, StepError>,
}

/// The change of every release of the chain.
pub async fn release_changes(releases: &ReleaseSteps) -> Vec<ReleaseChange> {
    // Collected first: a stream over borrowing closures is not known to be `Send`.
    let changes: Vec<_> = releases.0.iter().map(|installed| release_change(installed)).collect();
    futures::stream::iter(changes).buffered(LANES).collect().await
}

async fn release_change(installed: &Installed) -> ReleaseChange {
    ReleaseChange { release: installed.id().clone(), change: installed.change().await }
}

/// The record of a release that k8s-bootstrap installed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct InstalledRecord {
    release: ReleaseId,
    revision: u32,
    status: String,
}

/// Releases that k8s-bootstrap installed, that no helmfile declares any more and that Flux does not own. They are only
/// reported: an operator removes them.
///
/// # Errors
///
/// When the API does not respond or rejects the request.
pub async fn left_releases(context: &RunContext) -> Result<Vec<ReleaseId>, StepError> {
    let client = context.kubernetes().await?;
    let declared = context.cluster.bootstrap.releases.releases.iter().map(|release| release.id.clone()).collect();
    left_releases_by(&client, &declared).await
}

/// As [`left_releases`], where `declared` are the releases of the helmfiles.
pub(crate) async fn left_releases_by(
    client: &kube::Client,
    declared: &BTreeSet<ReleaseId>,
) -> Result<Vec<ReleaseId>, StepError> {
    let found = kubernetes::all_secrets(client, &format!("owner=helm,{INPUTS_LABEL}")).await;
    let records = found.map_err(|error| api_error(&error))?;
    let records = records.iter().filter_map(|secret| {
        let labels = secret.metadata.labels.as_ref()?;
        Some(InstalledRecord {
            release: ReleaseId { namespace: secret.metadata.namespace.clone()?, name: labels.get("name")?.clone() },
            revision: labels.get("version")?.parse().ok()?,
            status: labels.get("status")?.clone(),
        })
    });
    let records: Vec<InstalledRecord> = records.collect();
    if records.iter().all(|record| declared.contains(&record.release)) {
        return Ok(vec![]);
    }
    Ok(undeclared(records, declared, &super::handoff::helm_releases(client).await?))
}

/// The releases of these records that are installed, and neither declared nor owned by Flux.
fn undeclared(records: Vec<InstalledRecord>, declared: &BTreeSet<ReleaseId>, flux: &[HelmRelease]) -> Vec<ReleaseId> {
    let mut newest: BTreeMap<ReleaseId, InstalledRecord> = BTreeMap::new();
    for record in records {
        let known = newest.get(&record.release);
        if known.is_none_or(|known| known.revision < record.revision) {
            newest.insert(record.release.clone(), record);
        }
    }
    let is_left = |record: &InstalledRecord| {
        record.status != Status::Uninstalled.to_string()
            && !declared.contains(&record.release)
            && !flux.iter().any(|known| known.installs(&record.release))
    };
    newest.into_values().filter(is_left).map(|record| record.release).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn id(name: &str) -> ReleaseId {
        ReleaseId { namespace: "lab".to_owned(), name: name.to_owned() }
    }

    fn record(name: &str, revision: u32, status: &str) -> InstalledRecord {
        InstalledRecord { release: id(name), revision, status: status.to_owned() }
    }

    #[test]
    fn what_left_the_helmfiles_is_found_and_nothing_else() {
        let records = vec![
            record("kept", 1, "deployed"),
            record("left", 1, "superseded"),
            record("left", 2, "deployed"),
            record("failed", 1, "failed"),
            record("removed", 2, "uninstalled"),
            record("removed", 1, "superseded"),
            record("adopted", 1, "deployed"),
        ];
        let flux = HelmRelease(json!({"metadata": {"name": "adopted", "namespace": "lab"}, "spec": {}}));
        assert_eq!(undeclared(records, &BTreeSet::from([id("kept")]), &[flux]), [id("failed"), id("left")]);
    }
}
