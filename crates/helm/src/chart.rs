//! Charts: pulled once, kept by reference and version, recognised by digest.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::package;
use super::package::{Metadata, hex};
use super::request::{ChartSource, Login, Request};
use super::{ChartBundle, Helm, HelmError, HelmErrorKind, Mirrors, TemplateOptions};
use helmfile::patch;
use helmfile::{Chart, FetchOptions, Release};
use process::{Command, SecretFile, Stream};

/// A chart's package is some MiB at most.
const DEADLINE: Duration = Duration::from_mins(2);
const RETRIES: usize = 3;

/// Where charts come from.
#[derive(Debug, Clone)]
pub struct Charts {
    pub helm: Helm,
    /// The folder that pulled charts are kept in. A rehearsal's is its own: what it pulls are stand-ins.
    pub cache: PathBuf,
    pub mirrors: Mirrors,
    /// Where every chart comes from when there is one; no registry is asked then.
    pub bundle: Option<Arc<ChartBundle>>,
}

/// A chart on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PulledChart {
    /// A packed chart or a folder.
    pub path: PathBuf,
    /// SHA-256 of the package, in hex.
    pub digest: String,
    /// As `Chart.yaml` says.
    pub name: String,
    /// As `Chart.yaml` says.
    pub version: String,
}

impl PulledChart {
    /// A packed chart or a folder on this machine, looked through.
    ///
    /// # Errors
    ///
    /// [`HelmErrorKind::NotFound`]; a package that is damaged, larger than charts are, or has files that lead out of it.
    pub fn local(path: &Path) -> Result<Self, HelmError> {
        let subject = path.display().to_string();
        if !path.exists() {
            return Err(HelmError::new(HelmErrorKind::NotFound, subject, "no such file or folder"));
        }
        pulled(&subject, path.to_owned())
    }
}

/// A chart that is ready to be rendered and installed.
#[derive(Debug)]
pub struct PreparedChart {
    pub chart: PulledChart,
    /// The package, when it is one that was made for a release's patches: it ends with this.
    _package: Option<SecretFile>,
}

/// What is kept beside a package.
#[derive(Debug, Serialize, Deserialize)]
struct Note {
    subject: String,
    digest: String,
}

impl Charts {
    /// Gets a chart, from the cache when its version is exact.
    ///
    /// # Errors
    ///
    /// Helm's, with the operator's registry login and, where that is refused, without any;
    /// [`HelmErrorKind::Changed`] when the kept package was damaged and its registry now has another one.
    pub async fn pull(&self, chart: &Chart) -> Result<PulledChart, HelmError> {
        self.fetch(chart, &FetchOptions::default()).await
    }

    /// Gets a release's chart, with the release's patches in it.
    ///
    /// # Errors
    ///
    /// As [`pull`](Self::pull), and as [`patched`](Self::patched).
    pub async fn prepare(&self, release: &Release, options: &TemplateOptions) -> Result<PreparedChart, HelmError> {
        let chart = self.fetch(&release.chart, &release.fetch).await?;
        self.patched(release, chart, options).await
    }

    /// Puts a release's patches into its chart: it is rendered, patched and packed anew, in memory.
    ///
    /// # Errors
    ///
    /// [`HelmErrorKind::Chart`] when it cannot be rendered or a patch does not fit.
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
        // By name and not by content, since a chart may make up a password at each rendering.
        let (crds, _) = patch::split(all, &templates);
        let patched = patch::apply([crds.clone(), templates].concat(), &release.patches);
        let patched = patched.map_err(|words| HelmError::new(HelmErrorKind::Chart, release.id.to_string(), words))?;
        let (objects, crds) = patch::split(patched, &crds);
        let file_error = |error: io::Error| HelmError::file(&release.id.to_string(), &error);
        let package = crate::wrap::wrap(&chart, &objects, &crds).map_err(file_error)?;
        let digest = hex(&Sha256::digest(&package));
        let file = SecretFile::of_bytes(&package).map_err(file_error)?;
        Ok(PreparedChart { chart: PulledChart { path: file.path().into(), digest, ..chart }, _package: Some(file) })
    }

    /// Gets a chart with what its repository and its release say about that.
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
            && package::digest(&package).is_ok_and(|digest| digest == note.digest)
        {
            return pulled(&request.subject, package);
        }
        let attempt = || self.attempt(&request);
        let patience = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(500))
            .with_max_times(RETRIES)
            .with_jitter();
        let fresh = attempt.retry(patience).when(HelmError::is_retryable).await?;
        let chart = pulled(&request.subject, fresh.path().join("chart.tgz"))?;
        if let Some(note) = recorded.filter(|note| note.digest != chart.digest) {
            let words = format!("recorded sha256:{}, now sha256:{}", note.digest, chart.digest);
            return Err(HelmError::new(HelmErrorKind::Changed, request.subject, words));
        }
        keep(fresh, &folder, &request.subject, &chart.digest)
            .map_err(|error| HelmError::file(&request.subject, &error))?;
        Ok(PulledChart { path: package, ..chart })
    }

    fn oci(&self, reference: &str, version: Option<&str>, fetch: &FetchOptions) -> Request {
        let resolved = self.mirrors.resolve(reference);
        let digest = reference.contains('@');
        // What stands in for a registry knows nothing of the original's login and certificates.
        let is_mirror = resolved.reference != reference;
        let mut fetch =
            if is_mirror { FetchOptions { devel: fetch.devel, ..FetchOptions::default() } } else { fetch.clone() };
        fetch.plain_http |= resolved.plain_http;
        Request {
            exact: digest || version.is_some_and(is_exact),
            anonymous: resolved.plain_http,
            subject: subject(&resolved.reference, version),
            source: ChartSource::Registry { reference: resolved.reference },
            version: version.map(str::to_owned),
            fetch,
        }
    }

    fn repository(&self, url: &str, name: &str, version: Option<&str>, fetch: &FetchOptions) -> Request {
        let place = place(url, name);
        let host = place.split('/').next().unwrap_or(&place);
        // What stands in for a repository is a registry: index files would name the original's addresses.
        if self.mirrors.has_mirror(host) {
            return self.oci(&place, version, fetch);
        }
        Request {
            exact: version.is_some_and(is_exact),
            anonymous: false,
            subject: subject(&place, version),
            source: ChartSource::Repository { url: url.to_owned(), name: name.to_owned() },
            version: version.map(str::to_owned),
            fetch: fetch.clone(),
        }
    }

    /// One pull, into a folder of its own that holds `chart.tgz`.
    async fn attempt(&self, request: &Request) -> Result<tempfile::TempDir, HelmError> {
        let file_error = |error: io::Error| HelmError::file(&request.subject, &error);
        std::fs::create_dir_all(&self.cache).map_err(file_error)?;
        let folder = tempfile::Builder::new().prefix(".pull-").tempdir_in(&self.cache).map_err(file_error)?;
        let mut done = self.helm_pull(request, folder.path(), request.anonymous).await;
        let is_ours = request.fetch.credentials.is_none() && !request.anonymous;
        if is_ours && done.as_ref().is_err_and(|error| error.kind == HelmErrorKind::Denied) {
            // A stale login is refused where nobody at all would be let in.
            done = self.helm_pull(request, folder.path(), true).await.or(done);
        }
        done?;
        let packed = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "tgz");
        let files = std::fs::read_dir(folder.path()).map_err(file_error)?;
        let package = files.filter_map(|entry| Some(entry.ok()?.path())).find(packed);
        let package =
            package.ok_or_else(|| HelmError::new(HelmErrorKind::Other, &request.subject, "helm left no package"))?;
        std::fs::rename(package, folder.path().join("chart.tgz")).map_err(file_error)?;
        Ok(folder)
    }

    async fn helm_pull(&self, request: &Request, folder: &Path, anonymous: bool) -> Result<(), HelmError> {
        let login = Login::of(request).map_err(|error| HelmError::file(&request.subject, &error))?;
        let cache = folder.join("index");
        if let Some(arguments) = request.update(login.as_ref(), &cache) {
            self.helm_update(request, arguments).await?;
        }
        let arguments = request.pull(login.as_ref(), &cache, folder);
        let mut command = self.helm.command().args(arguments).deadline(DEADLINE);
        if anonymous {
            command = self.without_credentials(command);
        }
        command.run().await.map(drop).map_err(|error| HelmError::from_process(&request.subject, error))
    }

    /// Gets the index of a repository. Why that fails, helm says on its standard output.
    async fn helm_update(&self, request: &Request, arguments: Vec<String>) -> Result<(), HelmError> {
        let told = Arc::new(Mutex::new(String::new()));
        let hear = told.clone();
        let listen = move |stream, line: &str| match hear.lock() {
            Ok(mut told) if stream == Stream::Out => told.push_str(&format!("{line}\n")),
            _ => {}
        };
        let updated = self.helm.command().args(arguments).deadline(DEADLINE).on_line(listen).run().await;
        updated.map(drop).map_err(|error| match error {
            process::Error::Failed { program, status, .. } => {
                let stderr = told.lock().map(|told| told.clone()).unwrap_or_default();
                let error = process::Error::Failed { program, status, stderr };
                HelmError::from_process(&request.subject, error)
            }
            other => HelmError::from_process(&request.subject, other),
        })
    }

    /// Points helm at an empty home; Docker's logins are helm's too.
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

    /// Nothing when there is none that can be used.
    fn read(folder: &Path) -> Option<Self> {
        serde_json::from_str(&std::fs::read_to_string(folder.join(Self::NAME)).ok()?).ok()
    }
}

/// Puts a pulled package in its place; the note goes last, so that a package without one counts as absent.
fn keep(fresh: tempfile::TempDir, folder: &Path, subject: &str, digest: &str) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    std::fs::rename(fresh.path().join("chart.tgz"), folder.join("chart.tgz"))?;
    let note = serde_json::to_string(&Note { subject: subject.to_owned(), digest: digest.to_owned() })?;
    let beside = fresh.path().join(Note::NAME);
    std::fs::write(&beside, note)?;
    std::fs::rename(beside, folder.join(Note::NAME))
}

pub(super) fn pulled(subject: &str, path: PathBuf) -> Result<PulledChart, HelmError> {
    let file_error = |error: io::Error| HelmError::file(subject, &error);
    let Metadata { name, version } = package::metadata(&path).map_err(file_error)?;
    let digest = package::digest(&path).map_err(file_error)?;
    Ok(PulledChart { path, digest, name, version })
}

/// A chart of an HTTP repository as `HOST/PATH/NAME`.
fn place(url: &str, name: &str) -> String {
    let place = url.split_once("://").map_or(url, |(_, place)| place).trim_end_matches('/');
    format!("{place}/{name}")
}

/// Reference and version of a chart that comes from elsewhere, before any mirror.
pub(super) fn reference_of(chart: &Chart) -> Option<String> {
    match chart {
        Chart::Local(_) => None,
        Chart::Oci { reference, version } => Some(subject(reference, version.as_deref())),
        Chart::Repository { url, name, version } => Some(subject(&place(url, name), version.as_deref())),
    }
}

/// Reference and version as a person reads them.
fn subject(reference: &str, version: Option<&str>) -> String {
    version.map_or_else(|| reference.to_owned(), |version| format!("{reference} {version}"))
}

/// Whether a version names one package; ranges such as `^1.2` do not.
fn is_exact(version: &str) -> bool {
    semver::Version::parse(version.trim_start_matches('v')).is_ok()
}
