//! Drift: where the bootstrap installs a release differently than Flux will (mode H14). Flux would change it on the
//! finished cluster.

use std::fmt;

use serde_json::Value;

use super::counterpart::{Counterpart, FluxChart, Naming};
use super::{variables, version};
use helmfile::{Chart, Release, ReleaseId};
use yaml::Location;

/// How many differing values a message lists.
const MAX_LISTED: usize = 3;

/// What differs between bootstrap and Flux.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Difference {
    Version,
    Chart,
    /// Flux would own another Helm release: it installs a second one over the same objects.
    Release,
    /// Flux does nothing with it.
    Suspended,
    /// Flux adds labels or annotations to every object.
    CommonMetadata,
    /// A Kustomization patches the HelmRelease.
    KustomizationPatch,
    /// A variable of `postBuild` reaches the chart without being substituted.
    Variable,
    ValuesFrom,
    Values,
    PostRenderers,
    /// Patches of the helmfile that the HelmRelease lacks.
    Patches,
}

/// One difference, its location, and how to remove it.
#[derive(Debug, Clone, PartialEq)]
pub struct Drift {
    pub release: ReleaseId,
    pub difference: Difference,
    pub at: Location,
    pub message: String,
    pub next: String,
}

impl fmt::Display for Drift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}\n  next: {}", self.at, self.release, self.message, self.next)
    }
}

/// Which part of a release Flux adopts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    Everything,
    Crds,
}

/// All differences between what the bootstrap installs and what Flux will.
pub fn compare(release: &Release, flux: &Counterpart, extent: Extent) -> Vec<Drift> {
    let drift = |difference, at: &Location, message: String, next: &str| Drift {
        release: release.id.clone(),
        difference,
        at: at.clone(),
        message,
        next: next.to_owned(),
    };
    let mut found: Vec<Drift> = Vec::new();
    if let Ok(theirs) = &flux.chart {
        found.extend(chart(release, theirs).map(|found| drift(found.difference, &found.at, found.message, found.next)));
    }
    if extent == Extent::Crds {
        return found;
    }
    if let Err(unknown) = &flux.chart {
        let next = "correct the name or add the source: Flux cannot adopt the release without it";
        found.push(drift(Difference::Chart, &unknown.at, unknown.message.clone(), next));
    }
    found.extend(
        other_release(release, flux).map(|(message, next)| drift(Difference::Release, &flux.at, message, &next)),
    );
    if let Some(at) = &flux.suspended {
        let message = "Flux does not adopt it: its HelmRelease is suspended".to_owned();
        found.push(drift(Difference::Suspended, at, message, "remove `suspend`, or `flux resume helmrelease` later"));
    }
    if let Some(at) = &flux.common_metadata {
        let message = "Flux adds `commonMetadata` to every object, which the bootstrap does not".to_owned();
        let next = "set the same labels by the chart's values, or accept that Flux upgrades the release once";
        found.push(drift(Difference::CommonMetadata, at, message, next));
    }
    for patch in &flux.kustomization_patches {
        let fields: Vec<String> = patch.fields.iter().map(|field| format!("`{field}`")).collect();
        let message = format!("a Kustomization patches {} of the HelmRelease", fields.join(", "));
        let next = "set the same for the bootstrap, or accept that Flux upgrades the release once";
        found.push(drift(Difference::KustomizationPatch, &patch.at, message, next));
    }
    for (at, variable, path) in unsubstituted(release, flux) {
        let message = format!("`{path}` holds `{variable}`, which Flux substitutes and the bootstrap does not");
        let next = "replace it in the values template too, for example by `replace` with the ConfigMap's value, or write the value";
        found.push(drift(Difference::Variable, &at, message, next));
    }
    for source in &flux.values_from {
        let (message, next) = match &source.values {
            Some(values) if contains(&release.values, values) => continue,
            Some(_) => (
                format!("Flux uses values from the {}, which the bootstrap lacks", source.what),
                "add the same file to the release's `values`, before the HelmRelease's own",
            ),
            None => (
                format!("Flux uses values from the {}, which is not in the repository", source.what),
                "copy them into the release's `values`, or accept that Flux upgrades the release once",
            ),
        };
        found.push(drift(Difference::ValuesFrom, &source.at, message, next));
    }
    found.extend(values(release, flux).map(|(at, message)| {
        drift(Difference::Values, &at, message, "read the values from the HelmRelease, or set the same in both")
    }));
    match (&flux.post_renderers, release.patches.is_empty()) {
        (Some(at), true) => found.push(drift(
            Difference::PostRenderers,
            at,
            "Flux applies `postRenderers` to the chart, and the bootstrap does not".to_owned(),
            "set the same as `jsonPatches` or `strategicMergePatches` of the release, or accept that Flux upgrades it once",
        )),
        (None, false) => found.push(drift(
            Difference::Patches,
            &release.at,
            "Flux reverts its `jsonPatches` or `strategicMergePatches`, which the HelmRelease lacks".to_owned(),
            "set the same as `postRenderers` of the HelmRelease",
        )),
        _ => {}
    }
    found
}

/// What ends a run before anything is changed: Flux would install a second release over the objects of this one, for
/// certain. The HelmRelease of the same name and chart targets the namespace of the release under another name.
pub fn second_release(release: &Release, flux: &Counterpart) -> Option<Drift> {
    let is_same_place = flux.target_namespace.as_ref() == Some(&release.id.namespace);
    let is_other_name = flux.owned.name != release.id.name;
    let is_other_chart =
        flux.chart.as_ref().is_ok_and(|theirs| Parts::of(&theirs.chart).name != Parts::of(&release.chart).name);
    if flux.naming == Naming::MayDiffer || !is_same_place || !is_other_name || is_other_chart {
        return None;
    }
    let (message, next) = other_release(release, flux)?;
    Some(Drift { release: release.id.clone(), difference: Difference::Release, at: flux.at.clone(), message, next })
}

/// How the release that Flux will own differs, and the two ways to correct it.
fn other_release(release: &Release, flux: &Counterpart) -> Option<(String, String)> {
    let (owned, id) = (&flux.owned, &release.id);
    if owned.is(id) {
        return None;
    }
    let storage = owned.storage.as_ref().filter(|storage| **storage != id.namespace);
    let message = match storage.filter(|_| owned.name == id.name && owned.is_in(id)) {
        Some(storage) => {
            format!("Flux keeps its record in namespace `{storage}`, and installs the release a second time")
        }
        None => format!("Flux installs `{owned}` instead, a second release of the same objects"),
    };
    let other = match storage {
        Some(_) => format!("move the HelmRelease into namespace `{}`", id.namespace),
        None => format!("name the release `{owned}` in the helmfile"),
    };
    Some((message, format!("set {} in the HelmRelease, or {other}", owned.settings_for(id))))
}

/// A difference between two charts.
struct ChartDifference {
    difference: Difference,
    at: Location,
    message: String,
    next: &'static str,
}

/// How the charts differ.
fn chart(release: &Release, theirs: &FluxChart) -> Option<ChartDifference> {
    let (ours, flux) = (Parts::of(&release.chart), Parts::of(&theirs.chart));
    let found = |difference, message, next| Some(ChartDifference { difference, at: release.at.clone(), message, next });
    if ours.name != flux.name {
        let message = format!("the bootstrap installs chart `{}`, Flux `{}` ({})", ours.name, flux.name, theirs.at);
        return found(Difference::Chart, message, "name the same chart in both");
    }
    let next = "set the same version in both";
    match (ours.digest, flux.digest) {
        (Some(own), Some(other)) if own != other => {
            let message = format!("the bootstrap installs digest {own}, Flux {other} ({})", theirs.at);
            return found(Difference::Version, message, next);
        }
        (Some(own), Some(other)) if own == other => return None,
        _ => {}
    }
    match (ours.version, flux.version) {
        (Some(own), Some(other)) if version::satisfies(own, other) == Some(false) => {
            let message = format!("the bootstrap installs version {own}, Flux {other} ({})", theirs.at);
            found(Difference::Version, message, next)
        }
        (None, Some(other)) if !matches!(release.chart, Chart::Local(_)) => {
            let message = format!("the bootstrap installs the newest version, Flux {other} ({})", theirs.at);
            found(Difference::Version, message, next)
        }
        _ => None,
    }
}

/// What identifies a chart.
struct Parts<'c> {
    name: &'c str,
    version: Option<&'c str>,
    digest: Option<&'c str>,
}

impl<'c> Parts<'c> {
    fn of(chart: &'c Chart) -> Self {
        match chart {
            Chart::Oci { reference, version } => {
                let (bare, digest) =
                    reference.split_once('@').map_or((reference.as_str(), None), |(bare, digest)| (bare, Some(digest)));
                Self { name: last(bare), version: version.as_deref(), digest }
            }
            Chart::Repository { name, version, .. } => {
                Self { name: last(name), version: version.as_deref(), digest: None }
            }
            Chart::Local(path) => {
                let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                Self { name, version: None, digest: None }
            }
        }
    }
}

fn last(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Variables of `postBuild` in the values that the bootstrap gives to the chart: location, variable, path.
fn unsubstituted(release: &Release, flux: &Counterpart) -> Vec<(Location, String, String)> {
    let mut found = Vec::new();
    if flux.substituted {
        leaves(&flux.written, &mut Vec::new(), &mut |path, text| {
            let ours = at(&release.values, path).and_then(Value::as_str);
            if let Some(variable) =
                variables::first(text).filter(|variable| ours.is_some_and(|ours| ours.contains(*variable)))
            {
                found.push((place(flux, path), variable.to_owned(), shown(path)));
            }
        });
    }
    found
}

/// Where the values differ, except at unknown variables.
fn values(release: &Release, flux: &Counterpart) -> Option<(Location, String)> {
    let mut found = Vec::new();
    let ours = without_dropped(release, flux);
    differences(&ours, &flux.values, &mut Vec::new(), &mut found);
    // Unknown values, and those that `unsubstituted` reports.
    found.retain(|path| {
        let written = at(&flux.written, path).and_then(Value::as_str);
        let unknown = at(&flux.values, path).and_then(Value::as_str).and_then(variables::first).is_some();
        !(flux.substituted && (unknown || written.is_some() && at(&ours, path) == at(&flux.written, path)))
    });
    let first = found.first()?;
    let named: Vec<String> = found.iter().take(MAX_LISTED).map(|path| format!("`{}`", shown(path))).collect();
    let more = found.len().saturating_sub(MAX_LISTED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    Some((place(flux, first), format!("the values differ from the HelmRelease's at {}{more}", named.join(", "))))
}

/// Flux's values, with ours where the value comes from a Secret of the cluster.
pub fn filled(flux: &Counterpart, ours: &Value) -> Value {
    if flux.substituted { fill(&flux.values, Some(ours)) } else { flux.values.clone() }
}

fn fill(theirs: &Value, ours: Option<&Value>) -> Value {
    match (theirs, ours) {
        (Value::String(text), Some(ours)) if variables::first(text).is_some() => ours.clone(),
        (Value::Object(map), ours) => {
            let own = |key: &String| ours.and_then(|ours| ours.get(key));
            map.iter().map(|(key, value)| (key.clone(), fill(value, own(key)))).collect()
        }
        (Value::Array(items), ours) => {
            items.iter().enumerate().map(|(index, item)| fill(item, ours.and_then(|ours| ours.get(index)))).collect()
        }
        (theirs, _) => theirs.clone(),
    }
}

/// Our values with those of sources that the bootstrap lacks, which are reported by themselves.
fn without_dropped(release: &Release, flux: &Counterpart) -> Value {
    let mut ours = serde_json::Map::new();
    for source in flux.values_from.iter().filter_map(|source| source.values.as_ref()) {
        if let (false, Value::Object(dropped)) = (contains(&release.values, source), source.clone()) {
            helmfile::merge_values(&mut ours, dropped);
        }
    }
    if let Value::Object(own) = release.values.clone() {
        helmfile::merge_values(&mut ours, own);
    }
    Value::Object(ours)
}

/// Whether every value of `part` is in `whole`.
fn contains(whole: &Value, part: &Value) -> bool {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => {
            part.iter().all(|(key, part)| whole.get(key).is_some_and(|whole| contains(whole, part)))
        }
        // The HelmRelease's own values may override it.
        (_, Value::Object(part)) => part.is_empty(),
        _ => true,
    }
}

/// A step of a path into values: a key, or an index.
type Path = Vec<String>;

fn differences(ours: &Value, theirs: &Value, path: &mut Path, found: &mut Vec<Path>) {
    match (ours, theirs) {
        (Value::Object(own), Value::Object(other)) => {
            for key in own.keys().chain(other.keys().filter(|key| !own.contains_key(*key))) {
                path.push(key.clone());
                match (own.get(key), other.get(key)) {
                    (Some(own), Some(other)) => differences(own, other, path, found),
                    _ => found.push(path.clone()),
                }
                path.pop();
            }
        }
        (Value::Array(own), Value::Array(other)) if own.len() == other.len() => {
            for (index, (own, other)) in own.iter().zip(other).enumerate() {
                path.push(index.to_string());
                differences(own, other, path, found);
                path.pop();
            }
        }
        _ if ours != theirs => found.push(path.clone()),
        _ => {}
    }
}

fn leaves(value: &Value, path: &mut Path, each: &mut dyn FnMut(&[String], &str)) {
    match value {
        Value::String(text) => each(path, text),
        Value::Array(items) => items.iter().enumerate().for_each(|(index, item)| {
            path.push(index.to_string());
            leaves(item, path, each);
            path.pop();
        }),
        Value::Object(map) => map.iter().for_each(|(key, item)| {
            path.push(key.clone());
            leaves(item, path, each);
            path.pop();
        }),
        _ => {}
    }
}

fn at<'v>(value: &'v Value, path: &[String]) -> Option<&'v Value> {
    path.iter().try_fold(value, |value, key| match value {
        Value::Array(items) => items.get(key.parse::<usize>().ok()?),
        value => value.get(key),
    })
}

/// The location of a value in the HelmRelease, or of the nearest one that is written.
fn place(flux: &Counterpart, path: &[String]) -> Location {
    let Some(mut node) = flux.nodes.as_ref() else { return flux.at.clone() };
    for key in path {
        let next = match key.parse::<usize>() {
            Ok(index) if node.as_sequence().is_some() => node.as_sequence().and_then(|items| items.get(index)),
            _ => node.find(&[key]),
        };
        let Some(next) = next else { break };
        node = next;
    }
    flux.origin.location(node.at)
}

fn shown(path: &[String]) -> String {
    path.join(".")
}
