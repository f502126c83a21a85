//! The upgrade of a release by the real helm, as helm-controller does it (helm-controller 1.4.5).

use std::path::{Path, PathBuf};

use process::Command;
use secrecy::SecretString;
use serde_json::{Value, json};

use super::restarts::{pod_templates, restarted};
use crate::cluster_context::ClusterContext;
use crate::spec::ReleaseKey;

/// What is upgraded, and to what.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ReleaseUpgrade {
    pub(super) release: ReleaseKey,
    /// As `HOST/PATH/NAME`.
    pub(super) chart: String,
    /// Of the chart. Absent means the newest.
    pub(super) version: Option<String>,
    pub(super) naming: ChartNaming,
    pub(super) values: ReleaseValues,
    pub(super) rollout: Rollout,
}

/// The version under which a chart is rendered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ChartNaming {
    /// With the digest of its manifest: the chart of an OCIRepository.
    WithDigest,
    /// Its own: the chart of a chart template.
    Plain,
}

/// Where values come from.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum ReleaseValues {
    /// The revision that is deployed.
    Stored,
    Given(Value),
}

/// Whether helm waits until the workloads are ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rollout {
    Awaited,
    NotAwaited,
}

impl ReleaseUpgrade {
    pub(super) fn chart_name(&self) -> &str {
        self.chart.rsplit('/').next().unwrap_or_default()
    }
}

/// The adopting revision.
#[derive(Debug)]
pub(super) struct Revision {
    /// What helm prints of it.
    pub(super) record: Value,
    /// Of the chart, with the digest of its manifest.
    pub(super) version: String,
    pub(super) digest: String,
}

impl Revision {
    /// As in the history of a HelmRelease.
    pub(super) fn history(&self, upgrade: &ReleaseUpgrade) -> Value {
        let info = |field: &str| &self.record["info"][field];
        json!({
            "name": upgrade.release.name, "namespace": upgrade.release.namespace, "status": "deployed",
            "version": self.record["version"], "chartName": upgrade.chart_name(), "chartVersion": self.version,
            "ociDigest": self.digest, "firstDeployed": info("first_deployed"), "lastDeployed": info("last_deployed"),
        })
    }

    pub(super) fn message(&self, upgrade: &ReleaseUpgrade) -> String {
        let (release, revision) = (&upgrade.release, &self.record["version"]);
        let chart = format!("{}@{}", upgrade.chart_name(), self.version);
        format!("Helm upgrade succeeded for release {release}.v{revision} with chart {chart}")
    }
}

/// Why a release could not be upgraded.
#[derive(Debug, thiserror::Error)]
pub(super) enum UpgradeError {
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

/// Upgrades a release, or installs it. The chart of an OCIRepository has the first 12 digits of its digest in its version
/// (helm-controller 1.4.5).
pub(super) async fn upgrade(context: &ClusterContext, wanted: &ReleaseUpgrade) -> Result<Revision, UpgradeError> {
    let folder = tempfile::tempdir()?;
    let (chart, digest) = pull(context, wanted, folder.path()).await?;
    let version = match wanted.naming {
        ChartNaming::WithDigest => add_digest(&chart.join("Chart.yaml"), &digest)?,
        ChartNaming::Plain => wanted.version.clone().unwrap_or_default(),
    };
    let name = wanted.release.name.as_str();
    let values = match &wanted.values {
        ReleaseValues::Stored => helm(context, wanted, &["get", "values", name, "--output", "json"], None).await?,
        ReleaseValues::Given(values) => values.clone(),
    };
    let values = if values.is_null() { json!({}) } else { values };
    let chart = chart.display().to_string();
    let mut arguments = vec!["upgrade", "--install", name, &chart];
    arguments.extend(["--reset-values", "--output", "json", "--values", "-"]);
    // Flux 2.7 embeds Helm 3, which does not support server-side apply and waits for Kubernetes' own kinds only.
    let is_helm_4 = context.tools.helm_version.major >= 4;
    if is_helm_4 {
        arguments.push("--server-side=false");
    }
    if wanted.rollout == Rollout::Awaited {
        arguments.push(if is_helm_4 { "--wait=legacy" } else { "--wait" });
    }
    let client = &context.cache.client;
    let before = pod_templates(client, &wanted.release).await?;
    let record = helm(context, wanted, &arguments, Some(values.to_string().into())).await?;
    context.lab.recorder.record_restarts(restarted(&before, &pod_templates(client, &wanted.release).await?));
    Ok(Revision { record, version, digest })
}

/// Pulls and unpacks the chart. Returns its folder, and the digest of its manifest.
async fn pull(
    context: &ClusterContext,
    wanted: &ReleaseUpgrade,
    folder: &Path,
) -> Result<(PathBuf, String), UpgradeError> {
    let registry = context.tools.registry.ok_or(UpgradeError::NoRegistry)?;
    let mut command = Command::new(&context.tools.helm).arg("pull").arg(format!("oci://{registry}/{}", wanted.chart));
    command = command.args(["--plain-http", "--untar", "--untardir"]).arg(folder);
    if let Some(version) = &wanted.version {
        command = command.args(["--version", version]);
    }
    let output = with_home(context, command).run().await?;
    let printed = format!("{}\n{}", String::from_utf8_lossy(&output.stdout), output.stderr);
    let digest = printed.lines().find_map(|line| line.trim().strip_prefix("Digest: ")).ok_or(UpgradeError::NoDigest)?;
    Ok((folder.join(wanted.chart_name()), digest.to_owned()))
}

/// Puts the digest behind the version in a `Chart.yaml`. Returns the version.
fn add_digest(file: &Path, digest: &str) -> Result<String, UpgradeError> {
    let text = std::fs::read_to_string(file)?;
    let line = text.lines().find(|line| line.starts_with("version:"));
    let own = line.and_then(|line| line.split_once(':')).map(|(_, own)| own.trim()).unwrap_or_default();
    let invalid = || UpgradeError::Version(own.to_owned());
    let mut version = semver::Version::parse(own.strip_prefix('v').unwrap_or(own)).map_err(|_| invalid())?;
    let short = digest.split_once(':').and_then(|(_, hex)| hex.get(..12)).ok_or(UpgradeError::NoDigest)?;
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
    wanted: &ReleaseUpgrade,
    arguments: &[&str],
    input: Option<SecretString>,
) -> Result<Value, UpgradeError> {
    let mut command = Command::new(&context.tools.helm)
        .args(arguments.iter().copied())
        .args(["--namespace", wanted.release.namespace.as_str(), "--kubeconfig"])
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
        assert!(matches!(add_digest(&file, "sha256:36"), Err(UpgradeError::NoDigest)));
    }
}
