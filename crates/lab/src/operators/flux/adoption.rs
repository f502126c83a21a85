//! helm-controller: every release that was installed before Flux gets a HelmRelease and one adopting revision.
//!
//! The upgrade runs the real helm with the values of the stored release, since the bootstrap reads its values from the
//! repository's HelmRelease.

use std::path::{Path, PathBuf};
use std::time::Instant;

use error_report::ErrorReport;
use process::Command;
use secrecy::SecretString;
use serde_json::{Value, json};

use super::failure::fail_first;
use super::kinds::{HELM_RELEASE, OCI_REPOSITORY};
use super::restarts::{pod_templates, restarted};
use crate::cluster_context::ClusterContext;
use crate::operators::objects::{apply, condition, current, set_status};
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
                    "chart": chart_name(release), "version": tag,
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
    match upgrade(context, release).await {
        Ok(revision) => {
            let message = format!(
                "Helm upgrade succeeded for release {}/{name}.v{} with chart {}@{}",
                release.namespace,
                revision.record["version"],
                chart_name(release),
                revision.version
            );
            let status = json!({
                "observedGeneration": 1, "history": [history(release, &revision)],
                "lastAttemptedRevisionDigest": revision.digest,
                "lastAttemptedRevision": revision.version, "lastAttemptedReleaseAction": "upgrade",
                "conditions": [
                    current(condition("Ready", "True", "UpgradeSucceeded", &message)),
                    current(condition("Released", "True", "UpgradeSucceeded", &message)),
                ],
            });
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

fn chart_name(release: &ReleaseSpec) -> &str {
    release.chart.rsplit('/').next().unwrap_or_default()
}

/// The adopting revision.
struct Revision {
    /// What helm prints of it.
    record: Value,
    /// Of the chart, with the digest of its manifest.
    version: String,
    digest: String,
}

/// A revision in the history of a HelmRelease.
fn history(release: &ReleaseSpec, revision: &Revision) -> Value {
    let info = |field: &str| &revision.record["info"][field];
    json!({
        "name": release.name, "namespace": release.namespace, "status": "deployed",
        "version": revision.record["version"], "chartName": chart_name(release), "chartVersion": revision.version,
        "ociDigest": revision.digest, "firstDeployed": info("first_deployed"), "lastDeployed": info("last_deployed"),
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
    #[error("the workloads of the release cannot be read")]
    Workloads(#[from] kube::Error),
    #[error("helm did not print the digest of the chart")]
    NoDigest,
    #[error("the pulled chart cannot be rewritten")]
    Chart(#[from] std::io::Error),
    #[error("invalid chart version {0}")]
    Version(String),
}

/// Upgrades a release to its own values and chart, under the version that helm-controller gives the chart of an
/// OCIRepository: with the first 12 digits of its digest (helm-controller 1.4.5).
async fn upgrade(context: &ClusterContext, release: &ReleaseSpec) -> Result<Revision, AdoptionError> {
    let folder = tempfile::tempdir()?;
    let (chart, digest) = pull(context, release, folder.path()).await?;
    let version = match release.flux {
        FluxRelease::FromOciRepository => add_digest(&chart.join("Chart.yaml"), &digest)?,
        FluxRelease::FromChartTemplate | FluxRelease::NotAdopted => release.version.clone().unwrap_or_default(),
    };
    let values = helm(context, release, &["get", "values", &release.name, "--output", "json"], None).await?;
    let values = if values.is_null() { json!({}) } else { values };
    let chart = chart.display().to_string();
    let mut arguments = vec!["upgrade", release.name.as_str(), &chart];
    arguments.extend(["--reset-values", "--output", "json", "--values", "-"]);
    // Flux 2.7 embeds Helm 3, which does not support server-side apply.
    if context.tools.helm_version.major >= 4 {
        arguments.push("--server-side=false");
    }
    let client = &context.cache.client;
    let before = pod_templates(client, release).await?;
    let record = helm(context, release, &arguments, Some(values.to_string().into())).await?;
    context.lab.recorder.record_restarts(restarted(&before, &pod_templates(client, release).await?));
    Ok(Revision { record, version, digest })
}

/// Pulls and unpacks the chart. Returns its folder, and the digest of its manifest.
async fn pull(
    context: &ClusterContext,
    release: &ReleaseSpec,
    folder: &Path,
) -> Result<(PathBuf, String), AdoptionError> {
    let registry = context.tools.registry.ok_or(AdoptionError::NoRegistry)?;
    let mut command = Command::new(&context.tools.helm).arg("pull").arg(format!("oci://{registry}/{}", release.chart));
    command = command.args(["--plain-http", "--untar", "--untardir"]).arg(folder);
    if let Some(version) = &release.version {
        command = command.args(["--version", version]);
    }
    let output = with_home(context, command).run().await?;
    let printed = format!("{}\n{}", String::from_utf8_lossy(&output.stdout), output.stderr);
    let digest =
        printed.lines().find_map(|line| line.trim().strip_prefix("Digest: ")).ok_or(AdoptionError::NoDigest)?;
    Ok((folder.join(chart_name(release)), digest.to_owned()))
}

/// Puts the digest behind the version in a `Chart.yaml`. Returns the version.
fn add_digest(file: &Path, digest: &str) -> Result<String, AdoptionError> {
    let text = std::fs::read_to_string(file)?;
    let line = text.lines().find(|line| line.starts_with("version:"));
    let own = line.and_then(|line| line.split_once(':')).map(|(_, own)| own.trim()).unwrap_or_default();
    let invalid = || AdoptionError::Version(own.to_owned());
    let mut version = semver::Version::parse(own.strip_prefix('v').unwrap_or(own)).map_err(|_| invalid())?;
    let short = digest.split_once(':').and_then(|(_, hex)| hex.get(..12)).ok_or(AdoptionError::NoDigest)?;
    version.build = semver::BuildMetadata::new(short).map_err(|_| invalid())?;
    let written = text.replace(line.unwrap_or_default(), &format!("version: {version}"));
    std::fs::write(file, written)?;
    Ok(version.to_string())
}

fn with_home(context: &ClusterContext, command: Command) -> Command {
    let home = |name: &str| context.tools.folder.join("helm").join(name);
    command
        .env("HELM_CACHE_HOME", home("cache"))
        .env("HELM_CONFIG_HOME", home("config"))
        .env("HELM_DATA_HOME", home("data"))
}

async fn helm(
    context: &ClusterContext,
    release: &ReleaseSpec,
    arguments: &[&str],
    input: Option<SecretString>,
) -> Result<Value, AdoptionError> {
    let mut command = Command::new(&context.tools.helm)
        .args(arguments.iter().copied())
        .args(["--namespace", release.namespace.as_str(), "--kubeconfig"])
        .arg(context.tools.kubeconfig());
    command = with_home(context, command);
    if let Some(input) = input {
        command = command.stdin(input);
    }
    let output = command.run().await?;
    Ok(serde_json::from_slice(&output.stdout)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_becomes_part_of_the_version() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("Chart.yaml");
        std::fs::write(&file, "apiVersion: v2\nname: app\nversion: v1.2.3\nappVersion: v1.2.3\n").unwrap();
        let version = add_digest(&file, "sha256:3630e56de4201a3c").unwrap();
        assert_eq!(version, "1.2.3+3630e56de420");
        let text = std::fs::read_to_string(&file).unwrap();
        assert_eq!(text, "apiVersion: v2\nname: app\nversion: 1.2.3+3630e56de420\nappVersion: v1.2.3\n");
        assert!(matches!(add_digest(&file, "sha256:36"), Err(AdoptionError::NoDigest)));
    }
}
