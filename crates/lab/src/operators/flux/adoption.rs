//! helm-controller: every release that was installed before Flux gets a HelmRelease and one adopting revision.
//!
//! The upgrade runs the real helm with the values of the stored release, since the bootstrap reads its values from the
//! repository's HelmRelease.

use std::time::Instant;

use error_report::ErrorReport;
use process::Command;
use secrecy::SecretString;
use serde_json::{Value, json};

use super::kinds::{HELM_RELEASE, OCI_REPOSITORY};
use crate::cluster_context::ClusterContext;
use crate::operators::objects::{apply, condition, set_status};
use crate::record::facts;
use crate::spec::ReleaseSpec;

const MANAGER: &str = "kustomize-controller";

/// The releases that Flux adopts.
fn adopted_releases(context: &ClusterContext) -> impl Iterator<Item = &ReleaseSpec> {
    context.releases.iter().filter(|release| !release.crds_only)
}

/// Applies the repository's HelmReleases and chart sources.
pub(super) async fn create_helm_releases(context: &ClusterContext) {
    let client = &context.cache.client;
    for release in adopted_releases(context) {
        let namespace = Some(release.namespace.as_str());
        let source = json!({
            "metadata": {},
            "spec": {
                "interval": "1h", "url": format!("oci://{}", release.chart),
                "ref": {"tag": release.version.as_deref().unwrap_or("latest")},
            },
        });
        apply(client, OCI_REPOSITORY, MANAGER, &OCI_REPOSITORY.object(namespace, &release.name, source)).await;
        let body = json!({
            "metadata": {},
            "spec": {"interval": "1h", "chartRef": {"kind": "OCIRepository", "name": release.name}},
        });
        apply(client, HELM_RELEASE, MANAGER, &HELM_RELEASE.object(namespace, &release.name, body)).await;
        let progress = condition("Ready", "Unknown", "Progressing", "Fulfilling prerequisites");
        set_status(client, HELM_RELEASE, namespace, &release.name, &json!({"conditions": [progress]})).await;
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
    let found = condition("Ready", "True", "Succeeded", "stored artifact");
    set_status(client, OCI_REPOSITORY, namespace, name, &json!({"conditions": [found]})).await;
    match upgrade(context, release).await {
        Ok(revision) => {
            let message = format!(
                "Helm upgrade succeeded for release {}/{name}.v{} with chart {}",
                release.namespace,
                revision["version"],
                revision["chart"].as_str().unwrap_or_default()
            );
            let status = json!({
                "observedGeneration": 1, "history": [history(release, &revision)],
                "lastAttemptedRevision": release.version, "lastAttemptedReleaseAction": "upgrade",
                "conditions": [
                    condition("Ready", "True", "UpgradeSucceeded", &message),
                    condition("Released", "True", "UpgradeSucceeded", &message),
                ],
            });
            set_status(client, HELM_RELEASE, namespace, name, &status).await;
            let causes = [controller.to_owned(), facts::FLUX_KUSTOMIZATION_READY.to_owned()];
            context.lab.recorder.record_fact(facts::release_adopted(&release.key()), began, causes);
        }
        Err(error) => {
            tracing::warn!(error = %ErrorReport::new(&error), name, "a release was not adopted");
            let failed = condition("Ready", "False", "UpgradeFailed", &ErrorReport::new(&error).to_string());
            set_status(client, HELM_RELEASE, namespace, name, &json!({"conditions": [failed]})).await;
        }
    }
}

/// A revision in the history of a HelmRelease.
fn history(release: &ReleaseSpec, revision: &Value) -> Value {
    json!({
        "name": release.name, "namespace": release.namespace, "status": "deployed", "version": revision["version"],
        "chartName": release.chart.rsplit('/').next(), "chartVersion": release.version,
        "firstDeployed": revision["info"]["first_deployed"], "lastDeployed": revision["info"]["last_deployed"],
    })
}

/// Why a release could not be adopted.
#[derive(Debug, thiserror::Error)]
enum AdoptionError {
    #[error("the lab has no chart registry")]
    NoRegistry,
    #[error(transparent)]
    Helm(#[from] process::Error),
    #[error("the output of helm is not valid JSON")]
    Output(#[from] serde_json::Error),
}

/// Upgrades a release to its own values and chart. Returns the new revision.
async fn upgrade(context: &ClusterContext, release: &ReleaseSpec) -> Result<Value, AdoptionError> {
    let registry = context.tools.registry.ok_or(AdoptionError::NoRegistry)?;
    let chart = format!("oci://{registry}/{}", release.chart);
    let values = helm(context, release, &["get", "values", &release.name, "--output", "json"], None).await?;
    let values = if values.is_null() { json!({}) } else { values };
    let mut arguments = vec!["upgrade", release.name.as_str(), chart.as_str(), "--plain-http"];
    if let Some(version) = &release.version {
        arguments.extend(["--version", version]);
    }
    arguments.extend(["--reset-values", "--output", "json", "--values", "-"]);
    // Flux 2.7 embeds Helm 3, which does not support server-side apply.
    if context.tools.helm_version.major >= 4 {
        arguments.push("--server-side=false");
    }
    let mut revision = helm(context, release, &arguments, Some(values.to_string().into())).await?;
    revision["chart"] = json!(format!(
        "{}@{}",
        release.chart.rsplit('/').next().unwrap_or_default(),
        revision.pointer("/chart/metadata/version").and_then(Value::as_str).unwrap_or_default()
    ));
    Ok(revision)
}

async fn helm(
    context: &ClusterContext,
    release: &ReleaseSpec,
    arguments: &[&str],
    input: Option<SecretString>,
) -> Result<Value, AdoptionError> {
    let folder = &context.tools.folder;
    let home = |name: &str| folder.join("helm").join(name);
    let mut command = Command::new(&context.tools.helm)
        .args(arguments.iter().copied())
        .args(["--namespace", release.namespace.as_str(), "--kubeconfig"])
        .arg(context.tools.kubeconfig())
        .env("HELM_CACHE_HOME", home("cache"))
        .env("HELM_CONFIG_HOME", home("config"))
        .env("HELM_DATA_HOME", home("data"));
    if let Some(input) = input {
        command = command.stdin(input);
    }
    let output = command.run().await?;
    Ok(serde_json::from_slice(&output.stdout)?)
}
