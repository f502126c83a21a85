//! Files that recipes apply straight from the web: a text by its address, or what stands in for it on a disk.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};

/// A connection that is not there by then is tried again.
const CONNECT: Duration = Duration::from_secs(10);
const WHOLE: Duration = Duration::from_mins(1);
/// Bundles of custom resource definitions have some megabytes.
const LARGEST: u64 = 32 << 20;
const ATTEMPTS: usize = 4;

/// Where such files come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Web {
    Internet,
    /// Each file lies below the folder under its host and path.
    Folder(PathBuf),
}

/// Why a file is not to be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WebError {
    #[error("{url} answers {status}")]
    Status { url: String, status: u16 },
    #[error("{url} cannot be fetched: {reason}")]
    Unreachable { url: String, reason: String },
}

impl WebError {
    /// Another attempt may succeed.
    fn may_pass(&self) -> bool {
        match self {
            Self::Status { status, .. } => *status == 429 || *status >= 500,
            Self::Unreachable { .. } => true,
        }
    }
}

impl Web {
    /// The text at an address of `https` or `http`.
    ///
    /// # Errors
    ///
    /// An answer other than 200, after some attempts where it may change; a host that is silent; more than 32 MiB.
    pub async fn text(&self, url: &str) -> Result<String, WebError> {
        match self {
            Self::Folder(folder) => {
                let place = url.split_once("://").map_or(url, |(_, place)| place);
                let text = tokio::fs::read_to_string(folder.join(place)).await;
                text.map_err(|error| WebError::Unreachable { url: url.to_owned(), reason: error.to_string() })
            }
            Self::Internet => {
                let attempt = || {
                    let url = url.to_owned();
                    async move {
                        let joined = tokio::task::spawn_blocking(move || fetched(&url)).await;
                        joined.unwrap_or_else(|error| {
                            Err(WebError::Unreachable { url: String::new(), reason: error.to_string() })
                        })
                    }
                };
                attempt.retry(ExponentialBuilder::default().with_max_times(ATTEMPTS)).when(WebError::may_pass).await
            }
        }
    }
}

fn fetched(url: &str) -> Result<String, WebError> {
    let unreachable = |error: ureq::Error| WebError::Unreachable { url: url.to_owned(), reason: error.to_string() };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = ureq::tls::TlsConfig::builder().unversioned_rustls_crypto_provider(provider).build();
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_connect(Some(CONNECT))
        .timeout_global(Some(WHOLE))
        .http_status_as_error(false)
        .tls_config(tls)
        .build()
        .into();
    let mut answer = agent.get(url).call().map_err(unreachable)?;
    let status = answer.status().as_u16();
    if status != 200 {
        return Err(WebError::Status { url: url.to_owned(), status });
    }
    answer.body_mut().with_config().limit(LARGEST).read_to_string().map_err(unreachable)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// A server that answers with each of these in turn, and its address.
    async fn server(answers: Vec<&'static str>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = [0; 4096];
                let _ = stream.read(&mut request).await.unwrap();
                let text = format!("HTTP/1.1 {answer}\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
                stream.write_all(text.as_bytes()).await.unwrap();
            }
        });
        format!("http://{address}/a/b.yaml")
    }

    #[tokio::test]
    async fn temporary_errors_are_retried_and_permanent_ones_returned() {
        let url = server(vec!["503 Busy", "200 OK"]).await;
        assert_eq!(Web::Internet.text(&url).await, Ok("ok".to_owned()));
        let url = server(vec!["404 Not Found"]).await;
        assert_eq!(Web::Internet.text(&url).await, Err(WebError::Status { url, status: 404 }));
    }

    #[tokio::test]
    async fn a_folder_stands_in_for_the_web() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("example.org/a")).unwrap();
        std::fs::write(folder.path().join("example.org/a/b.yaml"), "x: 1").unwrap();
        let web = Web::Folder(folder.path().to_owned());
        assert_eq!(web.text("https://example.org/a/b.yaml").await, Ok("x: 1".to_owned()));
        assert!(web.text("https://example.org/c.yaml").await.is_err());
    }
}
