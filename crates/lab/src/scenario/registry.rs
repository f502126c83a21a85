//! Faults of the chart registry.

use serde::Deserialize;

use super::Millis;

/// A fault of requests to the chart registry.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct RegistryFault {
    /// A part of the path of the affected requests, such as `cilium`.
    pub path: String,
    pub what: RegistryFaultKind,
    /// How many requests are affected.
    #[serde(default = "super::once")]
    pub times: u32,
}

/// How a request fails.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RegistryFaultKind {
    /// The registry responds with this HTTP status, such as 401, 404, 429 or 503.
    #[serde(rename_all = "camelCase")]
    Status {
        code: u16,
        /// In seconds.
        #[serde(default)]
        retry_after: Option<u32>,
    },
    /// The response takes this much longer.
    Slow(Millis),
    /// The content is not what its digest says.
    WrongDigest,
}
