//! A model of Talos machine configs: document kinds and their fields, typed values, validation, merges and patches.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod container;
mod contract;
pub mod document;
mod kubernetes_images;
mod merge;
mod patch;
pub mod schema;
pub mod typed;
pub mod validate;

pub use contract::{Contract, UnknownContract};
pub use document::{Documents, parse_documents, parse_strictly};
pub use kubernetes_images::{UnsupportedKubernetes, unsupported_kubernetes};
pub use patch::{ConfigPatch, MergeError, merge};
pub use validate::{RuntimeMode, UnknownRuntimeMode, ValidationFindings, validate, validate_text};

#[cfg(test)]
mod properties;
