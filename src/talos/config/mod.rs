//! Machine configs: secrets bundle, generation, patches, and the inputs in an operator's repository.
//!
//! A config is a list of documents. Documents of unknown kinds pass through unchanged.

pub mod adapters;
mod bundle;
mod container;
mod document;
mod generate;
mod inventory;
mod lines;
mod merge;
mod patch;
mod pki;
mod provenance;
mod schema;
mod sources;
pub mod talconfig;
mod typed;
mod validate;

pub use bundle::{BundleError, CertificateAndKey, SecretsBundle};
pub use document::{Documents, parse_documents, parse_strictly};
pub use generate::{Contract, Generate, Options, Role, UnknownContract, generate, generate_with};
pub use inventory::{Endpoint, Inventory, Node};
pub use patch::{MergeError, Patch, merge};
pub use pki::{AdminIdentity, KubernetesAdmin, PkiError, ca_fingerprint, kubeconfig, talosconfig};
pub use provenance::{Explained, Rendered, Setter, Written};
pub use sources::{Sources, Wanted, is_sealed};
pub use validate::{Findings, Mode, validate, validate_text};

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
