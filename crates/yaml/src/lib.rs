//! YAML with positions: what was written where.
//!
//! [`parse`] turns text into [`Node`]s that remember line and column, [`Fields`] reads a mapping key by key and reports
//! whatever nobody asked for, and [`Diagnostics`] collects every finding instead of stopping at the first.
//! The dialect is go-yaml v3's, since that is what Talos, helmfile and Flux read with: merge keys, aliases as values,
//! whole files in flow style, YAML 1.2 scalars with 1.1's octals.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod diagnostics;
mod fields;
mod go;
mod load;
mod node;
mod query;
mod scalar;

pub use diagnostics::{Diagnostic, Diagnostics, Location, Origin, near};
pub use fields::Fields;
pub use go::{go_float, to_go_string};
pub use load::{LIMITS, Limits, parse, parse_as, parse_one};
pub use node::{Entry, Mapping, Node, Position, Value};
pub use query::Query;
pub use scalar::Dialect;

/// Writes data as YAML text that go-yaml, and so Talos and Kubernetes tools, read back as the same data.
///
/// # Errors
///
/// When the value cannot be expressed in YAML; that cannot happen for JSON data.
pub fn to_string(value: &serde_json::Value) -> Result<String, serde_saphyr::ser::Error> {
    serde_saphyr::to_string(value)
}

#[cfg(test)]
mod tests;
