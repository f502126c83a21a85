//! A state file as it is written: keys and their values with their places, nothing rendered yet.

use std::collections::BTreeMap;

use serde_json::Value;

use super::model::HookEvent;
use crate::template::Source;
use crate::yaml::{Location, Position};

/// What a state file and its bases say together.
#[derive(Debug, Clone, Default)]
pub(super) struct State {
    pub(super) defaults: Settings,
    pub(super) labels: BTreeMap<String, Text>,
    pub(super) repositories: Vec<Repository>,
    pub(super) templates: BTreeMap<String, Draft>,
    pub(super) default_inherit: Vec<Inherit>,
    pub(super) releases: Vec<Draft>,
}

/// A text that may be a template, and where its first character stands.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Text {
    pub(super) raw: String,
    pub(super) at: Location,
    /// Columns before each later line.
    pub(super) indent: usize,
}

impl Text {
    pub(super) fn source(&self) -> Source<'_> {
        let start: Position = self.at.position;
        Source { origin: self.at.origin.clone(), text: &self.raw, start, indent: self.indent }
    }
}

#[derive(Debug, Clone)]
pub(super) struct Repository {
    pub(super) name: String,
    pub(super) url: String,
    pub(super) oci: bool,
}

/// A release, or a template of releases.
#[derive(Debug, Clone)]
pub(super) struct Draft {
    pub(super) at: Location,
    pub(super) name: Option<Text>,
    pub(super) namespace: Option<Text>,
    pub(super) chart: Option<Text>,
    pub(super) version: Option<Text>,
    pub(super) installed: Option<bool>,
    pub(super) labels: BTreeMap<String, Text>,
    pub(super) needs: Vec<Text>,
    /// Rendered, inline ones too, and before `values`.
    pub(super) values_template: Vec<Values>,
    pub(super) values: Vec<Values>,
    pub(super) values_path_prefix: Option<String>,
    /// `missingFileHandler` other than `Error`.
    pub(super) tolerates_missing: bool,
    pub(super) hooks: Vec<HookDraft>,
    pub(super) inherit: Vec<Inherit>,
    pub(super) settings: Settings,
}

/// An item of `values`.
#[derive(Debug, Clone)]
pub(super) enum Values {
    Path(Text),
    Inline(Value, Location),
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

/// How to install: what `helmDefaults`, a template and a release may all say.
#[derive(Debug, Clone, Default)]
pub(super) struct Settings {
    /// By helmfile's key.
    pub(super) switches: BTreeMap<&'static str, bool>,
    /// Seconds.
    pub(super) timeout: Option<u64>,
    pub(super) history_max: Option<i64>,
    pub(super) description: Option<String>,
    pub(super) server_side: Option<String>,
    pub(super) args: Vec<String>,
}

impl Settings {
    /// What `over` says on top of this. As in helmfile (a merge by mergo), zero never wins: `wait: false` loses to an
    /// earlier `wait: true`. Lists append.
    pub(super) fn overlay(&mut self, over: &Self) {
        for (key, value) in &over.switches {
            let slot = self.switches.entry(key).or_default();
            *slot |= value;
        }
        self.timeout = over.timeout.filter(|timeout| *timeout > 0).or(self.timeout).or(over.timeout);
        self.history_max = over.history_max.filter(|max| *max > 0).or(self.history_max).or(over.history_max);
        let text = |over: &Option<String>, own: &Option<String>| {
            over.clone().filter(|text| !text.is_empty()).or_else(|| own.clone())
        };
        self.description = text(&over.description, &self.description);
        self.server_side = text(&over.server_side, &self.server_side);
        self.args.extend_from_slice(&over.args);
    }

    /// What a release says against `defaults`: whatever it says wins, false too.
    pub(super) fn or_defaults(&self, defaults: &Self) -> Self {
        let mut switches = defaults.switches.clone();
        switches.extend(&self.switches);
        Self {
            switches,
            timeout: self.timeout.or(defaults.timeout),
            history_max: self.history_max.or(defaults.history_max),
            description: self.description.clone(),
            server_side: self.server_side.clone().or_else(|| defaults.server_side.clone()),
            args: [defaults.args.clone(), self.args.clone()].concat(),
        }
    }

    pub(super) fn is(&self, key: &str) -> bool {
        self.switches.get(key).copied().unwrap_or(false)
    }
}

impl Draft {
    pub(super) fn empty(at: Location) -> Self {
        Self {
            at,
            name: None,
            namespace: None,
            chart: None,
            version: None,
            installed: None,
            labels: BTreeMap::new(),
            needs: vec![],
            values_template: vec![],
            values: vec![],
            values_path_prefix: None,
            tolerates_missing: false,
            hooks: vec![],
            inherit: vec![],
            settings: Settings::default(),
        }
    }

    /// What `over` says on top of this: scalars that are not empty win, lists append, labels merge.
    pub(super) fn overlay(&mut self, over: &Self) {
        self.at = over.at.clone();
        let text = |over: &Option<Text>, own: &Option<Text>| {
            over.clone().filter(|text| !text.raw.is_empty()).or_else(|| own.clone())
        };
        self.name = text(&over.name, &self.name);
        self.namespace = text(&over.namespace, &self.namespace);
        self.chart = text(&over.chart, &self.chart);
        self.version = text(&over.version, &self.version);
        self.installed = over.installed.or(self.installed);
        self.labels.extend(over.labels.clone());
        self.needs.extend_from_slice(&over.needs);
        self.values_template.extend_from_slice(&over.values_template);
        self.values.extend_from_slice(&over.values);
        self.values_path_prefix = over.values_path_prefix.clone().or_else(|| self.values_path_prefix.clone());
        self.tolerates_missing |= over.tolerates_missing;
        self.hooks.extend_from_slice(&over.hooks);
        self.settings.overlay(&over.settings);
    }
}

impl State {
    /// A base, and the file over it: lists append, maps merge, a template of the same name replaces the whole one.
    pub(super) fn append(&mut self, over: Self) {
        self.defaults.overlay(&over.defaults);
        self.labels.extend(over.labels);
        self.repositories.extend(over.repositories);
        self.templates.extend(over.templates);
        self.default_inherit.extend(over.default_inherit);
        self.releases.extend(over.releases);
    }

    /// A part of a file, and the next part after `---`: as [`append`](Self::append), but a list replaces the earlier one.
    pub(super) fn replace(&mut self, over: Self) {
        if !over.defaults.args.is_empty() {
            self.defaults.args.clear();
        }
        if !over.repositories.is_empty() {
            self.repositories.clear();
        }
        if !over.default_inherit.is_empty() {
            self.default_inherit.clear();
        }
        if !over.releases.is_empty() {
            self.releases.clear();
        }
        self.append(over);
    }
}
