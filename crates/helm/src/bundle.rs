//! Bundles: all charts of a cluster in one file, for air-gapped installs.
//!
//! A bundle is a tar of an OCI image layout (OCI image spec 1.1) in which every chart is an artifact as Helm pushes it
//! (Helm 4, `pkg/registry`), so that registry tools can copy it; it also contains `images.txt`, the images of the rendered
//! releases. Charts are found by the helmfile's reference and version, independent of mirrors.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::chart;
use super::chart::PulledChart;
use super::chart_version::ManifestDigest;
use super::package::{MAX_PACKAGE, hex};
use super::{Charts, HelmError, HelmErrorCause, HelmErrorKind, TemplateOptions, manifest};
use helmfile::{Chart, Release};
use process::Command;

const CONFIG: &str = "application/vnd.cncf.helm.config.v1+json";
const CONTENT: &str = "application/vnd.cncf.helm.chart.content.v1.tar+gzip";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const REFERENCE: &str = "org.opencontainers.image.ref.name";
/// The reference and version in the helmfile.
const SUBJECT: &str = "k8s-bootstrap.chart";
/// The digest of the manifest in the registry that the chart was pulled from.
const PULLED_MANIFEST: &str = "k8s-bootstrap.manifest";
/// For the digest of an image.
const DEADLINE: Duration = Duration::from_secs(30);
/// How many charts are pulled and rendered, or digests requested, at the same time.
const PARALLEL: usize = 4;
/// Maximum entries; a cluster has dozens of charts with three blobs each.
const MAX_ENTRIES: usize = 10_000;

/// An opened bundle; its charts are on this machine as long as this value exists.
#[derive(Debug)]
pub struct ChartBundle {
    folder: tempfile::TempDir,
    /// By reference and version.
    charts: BTreeMap<String, BundledChart>,
}

#[derive(Debug)]
struct BundledChart {
    /// The hex digest of the package.
    package: String,
    manifest: Option<ManifestDigest>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: String,
    digest: String,
    size: u64,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    schema_version: u8,
    media_type: String,
    config: Descriptor,
    layers: Vec<Descriptor>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Index {
    schema_version: u8,
    manifests: Vec<Descriptor>,
}

/// The contents of a bundle.
#[derive(Debug, Default)]
pub struct BundleContents {
    charts: Vec<(Chart, PulledChart)>,
    /// The images of the rendered releases.
    pub images: BTreeSet<String>,
}

impl BundleContents {
    /// Pulls the chart of each release, and renders it to find its images.
    ///
    /// # Errors
    ///
    /// Helm's, for the first release that fails.
    pub async fn gather<'r>(
        charts: &Charts,
        releases: impl IntoIterator<Item = &'r Release>,
        options: &TemplateOptions,
    ) -> Result<Self, HelmError> {
        let one = |release: &'r Release| async move {
            let pulled = charts.fetch(&release.chart, &release.fetch).await?;
            let ready = charts.patched(release, pulled.clone(), options).await?;
            let objects = charts.helm.template(release, &ready.chart, options).await?;
            Ok::<_, HelmError>(((release.chart.clone(), pulled), manifest::images(&objects)))
        };
        let gathered: Vec<_> = stream::iter(releases).map(one).buffered(PARALLEL).try_collect().await?;
        let (charts, images): (Vec<_>, Vec<_>) = gathered.into_iter().unzip();
        Ok(Self { charts, images: images.into_iter().flatten().collect() })
    }

    /// Adds the digest in the registry to each image's tag, by `crane`; an image whose registry does not respond is
    /// unchanged.
    pub async fn pin(&mut self, crane: &Path) {
        let one = |image: String| async move {
            let digest = if image.contains('@') { None } else { digest(crane, &image).await };
            digest.map_or(image.clone(), |digest| format!("{image}@{digest}"))
        };
        let images = std::mem::take(&mut self.images);
        self.images = stream::iter(images).map(one).buffer_unordered(PARALLEL).collect().await;
    }

    /// The number of charts.
    pub fn charts(&self) -> usize {
        self.charts.len()
    }
}

async fn digest(crane: &Path, image: &str) -> Option<String> {
    let output = Command::new(crane).args(["digest", image]).deadline(DEADLINE).run().await;
    let output = output.inspect_err(|error| tracing::debug!(image, %error, "no digest")).ok()?;
    let digest = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    digest.starts_with("sha256:").then_some(digest)
}

/// Writes a bundle to `out`, without the charts that are folders of the repository.
///
/// # Errors
///
/// A package that cannot be read, a failed write.
pub fn write(contents: &BundleContents, out: &mut impl Write) -> io::Result<()> {
    let mut archive = Layout { archive: tar::Builder::new(out), written: BTreeMap::new() };
    let mut index = Index { schema_version: 2, manifests: vec![] };
    for (chart, pulled) in &contents.charts {
        let Some((reference, subject)) = names(chart, pulled) else { continue };
        let layer = archive.blob(CONTENT, &std::fs::read(&pulled.path)?)?;
        let config = json!({"apiVersion": "v2", "name": pulled.name, "version": pulled.version});
        let config = archive.blob(CONFIG, config.to_string().as_bytes())?;
        let manifest = Manifest { schema_version: 2, media_type: MANIFEST.to_owned(), config, layers: vec![layer] };
        let mut descriptor = archive.blob(MANIFEST, &serde_json::to_vec(&manifest)?)?;
        descriptor.annotations = [(REFERENCE.to_owned(), reference), (SUBJECT.to_owned(), subject)].into();
        let manifest = pulled.manifest.clone().map(|digest| (PULLED_MANIFEST.to_owned(), digest.into()));
        descriptor.annotations.extend(manifest);
        index.manifests.push(descriptor);
    }
    let images: String = contents.images.iter().map(|image| format!("{image}\n")).collect();
    archive.file("images.txt", images.as_bytes())?;
    archive.file("oci-layout", json!({"imageLayoutVersion": "1.0.0"}).to_string().as_bytes())?;
    archive.file("index.json", &serde_json::to_vec(&index)?)?;
    archive.archive.into_inner()?.flush()
}

/// The artifact's reference with its tag, in which `+` is not allowed, and the subject; `None` for a local chart.
fn names(chart: &Chart, pulled: &PulledChart) -> Option<(String, String)> {
    let subject = chart::reference_of(chart)?;
    let reference = subject.split([' ', '@']).next().unwrap_or(&subject);
    Some((format!("{reference}:{}", pulled.version.replace('+', "_")), subject))
}

/// An OCI image layout to be written.
struct Layout<W: Write> {
    archive: tar::Builder<W>,
    /// The sizes of written blobs, by digest.
    written: BTreeMap<String, u64>,
}

impl<W: Write> Layout<W> {
    fn blob(&mut self, media_type: &str, bytes: &[u8]) -> io::Result<Descriptor> {
        let digest = hex(&Sha256::digest(bytes));
        if self.written.insert(digest.clone(), bytes.len() as u64).is_none() {
            self.file(&format!("blobs/sha256/{digest}"), bytes)?;
        }
        Ok(Descriptor {
            media_type: media_type.to_owned(),
            digest: format!("sha256:{digest}"),
            size: bytes.len() as u64,
            annotations: BTreeMap::new(),
        })
    }

    fn file(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        self.archive.append_data(&mut header, name, bytes)
    }
}

/// Why a bundle cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("not a bundle: it has no index.json")]
    NoIndex,
    #[error("invalid JSON in the bundle")]
    InvalidJson(#[from] serde_json::Error),
    #[error("{name} exceeds the limits of a bundle: {MAX_ENTRIES} entries of at most {MAX_PACKAGE} bytes each")]
    TooLarge { name: String },
    #[error("blob {digest} is damaged: its content has another digest")]
    Damaged { digest: String },
    #[error("the manifest of {subject} is missing in the bundle")]
    NoManifest { subject: String },
    #[error("the package of {subject} is missing in the bundle")]
    NoPackage { subject: String },
}

impl ChartBundle {
    /// Opens a bundle, and checks every blob against its digest.
    ///
    /// # Errors
    ///
    /// A file that is not a bundle, is damaged, or exceeds the limits.
    pub fn open(path: &Path) -> Result<Self, BundleError> {
        let folder = tempfile::tempdir()?;
        let (mut index, mut blobs) = (None, BTreeSet::new());
        let kept = |digest: &str| folder.path().join(format!("{digest}.tgz"));
        let mut archive = tar::Archive::new(File::open(path)?);
        for (count, entry) in archive.entries()?.enumerate() {
            let entry = entry?;
            let name = entry.path()?.to_string_lossy().into_owned();
            if count > MAX_ENTRIES || entry.size() > MAX_PACKAGE {
                return Err(BundleError::TooLarge { name });
            }
            let mut bytes = Vec::new();
            entry.take(MAX_PACKAGE).read_to_end(&mut bytes)?;
            match name.strip_prefix("blobs/sha256/") {
                Some(digest) if hex(&Sha256::digest(&bytes)) != digest => {
                    return Err(BundleError::Damaged { digest: digest.to_owned() });
                }
                Some(digest) => {
                    std::fs::write(kept(digest), &bytes)?;
                    blobs.insert(digest.to_owned());
                }
                None if name == "index.json" => index = Some(serde_json::from_slice::<Index>(&bytes)?),
                None => {}
            }
        }
        let index = index.ok_or(BundleError::NoIndex)?;
        let mut charts = BTreeMap::new();
        for descriptor in index.manifests {
            let Some(subject) = descriptor.annotations.get(SUBJECT) else { continue };
            let manifest = descriptor.digest.strip_prefix("sha256:").filter(|digest| blobs.contains(*digest));
            let manifest = manifest.ok_or_else(|| BundleError::NoManifest { subject: subject.clone() })?;
            let manifest: Manifest = serde_json::from_slice(&std::fs::read(kept(manifest))?)?;
            let layer = manifest.layers.iter().find(|layer| layer.media_type == CONTENT);
            let package = layer.and_then(|layer| layer.digest.strip_prefix("sha256:"));
            let package = package.filter(|digest| blobs.contains(*digest));
            let package = package.ok_or_else(|| BundleError::NoPackage { subject: subject.clone() })?;
            let pulled = descriptor.annotations.get(PULLED_MANIFEST).cloned();
            let pulled = pulled.and_then(|digest| ManifestDigest::try_from(digest).ok());
            charts.insert(subject.clone(), BundledChart { package: package.to_owned(), manifest: pulled });
        }
        Ok(Self { folder, charts })
    }

    /// The chart for a reference and version.
    ///
    /// # Errors
    ///
    /// [`HelmErrorKind::NotFound`] if the bundle does not contain it.
    pub(super) fn chart(&self, subject: &str) -> Result<PulledChart, HelmError> {
        let BundledChart { package, manifest } = self.charts.get(subject).ok_or_else(|| {
            let known = self.charts.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            HelmError::new(HelmErrorKind::NotFound, subject, HelmErrorCause::NotInBundle { known })
        })?;
        let chart = chart::pulled(subject, self.folder.path().join(format!("{package}.tgz")))?;
        Ok(PulledChart { manifest: manifest.clone(), ..chart })
    }
}
