//! Downloading an official release, checked against its published SHA-256.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use net::{Authorities, FetchError, FetchLimits, Fetcher, Get};
use retry::RetryPolicy;
use sha2::{Digest, Sha256};

use super::Tool;

/// Offline, the build follows at once: neither a hanging resolver nor a retry may delay it.
const LIMITS: FetchLimits =
    FetchLimits { connect: Duration::from_secs(2), attempt: Duration::from_mins(10), max_bytes: 512 << 20 };

/// Why a tool was not downloaded.
#[derive(Debug, thiserror::Error)]
pub(super) enum DownloadError {
    #[error("no official binary for this platform")]
    NoRelease,
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error("the SHA-256 of {url} is {found}, not {published} as published")]
    Digest { url: String, found: String, published: String },
    #[error("cannot write {}", .path.display())]
    Write { path: PathBuf, source: io::Error },
}

/// Downloads `tool` to `target`.
pub(super) async fn download(tool: Tool, target: &Path) -> Result<(), DownloadError> {
    let (url, sum) = tool.release().ok_or(DownloadError::NoRelease)?;
    let fetcher = Fetcher::new(LIMITS, Authorities::Public);
    let published = fetcher.fetch(&Get::new(sum), RetryPolicy::never()).await?;
    let published = String::from_utf8_lossy(&published).split_whitespace().next().unwrap_or_default().to_owned();
    let bytes = fetcher.fetch(&Get::new(&url), RetryPolicy::never()).await?;
    let found = Sha256::digest(&bytes).iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
    if found != published {
        return Err(DownloadError::Digest { url, found, published });
    }
    write(target, &bytes).map_err(|source| DownloadError::Write { path: target.to_owned(), source })
}

fn write(target: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = target.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    let temporary = tempfile::NamedTempFile::new_in(folder)?;
    std::fs::write(temporary.path(), bytes)?;
    std::fs::set_permissions(temporary.path(), std::fs::Permissions::from_mode(0o755))?;
    temporary.persist(target).map_err(|error| error.error)?;
    Ok(())
}
