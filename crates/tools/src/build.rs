//! Building a tool with `go` from its pinned module.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use include_dir::{Dir, include_dir};

use super::Tool;
use super::toolbox::Error;
use process::Command;

static MODULES: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/src/modules");

/// The Kubernetes binaries took 4.5 min on two cores; slower machines need longer.
const DEADLINE: Duration = Duration::from_mins(40);

/// Builds `tool` into `folder`, once: other processes that want it wait for this one.
pub(super) async fn build(tool: Tool, cache: &Path, target: &Path) -> Result<(), Error> {
    let failed = |reason: String| Error::Build { tool, reason };
    let package = tool.package().ok_or_else(|| failed("its source is not public".to_owned()))?;
    std::fs::create_dir_all(cache).map_err(|error| failed(error.to_string()))?;
    let lock = cache.join(format!("{}.lock", package.module));
    let _held = tokio::task::spawn_blocking(move || {
        let file = File::create(lock)?;
        file.lock()?;
        Ok::<_, std::io::Error>(file)
    })
    .await
    .map_err(|error| failed(error.to_string()))?
    .map_err(|error| failed(error.to_string()))?;
    if target.is_file() {
        return Ok(());
    }
    let source = tempfile::tempdir_in(cache).map_err(|error| failed(error.to_string()))?;
    for name in ["go.mod", "go.sum"] {
        let path = format!("{}/{name}", package.module);
        let content = MODULES.get_file(&path).ok_or_else(|| failed(format!("{path} is not built in")))?.contents();
        std::fs::write(source.path().join(name), content).map_err(|error| failed(error.to_string()))?;
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
        .await
        .map_err(|error| failed(error.to_string()))?;
    let folder = target.parent().ok_or_else(|| failed("the cache has no folder for it".to_owned()))?;
    std::fs::create_dir_all(folder)
        .and_then(|()| std::fs::rename(&built, target))
        .map_err(|error| failed(error.to_string()))
}
