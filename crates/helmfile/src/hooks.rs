//! Renders hooks for each of their events.

use serde_json::{Value, json};

use super::fields::{ResolvedRelease, Scope};
use super::model::{Hook, ListedRelease};
use super::state::{HookDraft, Text};
use super::{Findings, reader};

/// The helmfile command that a run corresponds to.
const COMMAND: &str = "sync";

/// The hooks of a release.
pub(super) fn of_release(
    scope: &Scope<'_>,
    resolved: &ResolvedRelease,
    values: &Value,
    findings: &mut Findings,
) -> Vec<Hook> {
    if resolved.draft.hooks.is_empty() {
        return vec![];
    }
    let mut data = common(scope);
    data["Values"] = Value::Object(scope.values.clone());
    data["Release"] = release(&resolved.listed, &resolved.data, values);
    resolved.draft.hooks.iter().flat_map(|hook| render(scope, hook, &data, findings)).collect()
}

/// The hooks of a file, which see neither a release nor `.Values`.
pub(super) fn of_file(scope: &Scope<'_>, findings: &mut Findings) -> Vec<Hook> {
    let data = common(scope);
    scope.state.hooks.iter().flat_map(|hook| render(scope, hook, &data, findings)).collect()
}

fn common(scope: &Scope<'_>) -> Value {
    json!({
        "Environment": scope.environment.template(),
        "Namespace": scope.state.namespace.clone().unwrap_or_default(),
        "HelmfileCommand": COMMAND,
    })
}

/// The release as hooks see it, with more fields than values see.
fn release(listed: &ListedRelease, data: &Value, values: &Value) -> Value {
    json!({
        "Name": listed.name, "Namespace": listed.namespace, "Chart": listed.chart, "Version": listed.version,
        "Labels": listed.labels, "KubeContext": data["Release"]["KubeContext"], "Values": values,
        "Needs": listed.needs.iter().map(ToString::to_string).collect::<Vec<_>>(), "Installed": listed.installed,
        "KubeVersion": listed.kube_version.clone().unwrap_or_default(), "ApiVersions": listed.api_versions,
    })
}

/// Renders a hook for each event; equal results on the same side of the installation are one hook.
fn render(scope: &Scope<'_>, draft: &HookDraft, data: &Value, findings: &mut Findings) -> Vec<Hook> {
    let functions = scope.files.functions(&scope.files.folder);
    let mut rendered: Vec<Hook> = vec![];
    for event in &draft.events {
        let mut data = data.clone();
        // Hooks do not run after a failure.
        data["Event"] = json!({"Name": reader::event_name(*event), "Error": null});
        let mut render = |text: &Text| match template::render(&text.source(), &data, &functions) {
            Ok(text) => Some(text),
            Err(diagnostic) => {
                findings.found.push(diagnostic);
                None
            }
        };
        let command = render(&draft.command);
        let args: Vec<_> = draft.args.iter().map(render).collect();
        let (Some(command), Some(args)) = (command, args.into_iter().collect::<Option<Vec<_>>>()) else { continue };
        match rendered.last_mut() {
            Some(last) if last.command == command && last.args == args && last.events[0].side() == event.side() => {
                last.events.push(*event);
            }
            _ => rendered.push(Hook {
                events: vec![*event],
                command,
                args,
                show_logs: draft.show_logs,
                folder: scope.files.folder.clone(),
                at: draft.at.clone(),
            }),
        }
    }
    rendered
}
