//! Machine configs: secrets bundle, generation, patches, and the inputs in an operator's repository.
//!
//! A config is a list of documents. Documents of unknown kinds pass through unchanged.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

pub mod adapters;
mod bundle;
mod fetched;
mod generate;
mod inventory;
mod line_map;
mod pki;
mod provenance;
pub mod registries;
pub mod talconfig;

pub use bundle::{CertificateAndKey, GenerateBundleError, SecretsBundle};
pub use fetched::{FetchedInputs, InputRequest, InputsError, is_sops_encrypted};
pub use generate::{GenerateInput, GenerateOptions, Role, generate, generate_with};
pub use inventory::{Endpoint, Inventory, InventoryNode};
pub use pki::{
    AdminIdentity, CertificateError, InvalidAuthority, KubernetesAdmin, ca_fingerprint, kubeconfig, talosconfig,
};
pub use provenance::{ExplainedField, FieldSource, LayerSource, RenderedConfig};

#[cfg(test)]
mod tests;
