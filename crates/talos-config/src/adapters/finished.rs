//! Finished configs: a file per node, plain or encrypted as a whole, in `clusterconfig/` or in the directory itself.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::layers;
use super::layers::Layer;
use super::{InputContext, Inputs, complete};
use crate::{InputRequest, InputsError};
use yaml::{Diagnostics, Origin, Position};

const FOLDER: &str = "clusterconfig";
const ENDINGS: [&str; 2] = [".yaml", ".yml"];

fn files(place: &InputContext<'_>) -> Vec<PathBuf> {
    let made = layers::files(&place.folder.join(FOLDER), &ENDINGS);
    if !made.is_empty() {
        return made;
    }
    let own = |path: &PathBuf| path.parent() == Some(place.folder) && is_whole(path);
    layers::files(place.folder, &ENDINGS).into_iter().filter(own).collect()
}

/// Whether a file is a whole machine config; role files are the base of other formats.
fn is_whole(path: &Path) -> bool {
    let of_role = ["controlplane", "worker"].iter().any(|role| path.file_stem().is_some_and(|stem| stem == *role));
    !of_role && std::fs::read_to_string(path).is_ok_and(|text| is_machine_config(&text))
}

/// Whether a text is a whole machine config, by its keys, since values may be encrypted.
pub fn is_machine_config(text: &str) -> bool {
    // Fast path without YAML parsing.
    if !["machine", "cluster", "token", "endpoint", "kubelet"].iter().all(|key| text.contains(key)) {
        return false;
    }
    let documents = yaml::parse(&Origin::new("config"), text).unwrap_or_default();
    documents.iter().map(yaml::Node::to_json).any(|document| {
        ["/machine/token", "/machine/kubelet", "/cluster/controlPlane/endpoint"]
            .iter()
            .all(|pointer| document.pointer(pointer).is_some())
    })
}

/// Whether the directory has finished configs. talhelper writes its results to the same directory, so it is detected first.
pub(super) fn detects(place: &InputContext<'_>) -> bool {
    !files(place).is_empty()
}

pub(super) fn read(place: &InputContext<'_>) -> Result<Arc<dyn Inputs>, InputsError> {
    let mut found = InputsError::default();
    let mut configs = Vec::new();
    for path in files(place) {
        let origin = layers::origin(place.root, &path);
        let Some(layer) = found.keep(layer(place, &path, origin)) else { continue };
        let Some(rendered) = found.keep(layer.parse_config()) else { continue };
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let name = name.split(".yaml").next().unwrap_or(&name).trim_end_matches(".sops").to_owned();
        let declared = place.settings.nodes.get(&name).cloned().unwrap_or_default();
        configs.push(complete::Config {
            address: declared.address.or_else(|| name.parse().ok()),
            role: declared.role,
            at: layer.origin.location(Position { line: 1, column: 1 }),
            name,
            rendered,
        });
    }
    found.into_result(())?;
    Ok(Arc::from(complete::inputs(place, configs, Diagnostics::default())?))
}

/// A file, decrypted, with its references resolved.
fn layer(place: &InputContext<'_>, path: &Path, origin: Origin) -> Result<Layer, InputsError> {
    let mut text = place.read(path)?;
    if text.to_ascii_lowercase().contains("op://") {
        text = place.sources.get(InputRequest::References { origin: origin.to_string(), text })?;
    }
    Ok(Layer::plain(origin, text))
}
