//! The one bounded HTTP GET: time limits, a cap on the body, typed failures, retries by a policy.
//!
//! It is built on `ureq`, which blocks, on a thread of tokio's pool: `ureq` honours `HTTPS_PROXY` and `NO_PROXY`, follows
//! redirects without passing on `Authorization`, and has its own root certificates. The `hyper` client that `kube` brings
//! has none of the three.

use std::sync::Arc;
use std::time::Duration;

use retry::{Backoff, RetryPolicy, Verdict, retry_with};
use secrecy::{ExposeSecret, SecretString};
use ureq::tls::{Certificate, RootCerts, TlsConfig};

/// A message in the body of an error response.
const MAX_MESSAGE: u64 = 64 << 10;
/// No `Retry-After` is followed for longer, unless the caller judges responses itself.
const LONGEST_RETRY_AFTER: Duration = Duration::from_mins(1);

/// What one request may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FetchLimits {
    /// For name resolution, and again for the connection.
    pub connect: Duration,
    /// For one attempt, to the end of the body.
    pub attempt: Duration,
    pub max_bytes: u64,
}

/// A GET request.
#[derive(Debug, Clone)]
pub struct Get {
    url: String,
    query: Vec<(&'static str, String)>,
    bearer: Option<SecretString>,
}

impl Get {
    pub fn new(url: impl Into<String>) -> Self {
        Self { url: url.into(), query: vec![], bearer: None }
    }

    #[must_use]
    pub fn query(mut self, name: &'static str, value: String) -> Self {
        self.query.push((name, value));
        self
    }

    #[must_use]
    pub fn bearer(self, token: SecretString) -> Self {
        Self { bearer: Some(token), ..self }
    }
}

/// Why a file cannot be fetched. No message contains a token or the body of a response.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Any status other than 200.
    #[error("{url} returned HTTP status {status}")]
    Status {
        url: String,
        status: u16,
        retry_after: Option<Duration>,
        /// The body, as far as it is text; it may be needed for the server's message.
        body: String,
    },
    #[error("{url} does not respond")]
    Unreachable { url: String, source: Box<ureq::Error> },
    #[error("{url} redirects to an address without TLS")]
    InsecureRedirect { url: String },
    #[error("{url} is larger than {max_bytes} bytes")]
    TooLarge { url: String, max_bytes: u64 },
    #[error("{url} is not UTF-8 text")]
    NotText { url: String },
    /// A file that stands in for the web cannot be read.
    #[error("{url} cannot be read")]
    Read { url: String, source: std::io::Error },
    /// The thread of the request ended without a result.
    #[error("the request to {url} was aborted")]
    Aborted { url: String, source: tokio::task::JoinError },
}

impl FetchError {
    /// Whether another attempt may succeed.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Status { status, .. } => *status == 429 || *status >= 500,
            Self::Unreachable { .. } => true,
            Self::InsecureRedirect { .. }
            | Self::TooLarge { .. }
            | Self::NotText { .. }
            | Self::Read { .. }
            | Self::Aborted { .. } => false,
        }
    }

    fn verdict(&self) -> Verdict {
        match self {
            Self::Status { retry_after: Some(delay), .. } if self.is_retryable() => {
                Verdict::RetryAfter((*delay).min(LONGEST_RETRY_AFTER))
            }
            _ if self.is_retryable() => Verdict::Retry,
            _ => Verdict::GiveUp,
        }
    }
}

/// Which certificates are trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Authorities<'p> {
    Public,
    /// These only (PEM).
    Private(&'p str),
}

/// Sends bounded GET requests. Clones share their connections.
#[derive(Debug, Clone)]
pub struct Fetcher {
    agent: ureq::Agent,
    max_bytes: u64,
}

impl Fetcher {
    pub fn new(limits: FetchLimits, authorities: Authorities<'_>) -> Self {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = TlsConfig::builder().unversioned_rustls_crypto_provider(provider);
        let tls = match authorities {
            Authorities::Public => tls,
            Authorities::Private(pem) => tls.root_certs(RootCerts::new_with_certs(&certificates(pem))),
        };
        let agent = ureq::Agent::config_builder()
            .timeout_resolve(Some(limits.connect))
            .timeout_connect(Some(limits.connect))
            .timeout_global(Some(limits.attempt))
            .http_status_as_error(false)
            .tls_config(tls.build())
            .build();
        Self { agent: agent.into(), max_bytes: limits.max_bytes }
    }

    /// The body of a response, retried as the policy allows if the server is unreachable or overloaded.
    ///
    /// # Errors
    ///
    /// The error of the last attempt.
    pub async fn fetch(&self, get: &Get, policy: RetryPolicy) -> Result<Vec<u8>, FetchError> {
        self.fetch_with(get, &mut policy.backoff(), FetchError::verdict).await
    }

    /// As [`fetch`](Self::fetch), with a budget that several requests share and the caller's own verdict.
    ///
    /// # Errors
    ///
    /// The error of the last attempt.
    pub async fn fetch_with(
        &self,
        get: &Get,
        backoff: &mut Backoff,
        judge: impl Fn(&FetchError) -> Verdict,
    ) -> Result<Vec<u8>, FetchError> {
        retry_with(backoff, || self.attempt(get), judge).await
    }

    async fn attempt(&self, get: &Get) -> Result<Vec<u8>, FetchError> {
        let (fetcher, request) = (self.clone(), get.clone());
        let joined = tokio::task::spawn_blocking(move || fetcher.send(request)).await;
        joined.unwrap_or_else(|source| Err(FetchError::Aborted { url: get.url.clone(), source }))
    }

    fn send(&self, get: Get) -> Result<Vec<u8>, FetchError> {
        let max_bytes = self.max_bytes;
        let failed = |error: ureq::Error| match error {
            ureq::Error::RequireHttpsOnly(_) => FetchError::InsecureRedirect { url: get.url.clone() },
            ureq::Error::BodyExceedsLimit(_) => FetchError::TooLarge { url: get.url.clone(), max_bytes },
            other => FetchError::Unreachable { url: get.url.clone(), source: Box::new(other) },
        };
        // An address with TLS never leads to one without.
        let https_only = get.url.starts_with("https://");
        let mut request = self.agent.get(&get.url).config().https_only(https_only).build();
        for (name, value) in &get.query {
            request = request.query(name, value);
        }
        if let Some(token) = &get.bearer {
            request = request.header("Authorization", format!("Bearer {}", token.expose_secret()));
        }
        let mut response = request.call().map_err(failed)?;
        let status = response.status().as_u16();
        if status == 200 {
            return response.body_mut().with_config().limit(max_bytes).read_to_vec().map_err(failed);
        }
        let seconds = response.headers().get("retry-after").and_then(|value| value.to_str().ok()?.trim().parse().ok());
        let body = response.body_mut().with_config().limit(MAX_MESSAGE).read_to_string();
        Err(FetchError::Status {
            status,
            retry_after: seconds.map(Duration::from_secs),
            // Without a message in the body the status is the error.
            body: body.unwrap_or_default(),
            url: get.url,
        })
    }
}

/// The certificates of a PEM file, without keys and other blocks.
fn certificates(pem: &str) -> Vec<Certificate<'static>> {
    let blocks = pem::parse_many(pem).unwrap_or_default();
    let certificates = blocks.iter().filter(|block| block.tag() == "CERTIFICATE");
    certificates.map(|block| Certificate::from_der(block.contents()).to_owned()).collect()
}
