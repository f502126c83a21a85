//! The top level of a state file.

use std::collections::BTreeMap;

use super::super::state::{Draft, Inherit, Missing, State};
use super::{Document, Reader};
use yaml::{Fields, Node};

/// Keys for programs and services that only helmfile itself uses.
const WITHOUT_EFFECT: &str = "helmBinary kustomizeBinary llm missingFileHandlerConfig";
const UNSUPPORTED: &str = "chart lockFilePath";

impl Reader<'_> {
    pub(super) fn document(&mut self, node: &Node) -> Document {
        let (origin, what) = (self.origin, "the helmfile");
        let mut fields = Fields::from_node(origin, node, what, self.found);
        let mut state = State::default();
        let bases = self.texts(&mut fields, "bases", what);
        if let Some(node) = fields.get("helmDefaults") {
            state.defaults = self.defaults(node);
        }
        state.labels = self.labels(&mut fields, "commonLabels", what);
        for node in fields.list("repositories", self.found) {
            state.repositories.extend(self.repository(node));
        }
        if let Some(node) = fields.get("templates") {
            state.templates = self.templates(node);
        }
        if let Some(node) = fields.get("defaultInherit") {
            state.default_inherit = self.default_inherit(node);
        }
        for node in fields.list("releases", self.found) {
            let name = node.find(&["name"]).and_then(Node::as_str).unwrap_or("?");
            let draft = self.draft(node, &format!("release {name:?}"));
            state.releases.push(draft);
        }
        for node in fields.list("hooks", self.found) {
            state.hooks.extend(self.hook(node, what));
        }
        for node in fields.list("helmfiles", self.found) {
            state.helmfiles.extend(self.nested(node));
        }
        state.values = self.values(&mut fields, "values");
        if let Some(node) = fields.get("environments") {
            state.environments = self.environments(node);
        }
        state.namespace = self.word(&mut fields, "namespace", what);
        state.kube_context = self.word(&mut fields, "kubeContext", what);
        state.kube_version = self.word(&mut fields, "kubeVersion", what);
        state.api_versions = self.words(&mut fields, "apiVersions", what);
        state.missing = self.word(&mut fields, "missingFileHandler", what).as_deref().map(Missing::read);
        Self::without_effect(&mut fields, WITHOUT_EFFECT);
        self.unsupported(&mut fields, UNSUPPORTED, what);
        fields.finish(self.found);
        Document { bases, state }
    }

    fn templates(&mut self, node: &Node) -> BTreeMap<String, Draft> {
        let Some(mapping) = self.mapping(node, "`templates`") else { return BTreeMap::new() };
        let drafts = mapping.iter().map(|entry| {
            let draft = self.draft(&entry.value, &format!("template {:?}", entry.key));
            (entry.key.clone(), draft)
        });
        drafts.collect()
    }

    /// A name or a list of names.
    fn default_inherit(&mut self, node: &Node) -> Vec<Inherit> {
        let items = node.as_sequence().unwrap_or(std::slice::from_ref(node));
        let mut inherits = vec![];
        for item in items {
            match self.scalar(item) {
                Some(name) if name.raw.trim().is_empty() => {}
                Some(name) => {
                    let template = name.raw.trim().to_owned();
                    inherits.push(Inherit { template, at: self.at(item), except: vec![] });
                }
                None => self.error(item, format!("items of `defaultInherit` must be names, not {}", item.value.kind())),
            }
        }
        inherits
    }
}
