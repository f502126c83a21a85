//! How pods fare on the simulated kubelets.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde::Deserialize;

use super::Millis;

/// How long a pod takes for each part of its way.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct PodPace {
    /// The label that marks the pods of the network plugin: a node is Ready when its own one is.
    pub cni: Label,
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
    /// From the wish to delete a pod to its end.
    pub stop: Millis,
    /// Pods that are not ready, or not complete, until something is true.
    #[serde(default)]
    pub holds: Vec<Hold>,
}

/// A label, written `key=value`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Label {
    key: String,
    value: String,
}

/// Pods by namespace and name.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct PodSelector {
    /// Absent means every namespace.
    pub namespace: Option<String>,
    /// How the pod's name begins.
    pub name: String,
}

/// A pod that goes on only when a fact of the lab's record is there.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Hold {
    pub pod: PodSelector,
    /// The fact's name.
    pub until: String,
}

/// Something that goes wrong with a pod.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct PodFault {
    pub pod: PodSelector,
    pub what: PodTrouble,
    /// What the registry, the volume plugin or the container says of it.
    pub message: String,
    /// From the moment it began to its end; absent means for ever.
    pub lasts: Option<Millis>,
}

/// What goes wrong with a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PodTrouble {
    /// Its image cannot be pulled.
    ImagePull,
    /// A volume cannot be mounted; the pod stays `Pending`.
    Mount,
    /// Its container ends again and again.
    Crash,
}

impl TryFrom<String> for Label {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let (key, value) = text.split_once('=').ok_or_else(|| format!("`{text}` is no label: write key=value"))?;
        Ok(Self { key: key.to_owned(), value: value.to_owned() })
    }
}

impl Label {
    pub(crate) fn marks(&self, pod: &Pod) -> bool {
        pod.labels().get(&self.key) == Some(&self.value)
    }
}

impl PodSelector {
    pub(crate) fn selects(&self, pod: &Pod) -> bool {
        let namespace = self.namespace.as_ref().is_none_or(|namespace| pod.namespace().as_ref() == Some(namespace));
        namespace && pod.name_any().starts_with(&self.name)
    }
}

impl PodPace {
    /// How long the pull of an image takes.
    pub(crate) fn pull(&self, image: &str) -> Duration {
        let own = self.images.iter().find(|(part, _)| image.contains(part.as_str()));
        own.map_or(self.image_pull, |(_, millis)| *millis).duration()
    }
}
