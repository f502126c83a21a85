//! Operators' Talos inputs, whatever format they are in: an inventory at once, a machine config for each node later.
//!
//! [`read()`] chooses the format by what lies in the folder. A new format is a file here and a line in `FORMATS`.

mod talhelper;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::Path;
use std::sync::Arc;

use super::{Inventory, Node, Rendered, SecretsBundle, Sources};
use crate::yaml::{Diagnostic, Diagnostics};

/// A cluster's inputs, read and checked.
pub trait Inputs: Debug + Send + Sync {
    fn inventory(&self) -> &Inventory;

    /// What is no mistake and may still not be what was meant.
    fn warnings(&self) -> &Diagnostics;

    /// The secrets that the inputs hold themselves; most formats keep them in a bundle beside.
    fn bundle(&self) -> Option<&SecretsBundle>;

    /// The machine config of a node, every document of it.
    ///
    /// # Errors
    ///
    /// What does not apply, each with its place.
    fn render(&self, bundle: &SecretsBundle, node: &Node) -> Result<Rendered, Diagnostics>;
}

/// Where inputs lie, and what may be asked while they are read.
#[derive(Debug, Clone, Copy)]
pub struct Place<'p> {
    pub root: &'p Path,
    /// The cluster's folder.
    pub folder: &'p Path,
    /// Answers the variables that inputs name.
    pub environment: &'p BTreeMap<String, String>,
    pub sources: &'p Sources,
}

/// A format: what it is called, the sign by which its folder is known, and its reader.
struct Format {
    name: &'static str,
    sign: &'static str,
    is: fn(&Place<'_>) -> bool,
    read: fn(&Place<'_>) -> Result<Arc<dyn Inputs>, Diagnostics>,
}

const FORMATS: [Format; 1] =
    [Format { name: "talhelper", sign: "talconfig.yaml", is: talhelper::is, read: talhelper::read }];

/// Reads the inputs of a cluster.
///
/// # Errors
///
/// Everything that is wrong in them, all at once; a folder that holds no format, or two.
pub fn read(place: &Place<'_>) -> Result<Arc<dyn Inputs>, Diagnostics> {
    let found: Vec<&Format> = FORMATS.iter().filter(|format| (format.is)(place)).collect();
    let folder = place.folder.strip_prefix(place.root).unwrap_or(place.folder).display();
    match found.as_slice() {
        [format] => (format.read)(place),
        [] => {
            let known: Vec<&str> = FORMATS.iter().map(|format| format.sign).collect();
            Err(Diagnostic::general(format!("{folder} holds no Talos inputs"))
                .with_hint(format!("one of these is looked for: {}", known.join(", ")))
                .into())
        }
        several => {
            let names: Vec<String> =
                several.iter().map(|format| format!("{} ({})", format.name, format.sign)).collect();
            Err(Diagnostic::general(format!("{folder} holds Talos inputs of several formats: {}", names.join(", ")))
                .with_hint("keep one; the others are not looked at when they lie elsewhere")
                .into())
        }
    }
}
