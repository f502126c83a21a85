//! The releases of a helmfile: a list, the state files as they were read, the values.

use std::path::Path;

use helmfile::{Helmfile, ListedRelease, Release, StateFile};
use serde_json::{Value, json};
use yaml::SerializeError;

pub(crate) fn to_json(all: Vec<Value>) -> String {
    Value::from(all).to_string()
}

/// YAML documents, each with its separator.
pub(crate) fn documents(all: &[Value]) -> Result<String, SerializeError> {
    let texts = all.iter().map(yaml::to_string).collect::<Result<Vec<_>, _>>()?;
    Ok(texts.iter().map(|text| format!("---\n{text}")).collect())
}

/// Every release, by namespace and name.
fn sorted(helmfile: &Helmfile) -> Vec<&ListedRelease> {
    let mut all: Vec<&ListedRelease> = helmfile.files.iter().flat_map(|file| &file.releases).collect();
    all.sort_by_key(|listed| (&listed.namespace, &listed.name));
    all
}

fn labels(listed: &ListedRelease) -> String {
    listed.labels.iter().map(|(key, value)| format!("{key}:{value}")).collect::<Vec<_>>().join(",")
}

pub(crate) fn release_list_json(helmfile: &Helmfile) -> String {
    let entry = |listed: &ListedRelease| {
        json!({
            "name": listed.name, "namespace": listed.namespace, "enabled": listed.enabled,
            "installed": listed.installed, "labels": labels(listed), "chart": listed.chart, "version": listed.version,
        })
    };
    to_json(sorted(helmfile).into_iter().map(entry).collect())
}

pub(crate) fn release_table(helmfile: &Helmfile) -> String {
    let heads = ["NAME", "NAMESPACE", "ENABLED", "INSTALLED", "CHART", "VERSION", "LABELS"].map(str::to_owned);
    let row = |listed: &ListedRelease| {
        [
            listed.name.clone(),
            listed.namespace.clone(),
            listed.enabled.to_string(),
            listed.installed.to_string(),
            listed.chart.clone(),
            listed.version.clone(),
            labels(listed),
        ]
    };
    let rows: Vec<_> = std::iter::once(heads).chain(sorted(helmfile).into_iter().map(row)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..7).map(width).collect();
    let line = |row: &[String; 7]| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// The state files as they were read, with paths from the repository's root.
pub(crate) fn state_files(root: &Path, helmfile: &Helmfile) -> Vec<Value> {
    helmfile.files.iter().map(|file| state_file(root, file)).collect()
}

fn state_file(root: &Path, file: &StateFile) -> Value {
    let releases = file.releases.iter().map(|listed| {
        json!({
            "name": listed.name, "namespace": listed.namespace, "chart": listed.chart, "version": listed.version,
            "labels": listed.labels, "needs": listed.needs.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "installed": listed.installed, "enabled": listed.enabled, "kubeVersion": listed.kube_version,
            "apiVersions": listed.api_versions, "at": listed.at.to_string(),
        })
    });
    json!({
        "file": file.path.strip_prefix(root).unwrap_or(&file.path), "environment": file.environment,
        "values": file.values, "releases": releases.collect::<Vec<_>>(),
    })
}

/// The values of each release.
pub(crate) struct ReleaseValues<'h>(&'h [Release]);

pub(crate) fn release_values(helmfile: &Helmfile) -> ReleaseValues<'_> {
    ReleaseValues(&helmfile.releases)
}

impl ReleaseValues<'_> {
    pub(crate) fn to_json(&self) -> String {
        let all = self.0.iter().map(|release| (release.id.to_string(), release.values.clone()));
        Value::Object(all.collect()).to_string()
    }

    pub(crate) fn to_yaml(&self) -> Result<String, SerializeError> {
        let one = |release: &Release| Ok(format!("---\n# {}\n{}", release.id, yaml::to_string(&release.values)?));
        self.0.iter().map(one).collect()
    }
}
