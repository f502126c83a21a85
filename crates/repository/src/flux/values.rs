//! The values that a HelmRelease gives to its chart: `valuesFrom`, overridden by `values`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::{ConfigMap, FluxObjects, Object};
use helmfile::merge_values;
use helmfile::set;
use yaml::{Location, Node, Origin};

/// The key of a ConfigMap or Secret that holds values, unless `valuesKey` names another.
const KEY: &str = "values.yaml";

/// A source of values beside the HelmRelease's own.
#[derive(Debug, Clone, PartialEq)]
pub struct ValuesFrom {
    pub at: Location,
    /// Kind and name.
    pub what: String,
    /// Its content, if it is in the repository.
    pub values: Option<Value>,
}

fn entries(release: &Object) -> &[Node] {
    release.document.find(&["spec", "valuesFrom"]).and_then(Node::as_sequence).unwrap_or_default()
}

/// The ConfigMaps that a HelmRelease reads values from.
pub(super) fn config_maps(release: &Object) -> Vec<String> {
    let is_map = |entry: &&Node| entry.find(&["kind"]).and_then(Node::as_str) == Some("ConfigMap");
    let name = |entry: &Node| entry.find(&["name"]).and_then(Node::as_str).map(str::to_owned);
    entries(release).iter().filter(is_map).filter_map(name).collect()
}

/// The merged `valuesFrom` and `values` of a HelmRelease, not substituted, and each source.
pub(super) fn merged(objects: &FluxObjects, release: &Object) -> (Value, Vec<ValuesFrom>) {
    let mut values = Map::new();
    let mut sources = Vec::new();
    for entry in entries(release) {
        let text = |key: &str| entry.find(&[key]).and_then(Node::as_str);
        let (kind, name) = (text("kind").unwrap_or_default(), text("name").unwrap_or_default());
        let key = text("valuesKey").unwrap_or(KEY);
        let map = if kind == "ConfigMap" { objects.config_map(name, &release.path) } else { None };
        let data = map.and_then(|map| map.data.iter().find(|(own, _)| own == key)).map(|(_, data)| data.as_str());
        let read = data.and_then(|data| read(data, text("targetPath")));
        sources.push(ValuesFrom {
            at: release.origin.location(entry.at),
            what: format!("{kind} `{name}`"),
            values: read.clone().map(Value::Object),
        });
        merge_values(&mut values, read.unwrap_or_default());
    }
    if let Some(Value::Object(own)) = release.document.find(&["spec", "values"]).map(Node::to_json) {
        merge_values(&mut values, own);
    }
    (Value::Object(values), sources)
}

fn read(data: &str, target: Option<&str>) -> Option<Map<String, Value>> {
    if let Some(path) = target {
        let mut values = Map::new();
        let value = data.trim_end_matches('\n').replace('\\', "\\\\").replace(',', "\\,");
        let no_file = |_: &str| Err(std::io::ErrorKind::NotFound.into());
        return set::assign(&mut values, &format!("{path}={value}"), set::SetFlag::Typed, &no_file)
            .ok()
            .map(|()| values);
    }
    match yaml::parse_one(&Origin::new("<values>"), data).ok()?.to_json() {
        Value::Object(map) => Some(map),
        _ => None,
    }
}

/// Reads the ConfigMaps of these names from `files`: manifests, and those that kustomize generates from files and literals.
pub(super) fn read_config_maps(files: &[PathBuf], wanted: &BTreeSet<String>) -> Vec<ConfigMap> {
    let mut found = Vec::new();
    for path in files {
        let Ok(text) = std::fs::read_to_string(path) else { continue };
        if !wanted.iter().any(|name| text.contains(name)) {
            continue;
        }
        for document in yaml::parse(&Origin::of_path(path), &text).unwrap_or_default() {
            let maps = if document.find(&["kind"]).and_then(Node::as_str) == Some("ConfigMap") {
                manifest(&document).into_iter().collect()
            } else {
                generated(path, &document)
            };
            let wanted = maps.into_iter().filter(|(name, _)| wanted.contains(name));
            found.extend(wanted.map(|(name, data)| ConfigMap { name, path: path.clone(), data }));
        }
    }
    found
}

type Named = (String, Vec<(String, String)>);

fn manifest(document: &Node) -> Option<Named> {
    let name = document.find(&["metadata", "name"])?.as_str()?.to_owned();
    let data = document.find(&["data"]).and_then(Node::as_mapping).into_iter().flat_map(|map| map.iter());
    let text = |node: &Node| node.as_str().map_or_else(|| node.to_json().to_string(), str::to_owned);
    Some((name, data.map(|entry| (entry.key.clone(), text(&entry.value))).collect()))
}

fn generated(path: &Path, kustomization: &Node) -> Vec<Named> {
    let folder = path.parent().unwrap_or(path);
    let generators = kustomization.find(&["configMapGenerator"]).and_then(Node::as_sequence).unwrap_or_default();
    let make = |generator: &Node| {
        let texts = |key: &str| generator.find(&[key]).and_then(Node::as_sequence).unwrap_or_default();
        let mut data = Vec::new();
        for entry in texts("files").iter().filter_map(Node::as_str) {
            let (key, file) = entry.split_once('=').unwrap_or((entry.rsplit('/').next().unwrap_or(entry), entry));
            data.extend(std::fs::read_to_string(folder.join(file)).ok().map(|text| (key.to_owned(), text)));
        }
        let literals = texts("literals").iter().filter_map(|entry| entry.as_str()?.split_once('='));
        data.extend(literals.map(|(key, value)| (key.to_owned(), value.to_owned())));
        Some((generator.find(&["name"])?.as_str()?.to_owned(), data))
    };
    generators.iter().filter_map(make).collect()
}
