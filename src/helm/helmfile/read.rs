//! One YAML document of a state file to a [`State`].

use std::collections::{BTreeMap, HashMap};

use super::state::{Draft, Inherit, Repository, Settings, State, Text, Values};
use crate::yaml::{self, Diagnostic, Diagnostics, Dialect, Fields, Location, Node, Origin, Position, Value};

/// Keys of helmfile that are read nowhere here, by where they stand. Each is refused by name.
const STATE_UNSUPPORTED: &str = "apiVersions context deleteWait environments helmBinary helmfiles hooks kubeContext kubeVersion kustomizeBinary \
    lockFilePath missingFileHandler missingFileHandlerConfig namespace secrets selectors values version";
const DEFAULTS_UNSUPPORTED: &str = "cascade deleteTimeout deleteWait diffArgs insecureSkipTLSVerify keyring kubeContext logFormat plainHttp \
    resetValues reuseValues skipCRDs skipDeps skipRefresh suppressDiff suppressOutputLineRegex syncArgs \
    syncReleaseLabels templateArgs tillerless tls trackMode waitRetries";
const RELEASE_UNSUPPORTED: &str = "adopt apiVersions cascade condition conditionTemplate deleteTimeout deleteWait dependencies diffArgs directory \
    env forceGoGetter forceNamespace insecureSkipTLSVerify installedTemplate jsonPatches keyring kubeContext \
    kubeVersion missingFileHandlerConfig plainHttp postRendererHooks resetValues reuseValues secrets set setString \
    setStringTemplate setTemplate skipCRDs skipDeps skipRefresh strategicMergePatches suppressDiff \
    suppressOutputLineRegex syncArgs syncReleaseLabels templateArgs tillerNamespace tls trackMode transformers \
    unitTests verifyTemplate waitForJobsTemplate waitRetries waitTemplate";
const REPOSITORY_UNSUPPORTED: &str = "caFile certFile keyFile keyring managed passCredentials password plainHttp registryConfig skipTLSVerify \
    username verify";
/// Switches of Helm that `helmDefaults` and releases share.
const SWITCHES: [&str; 15] = [
    "atomic",
    "cleanupOnFail",
    "createNamespace",
    "devel",
    "disableOpenAPIValidation",
    "disableValidation",
    "disableValidationOnInstall",
    "enableDNS",
    "force",
    "forceConflicts",
    "recreatePods",
    "skipSchemaValidation",
    "takeOwnership",
    "wait",
    "waitForJobs",
];
/// What go-yaml takes for a boolean where one is wanted, besides `true` and `false` (YAML 1.1).
const OLD_TRUE: [&str; 8] = ["y", "Y", "yes", "Yes", "YES", "on", "On", "ON"];
const OLD_FALSE: [&str; 8] = ["n", "N", "no", "No", "NO", "off", "Off", "OFF"];

/// What a document holds, and the bases that it names.
pub(super) struct Document {
    pub(super) bases: Vec<Text>,
    pub(super) state: State,
}

pub(super) struct Reader<'r> {
    pub(super) origin: &'r Origin,
    lines: Vec<&'r str>,
    /// Scalars as they are written: `1.10` is a version, not a number.
    written: HashMap<Position, String>,
    pub(super) found: &'r mut Diagnostics,
}

/// Reads every document of a state file's part; the `line`s before it are counted in.
pub(super) fn documents(origin: &Origin, text: &str, found: &mut Diagnostics) -> Result<Vec<Document>, Diagnostic> {
    let nodes = yaml::parse_as(origin, text, Dialect::Untyped)?;
    let mut written = HashMap::new();
    for node in &yaml::parse_as(origin, text, Dialect::Verbatim)? {
        collect(node, &mut written);
    }
    let mut reader = Reader { origin, lines: text.lines().collect(), written, found };
    Ok(nodes.iter().filter(|node| !node.is_null()).map(|node| reader.document(node)).collect())
}

fn collect(node: &Node, written: &mut HashMap<Position, String>) {
    match &node.value {
        Value::String(text) => {
            written.insert(node.at, text.clone());
        }
        Value::Sequence(items) => items.iter().for_each(|item| collect(item, written)),
        Value::Mapping(mapping) => mapping.iter().for_each(|entry| collect(&entry.value, written)),
        _ => {}
    }
}

impl Reader<'_> {
    fn document(&mut self, node: &Node) -> Document {
        let origin = self.origin;
        let mut fields = Fields::of(origin, node, "the helmfile", self.found);
        let mut state = State::default();
        let bases = self.texts(&mut fields, "bases", "the helmfile");
        if let Some(node) = fields.get("helmDefaults") {
            state.defaults = self.defaults(node);
        }
        state.labels = self.labels(&mut fields, "commonLabels", "the helmfile");
        for node in fields.list("repositories", self.found) {
            state.repositories.extend(self.repository(node));
        }
        if let Some(node) = fields.get("templates") {
            state.templates = self.templates(node);
        }
        if let Some(node) = fields.get("defaultInherit") {
            state.default_inherit = self.inherit(node);
        }
        for node in fields.list("releases", self.found) {
            let name = node.find(&["name"]).and_then(Node::as_str).unwrap_or("?");
            let draft = self.draft(node, &format!("release {name:?}"));
            state.releases.push(draft);
        }
        self.unsupported(&mut fields, STATE_UNSUPPORTED, "the helmfile");
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

    fn mapping<'n>(&mut self, node: &'n Node, what: &str) -> Option<&'n yaml::Mapping> {
        let mapping = node.as_mapping();
        if mapping.is_none() && !node.is_null() {
            self.error(node, format!("{what} must be a mapping, this is {}", node.value.kind()));
        }
        mapping
    }

    pub(super) fn error(&mut self, node: &Node, message: impl Into<String>) {
        self.found.error(self.origin.at(node.at), message);
    }

    fn draft(&mut self, node: &Node, what: &str) -> Draft {
        let origin = self.origin;
        let mut fields = Fields::of(origin, node, what, self.found);
        let mut draft = Draft::empty(origin.at(node.at));
        draft.name = self.text(&mut fields, "name", what);
        draft.namespace = self.text(&mut fields, "namespace", what);
        draft.chart = self.text(&mut fields, "chart", what);
        draft.version = self.text(&mut fields, "version", what);
        draft.installed = self.switch(&mut fields, "installed", what);
        draft.labels = self.labels(&mut fields, "labels", what);
        draft.needs = self.texts(&mut fields, "needs", what);
        draft.values_template = self.values(&mut fields, "valuesTemplate");
        draft.values = self.values(&mut fields, "values");
        draft.values_path_prefix = fields.string("valuesPathPrefix", self.found);
        draft.tolerates_missing =
            fields.string("missingFileHandler", self.found).is_some_and(|handler| handler != "Error");
        for node in fields.list("hooks", self.found) {
            draft.hooks.extend(self.hook(node, what));
        }
        if let Some(node) = fields.get("inherit") {
            draft.inherit = self.inherit(node);
        }
        draft.settings = self.settings(&mut fields, what);
        self.unsupported(&mut fields, RELEASE_UNSUPPORTED, what);
        fields.finish(self.found);
        draft
    }

    fn defaults(&mut self, node: &Node) -> Settings {
        let (origin, what) = (self.origin, "`helmDefaults`");
        let mut fields = Fields::of(origin, node, what, self.found);
        let mut settings = self.settings(&mut fields, what);
        settings.args = fields.strings("args", self.found);
        self.unsupported(&mut fields, DEFAULTS_UNSUPPORTED, what);
        fields.finish(self.found);
        settings
    }

    fn settings(&mut self, fields: &mut Fields<'_>, what: &str) -> Settings {
        let mut settings = Settings::default();
        for key in SWITCHES {
            if let Some(value) = self.switch(fields, key, what) {
                settings.switches.insert(key, value);
            }
        }
        if self.switch(fields, "verify", what) == Some(true) {
            self.unsupported(fields, "verify", what);
        }
        if let Some(roll_back) = self.switch(fields, "rollbackOnFailure", what) {
            if roll_back && settings.is("atomic") {
                self.found.error(fields.location(), format!("{what} has both `atomic` and `rollbackOnFailure`"));
            }
            settings.switches.insert("rollbackOnFailure", roll_back);
        }
        settings.timeout = fields.integer("timeout", self.found).and_then(|seconds| u64::try_from(seconds).ok());
        settings.history_max = fields.integer("historyMax", self.found);
        settings.description = fields.string("description", self.found);
        settings.server_side = self.text(fields, "serverSide", what).map(|text| text.raw);
        self.post_renderer(fields, what);
        settings
    }

    /// A post-renderer that keeps only CRDs does what is done anyway; any other is refused.
    fn post_renderer(&mut self, fields: &mut Fields<'_>, what: &str) {
        let arguments = fields.strings("postRendererArgs", self.found);
        let keeps_crds = arguments.iter().any(|argument| argument.contains("CustomResourceDefinition"));
        if !keeps_crds {
            self.unsupported(fields, "postRenderer postRendererArgs", what);
        }
        fields.get("postRenderer");
    }

    fn repository(&mut self, node: &Node) -> Option<Repository> {
        let (origin, what) = (self.origin, "a repository");
        let mut fields = Fields::of(origin, node, what, self.found);
        let name = fields.required_string("name", self.found);
        let url = fields.required_string("url", self.found);
        let oci = self.switch(&mut fields, "oci", what).unwrap_or(false);
        self.unsupported(&mut fields, REPOSITORY_UNSUPPORTED, what);
        fields.finish(self.found);
        Some(Repository { name: name?, url: url?, oci })
    }

    /// A name, a list of names, or a list of `{template, except}`.
    fn inherit(&mut self, node: &Node) -> Vec<Inherit> {
        let items = node.as_sequence().unwrap_or(std::slice::from_ref(node));
        items.iter().filter_map(|item| self.inherit_one(item)).collect()
    }

    fn inherit_one(&mut self, node: &Node) -> Option<Inherit> {
        const EXCEPT: [&str; 6] = ["labels", "secrets", "set", "setTemplate", "values", "valuesTemplate"];
        let (origin, at) = (self.origin, self.origin.at(node.at));
        if let Some(template) = node.as_str() {
            return Some(Inherit { template: template.to_owned(), at, except: vec![] });
        }
        let mut fields = Fields::of(origin, node, "an `inherit` item", self.found);
        let template = fields.required_string("template", self.found);
        let except = fields.strings("except", self.found);
        for key in except.iter().filter(|key| !EXCEPT.contains(&key.as_str())) {
            let known = EXCEPT.join("`, `");
            self.found.error(at.clone(), format!("`except` cannot leave out `{key}`; it knows `{known}`"));
        }
        fields.finish(self.found);
        Some(Inherit { template: template?, at, except })
    }

    fn values(&mut self, fields: &mut Fields<'_>, key: &'static str) -> Vec<Values> {
        let mut values = vec![];
        for node in fields.list(key, self.found) {
            let at = self.origin.at(node.at);
            match &node.value {
                Value::Mapping(_) => match super::values::finite(node) {
                    Ok(()) => values.push(Values::Inline(node.to_json(), at)),
                    Err(bad) => self.error(bad, super::values::NOT_FINITE),
                },
                Value::String(_) => values.extend(self.scalar(node).map(Values::Path)),
                other => self.error(node, format!("`{key}` holds paths and mappings, this is {}", other.kind())),
            }
        }
        values
    }

    fn labels(&mut self, fields: &mut Fields<'_>, key: &'static str, what: &str) -> BTreeMap<String, Text> {
        let Some(node) = fields.get(key) else { return BTreeMap::new() };
        let Some(mapping) = self.mapping(node, &format!("`{key}` of {what}")) else { return BTreeMap::new() };
        mapping.iter().filter_map(|entry| Some((entry.key.clone(), self.scalar(&entry.value)?))).collect()
    }

    /// A text, whatever it looks like: go-yaml reads any scalar into a string as it is written.
    pub(super) fn text(&mut self, fields: &mut Fields<'_>, key: &'static str, what: &str) -> Option<Text> {
        let node = fields.get(key)?;
        let text = self.scalar(node);
        if text.is_none() {
            self.error(node, format!("`{key}` of {what} must be a string, this is {}", node.value.kind()));
        }
        text
    }

    pub(super) fn texts(&mut self, fields: &mut Fields<'_>, key: &'static str, what: &str) -> Vec<Text> {
        let mut texts = vec![];
        for node in fields.list(key, self.found) {
            match self.scalar(node) {
                Some(text) => texts.push(text),
                None => self.error(node, format!("`{key}` of {what} holds strings, this is {}", node.value.kind())),
            }
        }
        texts
    }

    fn scalar(&self, node: &Node) -> Option<Text> {
        let text = match &node.value {
            Value::Sequence(_) | Value::Mapping(_) | Value::Null => return None,
            _ => self.written.get(&node.at)?.clone(),
        };
        let (position, indent) = self.content(node.at);
        Some(Text { raw: text, at: self.origin.at(position), indent })
    }

    /// Where the text of a scalar begins, behind its quote or below its `|`, and how far it is indented.
    fn content(&self, at: Position) -> (Position, usize) {
        let line = |number: usize| self.lines.get(number.wrapping_sub(1)).copied().unwrap_or_default();
        match line(at.line).chars().nth(at.column.saturating_sub(1)) {
            Some('"' | '\'') => (Position { column: at.column + 1, ..at }, 0),
            Some('|' | '>') => {
                let next = line(at.line + 1);
                let indent = next.len() - next.trim_start_matches(' ').len();
                (Position { line: at.line + 1, column: indent + 1 }, indent)
            }
            _ => (at, 0),
        }
    }

    pub(super) fn switch(&mut self, fields: &mut Fields<'_>, key: &'static str, what: &str) -> Option<bool> {
        let node = fields.get(key)?;
        match &node.value {
            Value::Bool(value) => Some(*value),
            Value::String(text) if OLD_TRUE.contains(&text.as_str()) => Some(true),
            Value::String(text) if OLD_FALSE.contains(&text.as_str()) => Some(false),
            other => {
                self.error(node, format!("`{key}` of {what} must be true or false, this is {}", other.kind()));
                None
            }
        }
    }

    pub(super) fn unsupported(&mut self, fields: &mut Fields<'_>, keys: &'static str, what: &str) {
        for key in keys.split_whitespace() {
            if fields.get(key).is_some() {
                let at = fields.key_location(key).unwrap_or_else(|| fields.location());
                let message = format!("{what} has `{key}`, which helmfile knows but k8s-bootstrap does not support");
                self.found.error(at, message);
            }
        }
    }

    pub(super) fn at(&self, node: &Node) -> Location {
        self.origin.at(node.at)
    }
}
