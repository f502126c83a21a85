//! The chart registry of a rehearsal: the real registry of `crane`, filled with stand-ins or with the originals.
//!
//! A chart is stored under its original host's name (`ADDRESS/quay.io/cilium/charts/cilium`), so one mirror entry for all
//! hosts is enough.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::future::try_join_all;
use include_dir::{Dir, include_dir};
use process::{Command, Daemon, Output};
use tokio::net::TcpStream;

use super::scenario::RegistryFault;
use super::spec::{ChartsFrom, ReleaseSpec};

pub(super) mod crd_files;
mod faults;

/// One folder per chart, and `_shared` with templates for all charts.
static CHARTS: Dir = include_dir!("$CARGO_MANIFEST_DIR/src/charts");
const SHARED: &str = "_shared";
/// The stand-in for unknown charts.
const GENERIC: &str = "generic";

/// Charts whose stand-in is another chart's, because a bootstrap needs the same CRDs of both.
const STAND_IN_ALIASES: [(&str, &str); 3] = [
    ("gateway-api", "gateway-crds-helm"),
    ("kube-prometheus-stack", "prometheus-operator-crds"),
    ("prometheus-operator", "prometheus-operator-crds"),
];

/// Between two attempts to connect to the starting registry.
const POLL_INTERVAL: Duration = Duration::from_millis(20);
const START_TIMEOUT: Duration = Duration::from_secs(20);
/// For packaging and pushing, which are local.
const LOCAL_TIMEOUT: Duration = Duration::from_mins(1);
/// For pulling an original over the network.
const REMOTE_TIMEOUT: Duration = Duration::from_mins(2);

/// Why the chart registry could not be started or filled.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    #[error("the registry at {address} cannot be started")]
    Start { address: SocketAddr, source: process::Error },
    #[error("the faults of the registry cannot be served at {address}")]
    Faults { address: SocketAddr, source: io::Error },
    #[error("the registry at {address} exited: {log}")]
    Exited { address: SocketAddr, log: String },
    #[error("the registry at {address} did not listen within {}s", START_TIMEOUT.as_secs())]
    NotListening { address: SocketAddr },
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("helm cannot package the stand-in for chart {chart}")]
    Package { chart: String, source: process::Error },
    #[error("helm created no package for the stand-in for chart {chart}")]
    NoPackage { chart: String },
    #[error("chart {package} cannot be pushed to {target}")]
    Push { package: String, target: String, source: process::Error },
    #[error("helm cannot render the CRDs of the stand-in for {project}")]
    Render { project: String, source: process::Error },
    #[error("the CRDs of the stand-in for {project} are not valid YAML: {diagnostic}")]
    Yaml { project: String, diagnostic: yaml::Diagnostic },
}

impl RegistryError {
    fn write(path: &Path) -> impl FnOnce(io::Error) -> Self {
        |source| Self::Write { path: path.to_owned(), source }
    }
}

/// A running registry. It ends with this value.
#[derive(Debug)]
pub struct ChartRegistry {
    daemon: Daemon,
    stand_ins: Vec<String>,
}

impl ChartRegistry {
    /// Starts the registry and fills it with the chart of every release. An original that cannot be pulled is replaced by
    /// a stand-in.
    ///
    /// # Errors
    ///
    /// The registry does not start, or a chart cannot be packaged or pushed.
    pub async fn start(
        crane: &Path,
        helm: &Path,
        address: SocketAddr,
        folder: &Path,
        releases: &[ReleaseSpec],
        charts: ChartsFrom,
    ) -> Result<Self, RegistryError> {
        let store = folder.join("store");
        std::fs::create_dir_all(&store).map_err(RegistryError::write(&store))?;
        let daemon = Command::new(crane)
            .args(["registry", "serve", "--address", &address.to_string(), "--disk"])
            .arg(store)
            .spawn_daemon(&folder.join("registry.log"))
            .await
            .map_err(|source| RegistryError::Start { address, source })?;
        let mut registry = Self { daemon, stand_ins: Vec::new() };
        let packager = ChartPackager { helm: helm.to_owned(), folder: folder.join("packing"), charts };
        let packages = try_join_all(distinct_charts(releases).into_iter().map(|release| packager.package(release)));
        let (listening, packages) = tokio::join!(registry.wait_until_listening(address), packages);
        listening?;
        let packages = packages?;
        try_join_all(packages.iter().map(|package| packager.push(package, address))).await?;
        registry.stand_ins = packages.into_iter().filter_map(|package| package.stand_in).collect();
        registry.stand_ins.sort();
        Ok(registry)
    }

    async fn wait_until_listening(&mut self, address: SocketAddr) -> Result<(), RegistryError> {
        let deadline = tokio::time::Instant::now() + START_TIMEOUT;
        loop {
            if let Some(log) = self.daemon.ended() {
                return Err(RegistryError::Exited { address, log });
            }
            if TcpStream::connect(address).await.is_ok() {
                return Ok(());
            }
            if tokio::time::Instant::now() > deadline {
                return Err(RegistryError::NotListening { address });
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// Charts that are not the originals: name, version and kind of stand-in.
    pub fn stand_ins(&self) -> &[String] {
        &self.stand_ins
    }

    /// Serves the registry at `upstream` on `address`, with faults, until the returned future is dropped.
    pub(super) async fn serve_with_faults(
        address: SocketAddr,
        upstream: SocketAddr,
        faults: &[RegistryFault],
    ) -> Result<impl Future<Output = ()> + Send + use<>, RegistryError> {
        faults::listen(address, upstream, faults).await.map_err(|source| RegistryError::Faults { address, source })
    }

    pub async fn shut_down(self) {
        self.daemon.stop().await;
    }
}

/// One release for each chart and version.
fn distinct_charts(releases: &[ReleaseSpec]) -> Vec<&ReleaseSpec> {
    let mut distinct: Vec<&ReleaseSpec> = Vec::new();
    for release in releases {
        if !distinct.iter().any(|other| (&other.chart, &other.version) == (&release.chart, &release.version)) {
            distinct.push(release);
        }
    }
    distinct
}

/// A chart ready to be pushed.
#[derive(Debug)]
struct PackagedChart {
    path: PathBuf,
    /// `HOST/PATH` without the chart's name, which helm appends.
    repository: String,
    /// Its description in the summary, if it is not the original.
    stand_in: Option<String>,
}

/// The built-in stand-in for the chart of this name.
fn builtin_chart(name: &str) -> Option<&'static Dir<'static>> {
    let alias = STAND_IN_ALIASES.iter().find(|(other, _)| *other == name).map_or(name, |(_, target)| target);
    CHARTS.get_dir(alias).filter(|_| name != SHARED && name != GENERIC)
}

#[expect(clippy::expect_used, reason = "the folder is part of the source tree")]
fn builtin_folder(name: &str) -> &'static Dir<'static> {
    CHARTS.get_dir(name).expect("the built-in charts contain this folder")
}

/// Packages charts.
#[derive(Debug)]
struct ChartPackager {
    helm: PathBuf,
    folder: PathBuf,
    charts: ChartsFrom,
}

impl ChartPackager {
    async fn package(&self, release: &ReleaseSpec) -> Result<PackagedChart, RegistryError> {
        let chart = release.chart.as_str();
        let version = release.version.as_deref();
        let (repository, name) = chart.rsplit_once('/').unwrap_or(("", chart));
        let folder = self.folder.join(format!("{}-{}", chart.replace('/', "_"), version.unwrap_or("")));
        std::fs::create_dir_all(&folder).map_err(RegistryError::write(&folder))?;
        let packaged = |path, stand_in| PackagedChart { path, repository: repository.to_owned(), stand_in };
        if self.charts == ChartsFrom::Real
            && let Some(path) = self.pull_original(chart, version, &folder).await
        {
            return Ok(packaged(path, None));
        }
        let builtin = builtin_chart(name);
        let kind = if builtin.is_some() { "stand-in" } else { "generic stand-in" };
        let path = self.package_stand_in(builtin, name, version, &folder).await?;
        let version = version.map(|version| format!(" {version}")).unwrap_or_default();
        let reason = match self.charts {
            ChartsFrom::StandIns => "",
            ChartsFrom::Real => ", because the original cannot be pulled",
        };
        Ok(packaged(path, Some(format!("{name}{version} ({kind}{reason})"))))
    }

    /// Packages a stand-in under the chart's name and version.
    async fn package_stand_in(
        &self,
        builtin: Option<&'static Dir<'static>>,
        name: &str,
        version: Option<&str>,
        folder: &Path,
    ) -> Result<PathBuf, RegistryError> {
        let source = folder.join("source").join(name);
        let chart = builtin.unwrap_or_else(|| builtin_folder(GENERIC));
        write_folder(chart, &source).map_err(RegistryError::write(&source))?;
        let templates = source.join("templates");
        write_folder(builtin_folder(SHARED), &templates).map_err(RegistryError::write(&templates))?;
        if builtin.is_none_or(|builtin| builtin.path() != Path::new(name)) {
            let metadata = serde_json::json!({"apiVersion": "v2", "name": name, "version": "1.0.0"});
            let path = source.join("Chart.yaml");
            std::fs::write(&path, metadata.to_string()).map_err(RegistryError::write(&path))?;
        }
        let mut command = Command::new(&self.helm).arg("package").arg(&source).arg("--destination").arg(folder);
        if let Some(version) = version {
            command = command.args(["--version", version]);
        }
        let chart = || name.to_owned();
        self.run(command, LOCAL_TIMEOUT).await.map_err(|source| RegistryError::Package { chart: chart(), source })?;
        find_package(folder).ok_or_else(|| RegistryError::NoPackage { chart: chart() })
    }

    /// Pulls the original from an OCI registry or a chart repository at its address.
    async fn pull_original(&self, chart: &str, version: Option<&str>, folder: &Path) -> Option<PathBuf> {
        let (repository, name) = chart.rsplit_once('/')?;
        let repository = format!("https://{repository}");
        let sources = [vec![format!("oci://{chart}")], vec![name.to_owned(), "--repo".to_owned(), repository]];
        for source in sources {
            let mut command = Command::new(&self.helm).arg("pull").args(source).arg("--destination").arg(folder);
            if let Some(version) = version {
                command = command.args(["--version", version]);
            }
            if self.run(command, REMOTE_TIMEOUT).await.is_ok() {
                return find_package(folder);
            }
        }
        None
    }

    async fn push(&self, chart: &PackagedChart, address: SocketAddr) -> Result<(), RegistryError> {
        let target = format!("oci://{address}/{}", chart.repository);
        let command = Command::new(&self.helm).arg("push").arg(&chart.path).args([&target, "--plain-http"]);
        let package = || chart.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        match self.run(command, LOCAL_TIMEOUT).await {
            Ok(_) => Ok(()),
            Err(source) => Err(RegistryError::Push { package: package(), target, source }),
        }
    }

    /// Runs helm with home folders of its own.
    async fn run(&self, command: Command, timeout: Duration) -> Result<Output, process::Error> {
        let home = self.folder.join("helm");
        let command = command
            .env("HELM_CACHE_HOME", home.join("cache"))
            .env("HELM_CONFIG_HOME", home.join("config"))
            .env("HELM_DATA_HOME", home.join("data"))
            .env("DOCKER_CONFIG", home.join("docker"))
            .env("KUBECONFIG", "/dev/null")
            .deadline(timeout);
        command.run().await
    }
}

fn find_package(folder: &Path) -> Option<PathBuf> {
    let files = std::fs::read_dir(folder).ok()?;
    files.filter_map(|entry| Some(entry.ok()?.path())).find(|path| path.extension().is_some_and(|end| end == "tgz"))
}

/// Writes the contents of a built-in folder to `target`.
fn write_folder(folder: &Dir, target: &Path) -> io::Result<()> {
    std::fs::create_dir_all(target)?;
    for file in folder.files() {
        std::fs::write(target.join(file.path().file_name().unwrap_or_default()), file.contents())?;
    }
    for inner in folder.dirs() {
        write_folder(inner, &target.join(inner.path().file_name().unwrap_or_default()))?;
    }
    Ok(())
}
