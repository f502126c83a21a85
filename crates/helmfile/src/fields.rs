//! Renders the fields of a release, which may refer to each other and decide whether it is installed.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::environment::Environment;
use super::model::{ListedRelease, ReleaseId};
use super::reader;
use super::state::{Draft, State, Text};
use super::{FileContext, Findings};

use yaml::{Diagnostic, Dialect, Origin};

/// Maximum rendering passes, as in helmfile, since fields may refer to each other.
const ROUNDS: usize = 6;

/// The data of a file's release templates, except for the release itself.
pub(super) struct Scope<'s> {
    pub(super) files: &'s FileContext<'s>,
    pub(super) state: &'s State,
    pub(super) environment: &'s Environment,
    /// `.Values`.
    pub(super) values: &'s Map<String, Value>,
}

/// The rendered fields that templates refer to.
#[derive(Debug, Clone, PartialEq, Default)]
struct Rendered {
    name: String,
    namespace: String,
    chart: String,
    version: String,
    labels: BTreeMap<String, String>,
}

/// Whether a release is installed.
struct Switches {
    /// `installed` and `installedTemplate`.
    installed: bool,
    /// `condition` and `conditionTemplate`.
    enabled: bool,
}

/// A release with rendered fields.
pub(super) struct ResolvedRelease {
    pub(super) draft: Draft,
    pub(super) listed: ListedRelease,
    /// The data of its values and patches.
    pub(super) data: Value,
    /// The result of `waitTemplate`, if there is one.
    pub(super) wait: Option<bool>,
}

impl Scope<'_> {
    fn namespace(&self) -> &str {
        self.state.namespace.as_deref().unwrap_or_default()
    }

    fn kube_context(&self, draft: &Draft) -> String {
        let settings = draft.settings.or_defaults(&self.state.defaults);
        settings.kube_context.unwrap_or_default()
    }

    fn data(&self, rendered: &Rendered, kube_context: &str) -> Value {
        json!({
            "Release": {
                "Name": rendered.name, "Namespace": rendered.namespace, "Chart": rendered.chart,
                "ChartVersion": rendered.version, "Labels": rendered.labels, "KubeContext": kube_context,
            },
            "Environment": self.environment.template(),
            "Namespace": self.namespace(), "Chart": "", "KubeContext": self.state.kube_context.clone().unwrap_or_default(),
            "Values": self.values, "StateValues": self.values,
        })
    }

    /// Renders the fields of one release; `None` after an error, which is in `findings`.
    pub(super) fn resolve(&self, draft: &Draft, findings: &mut Findings) -> Option<ResolvedRelease> {
        let mut draft = draft.clone();
        draft.labels.extend(self.state.labels.clone());
        let before = findings.found.len();
        let kube_context = self.kube_context(&draft);
        let mut rendered = match self.fields(&draft, &kube_context) {
            Ok(rendered) => rendered,
            Err(wrong) => {
                findings.found.extend(wrong);
                return None;
            }
        };
        let data = self.data(&rendered, &kube_context);
        let what = format!("release {:?}", rendered.name);
        if rendered.name.is_empty() {
            findings.error(&draft.at, "a release has no `name`");
        }
        if rendered.chart.is_empty() {
            findings.error(&draft.at, format!("{what} has no `chart`"));
        }
        let wait = self.decision(&draft, "waitTemplate", &data, findings);
        let verify = self.decision(&draft, "verifyTemplate", &data, findings);
        if let (Some(true), Some(text)) = (verify, draft.text("verifyTemplate")) {
            findings.error(&text.at, format!("{what}: chart verification is not supported"));
        }
        let installed = self.decision(&draft, "installedTemplate", &data, findings).or(draft.installed).unwrap_or(true);
        let enabled = match self.decision(&draft, "conditionTemplate", &data, findings) {
            Some(enabled) => enabled,
            None => self.condition(&draft, findings),
        };
        if !self.namespace().is_empty() {
            self.namespace().clone_into(&mut rendered.namespace);
        }
        let needs = self.needs(&draft, &rendered, &data, &what, findings);
        let listed = self.listed(&draft, rendered, needs, Switches { installed, enabled });
        let data = self.data(&Rendered::of(&listed), &kube_context);
        (findings.found.len() == before).then_some(ResolvedRelease { draft, listed, data, wait })
    }

    fn listed(&self, draft: &Draft, rendered: Rendered, needs: Vec<ReleaseId>, switches: Switches) -> ListedRelease {
        let mut labels = rendered.labels;
        labels.insert("name".to_owned(), rendered.name.clone());
        labels.insert("namespace".to_owned(), rendered.namespace.clone());
        labels.insert("chart".to_owned(), rendered.chart.rsplit('/').next().unwrap_or_default().to_owned());
        let own = draft.text("kubeVersion").map(|text| text.raw.clone()).filter(|version| !version.is_empty());
        let api_versions = if draft.api_versions.is_empty() { &self.state.api_versions } else { &draft.api_versions };
        ListedRelease {
            name: rendered.name,
            namespace: rendered.namespace,
            chart: rendered.chart,
            version: rendered.version,
            labels,
            needs,
            installed: switches.installed,
            enabled: switches.enabled,
            kube_version: own.or_else(|| self.state.kube_version.clone()),
            api_versions: api_versions.clone(),
            at: draft.at.clone(),
        }
    }

    /// Renders the fields until they no longer change; each pass uses the results of the previous one.
    fn fields(&self, draft: &Draft, kube_context: &str) -> Result<Rendered, Vec<Diagnostic>> {
        let written = |key: &str| draft.text(key).map(|text| text.raw.clone()).unwrap_or_default();
        let mut rendered = Rendered {
            name: written("name"),
            namespace: written("namespace"),
            chart: written("chart"),
            version: written("version"),
            labels: draft.labels.iter().map(|(key, text)| (key.clone(), text.raw.clone())).collect(),
        };
        let functions = self.files.functions(&self.files.folder);
        for _ in 0..ROUNDS {
            let (data, mut wrong) = (self.data(&rendered, kube_context), vec![]);
            let mut render = |text: &Text| {
                template::render(&text.source(), &data, &functions).map_err(|diagnostic| wrong.push(diagnostic)).ok()
            };
            let mut field = |key: &str| {
                let text = draft.text(key).and_then(&mut render);
                text.map(|text| text.trim().to_owned()).unwrap_or_default()
            };
            let (name, namespace) = (field("name"), field("namespace"));
            let (chart, version) = (field("chart"), field("version"));
            let labels = draft.labels.iter().filter_map(|(key, text)| Some((key.clone(), render(text)?))).collect();
            let next = Rendered { name, namespace, chart, version, labels };
            if !wrong.is_empty() {
                return Err(wrong);
            }
            if next == rendered {
                return Ok(rendered);
            }
            rendered = next;
        }
        let message = format!("circular reference among the fields of release {:?}", draft.name());
        Err(vec![Diagnostic::at_location(draft.at.clone(), message)])
    }

    /// Renders a boolean.
    fn decision(&self, draft: &Draft, key: &'static str, data: &Value, findings: &mut Findings) -> Option<bool> {
        let text = draft.text(key)?;
        let rendered = template::render(&text.source(), data, &self.files.functions(&self.files.folder));
        let decided = rendered.and_then(|rendered| {
            let documents = yaml::parse_as(&Origin::new(key), &rendered, Dialect::Typed)?;
            let value = documents.first().map(|node| &node.value);
            match value {
                None | Some(yaml::Value::Null) => Ok(false),
                Some(value) => reader::truth(value).ok_or_else(|| {
                    let message = format!("`{key}` must render to true or false, not `{}`", rendered.trim());
                    Diagnostic::at_location(text.at.clone(), message)
                }),
            }
        });
        decided.map_err(|diagnostic| findings.found.push(diagnostic)).ok()
    }

    /// Evaluates `condition: path.enabled` in `.Values`.
    fn condition(&self, draft: &Draft, findings: &mut Findings) -> bool {
        let Some(condition) = draft.text("condition").filter(|text| !text.raw.is_empty()) else { return true };
        match condition.raw.to_lowercase().as_str() {
            "true" => return true,
            "false" => return false,
            _ => {}
        }
        let mut keys: Vec<&str> = condition.raw.split('.').collect();
        if keys.pop() != Some("enabled") {
            let message = format!("invalid condition `{}`: expected `path.enabled`", condition.raw);
            findings.error(&condition.at, message);
            return false;
        }
        let (mut at, mut seen) = (self.values, String::new());
        for key in keys {
            seen = format!("{seen}.{key}");
            at = match at.get(key) {
                Some(Value::Object(map)) => map,
                found => {
                    let problem = if found.is_some() { "is not a map" } else { "does not exist" };
                    let message = format!("condition `{}`: `.Values{seen}` {problem}", condition.raw);
                    let near = yaml::near(key, at.keys().map(String::as_str));
                    findings.found.push(Diagnostic::at_location(condition.at.clone(), message).did_you_mean(near));
                    return false;
                }
            };
        }
        at.get("enabled") == Some(&Value::Bool(true))
    }

    fn needs(
        &self,
        draft: &Draft,
        rendered: &Rendered,
        data: &Value,
        what: &str,
        findings: &mut Findings,
    ) -> Vec<ReleaseId> {
        let functions = self.files.functions(&self.files.folder);
        let mut needs = vec![];
        for need in &draft.needs {
            let id = template::render(&need.source(), data, &functions).and_then(|text| parse(&text, rendered, need));
            match id {
                Ok(id) if needs.contains(&id) => {
                    findings.notices.push(format!("{}: {what} lists need {id} twice", draft.at));
                }
                Ok(id) => needs.push(id),
                Err(diagnostic) => findings.found.push(diagnostic),
            }
        }
        needs
    }
}

impl Rendered {
    fn of(listed: &ListedRelease) -> Self {
        Self {
            name: listed.name.clone(),
            namespace: listed.namespace.clone(),
            chart: listed.chart.clone(),
            version: listed.version.clone(),
            labels: listed.labels.clone(),
        }
    }
}

/// `[[CONTEXT/]NAMESPACE/]NAME`: the namespace defaults to the release's; the context is ignored.
fn parse(text: &str, rendered: &Rendered, written: &Text) -> Result<ReleaseId, Diagnostic> {
    let mut parts = text.rsplitn(3, '/');
    let name = parts.next().unwrap_or_default();
    let namespace = parts.next().unwrap_or(&rendered.namespace);
    if name.is_empty() {
        return Err(Diagnostic::at_location(
            written.at.clone(),
            format!("invalid need `{text}`: expected `namespace/name`"),
        ));
    }
    Ok(ReleaseId::new(namespace, name))
}
