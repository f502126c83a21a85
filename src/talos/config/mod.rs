//! Machine configs: secrets bundle, generate, patch, and what an operator's folder says.
//!
//! A config is a list of documents, and documents are opaque: what this room does not know passes through unchanged.

pub mod adapters;
mod bundle;
mod document;
mod generate;
mod inventory;
mod lines;
mod merge;
mod pki;
mod provenance;
mod sources;
pub mod talconfig;

pub use bundle::{BundleError, CertificateAndKey, SecretsBundle};
pub use document::{Documents, parse_documents};
pub use generate::{Contract, Generate, Role, generate};
pub use inventory::{Endpoint, Inventory, Node};
pub use merge::{MergeError, merge};
pub use pki::{AdminIdentity, KubernetesAdmin, PkiError, ca_fingerprint, kubeconfig, talosconfig};
pub use provenance::{Explained, Rendered, Setter, Written};
pub use sources::{Sources, Wanted, is_sealed};

#[cfg(test)]
mod tests;
