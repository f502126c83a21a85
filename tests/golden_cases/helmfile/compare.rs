//! Results of reading: lists, built states, values, graphs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use helmfile::{Helmfile, ListedRelease, ReleaseId, StateFile};
use serde_json::{Value, json};

use super::case::read_yaml;

pub(crate) fn differ(what: &str, ours: &Value, theirs: &Value) -> Result<(), String> {
    let (ours, theirs) = (format!("{:#}\n", normal(ours)), format!("{:#}\n", normal(theirs)));
    if ours == theirs {
        return Ok(());
    }
    let difference = similar::TextDiff::from_lines(&theirs, &ours).unified_diff().context_radius(2).to_string();
    Err(format!("{what}\n{difference}"))
}

/// Keys in order; whole numbers alike however they are written.
pub(crate) fn normal(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().map(|(key, value)| (key.clone(), normal(value))).collect();
            entries.sort_by(|a, b| a.0.cmp(&b.0));
            Value::Object(entries.into_iter().collect())
        }
        Value::Array(items) => items.iter().map(normal).collect(),
        Value::Number(number) => number.as_f64().map_or_else(|| value.clone(), |number| Value::from(number + 0.0)),
        other => other.clone(),
    }
}

fn all(ours: &Helmfile) -> impl Iterator<Item = &ListedRelease> {
    ours.files.iter().flat_map(|file| &file.releases)
}

pub(crate) fn list(ours: &Helmfile, result: &Path) -> Result<(), String> {
    let text = std::fs::read_to_string(result).unwrap();
    let theirs: Value = if text.trim().is_empty() { json!([]) } else { serde_json::from_str(&text).unwrap() };
    let mut ours: Vec<&ListedRelease> = all(ours).collect();
    ours.sort_by_key(|listed| (&listed.namespace, &listed.name));
    let ours: Vec<Value> = ours.into_iter().map(entry).collect();
    differ("list", &Value::from(ours), &theirs)
}

fn entry(listed: &ListedRelease) -> Value {
    let labels: Vec<String> = listed.labels.iter().map(|(key, value)| format!("{key}:{value}")).collect();
    json!({
        "name": listed.name, "namespace": listed.namespace, "enabled": listed.enabled, "installed": listed.installed,
        "labels": labels.join(","), "chart": listed.chart, "version": listed.version,
    })
}

pub(crate) fn build(ours: &Helmfile, result: &Path) -> Result<(), String> {
    let theirs: Vec<Value> = read_yaml(result).iter().map(built).collect();
    let ours: Vec<Value> = ours.files.iter().map(ours_built).collect();
    differ("built states", &Value::from(ours), &Value::from(theirs))
}

fn built(document: &Value) -> Value {
    let releases = document["releases"].as_array().into_iter().flatten();
    let releases: Vec<Value> = releases
        .map(|release| {
            let own = release["namespace"].as_str().unwrap_or_default();
            let needs = release["needs"].as_array().into_iter().flatten();
            let needs: Vec<String> = needs.map(|need| full_need(own, need.as_str().unwrap())).collect();
            let text = |key: &str| release[key].as_str().unwrap_or_default();
            json!({
                "name": text("name"), "namespace": own, "chart": text("chart"), "version": text("version"),
                "labels": release["labels"], "needs": needs, "installed": release["installed"] != false,
                "kubeVersion": text("kubeVersion"),
                "apiVersions": release["apiVersions"].as_array().cloned().unwrap_or_default(),
            })
        })
        .collect();
    json!({"values": document["renderedvalues"], "releases": releases})
}

fn full_need(own: &str, need: &str) -> String {
    let parts: Vec<&str> = need.split('/').collect();
    let id = match parts.as_slice() {
        [name] => [own, name],
        [.., namespace, name] => [*namespace, *name],
        [] => ["", ""],
    };
    let namespace = if id[0].is_empty() { "default" } else { id[0] };
    format!("{namespace}/{}", id[1])
}

fn ours_built(file: &StateFile) -> Value {
    let releases: Vec<Value> = file
        .releases
        .iter()
        .map(|listed| {
            json!({
                "name": listed.name, "namespace": listed.namespace, "chart": listed.chart, "version": listed.version,
                "labels": listed.labels, "needs": listed.needs.iter().map(ToString::to_string).collect::<Vec<_>>(),
                "installed": listed.installed, "kubeVersion": listed.kube_version.clone().unwrap_or_default(),
                "apiVersions": listed.api_versions,
            })
        })
        .collect();
    json!({"values": file.values, "releases": releases})
}

pub(crate) fn values(ours: &Helmfile, result: &Path) -> Result<(), String> {
    let mut theirs = BTreeMap::new();
    for entry in std::fs::read_dir(result).into_iter().flatten().map(Result::unwrap) {
        let name = entry.file_name().to_string_lossy().trim_end_matches(".yaml").to_owned();
        let values = read_yaml(&entry.path()).into_iter().next();
        theirs.insert(name, values.filter(|values| !values.is_null()).unwrap_or_else(|| json!({})));
    }
    let ours: BTreeMap<String, &Value> =
        ours.releases.iter().map(|release| (release.id.name.clone(), &release.written_values)).collect();
    differ("values", &json!(ours), &json!(theirs))
}

/// Releases in groups, each after all that it needs.
pub(crate) fn groups(listed: &[&ListedRelease]) -> Vec<Vec<ReleaseId>> {
    let known: BTreeSet<ReleaseId> = listed.iter().map(|one| one.id()).collect();
    let mut done = BTreeSet::new();
    let mut groups = vec![];
    while done.len() < known.len() {
        let ready = |one: &&&ListedRelease| {
            !done.contains(&one.id()) && one.needs.iter().all(|need| done.contains(need) || !known.contains(need))
        };
        let group: Vec<ReleaseId> = listed.iter().filter(ready).map(|one| one.id()).collect();
        assert!(!group.is_empty(), "a circle");
        done.extend(group.iter().cloned());
        groups.push(group);
    }
    groups
}

pub(crate) fn dag(ours: &Helmfile, result: &Path) -> Result<(), String> {
    let text = std::fs::read_to_string(result).unwrap();
    let mut theirs: Vec<String> = text
        .lines()
        .skip(1)
        .map(|line| {
            let words: Vec<&str> = line.split([' ', ',']).filter(|word| !word.is_empty()).collect();
            let own = words[1].split_once('/').map_or("", |(namespace, _)| namespace);
            let needs: Vec<String> = words[2..].iter().map(|need| full_need(own, need)).collect();
            format!("{} {} {needs:?}", words[0], full_need("", words[1]))
        })
        .collect();
    let listed: Vec<&ListedRelease> = all(ours).collect();
    let mut ours: Vec<String> = vec![];
    for (index, group) in groups(&listed).iter().enumerate() {
        for one in listed.iter().filter(|one| group.contains(&one.id())) {
            let needs: Vec<String> = one.needs.iter().map(ToString::to_string).collect();
            ours.push(format!("{} {} {needs:?}", index + 1, one.id()));
        }
    }
    theirs.sort();
    ours.sort();
    differ("graph", &json!(ours), &json!(theirs))
}
