//! Finding a tool, and providing it when it is not installed.

use std::path::{Path, PathBuf};
use std::time::Duration;

use error_report::ErrorReport;
use semver::Version;

use super::build::{self, BuildError};
use super::{Tool, download};
use process::Command;

/// Where a tool was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    Directory,
    Path,
    Cache,
    Download,
    Build,
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Directory => "tools directory",
            Self::Path => "PATH",
            Self::Cache => "cache",
            Self::Download => "download",
            Self::Build => "built by go",
        })
    }
}

/// A tool that was found, and its version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub tool: Tool,
    pub path: PathBuf,
    pub version: Version,
    pub source: Source,
}

/// Why a tool could not be provided.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{} was not found (searched: {searched})", .tool.name())]
    Missing { tool: Tool, searched: String },
    #[error("{} {found} at {} is too old; {} or newer is required", .tool.name(), .path.display(), .tool.oldest())]
    TooOld { tool: Tool, found: Version, path: PathBuf },
    #[error("cannot build {}", .tool.name())]
    Build { tool: Tool, source: BuildError },
}

/// Where to look.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// `--tools-dir`; `KUBEBUILDER_ASSETS` when absent.
    pub tools_dir: Option<PathBuf>,
    /// The value of `PATH`.
    pub path: Option<std::ffi::OsString>,
    /// The folder of the cache; without one nothing is downloaded or built.
    pub cache: Option<PathBuf>,
}

impl Options {
    /// The options of this process's environment.
    pub fn from_environment(tools_dir: Option<PathBuf>) -> Self {
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let cache = variable("XDG_CACHE_HOME")
            .map(PathBuf::from)
            .or_else(|| variable("HOME").map(|home| PathBuf::from(home).join(".cache")));
        Self {
            tools_dir: tools_dir.or_else(|| variable("KUBEBUILDER_ASSETS").map(PathBuf::from)),
            path: variable("PATH"),
            cache: cache.map(|cache| cache.join("k8s-bootstrap").join("tools")),
        }
    }
}

/// Finds tools, and provides those that are not installed.
#[derive(Debug, Clone)]
pub struct Toolbox {
    options: Options,
}

impl Toolbox {
    pub fn new(options: Options) -> Self {
        Self { options }
    }

    /// Looks for a tool without changing anything.
    ///
    /// # Errors
    ///
    /// [`Error::Missing`] with the places that were searched, [`Error::TooOld`] when there is only an old one.
    pub async fn find(&self, tool: Tool) -> Result<Found, Error> {
        let mut too_old = None;
        for (path, source) in self.candidates(tool) {
            let known = match source {
                // Checked against its digest, or built from its pinned source, before it was put there.
                Source::Cache => tool.pinned(),
                // Put there for this program.
                Source::Directory if !tool.prints_version() => tool.pinned(),
                _ if !tool.prints_version() => None,
                _ => version(tool, &path).await,
            };
            let Some(version) = known else { continue };
            if version >= tool.oldest() {
                return Ok(Found { tool, path, version, source });
            }
            too_old.get_or_insert(Error::TooOld { tool, found: version, path });
        }
        Err(too_old.unwrap_or_else(|| Error::Missing { tool, searched: self.search_path() }))
    }

    /// Finds a tool, or downloads it, or builds it; `report` receives a line for each attempt.
    ///
    /// # Errors
    ///
    /// When the tool is not installed and cannot be downloaded or built either.
    pub async fn provide(&self, tool: Tool, report: &(dyn Fn(&str) + Send + Sync)) -> Result<Found, Error> {
        let missing = match self.find(tool).await {
            Ok(found) => return Ok(found),
            Err(missing) => missing,
        };
        let (Some(cache), Some(version)) = (self.options.cache.clone(), tool.pinned()) else { return Err(missing) };
        let target = cached(&cache, tool, &version);
        report(&format!("{} {version}: looking for the official release", tool.name()));
        let source = match download::download(tool, &target).await {
            Ok(()) => Source::Download,
            Err(error) => {
                let reason = ErrorReport::new(&error).to_string();
                report(&format!("{} {version}: no download ({reason}); building it with go", tool.name()));
                build::build(tool, &cache, &target).await.map_err(|source| Error::Build { tool, source })?;
                Source::Build
            }
        };
        Ok(Found { tool, path: target, version, source })
    }

    fn candidates(&self, tool: Tool) -> Vec<(PathBuf, Source)> {
        let mut candidates = Vec::new();
        if let Some(folder) = &self.options.tools_dir {
            candidates.push((folder.join(tool.name()), Source::Directory));
        }
        for folder in self.options.path.iter().flat_map(std::env::split_paths) {
            candidates.push((folder.join(tool.name()), Source::Path));
        }
        if let (Some(cache), Some(version)) = (&self.options.cache, tool.pinned()) {
            candidates.push((cached(cache, tool, &version), Source::Cache));
        }
        candidates.retain(|(path, _)| path.is_file());
        candidates
    }

    fn search_path(&self) -> String {
        let mut places = Vec::new();
        if let Some(folder) = &self.options.tools_dir {
            places.push(folder.display().to_string());
        }
        places.push("PATH".to_owned());
        if let Some(cache) = &self.options.cache {
            places.push(cache.display().to_string());
        }
        places.join(", ")
    }
}

fn cached(cache: &Path, tool: Tool, version: &Version) -> PathBuf {
    cache.join(tool.name()).join(version.to_string()).join(tool.name())
}

/// The version that a program prints, or nothing when it does not run.
async fn version(tool: Tool, path: &Path) -> Option<Version> {
    let output = Command::new(path)
        .args(tool.version_arguments().iter().copied())
        .deadline(Duration::from_secs(20))
        .run()
        .await
        .ok()?;
    parse_version(&String::from_utf8_lossy(&output.stdout))
}

fn parse_version(text: &str) -> Option<Version> {
    let captures = lazy_regex::regex!(r"\bv?(\d+)\.(\d+)\.(\d+)").captures(text)?;
    let number = |index: usize| captures.get(index)?.as_str().parse().ok();
    Some(Version::new(number(1)?, number(2)?, number(3)?))
}
