//! Install settings of `helmDefaults`, templates and releases.

use std::collections::BTreeMap;

/// The settings of one of them.
#[derive(Debug, Clone, Default)]
pub(super) struct Settings {
    /// By helmfile's key.
    pub(super) switches: BTreeMap<&'static str, bool>,
    /// Seconds.
    pub(super) timeout: Option<u64>,
    pub(super) history_max: Option<i64>,
    pub(super) description: Option<String>,
    pub(super) server_side: Option<String>,
    pub(super) kube_context: Option<String>,
    /// For every Helm command.
    pub(super) args: Vec<String>,
    /// For installs only.
    pub(super) sync_args: Vec<String>,
}

impl Settings {
    /// Merges `over` into this. As in helmfile (by mergo), zero values never win: `wait: false` loses to an earlier
    /// `wait: true`. Lists append.
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
        self.kube_context = text(&over.kube_context, &self.kube_context);
        self.args.extend_from_slice(&over.args);
        self.sync_args.extend_from_slice(&over.sync_args);
    }

    /// Clears the lists that `over` replaces, for a later part of a file.
    pub(super) fn clear_replaced(&mut self, over: &Self) {
        for (own, over) in [(&mut self.args, &over.args), (&mut self.sync_args, &over.sync_args)] {
            if !over.is_empty() {
                own.clear();
            }
        }
    }

    /// Fills unset values from the parent, for a sub-helmfile that inherits `helmDefaults`.
    pub(super) fn fill(&mut self, parent: &Self) {
        let mut all = parent.clone();
        all.clear_replaced(self);
        all.overlay(self);
        *self = all;
    }

    /// A release's settings over `defaults`: whatever it sets wins, including false.
    pub(super) fn or_defaults(&self, defaults: &Self) -> Self {
        let mut switches = defaults.switches.clone();
        switches.extend(&self.switches);
        for key in EITHER {
            let is_on = |settings: &Self| settings.switches.get(key).copied().unwrap_or(false);
            if is_on(self) || is_on(defaults) {
                switches.insert(key, true);
            }
        }
        Self {
            switches,
            timeout: self.timeout.or(defaults.timeout),
            history_max: self.history_max.or(defaults.history_max),
            description: self.description.clone(),
            server_side: self.server_side.clone().or_else(|| defaults.server_side.clone()),
            kube_context: self.kube_context.clone().or_else(|| defaults.kube_context.clone()),
            args: [defaults.args.clone(), self.args.clone()].concat(),
            sync_args: defaults.sync_args.clone(),
        }
    }

    pub(super) fn is(&self, key: &str) -> bool {
        self.switches.get(key).copied().unwrap_or(false)
    }
}

/// Switches that a release cannot turn off if `helmDefaults` turns them on.
const EITHER: [&str; 5] =
    ["insecureSkipTLSVerify", "plainHttp", "skipSchemaValidation", "syncReleaseLabels", "takeOwnership"];
