//! The discovery service, as far as the machines of a lab reach it.

use serde::Deserialize;

use super::Millis;

/// How machines find each other by the discovery service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Discovery {
    pub service: DiscoveryService,
    /// From a booted machine to its knowing the others.
    pub delay: Millis,
}

/// Whether the machines reach the discovery service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DiscoveryService {
    Reachable,
    Unreachable,
}
