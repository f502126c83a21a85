//! What the release of Flux's instance says of the Flux that will run.

use engine::StepError;
use helm::{ApplyMethod, ChartVersion, ManifestDigest};
use helmfile::Release;
use kubernetes::ObjectRef;
use repository::ChartOrigin;
use serde_json::Value;

use super::RunContext;
use super::errors::helm_error;

/// The argument that stops helm-controller from adding digests to versions.
const NO_DIGESTS: &str = "DisableChartDigestTracking=true";
/// The release that carries Flux's instance.
const FLUX_RELEASE: &str = "flux-instance";

/// Flux as its instance describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flux {
    pub namespace: String,
    /// What Flux follows; none if something else gives it its first objects.
    pub sync: Option<FluxSync>,
}

/// The source that Flux's instance makes Flux follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FluxSync {
    /// The name of the source and of the root Kustomization.
    pub name: String,
    pub kind: SyncKind,
    /// What of the source is followed, such as `main`.
    pub reference: String,
}

/// The kind of the source (flux-operator 0.38, `spec.sync.kind`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncKind {
    GitRepository,
    OciRepository,
    Bucket,
}

impl SyncKind {
    /// As Kubernetes spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::GitRepository => "GitRepository",
            Self::OciRepository => "OCIRepository",
            Self::Bucket => "Bucket",
        }
    }

    fn of(text: &str) -> Self {
        match text {
            "OCIRepository" => Self::OciRepository,
            "Bucket" => Self::Bucket,
            // The operator's CRD allows no other; its chart's default.
            _ => Self::GitRepository,
        }
    }
}

impl RunContext {
    /// Flux's instance as its release's values describe it; nothing when no release installs one.
    pub fn flux(&self) -> Option<Flux> {
        let release =
            self.cluster.bootstrap.releases.releases.iter().find(|release| release.id.name == FLUX_RELEASE)?;
        let text = |key: &str| release.values.pointer(&format!("/instance/sync/{key}")).and_then(Value::as_str);
        let sync = text("url").filter(|url| !url.is_empty()).map(|_| FluxSync {
            name: text("name").filter(|name| !name.is_empty()).unwrap_or(&release.id.namespace).to_owned(),
            kind: SyncKind::of(text("kind").unwrap_or_default()),
            reference: text("ref").unwrap_or_default().rsplit('/').next().unwrap_or_default().to_owned(),
        });
        Some(Flux { namespace: release.id.namespace.clone(), sync })
    }

    /// Whether helm-controller names charts of OCIRepositories by their digest: unless a patch of the instance sets its
    /// feature gate (helm-controller 1.4).
    fn tracks_digests(&self) -> bool {
        let releases = self.cluster.bootstrap.releases.releases.iter();
        let mut instances = releases.filter(|release| release.id.name == FLUX_RELEASE);
        !instances.any(|release| {
            let patches = release.values.pointer("/instance/kustomize/patches").map(Value::to_string);
            patches.is_some_and(|patches| patches.contains(NO_DIGESTS))
        })
    }

    /// The version under which a release is installed: the one that Flux will give its chart, so that the manifests are
    /// the same. A chart that Flux reads from elsewhere and that cannot be read here keeps its own.
    pub(super) async fn chart_version(&self, release: &Release) -> Result<ChartVersion, StepError> {
        let flux = self.cluster.flux.counterpart(release).and_then(|flux| flux.chart.ok());
        let Some(theirs) = flux.filter(|chart| chart.source == ChartOrigin::OciRepository && self.tracks_digests())
        else {
            return Ok(ChartVersion::Packaged);
        };
        let charts = self.charts().await?;
        let ours = charts.fetch(&release.chart, &release.fetch).await.map_err(|error| helm_error(&error, release))?;
        let manifest = if theirs.chart == release.chart {
            ours.manifest
        } else if let Some(digest) = theirs.chart.digest() {
            ManifestDigest::try_from(digest.to_owned()).ok()
        } else {
            let fetch = super::drift::fetch_options(release, &theirs.chart);
            let theirs = charts.fetch(&theirs.chart, &fetch).await.ok();
            theirs.filter(|theirs| theirs.version == ours.version).and_then(|theirs| theirs.manifest)
        };
        Ok(manifest.map_or(ChartVersion::Packaged, ChartVersion::WithDigest))
    }

    /// The Secret by which Flux is to read the repository, and the release that says so.
    pub(super) fn flux_pull_secret(&self) -> Option<(ObjectRef, String)> {
        let release =
            self.cluster.bootstrap.releases.releases.iter().find(|release| release.id.name == FLUX_RELEASE)?;
        let name = release.values.pointer("/instance/sync/pullSecret").and_then(Value::as_str)?;
        let secret = ObjectRef::new("v1", "Secret", Some(&release.id.namespace), name);
        (!name.is_empty()).then(|| (secret, format!("release {} ({})", release.id, release.at)))
    }

    /// How Helm writes objects: as the Helm inside the Flux that will adopt the releases does.
    pub(super) fn apply_method(&self) -> ApplyMethod {
        let releases = self.cluster.bootstrap.releases.releases.iter();
        let version = releases
            .filter(|release| release.id.name == FLUX_RELEASE)
            .find_map(|release| release.values.pointer("/instance/distribution/version")?.as_str());
        // Without a Flux that says otherwise, the merge that every Helm knows.
        version.map_or(ApplyMethod::ClientSide, ApplyMethod::from_flux_version)
    }
}
