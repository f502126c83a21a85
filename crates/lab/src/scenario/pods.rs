//! Latencies and faults of pods on simulated kubelets.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde::Deserialize;

use super::Millis;

/// How long each stage of a pod takes.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct PodTimings {
    /// The label of the network plugin's pods. A node becomes Ready after its own one.
    pub cni: PodLabel,
    /// From the network plugin's pod being Ready to the node being Ready.
    pub node_ready: Millis,
    /// Pulling an image that the node does not have.
    pub image_pull: Millis,
    /// The same for images whose name contains the key.
    #[serde(default)]
    pub images: BTreeMap<String, Millis>,
    /// One init container, from its start to its end.
    pub init: Millis,
    /// From the image being there to the container being ready.
    pub start: Millis,
    /// A container of a pod that is to complete, from its start to its end.
    pub run: Millis,
    /// From the deletion of a pod to its end.
    pub stop: Millis,
    /// Pods that do not become ready, or do not complete, until a fact is true.
    #[serde(default)]
    pub holds: Vec<PodHold>,
}

/// A label, written `key=value`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct PodLabel {
    key: String,
    value: String,
}

/// A label that is not written `key=value`.
#[derive(Debug, thiserror::Error)]
#[error("label `{text}` is invalid: expected key=value")]
pub struct InvalidLabel {
    text: String,
}

/// Pods by namespace and name.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct PodSelector {
    /// Absent means every namespace.
    pub namespace: Option<String>,
    /// A prefix of the pod's name.
    pub name: String,
}

/// A pod that waits for a fact in the lab's record.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct PodHold {
    pub pod: PodSelector,
    /// The fact's name.
    pub until: String,
}

/// A fault of a pod.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct PodFault {
    pub pod: PodSelector,
    pub what: PodFaultKind,
    /// The error message of the registry, the volume plugin or the container.
    pub message: String,
    /// From the start of the fault to its end. Absent means forever.
    pub lasts: Option<Millis>,
}

/// How a pod fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PodFaultKind {
    /// Its image cannot be pulled.
    ImagePull,
    /// A volume cannot be mounted; the pod stays `Pending`.
    Mount,
    /// Its container is crash-looping.
    Crash,
}

impl TryFrom<String> for PodLabel {
    type Error = InvalidLabel;

    fn try_from(text: String) -> Result<Self, InvalidLabel> {
        let (key, value) = text.split_once('=').ok_or_else(|| InvalidLabel { text: text.clone() })?;
        Ok(Self { key: key.to_owned(), value: value.to_owned() })
    }
}

impl PodLabel {
    pub(crate) fn matches(&self, pod: &Pod) -> bool {
        pod.labels().get(&self.key) == Some(&self.value)
    }
}

impl PodSelector {
    pub(crate) fn selects(&self, pod: &Pod) -> bool {
        let namespace = self.namespace.as_ref().is_none_or(|namespace| pod.namespace().as_ref() == Some(namespace));
        namespace && pod.name_any().starts_with(&self.name)
    }
}

impl PodTimings {
    /// How long the pull of an image takes.
    pub(crate) fn pull_time(&self, image: &str) -> Duration {
        let specific = self.images.iter().find(|(part, _)| image.contains(part.as_str()));
        specific.map_or(self.image_pull, |(_, millis)| *millis).duration()
    }
}
