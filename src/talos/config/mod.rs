//! Machine configs: secrets bundle, generate, patch, and what an operator's folder says.
//!
//! A config is a list of documents, and documents are opaque: what this room does not know passes through unchanged.

mod bundle;
mod container;
mod document;
mod generate;
mod layers;
mod merge;
mod patch;
mod pki;
mod schema;
pub mod talconfig;
mod typed;
mod validate;

pub use bundle::{BundleError, CertificateAndKey, SecretsBundle};
pub use document::{Documents, parse_documents, parse_strictly};
pub use generate::{Contract, Generate, Options, Role, UnknownContract, generate, generate_with};
pub use layers::{Layer, set_by};
pub use patch::{MergeError, Patch, merge};
pub use pki::{AdminIdentity, KubernetesAdmin, PkiError, ca_fingerprint, kubeconfig, talosconfig};
pub use validate::{Findings, Mode, validate, validate_layers, validate_text};

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
