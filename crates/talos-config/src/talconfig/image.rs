//! The installer image of a node: from its image factory schematic, or as set in the talconfig.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::model::Section;
use super::types;
use template::{Functions, TemplateSource};
use yaml::{Diagnostic, Location, Origin, to_go_string};

/// Defaults for the image factory (talhelper 3.1, `pkg/config/defaults.go`).
const REGISTRY: &str = "factory.talos.dev";
const INSTALLER: &str = "{{.RegistryURL}}/{{.Mode}}-installer{{if .Secureboot}}-secureboot{{end}}/{{.ID}}:{{.Version}}";

/// The installer image of a node, with its tag.
pub(super) fn installer(factory: &Section, node: &Section, version: &str) -> Result<String, Diagnostic> {
    if let Some(url) = node.text("talosImageURL") {
        return Ok(format!("{url}:{version}"));
    }
    let schematic = node.value("schematic").unwrap_or(&Value::Null);
    let spec = node.object("machineSpec").cloned().unwrap_or_default();
    let text = |key: &str| spec.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    let data = json!({
        "RegistryURL": factory.text("registryURL").unwrap_or(REGISTRY),
        "ID": schematic_id(schematic),
        "Version": version,
        "Mode": text("mode").unwrap_or("metal"),
        "Secureboot": spec.get("secureboot") == Some(&json!(true)),
    });
    let (origin, at) = match factory.at("installerURLTmpl") {
        Some(at) => (at.origin.clone(), Some(at)),
        None => (Origin::new("installerURLTmpl"), None),
    };
    expand(&origin, at, factory.text("installerURLTmpl").unwrap_or(INSTALLER), &data)
}

/// Renders a template in the talconfig.
pub(super) fn expand(origin: &Origin, at: Option<&Location>, text: &str, data: &Value) -> Result<String, Diagnostic> {
    let mut source = TemplateSource::file(origin, text);
    if let Some(at) = at {
        source.start = at.position;
    }
    let functions = Functions::new(Path::new("."), Path::new("."), &BTreeMap::new());
    template::render(&source, data, &functions)
}

/// The image factory's id of a schematic: SHA-256 of its canonical YAML (image-factory 1.4, `pkg/schematic`).
pub(crate) fn schematic_id(schematic: &Value) -> String {
    let nothing = Map::new();
    let mut canonical = types::encode("Schematic", schematic.as_object().unwrap_or(&nothing));
    if let Some(options) = canonical.pointer_mut("/overlay/options") {
        options.sort_all_objects();
    }
    let text = to_go_string(&canonical, 4);
    Sha256::digest(text.as_bytes()).iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_empty_schematic_has_the_id_of_the_image_factory() {
        let plain = "376567988ad370138ad8b2698212367b8edcb69b5fd68c80be1f2ec7d603b4ba";
        assert_eq!(schematic_id(&json!({})), plain);
    }
}
