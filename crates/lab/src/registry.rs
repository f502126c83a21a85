//! The registry that a rehearsal's charts come from: a real one, filled with stand-ins or with the originals.
//!
//! A chart lies under its original host's name (`ADDRESS/quay.io/cilium/charts/cilium`), so that one mirror entry for
//! every host leads here.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::future::try_join_all;
use include_dir::{Dir, include_dir};
use tokio::net::TcpStream;

use super::spec::{ChartsFrom, ReleaseSpec};
use process::{Command, Daemon, Output};

pub(super) mod files;

/// One folder a chart, and `_shared`, whose templates every chart is given.
static CHARTS: Dir = include_dir!("$CARGO_MANIFEST_DIR/src/charts");
const SHARED: &str = "_shared";
/// What stands in for a chart that is not known.
const GENERIC: &str = "generic";

/// Charts of which the stand-in is another's: what a bootstrap needs of both are the same CRDs.
const ALIKE: [(&str, &str); 3] = [
    ("gateway-api", "gateway-crds-helm"),
    ("kube-prometheus-stack", "prometheus-operator-crds"),
    ("prometheus-operator", "prometheus-operator-crds"),
];

/// Between two looks at whether the registry listens.
const PAUSE: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_secs(20);
/// Packing and pushing are local; an original comes over the network.
const LOCAL: Duration = Duration::from_mins(1);
const REMOTE: Duration = Duration::from_mins(2);

/// A running registry. It ends with this value.
#[derive(Debug)]
pub struct Registry {
    daemon: Daemon,
    stand_ins: Vec<String>,
}

impl Registry {
    /// Starts the registry and fills it with the chart of every release.
    ///
    /// # Errors
    ///
    /// A registry that does not start, a chart that cannot be packed or pushed. An original that cannot be pulled is
    /// none: a stand-in takes its place.
    pub async fn start(
        crane: &Path,
        helm: &Path,
        address: SocketAddr,
        folder: &Path,
        releases: &[ReleaseSpec],
        charts: ChartsFrom,
    ) -> Result<Self, String> {
        let problem = |error: &dyn std::fmt::Display| format!("the registry at {address} cannot be started: {error}");
        let store = folder.join("store");
        std::fs::create_dir_all(&store).map_err(|error| problem(&error))?;
        let daemon = Command::new(crane)
            .args(["registry", "serve", "--address", &address.to_string(), "--disk"])
            .arg(store)
            .spawn_daemon(&folder.join("registry.log"))
            .await
            .map_err(|error| problem(&error))?;
        let mut registry = Self { daemon, stand_ins: Vec::new() };
        let kitchen = Kitchen { helm: helm.to_owned(), folder: folder.join("packing"), charts };
        let packages = try_join_all(distinct(releases).into_iter().map(|release| kitchen.package(release)));
        let (listening, packages) = tokio::join!(registry.listening(address), packages);
        listening.map_err(|error| problem(&error))?;
        let packages = packages?;
        try_join_all(packages.iter().map(|package| kitchen.push(package, address))).await?;
        registry.stand_ins = packages.into_iter().filter_map(|package| package.stand_in).collect();
        registry.stand_ins.sort();
        Ok(registry)
    }

    async fn listening(&mut self, address: SocketAddr) -> Result<(), String> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            if let Some(reason) = self.daemon.ended() {
                return Err(reason);
            }
            if TcpStream::connect(address).await.is_ok() {
                return Ok(());
            }
            if tokio::time::Instant::now() > deadline {
                return Err("it does not listen".to_owned());
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Charts that are not the originals: name, version and kind of stand-in.
    pub fn stand_ins(&self) -> &[String] {
        &self.stand_ins
    }

    pub async fn shut_down(self) {
        self.daemon.stop().await;
    }
}

/// Releases of different charts or versions; several may share one.
fn distinct(releases: &[ReleaseSpec]) -> Vec<&ReleaseSpec> {
    let mut found: Vec<&ReleaseSpec> = Vec::new();
    for release in releases {
        if !found.iter().any(|other| (&other.chart, &other.version) == (&release.chart, &release.version)) {
            found.push(release);
        }
    }
    found
}

/// A chart ready to be pushed.
#[derive(Debug)]
struct Package {
    path: PathBuf,
    /// `HOST/PATH` without the chart's name, which helm appends.
    place: String,
    /// How the summary names it, when it is not the original.
    stand_in: Option<String>,
}

/// The built-in chart that stands in for one of this name.
fn known(name: &str) -> Option<&'static Dir<'static>> {
    let alike = ALIKE.iter().find(|(other, _)| *other == name).map_or(name, |(_, known)| known);
    CHARTS.get_dir(alike).filter(|_| name != SHARED && name != GENERIC)
}

/// Makes packages.
#[derive(Debug)]
struct Kitchen {
    helm: PathBuf,
    folder: PathBuf,
    charts: ChartsFrom,
}

impl Kitchen {
    async fn package(&self, release: &ReleaseSpec) -> Result<Package, String> {
        let chart = release.chart.as_str();
        let (place, name) = chart.rsplit_once('/').unwrap_or(("", chart));
        let folder =
            self.folder.join(format!("{}-{}", chart.replace('/', "_"), release.version.as_deref().unwrap_or("")));
        std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let package = |path, stand_in| Package { path, place: place.to_owned(), stand_in };
        if self.charts == ChartsFrom::Real
            && let Some(path) = self.original(chart, release.version.as_deref(), &folder).await
        {
            return Ok(package(path, None));
        }
        let known = known(name);
        let kind = if known.is_some() { "stand-in" } else { "generic stand-in" };
        let path = self.stand_in(known, name, release.version.as_deref(), &folder).await?;
        let version = release.version.as_deref().map(|version| format!(" {version}")).unwrap_or_default();
        let reason = match self.charts {
            ChartsFrom::StandIns => "",
            ChartsFrom::Real => ", since the original cannot be pulled",
        };
        Ok(package(path, Some(format!("{name}{version} ({kind}{reason})"))))
    }

    /// Packs a stand-in under the name and version that are asked for.
    async fn stand_in(
        &self,
        known: Option<&Dir<'static>>,
        name: &str,
        version: Option<&str>,
        folder: &Path,
    ) -> Result<PathBuf, String> {
        let failed =
            |error: &dyn std::fmt::Display| format!("the stand-in for the chart {name} cannot be made: {error}");
        let source = folder.join("source").join(name);
        let chart = known.or_else(|| CHARTS.get_dir(GENERIC)).ok_or_else(|| failed(&"it was not built in"))?;
        let shared = CHARTS.get_dir(SHARED).ok_or_else(|| failed(&"what all share was not built in"))?;
        write(chart, chart.path(), &source).map_err(|error| failed(&error))?;
        write(shared, shared.path(), &source.join("templates")).map_err(|error| failed(&error))?;
        if known.is_none_or(|known| known.path() != Path::new(name)) {
            let metadata = serde_json::json!({"apiVersion": "v2", "name": name, "version": "1.0.0"});
            std::fs::write(source.join("Chart.yaml"), metadata.to_string()).map_err(|error| failed(&error))?;
        }
        let mut command = Command::new(&self.helm).arg("package").arg(&source).arg("--destination").arg(folder);
        if let Some(version) = version {
            command = command.args(["--version", version]);
        }
        self.run(command, LOCAL).await.map_err(|error| failed(&error))?;
        packed(folder).ok_or_else(|| failed(&"helm left no package"))
    }

    /// Pulls the original from its registry, or from the repository of that address; nothing when neither has it.
    async fn original(&self, chart: &str, version: Option<&str>, folder: &Path) -> Option<PathBuf> {
        let (repository, name) = chart.rsplit_once('/')?;
        let repository = format!("https://{repository}");
        let ways = [vec![format!("oci://{chart}")], vec![name.to_owned(), "--repo".to_owned(), repository]];
        for way in ways {
            let mut command = Command::new(&self.helm).arg("pull").args(way).arg("--destination").arg(folder);
            if let Some(version) = version {
                command = command.args(["--version", version]);
            }
            if self.run(command, REMOTE).await.is_ok() {
                return packed(folder);
            }
        }
        None
    }

    async fn push(&self, package: &Package, address: SocketAddr) -> Result<(), String> {
        let target = format!("oci://{address}/{}", package.place);
        let command = Command::new(&self.helm).arg("push").arg(&package.path).args([&target, "--plain-http"]);
        let name = package.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        self.run(command, LOCAL)
            .await
            .map(drop)
            .map_err(|error| format!("the chart {name} cannot be pushed to {target}: {error}"))
    }

    /// Runs helm in a home of its own.
    async fn run(&self, command: Command, deadline: Duration) -> Result<Output, String> {
        let home = self.folder.join("helm");
        let command = command
            .env("HELM_CACHE_HOME", home.join("cache"))
            .env("HELM_CONFIG_HOME", home.join("config"))
            .env("HELM_DATA_HOME", home.join("data"))
            .env("DOCKER_CONFIG", home.join("docker"))
            .env("KUBECONFIG", "/dev/null")
            .deadline(deadline);
        command.run().await.map_err(|error| error.to_string())
    }
}

fn packed(folder: &Path) -> Option<PathBuf> {
    let files = std::fs::read_dir(folder).ok()?;
    files.filter_map(|entry| Some(entry.ok()?.path())).find(|path| path.extension().is_some_and(|end| end == "tgz"))
}

/// Writes a built-in folder to disk, without its own name.
fn write(folder: &Dir, root: &Path, target: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(target)?;
    for file in folder.files() {
        let name = file.path().strip_prefix(root).unwrap_or(file.path());
        std::fs::write(target.join(name), file.contents())?;
    }
    for inner in folder.dirs() {
        let name = inner.path().strip_prefix(root).unwrap_or(inner.path());
        write(inner, inner.path(), &target.join(name))?;
    }
    Ok(())
}
