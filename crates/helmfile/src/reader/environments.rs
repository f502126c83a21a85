//! `environments` and `helmfiles`.

use std::collections::BTreeMap;

use super::super::selector::Selector;
use super::super::state::{EnvironmentSpec, Missing, Nested, Strategy};
use super::Reader;
use yaml::{Diagnostic, Fields, Node, near};

/// What a sub-helmfile can inherit from its parent.
const INHERITS: [&str; 7] =
    ["repositories", "helmDefaults", "commonLabels", "apiVersions", "kubeVersion", "templates", "environments"];

impl Reader<'_> {
    pub(super) fn environments(&mut self, node: &Node) -> BTreeMap<String, EnvironmentSpec> {
        let Some(mapping) = self.mapping(node, "`environments`") else { return BTreeMap::new() };
        mapping.iter().map(|entry| (entry.key.clone(), self.environment(&entry.value, &entry.key))).collect()
    }

    fn environment(&mut self, node: &Node, name: &str) -> EnvironmentSpec {
        let (origin, what) = (self.origin, format!("environment {name:?}"));
        let mut fields = Fields::from_node(origin, node, what.clone(), self.found);
        let values = self.values(&mut fields, "values");
        let kube_context = self.word(&mut fields, "kubeContext", &what);
        let missing = self.word(&mut fields, "missingFileHandler", &what).as_deref().map(Missing::read);
        let strategy = self.word(&mut fields, "mergeStrategy", &what).and_then(|strategy| match strategy.as_str() {
            "override" => Some(Strategy::Override),
            "fallback" => Some(Strategy::Fallback),
            other => {
                let at = fields.key_location("mergeStrategy").unwrap_or_else(|| fields.location());
                let message = format!("`mergeStrategy` of {what} must be `override` or `fallback`, not `{other}`");
                self.found.error(at, message);
                None
            }
        });
        Self::without_effect(&mut fields, "missingFileHandlerConfig");
        self.unsupported(&mut fields, "secrets", &what);
        fields.finish(self.found);
        EnvironmentSpec { values, kube_context, missing, strategy }
    }

    /// A path, or a mapping with a path and options.
    pub(super) fn nested(&mut self, node: &Node) -> Option<Nested> {
        let (origin, what) = (self.origin, "an item of `helmfiles`");
        if let Some(path) = self.scalar(node) {
            return self.local(Nested { path, matches: vec![], selectors: None, inherits: vec![], values: vec![] });
        }
        let mut fields = Fields::from_node(origin, node, what, self.found);
        let path = self.text(&mut fields, "path", what);
        let inherited = self.switch(&mut fields, "selectorsInherited", what).unwrap_or(false);
        let selectors = fields.get("selectors").is_some().then(|| self.selectors(&mut fields));
        let inherits = self.inherits(&mut fields);
        let values = self.values(&mut fields, "values");
        fields.finish(self.found);
        let at = self.at(node);
        let Some(path) = path else {
            self.found.error(at, format!("{what} has no `path`"));
            return None;
        };
        if inherited && selectors.as_ref().is_some_and(|selectors| !selectors.is_empty()) {
            self.found.error(at, format!("{what} has both `selectors` and `selectorsInherited: true`"));
        }
        let selectors = selectors.filter(|_| !inherited);
        self.local(Nested { path, matches: vec![], selectors, inherits, values })
    }

    fn local(&mut self, nested: Nested) -> Option<Nested> {
        if nested.path.raw.contains("://") || nested.path.raw.starts_with("git::") {
            let message = format!("remote helmfile `{}` is not supported", nested.path.raw);
            let hint = "copy it into the repository";
            self.found.push(Diagnostic::at_location(nested.path.at, message).with_hint(hint));
            return None;
        }
        Some(nested)
    }

    fn selectors(&mut self, fields: &mut Fields<'_>) -> Vec<Selector> {
        let mut selectors = vec![];
        for text in self.texts(fields, "selectors", "an item of `helmfiles`") {
            match text.raw.parse::<Selector>() {
                Ok(selector) => selectors.push(selector),
                Err(error) => self.found.error(text.at, error.to_string()),
            }
        }
        selectors
    }

    fn inherits(&mut self, fields: &mut Fields<'_>) -> Vec<String> {
        let mut inherits = vec![];
        for text in self.texts(fields, "inherits", "an item of `helmfiles`") {
            if !INHERITS.contains(&text.raw.as_str()) {
                let message =
                    format!("invalid `inherits` item `{}`: expected one of `{}`", text.raw, INHERITS.join("`, `"));
                self.found.push(Diagnostic::at_location(text.at, message).did_you_mean(near(&text.raw, INHERITS)));
                continue;
            }
            inherits.push(text.raw);
        }
        inherits
    }
}
