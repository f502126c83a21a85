//! Pulls charts once and caches them by reference and version, verified by digest.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use retry::policies::CHART_PULL;
use retry::{Verdict, retry};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::chart_version::{self, ChartVersion, ManifestDigest};
use super::package;
use super::package::{Metadata, PackageError, hex};
use super::request::{ChartSource, CredentialUse, Login, Request};
use super::{ChartBundle, Helm, HelmError, HelmErrorCause, HelmErrorKind, Mirrors, TemplateOptions};
use helmfile::patch;
use helmfile::{Chart, FetchOptions, Release};
use process::{Command, Output, SecretFile, Stream};

/// For one pull; a package has at most some MiB.
const DEADLINE: Duration = Duration::from_mins(2);

/// The sources of charts, and the cache.
#[derive(Debug, Clone)]
pub struct Charts {
    pub helm: Helm,
    /// The cache folder. A rehearsal has its own, since it pulls stand-ins.
    pub cache: PathBuf,
    pub mirrors: Mirrors,
    /// If present, all charts come from it and no registry is accessed.
    pub bundle: Option<Arc<ChartBundle>>,
}

/// A chart on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PulledChart {
    /// A packed chart or a folder.
    pub path: PathBuf,
    /// SHA-256 of the package, in hex.
    pub digest: String,
    /// From `Chart.yaml`.
    pub name: String,
    /// From `Chart.yaml`.
    pub version: String,
    /// Its manifest in a registry; none for a folder, and for a package of an HTTP repository.
    pub manifest: Option<ManifestDigest>,
}

impl PulledChart {
    /// Reads and checks a packed chart or a folder on this machine.
    ///
    /// # Errors
    ///
    /// [`HelmErrorKind::NotFound`]; a package that is damaged, too large, or has paths outside of the chart.
    pub fn local(path: &Path) -> Result<Self, HelmError> {
        let subject = path.display().to_string();
        if !path.exists() {
            return Err(HelmError::new(HelmErrorKind::NotFound, subject, HelmErrorCause::MissingPath));
        }
        pulled(&subject, path.to_owned())
    }
}

#[cfg(test)]
impl PulledChart {
    /// A chart for tests that read no package.
    pub(super) fn absent(name: &str, version: &str) -> Self {
        let (path, digest) = ("/nowhere".into(), String::new());
        Self { path, digest, name: name.to_owned(), version: version.to_owned(), manifest: None }
    }
}

/// A chart that can be rendered and installed.
#[derive(Debug)]
pub struct PreparedChart {
    pub chart: PulledChart,
    /// The package in memory, if it is not the one that was pulled.
    _package: Option<SecretFile>,
}

/// A folder with `chart.tgz`.
struct Package {
    folder: tempfile::TempDir,
    manifest: Option<ManifestDigest>,
}

/// The record beside a cached package.
#[derive(Debug, Serialize, Deserialize)]
struct Note {
    subject: String,
    digest: String,
    #[serde(default)]
    manifest: Option<ManifestDigest>,
}

impl Charts {
    /// Gets a chart, from the cache if its version is exact.
    ///
    /// # Errors
    ///
    /// Helm's, with the operator's credentials and, if these are denied, without;
    /// [`HelmErrorKind::Changed`] if the cached package was damaged and the registry now has another one.
    pub async fn pull(&self, chart: &Chart) -> Result<PulledChart, HelmError> {
        self.fetch(chart, &FetchOptions::default()).await
    }

    /// Gets a release's chart, under its version and with the release's patches applied.
    ///
    /// # Errors
    ///
    /// As [`pull`](Self::pull), and as [`patched`](Self::patched).
    pub async fn prepare(
        &self,
        release: &Release,
        version: &ChartVersion,
        options: &TemplateOptions,
    ) -> Result<PreparedChart, HelmError> {
        let chart = self.fetch(&release.chart, &release.fetch).await?;
        let PreparedChart { chart, _package: package } = versioned(chart, version)?;
        if release.patches.is_empty() {
            return Ok(PreparedChart { chart, _package: package });
        }
        // Rendering it needs the package, what is rendered does not.
        self.patched(release, chart, options).await
    }

    /// Applies a release's patches to its chart: it is rendered, patched and packed in memory.
    ///
    /// # Errors
    ///
    /// [`HelmErrorKind::Chart`] if it cannot be rendered or patched.
    pub async fn patched(
        &self,
        release: &Release,
        chart: PulledChart,
        options: &TemplateOptions,
    ) -> Result<PreparedChart, HelmError> {
        if release.patches.is_empty() {
            return Ok(PreparedChart { chart, _package: None });
        }
        let options = TemplateOptions {
            kube_version: release.kube_version.clone().or_else(|| options.kube_version.clone()),
            include_crds: false,
            hooks: true,
            api_versions: [release.api_versions.clone(), options.api_versions.clone()].concat(),
        };
        let templates = self.helm.template(release, &chart, &options).await?;
        let with_crds = TemplateOptions { include_crds: true, ..options };
        let all = self.helm.template(release, &chart, &with_crds).await?;
        // By identity, since the content may differ between renderings, for example in a generated password.
        let (crds, _) = patch::split(all, &templates);
        let patched = patch::apply([crds.clone(), templates].concat(), &release.patches);
        let subject = release.id.to_string();
        let patched =
            patched.map_err(|error| HelmError::new(HelmErrorKind::Chart, &subject, HelmErrorCause::Patch(error)))?;
        let (objects, crds) = patch::split(patched, &crds);
        let file_error = |error: io::Error| HelmError::from_file(&subject, error);
        let package = crate::wrap::wrap(&chart, &objects, &crds).map_err(file_error)?;
        let digest = hex(&Sha256::digest(&package));
        in_memory(PulledChart { digest, ..chart }, &package).map_err(file_error)
    }

    /// Gets a chart with the fetch options of its repository and release.
    ///
    /// # Errors
    ///
    /// As [`pull`](Self::pull).
    pub async fn fetch(&self, chart: &Chart, fetch: &FetchOptions) -> Result<PulledChart, HelmError> {
        if let (Some(bundle), Some(subject)) = (&self.bundle, reference_of(chart)) {
            return bundle.chart(&subject);
        }
        let request = match chart {
            Chart::Local(path) => return PulledChart::local(path),
            Chart::Oci { reference, version } => self.oci(reference, version.as_deref(), fetch),
            Chart::Repository { url, name, version } => self.repository(url, name, version.as_deref(), fetch),
        };
        let folder = self.cache.join("charts").join(&hex(&Sha256::digest(&request.subject))[..32]);
        let recorded = if request.exact { Note::read(&folder) } else { None };
        let package = folder.join("chart.tgz");
        if let Some(note) = &recorded
            && (note.manifest.is_some() || !request.is_in_registry())
            && package::digest(&package).is_ok_and(|digest| digest == note.digest)
        {
            return Ok(PulledChart { manifest: note.manifest.clone(), ..pulled(&request.subject, package)? });
        }
        let attempt = retry(CHART_PULL, || self.attempt(&request), Verdict::by(HelmError::is_retryable));
        let Package { folder: fresh, manifest } = match (attempt.await, &recorded) {
            (Ok(pulled), _) => pulled,
            // An earlier version recorded no manifest; without its registry the chart is good all the same.
            (Err(_), Some(note)) if package::digest(&package).is_ok_and(|digest| digest == note.digest) => {
                return pulled(&request.subject, package);
            }
            (Err(error), _) => return Err(error),
        };
        let chart = PulledChart { manifest, ..pulled(&request.subject, fresh.path().join("chart.tgz"))? };
        if let Some(note) = recorded.filter(|note| note.digest != chart.digest) {
            let cause = HelmErrorCause::OtherDigest { recorded: note.digest, current: chart.digest };
            return Err(HelmError::new(HelmErrorKind::Changed, request.subject, cause));
        }
        let note =
            Note { subject: request.subject.clone(), digest: chart.digest.clone(), manifest: chart.manifest.clone() };
        keep(fresh, &folder, &note).map_err(|error| HelmError::from_file(&request.subject, error))?;
        Ok(PulledChart { path: package, ..chart })
    }

    fn oci(&self, reference: &str, version: Option<&str>, fetch: &FetchOptions) -> Request {
        let resolved = self.mirrors.resolve(reference);
        let digest = reference.contains('@');
        // The original's credentials and certificates are not for a mirror.
        let is_mirror = resolved.reference != reference;
        let mut fetch =
            if is_mirror { FetchOptions { devel: fetch.devel, ..FetchOptions::default() } } else { fetch.clone() };
        fetch.plain_http |= resolved.plain_http;
        Request {
            exact: digest || version.is_some_and(is_exact),
            credentials: if resolved.plain_http { CredentialUse::Anonymous } else { CredentialUse::Configured },
            subject: subject(&resolved.reference, version),
            source: ChartSource::Registry { reference: resolved.reference },
            version: version.map(str::to_owned),
            fetch,
        }
    }

    fn repository(&self, url: &str, name: &str, version: Option<&str>, fetch: &FetchOptions) -> Request {
        let reference = repository_reference(url, name);
        let host = reference.split('/').next().unwrap_or(&reference);
        // The mirror of a repository is a registry, since an index file contains the original's URLs.
        if self.mirrors.has_mirror(host) {
            return self.oci(&reference, version, fetch);
        }
        Request {
            exact: version.is_some_and(is_exact),
            credentials: CredentialUse::Configured,
            subject: subject(&reference, version),
            source: ChartSource::Repository { url: url.to_owned(), name: name.to_owned() },
            version: version.map(str::to_owned),
            fetch: fetch.clone(),
        }
    }

    /// Pulls once, into a new folder with `chart.tgz`.
    async fn attempt(&self, request: &Request) -> Result<Package, HelmError> {
        let file_error = |error: io::Error| HelmError::from_file(&request.subject, error);
        std::fs::create_dir_all(&self.cache).map_err(file_error)?;
        let folder = tempfile::Builder::new().prefix(".pull-").tempdir_in(&self.cache).map_err(file_error)?;
        let mut done = self.helm_pull(request, folder.path(), request.credentials).await;
        let is_operators = request.fetch.credentials.is_none() && request.credentials == CredentialUse::Configured;
        if is_operators && done.as_ref().is_err_and(|error| error.kind == HelmErrorKind::Denied) {
            // Registries deny stale credentials even for public charts.
            done = self.helm_pull(request, folder.path(), CredentialUse::Anonymous).await.or(done);
        }
        let output = done?;
        let manifest = [String::from_utf8_lossy(&output.stdout).as_ref(), &output.stderr]
            .into_iter()
            .find_map(ManifestDigest::in_output);
        let packed = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "tgz");
        let files = std::fs::read_dir(folder.path()).map_err(file_error)?;
        let package = files.filter_map(|entry| Some(entry.ok()?.path())).find(packed);
        let package =
            package.ok_or_else(|| HelmError::new(HelmErrorKind::Other, &request.subject, HelmErrorCause::NoPackage))?;
        std::fs::rename(package, folder.path().join("chart.tgz")).map_err(file_error)?;
        Ok(Package { folder, manifest })
    }

    async fn helm_pull(
        &self,
        request: &Request,
        folder: &Path,
        credentials: CredentialUse,
    ) -> Result<Output, HelmError> {
        let login = Login::new(request).map_err(|error| HelmError::from_file(&request.subject, error))?;
        let cache = folder.join("index");
        if let Some(arguments) = request.update(login.as_ref(), &cache) {
            self.helm_update(request, arguments).await?;
        }
        let arguments = request.pull(login.as_ref(), &cache, folder);
        let mut command = self.helm.command().args(arguments).deadline(DEADLINE);
        if credentials == CredentialUse::Anonymous {
            command = self.without_credentials(command);
        }
        command.run().await.map_err(|error| HelmError::from_process(&request.subject, error))
    }

    /// Downloads the index of a repository. Helm reports the reason of a failure on standard output.
    async fn helm_update(&self, request: &Request, arguments: Vec<String>) -> Result<(), HelmError> {
        let output = Arc::new(Mutex::new(String::new()));
        let sink = output.clone();
        let listen = move |stream, line: &str| match sink.lock() {
            Ok(mut output) if stream == Stream::Out => output.push_str(&format!("{line}\n")),
            _ => {}
        };
        let updated = self.helm.command().args(arguments).deadline(DEADLINE).on_line(listen).run().await;
        updated.map(drop).map_err(|error| match error {
            process::Error::Failed { program, status, .. } => {
                let stderr = output.lock().map(|output| output.clone()).unwrap_or_default();
                let error = process::Error::Failed { program, status, stderr };
                HelmError::from_process(&request.subject, error)
            }
            other => HelmError::from_process(&request.subject, other),
        })
    }

    /// Gives helm an empty home; helm also uses Docker's credentials.
    fn without_credentials(&self, command: Command) -> Command {
        let home = self.cache.join("anonymous");
        command
            .env("HELM_CACHE_HOME", home.join("cache"))
            .env("HELM_CONFIG_HOME", home.join("config"))
            .env("HELM_DATA_HOME", home.join("data"))
            .env("DOCKER_CONFIG", home.join("docker"))
            .env_remove("HELM_REGISTRY_CONFIG")
            .env_remove("HELM_REPOSITORY_CONFIG")
            .env_remove("HELM_REPOSITORY_CACHE")
            .env_remove("HELM_CONTENT_CACHE")
    }
}

impl Note {
    const NAME: &'static str = "chart.json";

    /// `None` without a valid note.
    fn read(folder: &Path) -> Option<Self> {
        serde_json::from_str(&std::fs::read_to_string(folder.join(Self::NAME)).ok()?).ok()
    }
}

/// Moves a pulled package into the cache; the note is written last, since a package without one counts as absent.
fn keep(fresh: tempfile::TempDir, folder: &Path, note: &Note) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    std::fs::rename(fresh.path().join("chart.tgz"), folder.join("chart.tgz"))?;
    let beside = fresh.path().join(Note::NAME);
    std::fs::write(&beside, serde_json::to_string(note)?)?;
    std::fs::rename(beside, folder.join(Note::NAME))
}

pub(super) fn pulled(subject: &str, path: PathBuf) -> Result<PulledChart, HelmError> {
    let invalid = |error| HelmError::new(HelmErrorKind::Other, subject, HelmErrorCause::Package(error));
    let Metadata { name, version } = package::metadata(&path).map_err(invalid)?;
    let digest = package::digest(&path).map_err(invalid)?;
    Ok(PulledChart { path, digest, name, version, manifest: None })
}

/// A chart under the version that it is installed as.
fn versioned(chart: PulledChart, version: &ChartVersion) -> Result<PreparedChart, HelmError> {
    // A folder has no manifest in a registry.
    let Some(version) = version.replaces(&chart.version).filter(|_| chart.path.is_file()) else {
        return Ok(PreparedChart { chart, _package: None });
    };
    let subject = format!("{} {}", chart.name, chart.version);
    let invalid = |error| HelmError::new(HelmErrorKind::Other, &subject, HelmErrorCause::Package(error));
    let package = match chart_version::repackaged(&chart.path, &version) {
        Ok(package) => package,
        // A Chart.yaml of another form installs as well; Flux then upgrades the release once.
        Err(PackageError::NoVersionLine) => return Ok(PreparedChart { chart, _package: None }),
        Err(error) => return Err(invalid(error)),
    };
    let digest = hex(&Sha256::digest(&package));
    in_memory(PulledChart { digest, version, ..chart }, &package).map_err(|error| HelmError::from_file(&subject, error))
}

fn in_memory(chart: PulledChart, package: &[u8]) -> io::Result<PreparedChart> {
    let file = SecretFile::of_bytes(package)?;
    Ok(PreparedChart { chart: PulledChart { path: file.path().into(), ..chart }, _package: Some(file) })
}

/// A chart of an HTTP repository as `HOST/PATH/NAME`.
fn repository_reference(url: &str, name: &str) -> String {
    let path = url.split_once("://").map_or(url, |(_, path)| path).trim_end_matches('/');
    format!("{path}/{name}")
}

/// Reference and version of a chart that is not local, without mirrors.
pub(super) fn reference_of(chart: &Chart) -> Option<String> {
    match chart {
        Chart::Local(_) => None,
        Chart::Oci { reference, version } => Some(subject(reference, version.as_deref())),
        Chart::Repository { url, name, version } => Some(subject(&repository_reference(url, name), version.as_deref())),
    }
}

/// Reference and version, for messages.
fn subject(reference: &str, version: Option<&str>) -> String {
    version.map_or_else(|| reference.to_owned(), |version| format!("{reference} {version}"))
}

/// Whether a version is exact, unlike a range such as `^1.2`.
fn is_exact(version: &str) -> bool {
    semver::Version::parse(version.trim_start_matches('v')).is_ok()
}
