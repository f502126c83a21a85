//! External programs: find them, check their version, install them.
//!
//! Searched in this order: an explicit directory (`--tools-dir`, else `KUBEBUILDER_ASSETS`), `PATH`, the cache, a
//! checked download of the official release, and last a build by `go` from one pinned module a tool.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod build;
mod catalogue;
mod download;
mod toolbox;

pub use build::BuildError;
pub use catalogue::Tool;
pub use toolbox::{Error, Found, Options, Source, Toolbox};

#[cfg(test)]
mod tests;
