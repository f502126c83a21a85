//! Machine configs: secrets bundle, generation, patches, and the inputs in an operator's repository.
//!
//! A config is a list of documents. Documents of unknown kinds pass through unchanged.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

pub mod adapters;
mod bundle;
mod generate;
mod inventory;
mod lines;
mod pki;
mod provenance;
pub mod registries;
mod sources;
pub mod talconfig;

pub use bundle::{BundleError, CertificateAndKey, SecretsBundle};
pub use generate::{Generate, Options, Role, generate, generate_with};
pub use inventory::{Endpoint, Inventory, Node};
pub use pki::{AdminIdentity, InvalidCa, KubernetesAdmin, PkiError, ca_fingerprint, kubeconfig, talosconfig};
pub use provenance::{Explained, Rendered, Setter, Written};
pub use sources::{Sources, Wanted, is_sealed};

#[cfg(test)]
mod tests;
