//! How Flux will install a release, read from the repository's manifests.

use serde_json::Value;

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
    /// The namespace that Flux installs into, if the HelmRelease names one.
    pub namespace: Option<String>,
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
            namespace: self.target(object),
            chart: self.chart_of(object),
            written,
            values,
            substituted: variables.is_some(),
            values_from,
            post_renderers: object
                .document
                .find(&["spec", "postRenderers"])
                .filter(|node| node.as_sequence().is_some_and(|items| !items.is_empty()))
                .map(|node| object.origin.location(node.at)),
            patches: renderers::patches(object),
            origin: object.origin.clone(),
            nodes: object.document.find(&["spec", "values"]).cloned(),
        })
    }

    /// The HelmRelease that adopts a release. One without a chart is a patch of another.
    fn helm_release(&self, release: &Release) -> Option<&Object> {
        let complete =
            |object: &&Object| ["chart", "chartRef"].iter().any(|key| object.document.find(&["spec", key]).is_some());
        let named = self.objects.iter().filter(|object| {
            let name = object.text(&["spec", "releaseName"]).unwrap_or(&object.name);
            object.kind == "HelmRelease" && name == release.id.name
        });
        let agreement = |object: &Object| match self.target(object) {
            Some(namespace) => u8::from(namespace == release.id.namespace) * 2,
            None => 1,
        };
        named.filter(complete).max_by_key(|object| (agreement(object), self.rank(&object.path, &release.file)))
    }

    /// The namespace that a HelmRelease installs into.
    fn target(&self, object: &Object) -> Option<String> {
        let own = object.text(&["spec", "targetNamespace"]).or(object.namespace.as_deref());
        own.or_else(|| self.kustomizations.namespace_of(&object.path)).map(str::to_owned)
    }
}

/// Whether an object is exempt from variable substitution.
fn is_exempt(object: &Object) -> bool {
    ["labels", "annotations"].iter().any(|kind| {
        let mark = object.text(&["metadata", kind, "kustomize.toolkit.fluxcd.io/substitute"]);
        mark == Some("disabled")
    })
}
