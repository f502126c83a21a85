//! A state file before rendering: keys and values with their locations.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use secrecy::SecretString;
use serde_json::Value;

use super::model::HookEvent;
use super::selector::Selector;
use super::settings::Settings;
use template::TemplateSource;
use yaml::{Location, Position};

/// A state file merged with its bases.
#[derive(Debug, Clone, Default)]
pub(super) struct State {
    pub(super) defaults: Settings,
    pub(super) labels: BTreeMap<String, Text>,
    pub(super) repositories: Vec<Repository>,
    pub(super) templates: BTreeMap<String, Draft>,
    pub(super) default_inherit: Vec<Inherit>,
    pub(super) releases: Vec<Draft>,
    /// Defaults of `.Values`.
    pub(super) values: Vec<Values>,
    pub(super) environments: BTreeMap<String, EnvironmentSpec>,
    pub(super) helmfiles: Vec<Nested>,
    /// Hooks of the file itself.
    pub(super) hooks: Vec<HookDraft>,
    /// Overrides the namespace of every release.
    pub(super) namespace: Option<String>,
    pub(super) kube_context: Option<String>,
    pub(super) kube_version: Option<String>,
    pub(super) api_versions: Vec<String>,
    pub(super) missing: Option<Missing>,
}

/// A text that may be a template, and the location of its first character.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Text {
    pub(super) raw: String,
    pub(super) at: Location,
    /// Indentation of the later lines.
    pub(super) indent: usize,
}

impl Text {
    pub(super) fn source(&self) -> TemplateSource<'_> {
        let start: Position = self.at.position;
        TemplateSource { origin: self.at.origin.clone(), text: &self.raw, start, indent: self.indent }
    }
}

/// `missingFileHandler`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    /// `Error`, and unknown values.
    Fails,
    /// `Warn`, `Info` and `Debug`.
    Tolerated,
}

impl Missing {
    pub(super) fn read(written: &str) -> Self {
        if ["Warn", "Info", "Debug"].contains(&written) { Self::Tolerated } else { Self::Fails }
    }
}

/// One of `environments`.
#[derive(Debug, Clone)]
pub(super) struct EnvironmentSpec {
    pub(super) values: Vec<Values>,
    pub(super) kube_context: Option<String>,
    pub(super) missing: Option<Missing>,
    pub(super) strategy: Option<Strategy>,
}

/// `mergeStrategy`: which of an environment's values win.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Strategy {
    /// The later ones.
    #[default]
    Override,
    /// The earlier ones; later ones fill gaps.
    Fallback,
}

/// One of `helmfiles`.
#[derive(Debug, Clone)]
pub(super) struct Nested {
    pub(super) path: Text,
    /// The files and folders that the path matches.
    pub(super) matches: Vec<PathBuf>,
    /// `None`: the parent's.
    pub(super) selectors: Option<Vec<Selector>>,
    /// Keys to inherit from the parent.
    pub(super) inherits: Vec<String>,
    pub(super) values: Vec<Values>,
}

#[derive(Debug, Clone)]
pub(super) struct Repository {
    pub(super) name: String,
    pub(super) url: String,
    pub(super) username: Option<String>,
    pub(super) password: Option<SecretString>,
    /// By helmfile's key: `caFile`, `certFile`, `keyFile`.
    pub(super) files: BTreeMap<&'static str, Text>,
    /// Keys that are on: `oci`, `passCredentials`, `plainHttp`, `skipTLSVerify`.
    pub(super) switches: BTreeSet<&'static str>,
}

impl Repository {
    pub(super) fn is(&self, key: &str) -> bool {
        self.switches.contains(key)
    }
}

/// A release, or a template of releases.
#[derive(Debug, Clone)]
pub(super) struct Draft {
    pub(super) at: Location,
    /// By helmfile's key: name, namespace, chart, version, condition, kubeVersion and the boolean templates.
    pub(super) texts: BTreeMap<&'static str, Text>,
    pub(super) installed: Option<bool>,
    pub(super) labels: BTreeMap<String, Text>,
    pub(super) needs: Vec<Text>,
    /// Rendered as templates, including inline ones, and merged before `values`.
    pub(super) values_template: Vec<Values>,
    pub(super) values: Vec<Values>,
    pub(super) values_path_prefix: Option<String>,
    /// By helmfile's key: `set`, `setString`, `setTemplate`, `env`.
    pub(super) sets: BTreeMap<&'static str, Vec<SetDraft>>,
    pub(super) json_patches: Vec<Values>,
    pub(super) merge_patches: Vec<Values>,
    pub(super) api_versions: Vec<String>,
    pub(super) missing: Option<Missing>,
    pub(super) hooks: Vec<HookDraft>,
    pub(super) inherit: Vec<Inherit>,
    pub(super) settings: Settings,
}

/// An item of `values`.
#[derive(Debug, Clone)]
pub(super) enum Values {
    Path(Text),
    Inline(Value, Location),
    /// A value of this other type; an error when the values are used.
    Other(&'static str, Location),
}

impl Values {
    /// The message about an item that is neither a path nor a mapping.
    pub(super) fn invalid(kind: &str) -> String {
        format!("items of `values` must be paths or mappings, not {kind}")
    }
}

/// An item of `set`, `setString`, `setTemplate` or `env`.
#[derive(Debug, Clone)]
pub(super) struct SetDraft {
    pub(super) at: Location,
    pub(super) name: Text,
    pub(super) given: Given,
}

/// The value of a `set` item.
#[derive(Debug, Clone)]
pub(super) enum Given {
    /// An empty one sets nothing.
    Value(Text),
    File(Text),
    Values(Vec<Element>),
}

/// An element of a list in a `set` item.
#[derive(Debug, Clone)]
pub(super) enum Element {
    Text(Text),
    /// Written as JSON.
    Data(Value),
}

#[derive(Debug, Clone)]
pub(super) struct Inherit {
    pub(super) template: String,
    pub(super) at: Location,
    pub(super) except: Vec<String>,
}

#[derive(Debug, Clone)]
pub(super) struct HookDraft {
    pub(super) at: Location,
    pub(super) events: Vec<HookEvent>,
    pub(super) command: Text,
    pub(super) args: Vec<Text>,
    pub(super) show_logs: bool,
}

impl Draft {
    pub(super) fn empty(at: Location) -> Self {
        Self {
            at,
            texts: BTreeMap::new(),
            installed: None,
            labels: BTreeMap::new(),
            needs: vec![],
            values_template: vec![],
            values: vec![],
            values_path_prefix: None,
            sets: BTreeMap::new(),
            json_patches: vec![],
            merge_patches: vec![],
            api_versions: vec![],
            missing: None,
            hooks: vec![],
            inherit: vec![],
            settings: Settings::default(),
        }
    }

    pub(super) fn text(&self, key: &str) -> Option<&Text> {
        self.texts.get(key)
    }

    pub(super) fn set(&self, key: &str) -> &[SetDraft] {
        self.sets.get(key).map_or(&[], Vec::as_slice)
    }

    /// The name as written, for messages.
    pub(super) fn name(&self) -> &str {
        self.text("name").map_or("", |name| &name.raw)
    }

    /// Merges `over` into this: non-empty scalars win, lists append, labels merge.
    pub(super) fn overlay(&mut self, over: &Self) {
        self.at = over.at.clone();
        let texts = over.texts.iter().filter(|(key, text)| !text.raw.is_empty() || !self.texts.contains_key(*key));
        let texts: Vec<_> = texts.map(|(key, text)| (*key, text.clone())).collect();
        self.texts.extend(texts);
        self.installed = self.installed.map_or(over.installed, |own| Some(own || over.installed.unwrap_or(false)));
        self.labels.extend(over.labels.clone());
        self.needs.extend_from_slice(&over.needs);
        self.values_template.extend_from_slice(&over.values_template);
        self.values.extend_from_slice(&over.values);
        self.values_path_prefix = over.values_path_prefix.clone().or_else(|| self.values_path_prefix.clone());
        for (key, sets) in &over.sets {
            self.sets.entry(key).or_default().extend_from_slice(sets);
        }
        self.json_patches.extend_from_slice(&over.json_patches);
        self.merge_patches.extend_from_slice(&over.merge_patches);
        self.api_versions.extend_from_slice(&over.api_versions);
        self.missing = over.missing.or(self.missing);
        self.hooks.extend_from_slice(&over.hooks);
        self.settings.overlay(&over.settings);
    }
}

impl State {
    /// Merges a file over its base: lists append, maps merge, a template of the same name is replaced as a whole.
    pub(super) fn append(&mut self, over: Self) {
        self.defaults.overlay(&over.defaults);
        self.labels.extend(over.labels);
        self.repositories.extend(over.repositories);
        self.templates.extend(over.templates);
        self.default_inherit.extend(over.default_inherit);
        self.releases.extend(over.releases);
        self.values.extend(over.values);
        self.environments.extend(over.environments);
        self.helmfiles.extend(over.helmfiles);
        self.hooks.extend(over.hooks);
        self.namespace = over.namespace.or(self.namespace.take());
        self.kube_context = over.kube_context.or(self.kube_context.take());
        self.kube_version = over.kube_version.or(self.kube_version.take());
        self.api_versions.extend(over.api_versions);
        self.missing = over.missing.or(self.missing);
    }

    /// Like [`append`](Self::append), but an environment of the same name gets the values of both layers; the later ones
    /// win.
    pub(super) fn append_layer(&mut self, mut over: Self) {
        for (name, mut spec) in std::mem::take(&mut over.environments) {
            if let Some(own) = self.environments.remove(&name) {
                spec.strategy = spec.strategy.or(own.strategy);
                let (first, second) = match spec.strategy.unwrap_or_default() {
                    Strategy::Override => (own.values, spec.values),
                    Strategy::Fallback => (spec.values, own.values),
                };
                spec.values = [first, second].concat();
                spec.kube_context = spec.kube_context.or(own.kube_context);
                spec.missing = spec.missing.or(own.missing);
            }
            self.environments.insert(name, spec);
        }
        self.append(over);
    }

    /// Merges the next part of a file: like [`append`](Self::append), but lists are replaced.
    pub(super) fn replace(&mut self, over: Self) {
        self.defaults.clear_replaced(&over.defaults);
        clear_replaced(&mut self.repositories, &over.repositories);
        clear_replaced(&mut self.default_inherit, &over.default_inherit);
        clear_replaced(&mut self.releases, &over.releases);
        clear_replaced(&mut self.values, &over.values);
        clear_replaced(&mut self.helmfiles, &over.helmfiles);
        clear_replaced(&mut self.hooks, &over.hooks);
        clear_replaced(&mut self.api_versions, &over.api_versions);
        self.append(over);
    }
}

fn clear_replaced<T>(own: &mut Vec<T>, over: &[T]) {
    if !over.is_empty() {
        own.clear();
    }
}
