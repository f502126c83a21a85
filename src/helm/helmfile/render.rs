//! From a draft to a release: its fields rendered, its chart found, its values merged.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::model::{Flags, Hook, OnFailure, Release, ReleaseId, Wait};
use super::state::{Draft, HookDraft, Settings, State, Text};
use super::values::Merging;
use super::{Site, chart, hooks};
use crate::template;
use crate::yaml::{Diagnostic, Diagnostics};

/// Fields may refer to each other; helmfile renders them this often before it gives up.
const ROUNDS: usize = 6;
/// helmfile's, when nobody says.
const TIMEOUT: Duration = Duration::from_mins(5);
/// Where a release without a namespace goes: the one of a kubeconfig that names none.
const NO_NAMESPACE: &str = "default";

/// The fields that templates refer to, rendered.
#[derive(Debug, Clone, PartialEq, Default)]
struct Rendered {
    name: String,
    namespace: String,
    chart: String,
    version: String,
    labels: Map<String, Value>,
}

/// Renders one release; `None` when something is wrong with it, which `found` then says.
pub(super) fn release(
    site: &Site<'_>,
    state: &State,
    draft: &Draft,
    notices: &mut Vec<String>,
    found: &mut Diagnostics,
) -> Option<Release> {
    let mut draft = draft.clone();
    draft.labels.extend(state.labels.clone());
    let rendered = match fields(site, &draft) {
        Ok(rendered) => rendered,
        Err(wrong) => {
            found.extend(wrong);
            return None;
        }
    };
    let (data, before) = (rendered.data(), found.len());
    let what = format!("release {:?}", rendered.name);
    if rendered.name.is_empty() {
        found.error(draft.at.clone(), "a release has no `name`");
    }
    let functions = site.functions(&site.folder);
    let mut needs = vec![];
    for need in &draft.needs {
        match template::render(&need.source(), &data, &functions).and_then(|text| parse_need(&text, &rendered, need)) {
            Ok(need) if needs.contains(&need) => {
                notices.push(format!("{}: {what} needs {need} twice", draft.at));
            }
            Ok(id) => needs.push(id),
            Err(diagnostic) => found.push(diagnostic),
        }
    }
    let hooks: Vec<Hook> = draft.hooks.iter().flat_map(|hook| render_hook(site, hook, &data, found)).collect();
    let flags = flags(&draft, &draft.settings.or_defaults(&state.defaults), &what, notices, found);
    let merging = Merging { site, what: what.clone(), data: &data, notices, found };
    let values = merging.run(&draft);
    let version = Some(rendered.version.as_str()).filter(|version| !version.is_empty());
    let chart = match &draft.chart {
        Some(written) if !rendered.chart.is_empty() => {
            chart::resolve(site, &state.repositories, &rendered.chart, version, written)
                .map_err(|diagnostic| found.push(diagnostic))
                .ok()
        }
        _ => {
            found.error(draft.at.clone(), format!("{what} has no `chart`"));
            None
        }
    };
    let id = ReleaseId { namespace: rendered.namespace_or_default(), name: rendered.name };
    let release = Release { id, chart: chart?, values, needs, hooks, flags, at: draft.at };
    (found.len() == before).then_some(release)
}

impl Rendered {
    /// What the templates of this release see.
    fn data(&self) -> Value {
        json!({
            "Release": {
                "Name": self.name, "Namespace": self.namespace, "Chart": self.chart, "Version": self.version,
                "Labels": self.labels, "KubeContext": "",
            },
            "Environment": {"Name": "default", "KubeContext": ""},
            "Namespace": "", "KubeContext": "", "Values": {}, "StateValues": {}, "HelmfileCommand": "sync",
        })
    }

    fn namespace_or_default(&self) -> String {
        if self.namespace.is_empty() { NO_NAMESPACE.to_owned() } else { self.namespace.clone() }
    }
}

/// Renders the fields until they no longer change; each round sees what the one before made of them.
fn fields(site: &Site<'_>, draft: &Draft) -> Result<Rendered, Vec<Diagnostic>> {
    let written = |text: &Option<Text>| text.as_ref().map(|text| text.raw.clone()).unwrap_or_default();
    let mut rendered = Rendered {
        name: written(&draft.name),
        namespace: written(&draft.namespace),
        chart: written(&draft.chart),
        version: written(&draft.version),
        labels: draft.labels.iter().map(|(key, text)| (key.clone(), Value::from(text.raw.as_str()))).collect(),
    };
    let functions = site.functions(&site.folder);
    for _ in 0..ROUNDS {
        let (data, mut wrong) = (rendered.data(), vec![]);
        let mut render = |text: &Text| {
            template::render(&text.source(), &data, &functions).map_err(|diagnostic| wrong.push(diagnostic)).ok()
        };
        let mut field = |text: &Option<Text>| text.as_ref().and_then(&mut render).unwrap_or_default();
        let mut next = Rendered {
            name: field(&draft.name),
            namespace: field(&draft.namespace),
            chart: field(&draft.chart),
            version: field(&draft.version),
            labels: Map::new(),
        };
        next.labels =
            draft.labels.iter().filter_map(|(key, text)| Some((key.clone(), Value::from(render(text)?)))).collect();
        if !wrong.is_empty() {
            return Err(wrong);
        }
        if next == rendered {
            return Ok(rendered);
        }
        rendered = next;
    }
    let name = draft.name.as_ref().map(|name| name.raw.clone()).unwrap_or_default();
    Err(vec![Diagnostic::at(draft.at.clone(), format!("the fields of release {name:?} refer to themselves"))])
}

/// `[NAMESPACE/]NAME`; without a namespace the release's own is meant.
fn parse_need(text: &str, rendered: &Rendered, written: &Text) -> Result<ReleaseId, Diagnostic> {
    match text.split('/').collect::<Vec<_>>()[..] {
        [name] if !name.is_empty() => {
            Ok(ReleaseId { namespace: rendered.namespace_or_default(), name: name.to_owned() })
        }
        [namespace, name] => Ok(ReleaseId { namespace: namespace.to_owned(), name: name.to_owned() }),
        [_, _, _] => Err(Diagnostic::at(
            written.at.clone(),
            format!("the need `{text}` names a kube context, which is not supported"),
        )),
        _ => Err(Diagnostic::at(written.at.clone(), format!("the need `{text}` is not `namespace/name`"))),
    }
}

/// A hook whose text depends on its event becomes one hook an event.
fn render_hook(site: &Site<'_>, draft: &HookDraft, data: &Value, found: &mut Diagnostics) -> Vec<Hook> {
    let functions = site.functions(&site.folder);
    let mut rendered: Vec<Hook> = vec![];
    for event in &draft.events {
        let mut data = data.clone();
        data["Event"] = json!({"Name": hooks::name(*event)});
        let mut render = |text: &Text| match template::render(&text.source(), &data, &functions) {
            Ok(text) => Some(text),
            Err(diagnostic) => {
                found.push(event_error(diagnostic));
                None
            }
        };
        let command = render(&draft.command);
        let args: Vec<_> = draft.args.iter().map(render).collect();
        let (Some(command), Some(args)) = (command, args.into_iter().collect::<Option<Vec<_>>>()) else { continue };
        match rendered.last_mut() {
            Some(last) if last.command == command && last.args == args => last.events.push(*event),
            _ => rendered.push(Hook {
                events: vec![*event],
                command,
                args,
                show_logs: draft.show_logs,
                folder: site.folder.clone(),
                at: draft.at.clone(),
            }),
        }
    }
    rendered
}

/// Hooks are rendered before anything runs.
fn event_error(diagnostic: Diagnostic) -> Diagnostic {
    if diagnostic.message.starts_with("`.Event.Error`") {
        let message = "`.Event.Error` is known only when the hook runs, which is not supported".to_owned();
        return Diagnostic { message, hint: None, ..diagnostic };
    }
    diagnostic
}

fn flags(draft: &Draft, settings: &Settings, what: &str, notices: &mut Vec<String>, found: &mut Diagnostics) -> Flags {
    if settings.is("force") && settings.is("forceConflicts") {
        found.error(
            draft.at.clone(),
            format!("{what} has both `force` and `forceConflicts`, by itself or by `helmDefaults`"),
        );
    }
    if settings.is("atomic") && settings.is("rollbackOnFailure") {
        found.error(
            draft.at.clone(),
            format!("{what} has both `atomic` and `rollbackOnFailure`, by itself or by `helmDefaults`"),
        );
    }
    if settings.is("recreatePods") {
        notices.push(format!("{}: `recreatePods` of {what} has no effect: Helm 4 has no such flag", draft.at));
    }
    let on_failure = if settings.is("atomic") || settings.is("rollbackOnFailure") {
        OnFailure::RollBack
    } else if settings.is("cleanupOnFail") {
        OnFailure::CleanUp
    } else {
        OnFailure::Keep
    };
    // Helm waits for jobs only where it waits at all, and always where it would roll back.
    let wait = match (settings.is("wait") || on_failure == OnFailure::RollBack, settings.is("waitForJobs")) {
        (true, true) => Wait::WorkloadsAndJobs,
        (true, false) => Wait::Workloads,
        (false, _) => Wait::Nothing,
    };
    Flags {
        wait,
        timeout: settings.timeout.map_or(TIMEOUT, Duration::from_secs),
        create_namespace: settings.switches.get("createNamespace").copied().unwrap_or(true),
        force_conflicts: settings.is("forceConflicts"),
        on_failure,
        args: arguments(settings),
    }
}

/// What [`Flags`] has no field for, as Helm's own flags.
fn arguments(settings: &Settings) -> Vec<String> {
    const FLAGS: [(&str, &str); 6] = [
        ("devel", "--devel"),
        ("disableOpenAPIValidation", "--disable-openapi-validation"),
        ("enableDNS", "--enable-dns"),
        ("force", "--force-replace"),
        ("skipSchemaValidation", "--skip-schema-validation"),
        ("takeOwnership", "--take-ownership"),
    ];
    let mut arguments = settings.args.clone();
    arguments.extend(FLAGS.iter().filter(|(key, _)| settings.is(key)).map(|(_, flag)| (*flag).to_owned()));
    arguments.extend(settings.history_max.map(|max| format!("--history-max={max}")));
    arguments.extend(settings.server_side.as_ref().map(|side| format!("--server-side={side}")));
    arguments.extend(settings.description.as_ref().map(|text| format!("--description={text}")));
    arguments
}
