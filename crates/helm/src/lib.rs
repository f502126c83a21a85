//! Helm: the helmfile model, chart sources, the helm process.
//!
//! Charts are pulled once and kept ([`Charts`]), rendered and installed by the program `helm` itself ([`Helm`]), and
//! what helm recorded in a cluster is read and judged here ([`storage`]). Waiting for workloads is not: gates are the
//! run's own. Nothing here talks to Kubernetes; helm does, with the kubeconfig that it is given and no other.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

pub mod bundle;
mod chart;
mod error;
pub mod manifest;
mod mirrors;
mod package;
mod program;
mod request;
pub mod storage;
mod wrap;

pub use bundle::ChartBundle;
pub use chart::{Charts, PreparedChart, PulledChart};
pub use error::{HelmError, HelmErrorKind};
pub use mirrors::Mirrors;
pub use program::{ApplyMethod, Helm, TemplateOptions, notices};

#[cfg(test)]
mod tests;
