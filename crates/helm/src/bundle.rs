//! Bundles: all charts of a cluster in one file, for a site that reaches no registry.
//!
//! A bundle is a tar of an OCI image layout (OCI image spec 1.1) in which every chart is an artifact as Helm pushes it
//! (Helm 4, `pkg/registry`), so that registry tools can copy it on; beside it lies `images.txt`, the images that the
//! rendered releases run. A chart is found by what the helmfile asks for, whatever mirror it was pulled through.

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
use super::package::{MAX_PACKAGE, hex};
use super::{Charts, HelmError, HelmErrorKind, TemplateOptions, manifest};
use helmfile::{Chart, Release};
use process::Command;

const CONFIG: &str = "application/vnd.cncf.helm.config.v1+json";
const CONTENT: &str = "application/vnd.cncf.helm.chart.content.v1.tar+gzip";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const REFERENCE: &str = "org.opencontainers.image.ref.name";
/// What a helmfile asks for, reference and version as a person reads them.
const SUBJECT: &str = "k8s-bootstrap.chart";
/// For a registry to give a digest.
const DEADLINE: Duration = Duration::from_secs(30);
/// How many charts are pulled and rendered, and digests asked for, at once.
const AT_ONCE: usize = 4;
/// A cluster has dozens of charts, three blobs each.
const MAX_ENTRIES: usize = 10_000;

/// Charts by what a helmfile asks for, on this machine for as long as this value lives.
#[derive(Debug)]
pub struct ChartBundle {
    folder: tempfile::TempDir,
    /// Subject to the hex digest of its package.
    charts: BTreeMap<String, String>,
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

/// What a bundle is made of.
#[derive(Debug, Default)]
pub struct BundleContents {
    charts: Vec<(Chart, PulledChart)>,
    /// Every image that the rendered releases run.
    pub images: BTreeSet<String>,
}

impl BundleContents {
    /// Pulls the chart of each release, and renders it for its images; a few at a time.
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
        let gathered: Vec<_> = stream::iter(releases).map(one).buffered(AT_ONCE).try_collect().await?;
        let (charts, images): (Vec<_>, Vec<_>) = gathered.into_iter().unzip();
        Ok(Self { charts, images: images.into_iter().flatten().collect() })
    }

    /// Adds to each image's tag the digest that its registry gives for it; an image stays as it is where the registry does
    /// not answer. `crane` asks.
    pub async fn pin(&mut self, crane: &Path) {
        let one = |image: String| async move {
            let digest = if image.contains('@') { None } else { digest(crane, &image).await };
            digest.map_or(image.clone(), |digest| format!("{image}@{digest}"))
        };
        let images = std::mem::take(&mut self.images);
        self.images = stream::iter(images).map(one).buffer_unordered(AT_ONCE).collect().await;
    }

    /// How many charts there are.
    pub fn charts(&self) -> usize {
        self.charts.len()
    }
}

async fn digest(crane: &Path, image: &str) -> Option<String> {
    let asked = Command::new(crane).args(["digest", image]).deadline(DEADLINE).run().await;
    let told = asked.inspect_err(|error| tracing::debug!(image, %error, "no digest")).ok()?;
    let digest = String::from_utf8(told.stdout).ok()?.trim().to_owned();
    digest.starts_with("sha256:").then_some(digest)
}

/// Writes a bundle to `out`. Charts that are folders of the repository are left
/// out, since the repository has them.
///
/// # Errors
///
/// A package that cannot be read, a file that cannot be written.
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
        index.manifests.push(descriptor);
    }
    let images: String = contents.images.iter().map(|image| format!("{image}\n")).collect();
    archive.file("images.txt", images.as_bytes())?;
    archive.file("oci-layout", json!({"imageLayoutVersion": "1.0.0"}).to_string().as_bytes())?;
    archive.file("index.json", &serde_json::to_vec(&index)?)?;
    archive.archive.into_inner()?.flush()
}

/// The artifact's reference with its tag, in which `+` is not allowed, and the subject; nothing for a local chart.
fn names(chart: &Chart, pulled: &PulledChart) -> Option<(String, String)> {
    let subject = chart::reference_of(chart)?;
    let reference = subject.split([' ', '@']).next().unwrap_or(&subject);
    Some((format!("{reference}:{}", pulled.version.replace('+', "_")), subject))
}

/// An OCI image layout that is being written.
struct Layout<W: Write> {
    archive: tar::Builder<W>,
    /// Blobs that are there already, by digest.
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

impl ChartBundle {
    /// Reads a bundle, and checks every chart in it against its digest.
    ///
    /// # Errors
    ///
    /// A file that is no bundle, is damaged, or is larger than a bundle can be.
    pub fn open(path: &Path) -> io::Result<Self> {
        let folder = tempfile::tempdir()?;
        let (mut index, mut blobs) = (None, BTreeSet::new());
        let kept = |digest: &str| folder.path().join(format!("{digest}.tgz"));
        let mut archive = tar::Archive::new(File::open(path)?);
        for (count, entry) in archive.entries()?.enumerate() {
            let entry = entry?;
            let name = entry.path()?.to_string_lossy().into_owned();
            if count > MAX_ENTRIES || entry.size() > MAX_PACKAGE {
                return Err(io::Error::other(format!(
                    "{name} is more than a bundle holds: {MAX_ENTRIES} entries of at most {MAX_PACKAGE} bytes each"
                )));
            }
            let mut bytes = Vec::new();
            entry.take(MAX_PACKAGE).read_to_end(&mut bytes)?;
            match name.strip_prefix("blobs/sha256/") {
                Some(digest) if hex(&Sha256::digest(&bytes)) != digest => {
                    return Err(io::Error::other(format!("the blob {digest} is damaged: its digest is another one")));
                }
                Some(digest) => {
                    std::fs::write(kept(digest), &bytes)?;
                    blobs.insert(digest.to_owned());
                }
                None if name == "index.json" => index = Some(serde_json::from_slice::<Index>(&bytes)?),
                None => {}
            }
        }
        let index = index.ok_or_else(|| io::Error::other("it holds no index.json, so it is no bundle"))?;
        let mut charts = BTreeMap::new();
        for descriptor in index.manifests {
            let Some(subject) = descriptor.annotations.get(SUBJECT) else { continue };
            let manifest = descriptor.digest.strip_prefix("sha256:").filter(|digest| blobs.contains(*digest));
            let manifest = manifest.ok_or_else(|| io::Error::other(format!("the manifest of {subject} is missing")))?;
            let manifest: Manifest = serde_json::from_slice(&std::fs::read(kept(manifest))?)?;
            let layer = manifest.layers.iter().find(|layer| layer.media_type == CONTENT);
            let package = layer.and_then(|layer| layer.digest.strip_prefix("sha256:"));
            let package = package.filter(|digest| blobs.contains(*digest));
            let package = package.ok_or_else(|| io::Error::other(format!("the package of {subject} is missing")))?;
            charts.insert(subject.clone(), package.to_owned());
        }
        Ok(Self { folder, charts })
    }

    /// The chart that a helmfile asks for.
    ///
    /// # Errors
    ///
    /// [`HelmErrorKind::NotFound`] when the bundle was made without it.
    pub(super) fn chart(&self, subject: &str) -> Result<PulledChart, HelmError> {
        let digest = self.charts.get(subject).ok_or_else(|| {
            let held = self.charts.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            HelmError::new(HelmErrorKind::NotFound, subject, format!("the bundle holds {held}"))
        })?;
        chart::pulled(subject, self.folder.path().join(format!("{digest}.tgz")))
    }
}
