//! helm-controller: every release that was installed before Flux gets a HelmRelease and one adopting revision.
//!
//! The upgrade runs the real helm with the values of the stored release, since the bootstrap reads its values from the
//! repository's HelmRelease.

use std::time::Instant;

use error_report::ErrorReport;
use serde_json::{Value, json};

use super::failure::fail_first;
use super::helm::{self, ChartNaming, ReleaseUpgrade, ReleaseValues, Revision, Rollout};
use super::kinds::{HELM_RELEASE, OCI_REPOSITORY};
use crate::cluster_context::ClusterContext;
use crate::operators::objects::{FIRST_GENERATION, apply, at_generation, condition, current, set_status};
use crate::record::facts;
use crate::scenario::FluxStage;
use crate::spec::{FluxRelease, ReleaseSpec};

const MANAGER: &str = "kustomize-controller";

/// The releases that Flux adopts.
fn adopted_releases(context: &ClusterContext) -> impl Iterator<Item = &ReleaseSpec> {
    context.releases.iter().filter(|release| release.flux != FluxRelease::NotAdopted)
}

/// Applies the repository's HelmReleases and chart sources.
pub(super) async fn create_helm_releases(context: &ClusterContext) {
    let client = &context.cache.client;
    for release in adopted_releases(context) {
        let namespace = Some(release.namespace.as_str());
        let tag = release.version.as_deref().unwrap_or("latest");
        let spec = match release.flux {
            FluxRelease::FromOciRepository => {
                let url = format!("oci://{}", release.chart);
                let source = json!({"metadata": {}, "spec": {"interval": "1h", "url": url, "ref": {"tag": tag}}});
                apply(client, OCI_REPOSITORY, MANAGER, &OCI_REPOSITORY.object(namespace, &release.name, source)).await;
                json!({"interval": "1h", "chartRef": {"kind": "OCIRepository", "name": release.name}})
            }
            FluxRelease::FromChartTemplate | FluxRelease::NotAdopted => json!({
                "interval": "1h",
                "chart": {"spec": {
                    "chart": release.chart.rsplit('/').next(), "version": tag,
                    "sourceRef": {"kind": "HelmRepository", "name": release.name},
                }},
            }),
        };
        let body = json!({"metadata": {}, "spec": spec});
        apply(client, HELM_RELEASE, MANAGER, &HELM_RELEASE.object(namespace, &release.name, body)).await;
        let progress = current(condition("Ready", "Unknown", "Progressing", "Fulfilling prerequisites"));
        // The schema's default, until an upgrade succeeds.
        let status = json!({"observedGeneration": -1, "conditions": [progress]});
        set_status(client, HELM_RELEASE, namespace, &release.name, &status).await;
    }
}

/// Adopts all releases concurrently, as helm-controller does.
pub(super) async fn run(context: &ClusterContext) {
    let controller = context.cache.wait_until(|cache| cache.ready_pod_of("helm-controller")).await;
    futures::future::join_all(adopted_releases(context).map(|release| adopt(context, release, &controller.fact))).await;
}

async fn adopt(context: &ClusterContext, release: &ReleaseSpec, controller: &str) {
    let (client, namespace, name) = (&context.cache.client, Some(release.namespace.as_str()), &release.name);
    let began = Instant::now();
    tokio::time::sleep(context.lab.scenario.operators.adoption.duration()).await;
    if release.flux == FluxRelease::FromOciRepository {
        let found = condition("Ready", "True", "Succeeded", "stored artifact");
        set_status(client, OCI_REPOSITORY, namespace, name, &json!({"conditions": [found]})).await;
    }
    fail_first(context, FluxStage::HelmRelease, HELM_RELEASE, &release.namespace, name).await;
    let wanted = stored_release(release);
    match helm::upgrade(context, &wanted).await {
        Ok(revision) => {
            let status = succeeded(&wanted, &revision, FIRST_GENERATION);
            set_status(client, HELM_RELEASE, namespace, name, &status).await;
            let causes = [controller.to_owned(), facts::FLUX_KUSTOMIZATION_READY.to_owned()];
            context.lab.recorder.record_fact(facts::release_adopted(&release.key()), began, causes);
        }
        Err(error) => {
            tracing::warn!(error = %ErrorReport::new(&error), name, "a release was not adopted");
            let failed = current(condition("Ready", "False", "UpgradeFailed", &ErrorReport::new(&error).to_string()));
            set_status(client, HELM_RELEASE, namespace, name, &json!({"conditions": [failed]})).await;
        }
    }
}

/// The release with the values that it has.
fn stored_release(release: &ReleaseSpec) -> ReleaseUpgrade {
    ReleaseUpgrade {
        release: release.key(),
        chart: release.chart.clone(),
        version: release.version.clone(),
        naming: match release.flux {
            FluxRelease::FromOciRepository => ChartNaming::WithDigest,
            FluxRelease::FromChartTemplate | FluxRelease::NotAdopted => ChartNaming::Plain,
        },
        values: ReleaseValues::Stored,
        rollout: Rollout::NotAwaited,
    }
}

/// The status of a HelmRelease of this generation after its upgrade.
pub(super) fn succeeded(wanted: &ReleaseUpgrade, revision: &Revision, generation: i64) -> Value {
    let message = revision.message(wanted);
    let condition = |kind: &str| at_generation(condition(kind, "True", "UpgradeSucceeded", &message), generation);
    json!({
        "observedGeneration": generation, "history": [revision.history(wanted)],
        "lastAttemptedRevisionDigest": revision.digest,
        "lastAttemptedRevision": revision.version, "lastAttemptedReleaseAction": "upgrade",
        "conditions": [condition("Ready"), condition("Released")],
    })
}
