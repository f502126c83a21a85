//! Files that recipes apply by their URL, or local files instead of them.

use std::path::PathBuf;
use std::time::Duration;

use retry::policies::DOWNLOAD;

use crate::{Authorities, FetchError, FetchLimits, Fetcher, Get};

/// Bundles of custom resource definitions have some megabytes.
const LIMITS: FetchLimits =
    FetchLimits { connect: Duration::from_secs(10), attempt: Duration::from_mins(1), max_bytes: 32 << 20 };

/// Where such files are downloaded from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DownloadSource {
    Internet,
    /// Each file is in the folder, below its host and path.
    Folder(PathBuf),
}

impl DownloadSource {
    /// The text at an address of `https` or `http`.
    ///
    /// # Errors
    ///
    /// A status other than 200 or an unreachable host, after retries; more than 32 MiB; a redirect from `https` to `http`.
    pub async fn fetch_text(&self, url: &str) -> Result<String, FetchError> {
        match self {
            Self::Folder(folder) => {
                let path = url.split_once("://").map_or(url, |(_, path)| path);
                let text = tokio::fs::read_to_string(folder.join(path)).await;
                text.map_err(|source| FetchError::Read { url: url.to_owned(), source })
            }
            Self::Internet => {
                let bytes = Fetcher::new(LIMITS, Authorities::Public).fetch(&Get::new(url), DOWNLOAD).await?;
                String::from_utf8(bytes).map_err(|_| FetchError::NotText { url: url.to_owned() })
            }
        }
    }
}
