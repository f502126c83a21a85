//! YAML with positions.
//!
//! [`parse`] turns text into [`Node`]s with line and column, [`Fields`] reads a mapping key by key and reports unknown
//! keys, and [`Diagnostics`] collects every mistake instead of stopping at the first.
//! The dialect is go-yaml v3's, which Talos, helmfile and Flux use: merge keys, aliases as values, whole files in flow
//! style, YAML 1.2 scalars with 1.1's octals.
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
pub use serde_saphyr::ser::Error as SerializeError;

/// Writes data as YAML that go-yaml, and so Talos and Kubernetes tools, read back as the same data.
///
/// # Errors
///
/// A value that YAML cannot express; JSON data has none.
pub fn to_string(value: &serde_json::Value) -> Result<String, SerializeError> {
    serde_saphyr::to_string(value)
}

#[cfg(test)]
mod tests;
