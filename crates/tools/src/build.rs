//! Building a tool with `go` from its pinned module.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use include_dir::{Dir, include_dir};

use super::Tool;
use process::Command;

static MODULES: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/src/modules");

/// The Kubernetes binaries took 4.5 min on two cores; slower machines need longer.
const DEADLINE: Duration = Duration::from_mins(40);

/// Why a tool could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    #[error("its source is not public")]
    NoSource,
    #[error("{path} is not part of this program")]
    NoModule { path: String },
    #[error("cannot write to {}", .path.display())]
    Write { path: PathBuf, source: io::Error },
    /// The thread that waits for the lock ended without a result.
    #[error("cannot lock {}", .path.display())]
    Lock { path: PathBuf, source: tokio::task::JoinError },
    #[error(transparent)]
    Go(#[from] process::Error),
}

/// Builds `tool` into `target`, once: other processes that need it wait for this one.
pub(super) async fn build(tool: Tool, cache: &Path, target: &Path) -> Result<(), BuildError> {
    let cannot_write = |source: io::Error| BuildError::Write { path: cache.to_owned(), source };
    let package = tool.package().ok_or(BuildError::NoSource)?;
    std::fs::create_dir_all(cache).map_err(cannot_write)?;
    let lock = cache.join(format!("{}.lock", package.module));
    let path = lock.clone();
    let _held = tokio::task::spawn_blocking(move || {
        let file = File::create(lock)?;
        file.lock()?;
        Ok::<_, io::Error>(file)
    })
    .await
    .map_err(|source| BuildError::Lock { path, source })?
    .map_err(cannot_write)?;
    if target.is_file() {
        return Ok(());
    }
    let source = tempfile::tempdir_in(cache).map_err(cannot_write)?;
    for name in ["go.mod", "go.sum"] {
        let path = format!("{}/{name}", package.module);
        let Some(file) = MODULES.get_file(&path) else { return Err(BuildError::NoModule { path }) };
        std::fs::write(source.path().join(name), file.contents()).map_err(cannot_write)?;
    }
    let built = source.path().join("built");
    Command::new("go")
        .args(["build", "-mod=mod", "-trimpath", "-ldflags", &format!("-s -w {}", package.flags), "-o"])
        .arg(&built)
        .arg(package.path)
        .env("CGO_ENABLED", "0")
        .env("GOFLAGS", "-buildvcs=false")
        .env("GOWORK", "off")
        .current_dir(source.path())
        .deadline(DEADLINE)
        .run()
        .await?;
    let folder = target.parent().unwrap_or(cache);
    std::fs::create_dir_all(folder).and_then(|()| std::fs::rename(&built, target)).map_err(cannot_write)
}
