//! What can go wrong with helm, by who has to act.

use std::fmt;

/// A failure of helm: its kind, what it befell, and helm's own words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HelmError {
    pub kind: HelmErrorKind,
    /// The chart reference, or the release as `namespace/name`.
    pub subject: String,
    /// What helm said, on one line.
    pub words: String,
}

/// Who has to act.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HelmErrorKind {
    /// The registry or repository answers, and has no such chart or version.
    NotFound,
    /// The registry wants other credentials, with the operator's login and without any.
    Denied,
    /// The registry asks for fewer requests.
    RateLimited,
    /// The registry or the Kubernetes API did not answer, or broke off.
    Unreachable,
    /// Custom resources cannot be read or written in the version that is asked for: the webhook that converts them does
    /// not answer.
    Unconverted,
    /// The API refused for a reason that passes: a webhook or a kind that is not served yet.
    NotYet,
    /// Another operation on the release is recorded as running.
    Pending,
    /// Objects of the release belong to another field manager or release.
    Conflict,
    /// A hook of the chart failed or was not done in time.
    Hook,
    /// This helm cannot do what is asked of it.
    TooOld,
    /// The chart and its values do not fit each other.
    Chart,
    /// The package is not the one that was recorded under this reference and version.
    Changed,
    Other,
}

impl HelmErrorKind {
    /// Helm's own words, in lower case, that tell a kind; the first that fits wins.
    const WORDS: [(Self, &'static [&'static str]); 10] = [
        (Self::RateLimited, &["status code 429", "toomanyrequests", "too many requests", "rate limit"]),
        (Self::Pending, &["another operation (install/upgrade/rollback) is in progress"]),
        (Self::Unconverted, &["conversion webhook for "]),
        (
            Self::NotYet,
            &[
                "failed calling webhook",
                "no matches for kind",
                "ensure crds are installed first",
                "is being terminated",
                "object is being deleted",
                "etcdserver: ",
                "the server is currently unable to handle the request",
            ],
        ),
        (
            Self::Conflict,
            &[
                "invalid ownership metadata",
                "apply failed with",
                "conflict occurred while applying",
                "cannot reuse a name",
            ],
        ),
        (
            Self::Unreachable,
            &[
                "connection refused",
                "no such host",
                "i/o timeout",
                "tls handshake timeout",
                "connection reset",
                "broken pipe",
                "unexpected eof",
                ": eof",
                "no route to host",
                "network is unreachable",
                "temporary failure in name resolution",
                "server misbehaving",
                "client connection lost",
                "cluster unreachable",
                "500 internal server error",
                "502 bad gateway",
                "503 service unavailable",
                "504 gateway timeout",
                "response status code 500",
                "response status code 502",
                "response status code 503",
                "response status code 504",
                "context deadline exceeded (client.timeout",
            ],
        ),
        (Self::Denied, &["status code 401", "status code 403", "unauthorized", "403 forbidden", "denied"]),
        (Self::Hook, &["hooks failed", "hook failed", "failed pre-", "failed post-"]),
        (
            Self::NotFound,
            &[
                "not found",
                "status code 404",
                "manifest unknown",
                "name unknown",
                "unable to locate any tags",
                "no chart version found",
                "could not locate a version",
            ],
        ),
        (
            Self::Chart,
            &[
                "execution error at",
                "error calling",
                "error converting yaml",
                "yaml parse error",
                "parse error at",
                "values don't meet the specifications",
                "nil pointer evaluating",
                "chart requires kubeversion",
                "failed to parse",
                "unable to build kubernetes objects",
                "template:",
                "executing \"",
                "can't evaluate field",
            ],
        ),
    ];

    fn of(words: &str) -> Self {
        let words = words.to_lowercase();
        let fits = |(_, patterns): &&(Self, &[&str])| patterns.iter().any(|pattern| words.contains(pattern));
        Self::WORDS.iter().find(fits).map_or(Self::Other, |(kind, _)| *kind)
    }

    fn phrase(self) -> &'static str {
        match self {
            Self::NotFound => "there is no such chart",
            Self::Denied => "the registry refuses access",
            Self::RateLimited => "the registry asks for fewer requests",
            Self::Unreachable => "the other side does not answer",
            Self::Unconverted => "the webhook that converts its custom resources does not answer",
            Self::NotYet => "the API does not take it yet",
            Self::Pending => "another operation on the release is recorded as running",
            Self::Conflict => "objects of it belong to another owner",
            Self::Hook => "a hook of the chart failed",
            Self::TooOld => "this helm is too old",
            Self::Chart => "the chart and its values do not fit",
            Self::Changed => "the chart is not the one that was pulled before",
            Self::Other => "helm failed",
        }
    }
}

impl HelmError {
    pub(super) fn new(kind: HelmErrorKind, subject: impl Into<String>, words: impl Into<String>) -> Self {
        Self { kind, subject: subject.into(), words: words.into() }
    }

    /// A failure to use our own files.
    pub(super) fn file(subject: &str, error: &std::io::Error) -> Self {
        Self::new(HelmErrorKind::Other, subject, error.to_string())
    }

    /// Sorts what the helm process said.
    pub(super) fn from_process(subject: &str, error: process::Error) -> Self {
        match error {
            process::Error::Failed { stderr, .. } => {
                let words = summary(&stderr);
                Self::new(HelmErrorKind::of(&words), subject, words)
            }
            deadline @ process::Error::Deadline { .. } => {
                Self::new(HelmErrorKind::Unreachable, subject, deadline.to_string())
            }
            other => Self::new(HelmErrorKind::Other, subject, other.to_string()),
        }
    }

    /// Whether the same attempt may succeed without anybody acting.
    pub fn is_retryable(&self) -> bool {
        matches!(
            self.kind,
            HelmErrorKind::RateLimited
                | HelmErrorKind::Unreachable
                | HelmErrorKind::Unconverted
                | HelmErrorKind::NotYet
        )
    }

    /// What the operator can do, where it is known.
    pub fn hint(&self) -> Option<String> {
        let hint = match self.kind {
            HelmErrorKind::Denied => {
                let host = self.subject.split('/').next().unwrap_or(&self.subject);
                format!("an old login may be in the way: helm registry logout {host}")
            }
            HelmErrorKind::NotFound => "check the chart's name and version in the helmfile".to_owned(),
            HelmErrorKind::TooOld => {
                "install helm 4, or let the tools be provided: k8s-bootstrap tools install".to_owned()
            }
            HelmErrorKind::Changed => {
                "somebody pushed another package under this version; look at it, then clear the chart cache".to_owned()
            }
            HelmErrorKind::Conflict => "see who owns the object: kubectl get … --show-managed-fields".to_owned(),
            _ => return None,
        };
        Some(hint)
    }
}

impl fmt::Display for HelmError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.subject, self.kind.phrase())?;
        if self.words.is_empty() { Ok(()) } else { write!(f, " ({})", self.words) }
    }
}

impl std::error::Error for HelmError {}

/// The lines that say something, without helm's prefixes and log decoration.
fn summary(stderr: &str) -> String {
    let told = |line: &&str| !line.is_empty() && !line.starts_with("level=") && !line.starts_with("WARNING:");
    let lines: Vec<&str> = stderr.lines().map(str::trim).filter(told).collect();
    let from = lines.iter().position(|line| line.starts_with("Error:")).unwrap_or(0);
    let text = lines[from.min(lines.len())..].iter().take(8).copied().collect::<Vec<_>>().join(" ");
    text.trim_start_matches("Error:").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn helms_words_are_sorted_by_who_has_to_act() {
        for (words, kind) in [
            (r#"failed to perform "FetchReference" on source: ghcr.io/x/y:1.0.0: not found"#, HelmErrorKind::NotFound),
            (
                r#"failed to perform "FetchReference" on source: GET "https://ghcr.io/token": response status code 403: denied: denied"#,
                HelmErrorKind::Denied,
            ),
            (
                r#"failed to perform "FetchReference" on source: GET "https://r/v2/": response status code 429: toomanyrequests: slow down"#,
                HelmErrorKind::RateLimited,
            ),
            (
                r#"Get "https://quay.io/v2/x": dial tcp: lookup quay.io on 10.0.0.1:53: no such host"#,
                HelmErrorKind::Unreachable,
            ),
            (
                r#"looks like "https://x/y" is not a valid chart repository or cannot be reached: failed to fetch https://x/y/index.yaml : 404 Not Found"#,
                HelmErrorKind::NotFound,
            ),
            (
                r#"failed to create resource: Internal error occurred: failed calling webhook "webhook.cert-manager.io": connect: connection refused"#,
                HelmErrorKind::NotYet,
            ),
            ("UPGRADE FAILED: another operation (install/upgrade/rollback) is in progress", HelmErrorKind::Pending),
            ("failed post-install: 1 error occurred: * job x failed: BackoffLimitExceeded", HelmErrorKind::Hook),
            (
                r#"template: x/templates/a.yaml:1:3: executing "x" at <required "no">: error calling required: no"#,
                HelmErrorKind::Chart,
            ),
            ("values don't meet the specifications of the schema(s) in the following chart(s)", HelmErrorKind::Chart),
            ("something new", HelmErrorKind::Other),
        ] {
            assert_eq!(HelmErrorKind::of(words), kind, "{words}");
        }
    }

    #[test]
    fn a_message_names_the_chart_and_says_what_to_do() {
        let stderr = "level=WARN msg=\"x\"\nError: response status code 403: denied\n";
        let error =
            process::Error::Failed { program: "helm".into(), status: "exit status: 1".into(), stderr: stderr.into() };
        let error = HelmError::from_process("ghcr.io/acme/app 1.0.0", error);
        insta::assert_snapshot!(error, @"ghcr.io/acme/app 1.0.0: the registry refuses access (response status code 403: denied)");
        insta::assert_snapshot!(error.hint().unwrap(), @"an old login may be in the way: helm registry logout ghcr.io");
        assert!(!error.is_retryable());
    }
}
