//! Charts, the helm process, and the releases that helm records.
//!
//! Charts are pulled once and cached ([`Charts`]), rendered and installed by the program `helm` ([`Helm`]), and bundled for
//! air-gapped installs ([`ChartBundle`]). The releases that helm recorded in a cluster are decoded in [`storage`]. Nothing
//! here connects to Kubernetes, except helm with the kubeconfig that it is given. Nothing here waits for workloads.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

pub mod bundle;
mod chart;
mod chart_version;
pub mod comparison;
mod error;
pub mod manifest;
mod mirrors;
mod package;
mod program;
mod request;
pub mod storage;
mod wrap;

pub use bundle::{BundleError, ChartBundle};
pub use chart::{Charts, PreparedChart, PulledChart};
pub use chart_version::{ChartVersion, InvalidDigest, ManifestDigest};
pub use error::{HelmError, HelmErrorCause, HelmErrorKind};
pub use mirrors::Mirrors;
pub use package::PackageError;
pub use program::{ApplyMethod, FieldConflicts, Helm, TemplateOptions, UpgradeOptions, notices, upgrade_limit};

#[cfg(test)]
mod tests;
