//! Reads a release, or a template of releases.

use super::super::state::{Draft, Element, Given, Inherit, Missing, SetDraft, Text};
use super::super::values;
use super::Reader;
use yaml::{Fields, Node, Value};

const TEXTS: [&str; 10] = [
    "name",
    "namespace",
    "chart",
    "version",
    "condition",
    "kubeVersion",
    "installedTemplate",
    "conditionTemplate",
    "waitTemplate",
    "verifyTemplate",
];
const SETS: [&str; 4] = ["set", "setString", "setTemplate", "env"];
/// Keys of commands that have no counterpart here (diff, unittest) and of helmfile's own way of waiting.
const WITHOUT_EFFECT: &str = "disableValidationOnInstall kubedogBurst kubedogQPS missingFileHandlerConfig skipKinds suppressDiff \
    trackFailOnError trackFailedLogs trackKinds trackLogs trackResources trackTimeout unitTests";
const UNSUPPORTED: &str = "adopt chartPath dependencies directory forceNamespace secrets transformers updateStrategy";

impl Reader<'_> {
    pub(super) fn draft(&mut self, node: &Node, what: &str) -> Draft {
        let origin = self.origin;
        let mut fields = Fields::from_node(origin, node, what, self.found);
        let mut draft = Draft::empty(origin.location(node.at));
        for key in TEXTS {
            if let Some(text) = self.text(&mut fields, key, what) {
                draft.texts.insert(key, text);
            }
        }
        draft.installed = self.switch(&mut fields, "installed", what);
        draft.labels = self.labels(&mut fields, "labels", what);
        draft.needs = self.texts(&mut fields, "needs", what);
        draft.values_template = self.values(&mut fields, "valuesTemplate");
        draft.values = self.values(&mut fields, "values");
        draft.values_path_prefix = self.word(&mut fields, "valuesPathPrefix", what);
        for key in SETS {
            let sets: Vec<SetDraft> =
                fields.list(key, self.found).iter().filter_map(|node| self.set(node, key, what)).collect();
            if !sets.is_empty() {
                draft.sets.insert(key, sets);
            }
        }
        draft.json_patches = self.values(&mut fields, "jsonPatches");
        draft.merge_patches = self.values(&mut fields, "strategicMergePatches");
        draft.api_versions = self.words(&mut fields, "apiVersions", what);
        draft.missing = self.word(&mut fields, "missingFileHandler", what).as_deref().map(Missing::read);
        for node in fields.list("hooks", self.found) {
            draft.hooks.extend(self.hook(node, what));
        }
        if let Some(node) = fields.get("inherit") {
            draft.inherit = self.inherit(node);
        }
        draft.settings = self.settings(&mut fields, what);
        Self::without_effect(&mut fields, WITHOUT_EFFECT);
        self.unsupported(&mut fields, UNSUPPORTED, what);
        self.unsupported_switches(&mut fields, "forceGoGetter", what);
        fields.finish(self.found);
        draft
    }

    fn set(&mut self, node: &Node, key: &'static str, what: &str) -> Option<SetDraft> {
        let (origin, what) = (self.origin, format!("an item of `{key}` of {what}"));
        let mut fields = Fields::from_node(origin, node, what.clone(), self.found);
        let name = self.text(&mut fields, "name", &what);
        let value = self.text(&mut fields, "value", &what);
        let file = self.text(&mut fields, "file", &what).filter(|_| key != "setString");
        let elements = fields.list("values", self.found).iter().filter_map(|node| self.element(node)).collect();
        fields.finish(self.found);
        let at = self.at(node);
        let Some(name) = name else {
            self.found.error(at, format!("{what} has no `name`"));
            return None;
        };
        let is_given = |text: &Text| !text.raw.is_empty();
        let given = match (value.filter(is_given), file.filter(is_given)) {
            (Some(value), _) => Given::Value(value),
            (None, Some(file)) => Given::File(file),
            (None, None) => Given::Values(elements),
        };
        Some(SetDraft { at, name, given })
    }

    fn element(&mut self, node: &Node) -> Option<Element> {
        match &node.value {
            Value::String(_) => self.scalar(node).map(Element::Text),
            _ => match values::finite(node) {
                Ok(()) => Some(Element::Data(node.to_json())),
                Err(bad) => {
                    self.error(bad, values::NOT_FINITE);
                    None
                }
            },
        }
    }

    /// A list of `{template, except}`, or one of them.
    fn inherit(&mut self, node: &Node) -> Vec<Inherit> {
        let items = node.as_sequence().unwrap_or(std::slice::from_ref(node));
        items.iter().filter_map(|item| self.inherit_one(item)).collect()
    }

    fn inherit_one(&mut self, node: &Node) -> Option<Inherit> {
        const EXCEPT: [&str; 7] = ["labels", "secrets", "set", "setString", "setTemplate", "values", "valuesTemplate"];
        let (origin, at) = (self.origin, self.origin.location(node.at));
        let mut fields = Fields::from_node(origin, node, "an `inherit` item", self.found);
        let template = fields.required_string("template", self.found);
        let except = fields.strings("except", self.found);
        for key in except.iter().filter(|key| !EXCEPT.contains(&key.as_str())) {
            let known = EXCEPT.join("`, `");
            self.found.error(at.clone(), format!("invalid `except` item `{key}`: expected one of `{known}`"));
        }
        fields.finish(self.found);
        Some(Inherit { template: template?, at, except })
    }
}
