//! How Flux will install a release, read from the repository's manifests.

use serde_json::Value;

use super::kustomizations::KustomizationPatch;
use super::ownership::{HelmReleaseNames, OwnedRelease};
use super::renderers::{self, PostRendererPatches};
use super::values::{self, ValuesFrom};
use super::{FluxObjects, Object};
use helmfile::{Chart, Release};
use yaml::{Location, Node, Origin};

/// A release as its HelmRelease describes it.
#[derive(Debug, Clone)]
pub struct Counterpart {
    /// The location of the HelmRelease.
    pub at: Location,
    /// The release that Flux installs and records.
    pub owned: OwnedRelease,
    /// `spec.targetNamespace`.
    pub(super) target_namespace: Option<String>,
    pub(super) naming: Naming,
    /// The location of `suspend: true`: Flux does nothing with it.
    pub suspended: Option<Location>,
    /// The location of labels and annotations that Flux adds to every object.
    pub common_metadata: Option<Location>,
    /// What patches of Flux's Kustomizations set in it.
    pub kustomization_patches: Vec<KustomizationPatch>,
    pub chart: Result<FluxChart, UnknownChart>,
    /// The values before variables are substituted.
    pub written: Value,
    /// The values that Flux gives to the chart; variables from Secrets stay.
    pub values: Value,
    /// A Kustomization substitutes variables in it.
    pub substituted: bool,
    pub values_from: Vec<ValuesFrom>,
    pub post_renderers: Option<Location>,
    pub patches: PostRendererPatches,
    pub(super) origin: Origin,
    pub(super) nodes: Option<Node>,
}

/// The chart of a HelmRelease, or its source, is not in the repository or not supported.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{at}: {message}")]
pub struct UnknownChart {
    pub at: Location,
    pub message: String,
}

impl UnknownChart {
    pub(super) fn new(at: Location, message: impl Into<String>) -> Self {
        Self { at, message: message.into() }
    }
}

/// The chart that Flux installs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FluxChart {
    /// Its version may be a range.
    pub chart: Chart,
    /// The location of the version, or of the chart where it has none.
    pub at: Location,
    pub source: ChartOrigin,
}

/// Whether the names in a HelmRelease's file are those that Flux will see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Naming {
    AsWritten,
    MayDiffer,
}

/// Where Flux gets a chart from, as far as it decides the chart's version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChartOrigin {
    /// helm-controller adds the digest to the version.
    OciRepository,
    /// A HelmRepository, or a folder of the repository.
    Other,
}

impl FluxObjects {
    /// How Flux will install `release`; none if the repository has no HelmRelease for it.
    pub fn counterpart(&self, release: &Release) -> Option<Counterpart> {
        let object = self.helm_release(release)?;
        let (written, values_from) = values::merged(self, object);
        let substitutes = !is_exempt(object);
        let variables = self.kustomizations.variables(self, &object.path).filter(|_| substitutes);
        let values = variables.as_ref().map_or_else(|| written.clone(), |variables| variables.substitute(&written));
        Some(Counterpart {
            at: object.location(&["metadata", "name"]),
            owned: self.owned(object),
            target_namespace: object.text(&["spec", "targetNamespace"]).map(str::to_owned),
            naming: self.naming(object),
            suspended: suspended(object),
            common_metadata: place(object, &["spec", "commonMetadata"]),
            kustomization_patches: self.kustomizations.patches_of(&object.name),
            chart: self.chart_of(object),
            written,
            values,
            substituted: variables.is_some(),
            values_from,
            post_renderers: place(object, &["spec", "postRenderers"]),
            patches: renderers::patches(object),
            origin: object.origin.clone(),
            nodes: object.document.find(&["spec", "values"]).cloned(),
        })
    }

    /// The HelmRelease that adopts a release, or is meant to. One without a chart is a patch of another.
    fn helm_release(&self, release: &Release) -> Option<&Object> {
        let named = self.objects.iter().filter(|object| {
            object.kind == "HelmRelease"
                && (object.name == release.id.name || self.owned(object).name == release.id.name)
        });
        let agreement = |object: &Object| {
            let owned = self.owned(object);
            (owned.is(&release.id), owned.is_in(&release.id), owned.namespace.is_some())
        };
        // One in the folder of another cluster belongs to that cluster.
        let class = |object: &Object| self.names.class(&self.root, &object.path);
        let own = named.filter(|object| is_complete(object) && class(object) > 0);
        own.max_by_key(|object| (class(object), agreement(object), self.rank(&object.path, &release.file)))
    }

    /// Whether something may set the names in a HelmRelease beside its file: a variable, an overlay, a patch.
    fn naming(&self, object: &Object) -> Naming {
        let fields = ["releaseName", "targetNamespace", "storageNamespace"];
        let has_variable =
            fields.iter().any(|field| object.text(&["spec", field]).is_some_and(|text| text.contains("${")))
                || object.name.contains("${");
        let sets = |other: &&Object| fields.iter().any(|field| other.document.find(&["spec", field]).is_some());
        let mut overlays = self
            .objects
            .iter()
            .filter(|other| other.kind == "HelmRelease" && other.name == object.name && !is_complete(other));
        let patches = self.kustomizations.patches_of(&object.name);
        let is_patched = patches.iter().any(|patch| patch.fields.iter().any(|field| fields.contains(&field.as_str())));
        if has_variable || is_patched || overlays.any(|other| sets(&other)) {
            Naming::MayDiffer
        } else {
            Naming::AsWritten
        }
    }

    fn owned(&self, object: &Object) -> OwnedRelease {
        // An empty text is as good as none.
        let written = |keys: &[&str]| object.text(keys).filter(|text| !text.is_empty());
        OwnedRelease::owned_by(HelmReleaseNames {
            name: &object.name,
            // A Kustomization's `targetNamespace` replaces what the object says.
            namespace: self.kustomizations.namespace_of(&object.path).or(object.namespace.as_deref()),
            release_name: written(&["spec", "releaseName"]),
            target_namespace: written(&["spec", "targetNamespace"]),
            storage_namespace: written(&["spec", "storageNamespace"]),
        })
    }
}

/// Whether a HelmRelease has a chart; one without is a patch of another.
fn is_complete(object: &Object) -> bool {
    ["chart", "chartRef"].iter().any(|key| object.document.find(&["spec", key]).is_some())
}

/// The location of a value that is not empty.
fn place(object: &Object, keys: &[&str]) -> Option<Location> {
    let node = object.document.find(keys)?;
    let is_empty = node
        .as_sequence()
        .map_or_else(|| node.as_mapping().is_some_and(|map| map.iter().count() == 0), <[_]>::is_empty);
    (!is_empty).then(|| object.origin.location(node.at))
}

fn suspended(object: &Object) -> Option<Location> {
    let node = object.document.find(&["spec", "suspend"])?;
    (node.to_json() == Value::Bool(true)).then(|| object.origin.location(node.at))
}

/// Whether an object is exempt from variable substitution.
fn is_exempt(object: &Object) -> bool {
    ["labels", "annotations"].iter().any(|kind| {
        let mark = object.text(&["metadata", kind, "kustomize.toolkit.fluxcd.io/substitute"]);
        mark == Some("disabled")
    })
}
