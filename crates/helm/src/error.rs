//! Errors of helm and of charts, by who has to act.

use std::fmt;
use std::io;

use error_report::ErrorReport;
use helmfile::patch::PatchError;
use semver::Version;

use super::manifest::ManifestError;
use super::package::PackageError;

/// A failed operation on a chart or a release.
#[derive(Debug, thiserror::Error)]
#[error("{subject}: {kind}{}", parenthesised(cause))]
pub struct HelmError {
    pub kind: HelmErrorKind,
    /// The chart reference, or the release as `namespace/name`.
    pub subject: String,
    pub cause: HelmErrorCause,
}

/// What went wrong in detail.
#[derive(Debug, thiserror::Error)]
pub enum HelmErrorCause {
    /// Helm's error output on one line; may be empty.
    #[error("{0}")]
    Output(String),
    #[error(transparent)]
    Process(process::Error),
    /// Reading or writing files of our own.
    #[error(transparent)]
    File(io::Error),
    #[error(transparent)]
    Package(PackageError),
    #[error(transparent)]
    Manifest(ManifestError),
    #[error(transparent)]
    Patch(PatchError),
    #[error("helm's dry run is not a release: {0}")]
    DryRun(serde_json::Error),
    #[error("no such file or folder")]
    MissingPath,
    #[error("the bundle contains {known}")]
    NotInBundle { known: String },
    #[error("recorded sha256:{recorded}, now sha256:{current}")]
    OtherDigest { recorded: String, current: String },
    #[error("helm wrote no package")]
    NoPackage,
    #[error("server-side apply needs helm 4, found {found}")]
    NoServerSideApply { found: Version },
}

fn parenthesised(cause: &HelmErrorCause) -> String {
    let text = ErrorReport::new(cause).to_string();
    if text.is_empty() { text } else { format!(" ({text})") }
}

/// The kind of failure, by who has to act.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HelmErrorKind {
    /// The registry or repository has no such chart or version.
    NotFound,
    /// The registry denies access, with the operator's credentials and without.
    Denied,
    /// The registry limits the rate of requests.
    RateLimited,
    /// The registry does not respond, or closed the connection.
    Unreachable,
    /// The Kubernetes API, or etcd behind it, does not respond or is overloaded.
    ApiUnavailable,
    /// The Kubernetes API does not serve a kind of the chart, or not yet.
    KindNotServed,
    /// The Kubernetes API cannot call an admission webhook.
    WebhookUnreachable,
    /// Custom resources cannot be converted to the requested version: the conversion webhook does not respond.
    Unconverted,
    /// An object, or the namespace that it belongs to, is being deleted.
    Terminating,
    /// Another operation on the release is recorded as running.
    Pending,
    /// Objects of the release belong to another field manager or release.
    Conflict,
    /// A hook of the chart failed or timed out.
    Hook,
    /// The version of helm does not support the operation.
    TooOld,
    /// The chart does not accept the values.
    Chart,
    /// The package differs from the one recorded for this reference and version.
    Changed,
    Other,
}

impl HelmErrorKind {
    /// Parts of helm's output, in lower case, by kind; the first match wins.
    const PATTERNS: [(Self, &'static [&'static str]); 13] = [
        (Self::RateLimited, &["status code 429", "toomanyrequests", "too many requests", "rate limit"]),
        (Self::Pending, &["another operation (install/upgrade/rollback) is in progress"]),
        (Self::Unconverted, &["conversion webhook for "]),
        (Self::WebhookUnreachable, &["failed calling webhook"]),
        (Self::KindNotServed, &["no matches for kind", "ensure crds are installed first"]),
        (Self::Terminating, &["is being terminated", "object is being deleted"]),
        (
            Self::ApiUnavailable,
            &["cluster unreachable", "etcdserver: ", "the server is currently unable to handle the request"],
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

    fn from_output(output: &str) -> Self {
        let output = output.to_lowercase();
        let matches = |(_, patterns): &&(Self, &[&str])| patterns.iter().any(|pattern| output.contains(pattern));
        Self::PATTERNS.iter().find(matches).map_or(Self::Other, |(kind, _)| *kind)
    }
}

impl fmt::Display for HelmErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotFound => "chart not found",
            Self::Denied => "the registry denied access",
            Self::RateLimited => "the registry limits the rate of requests",
            Self::Unreachable => "the registry does not respond",
            Self::ApiUnavailable => "the Kubernetes API is unavailable",
            Self::KindNotServed => "the Kubernetes API does not serve a kind of the chart",
            Self::WebhookUnreachable => "an admission webhook does not respond",
            Self::Unconverted => "the conversion webhook of its custom resources does not respond",
            Self::Terminating => "what it replaces is still being deleted",
            Self::Pending => "another operation on the release is in progress",
            Self::Conflict => "objects of the release have another owner",
            Self::Hook => "a hook of the chart failed",
            Self::TooOld => "unsupported version of helm",
            Self::Chart => "invalid chart or values",
            Self::Changed => "the chart differs from the one that was pulled before",
            Self::Other => "helm failed",
        })
    }
}

impl HelmError {
    pub(super) fn new(kind: HelmErrorKind, subject: impl Into<String>, cause: HelmErrorCause) -> Self {
        Self { kind, subject: subject.into(), cause }
    }

    /// A failure to read or write our own files.
    pub(super) fn from_file(subject: &str, error: io::Error) -> Self {
        Self::new(HelmErrorKind::Other, subject, HelmErrorCause::File(error))
    }

    /// Classifies a failure of the helm process.
    pub(super) fn from_process(subject: &str, error: process::Error) -> Self {
        match error {
            process::Error::Failed { stderr, .. } => {
                let output = summary(&stderr);
                Self::new(HelmErrorKind::from_output(&output), subject, HelmErrorCause::Output(output))
            }
            deadline @ process::Error::Deadline { .. } => {
                Self::new(HelmErrorKind::Unreachable, subject, HelmErrorCause::Process(deadline))
            }
            other => Self::new(HelmErrorKind::Other, subject, HelmErrorCause::Process(other)),
        }
    }

    /// Classifies a failure of a helm process that speaks to the Kubernetes API and to no registry.
    pub(super) fn from_cluster_process(subject: &str, error: process::Error) -> Self {
        let mut classified = Self::from_process(subject, error);
        if matches!(classified.kind, HelmErrorKind::Unreachable | HelmErrorKind::RateLimited) {
            classified.kind = HelmErrorKind::ApiUnavailable;
        }
        classified
    }

    /// Whether a retry may succeed without intervention.
    pub fn is_retryable(&self) -> bool {
        use HelmErrorKind::{
            ApiUnavailable, KindNotServed, RateLimited, Terminating, Unconverted, Unreachable, WebhookUnreachable,
        };
        matches!(
            self.kind,
            RateLimited | Unreachable | ApiUnavailable | KindNotServed | WebhookUnreachable | Unconverted | Terminating
        )
    }

    /// What the operator can do, if it is known.
    pub fn hint(&self) -> Option<String> {
        let hint = match self.kind {
            HelmErrorKind::Denied => {
                let host = self.subject.split('/').next().unwrap_or(&self.subject);
                format!("stale credentials may be the cause: helm registry logout {host}")
            }
            HelmErrorKind::NotFound => "check the chart's name and version in the helmfile".to_owned(),
            HelmErrorKind::TooOld => "install helm 4, or run: k8s-bootstrap tools install".to_owned(),
            HelmErrorKind::Changed => {
                "the version was pushed again with other content: inspect it, then clear the chart cache".to_owned()
            }
            HelmErrorKind::Conflict => "find the owner of the object: kubectl get … --show-managed-fields".to_owned(),
            _ => return None,
        };
        Some(hint)
    }
}

/// The lines of helm's error output from `Error:` on, without prefixes and log lines.
fn summary(stderr: &str) -> String {
    let is_message = |line: &&str| !line.is_empty() && !line.starts_with("level=") && !line.starts_with("WARNING:");
    let lines: Vec<&str> = stderr.lines().map(str::trim).filter(is_message).collect();
    let from = lines.iter().position(|line| line.starts_with("Error:")).unwrap_or(0);
    let text = lines[from.min(lines.len())..].iter().take(8).copied().collect::<Vec<_>>().join(" ");
    text.trim_start_matches("Error:").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    use super::*;

    #[test]
    fn helms_output_is_classified() {
        for (output, kind) in [
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
                HelmErrorKind::WebhookUnreachable,
            ),
            (
                r#"Kubernetes cluster unreachable: Get "https://10.0.0.1:6443/version": dial tcp 10.0.0.1:6443: connect: connection refused"#,
                HelmErrorKind::ApiUnavailable,
            ),
            ("create: failed to create: etcdserver: leader changed", HelmErrorKind::ApiUnavailable),
            (
                r#"unable to build kubernetes objects from release manifest: resource mapping not found for name: "a" namespace: "" from "": no matches for kind "A" in version "b/v1" ensure CRDs are installed first"#,
                HelmErrorKind::KindNotServed,
            ),
            (
                "secrets \"x\" is forbidden: unable to create new content in namespace x because it is being terminated",
                HelmErrorKind::Terminating,
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
            assert_eq!(HelmErrorKind::from_output(output), kind, "{output}");
        }
    }

    #[test]
    fn what_the_cluster_does_not_respond_to_is_not_a_registrys_fault() {
        let failed = |stderr: &str| process::Error::Failed {
            program: "helm".into(),
            status: ExitStatus::from_raw(256),
            stderr: stderr.into(),
        };
        for output in [
            "Error: UPGRADE FAILED: get: failed to get release object: connection refused",
            "Error: UPGRADE FAILED: too many requests",
        ] {
            let error = HelmError::from_cluster_process("kube-system/cilium", failed(output));
            assert_eq!((error.kind, error.is_retryable()), (HelmErrorKind::ApiUnavailable, true), "{output}");
        }
    }

    #[test]
    fn a_message_names_the_chart_and_the_hint_the_next_command() {
        let stderr = "level=WARN msg=\"x\"\nError: response status code 403: denied\n";
        let error =
            process::Error::Failed { program: "helm".into(), status: ExitStatus::from_raw(256), stderr: stderr.into() };
        let error = HelmError::from_process("ghcr.io/acme/app 1.0.0", error);
        insta::assert_snapshot!(error, @"ghcr.io/acme/app 1.0.0: the registry denied access (response status code 403: denied)");
        insta::assert_snapshot!(error.hint().unwrap(), @"stale credentials may be the cause: helm registry logout ghcr.io");
        assert!(!error.is_retryable());
    }
}
