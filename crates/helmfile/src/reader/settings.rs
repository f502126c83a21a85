//! Reads `helmDefaults`, and the same keys of releases.

use super::super::settings::Settings;
use super::Reader;
use yaml::{Fields, Node};

/// Switches that `helmDefaults` and releases share.
const SWITCHES: [&str; 17] = [
    "atomic",
    "cleanupOnFail",
    "createNamespace",
    "devel",
    "disableOpenAPIValidation",
    "enableDNS",
    "force",
    "forceConflicts",
    "insecureSkipTLSVerify",
    "plainHttp",
    "recreatePods",
    "rollbackOnFailure",
    "skipSchemaValidation",
    "syncReleaseLabels",
    "takeOwnership",
    "wait",
    "waitForJobs",
];
/// Keys of commands that have no counterpart here (diff, destroy, lint), of helmfile's own way of waiting, and of a
/// validation that Helm 4 does anyway.
const WITHOUT_EFFECT: &str = "cascade deleteTimeout deleteWait disableAutoDetectedKubeVersionForDiff disableValidation helmStuckGrace \
    skipDeps skipRefresh suppressOutputLineRegex trackMode waitRetries";
const UNSUPPORTED: &str = "keyring";
const UNSUPPORTED_SWITCHES: &str = "reuseValues verify";

impl Reader<'_> {
    pub(super) fn defaults(&mut self, node: &Node) -> Settings {
        let (origin, what) = (self.origin, "`helmDefaults`");
        let mut fields = Fields::from_node(origin, node, what, self.found);
        let mut settings = self.settings(&mut fields, what);
        settings.args = self.words(&mut fields, "args", what);
        settings.sync_args = self.words(&mut fields, "syncArgs", what);
        if let Some(skip) = self.switch(&mut fields, "skipCRDs", what) {
            settings.switches.insert("skipCRDs", skip);
        }
        Self::without_effect(&mut fields, "diffArgs");
        self.unsupported(&mut fields, "templateArgs", what);
        fields.finish(self.found);
        settings
    }

    pub(super) fn settings(&mut self, fields: &mut Fields<'_>, what: &str) -> Settings {
        let mut settings = Settings::default();
        for key in SWITCHES {
            if let Some(value) = self.switch(fields, key, what) {
                settings.switches.insert(key, value);
            }
        }
        settings.timeout = fields.integer("timeout", self.found).and_then(|seconds| u64::try_from(seconds).ok());
        settings.history_max = fields.integer("historyMax", self.found);
        settings.description = self.word(fields, "description", what);
        settings.server_side = self.server_side(fields, what);
        settings.kube_context = self.word(fields, "kubeContext", what);
        self.post_renderer(fields, what);
        Self::without_effect(fields, WITHOUT_EFFECT);
        self.unsupported(fields, UNSUPPORTED, what);
        self.unsupported_switches(fields, UNSUPPORTED_SWITCHES, what);
        settings
    }

    fn server_side(&mut self, fields: &mut Fields<'_>, what: &str) -> Option<String> {
        let text = self.text(fields, "serverSide", what).filter(|text| !text.raw.is_empty())?;
        if !["true", "false", "auto"].contains(&text.raw.as_str()) {
            let message = format!("`serverSide` of {what} must be `true`, `false` or `auto`, not `{}`", text.raw);
            self.found.error(text.at, message);
            return None;
        }
        Some(text.raw)
    }

    /// Rejects a post-renderer, unless it keeps only CRDs, which happens here anyway.
    fn post_renderer(&mut self, fields: &mut Fields<'_>, what: &str) {
        let arguments = self.words(fields, "postRendererArgs", what);
        let keeps_crds = arguments.iter().any(|argument| argument.contains("CustomResourceDefinition"));
        if !keeps_crds {
            self.unsupported(fields, "postRenderer postRendererArgs", what);
        }
        fields.get("postRenderer");
    }
}
