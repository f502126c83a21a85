//! Merges releases with the templates that they inherit.

use super::Findings;
use super::state::{Draft, Inherit, State};
use yaml::{Diagnostic, near};

/// Merges every release over its templates, in file order.
pub(super) fn resolve(state: &State, findings: &mut Findings) -> Vec<Draft> {
    leaks(state, &mut findings.notices);
    let releases = state.releases.iter();
    releases.map(|release| over_templates(state, release, &chain(state, release), &mut vec![], findings)).collect()
}

/// The templates of a release: the default ones first, unless the release names them itself.
fn chain(state: &State, release: &Draft) -> Vec<Inherit> {
    let own = &release.inherit;
    let named = |one: &&Inherit| own.iter().any(|mine| mine.template == one.template);
    state.default_inherit.iter().filter(|one| !named(one)).chain(own).cloned().collect()
}

fn over_templates(
    state: &State,
    draft: &Draft,
    inherits: &[Inherit],
    path: &mut Vec<String>,
    findings: &mut Findings,
) -> Draft {
    let mut result = Draft::empty(draft.at.clone());
    for inherit in inherits {
        let Some(template) = state.templates.get(&inherit.template) else {
            let message = format!("unknown template `{}`", inherit.template);
            let near = near(&inherit.template, state.templates.keys().map(String::as_str));
            findings.found.push(Diagnostic::at_location(inherit.at.clone(), message).did_you_mean(near));
            continue;
        };
        if path.contains(&inherit.template) {
            let cycle = [path.join(" -> "), inherit.template.clone()].join(" -> ");
            findings.error(&inherit.at, format!("circular template inheritance: {cycle}"));
            continue;
        }
        path.push(inherit.template.clone());
        let mut inherited = over_templates(state, template, &template.inherit, path, findings);
        path.pop();
        for key in &inherit.except {
            match key.as_str() {
                "values" => inherited.values.clear(),
                "valuesTemplate" => inherited.values_template.clear(),
                "labels" => inherited.labels.clear(),
                "set" | "setString" | "setTemplate" => {
                    inherited.sets.remove(key.as_str());
                }
                _ => {}
            }
        }
        result.overlay(&inherited);
    }
    result.overlay(draft);
    result
}

/// Reports where helmfile 1.7 would leak a release's override of a template setting into later releases; this is not
/// reproduced here.
fn leaks(state: &State, notices: &mut Vec<String>) {
    for (index, release) in state.releases.iter().enumerate() {
        for template in chain(state, release).iter().filter_map(|one| Some((one, state.templates.get(&one.template)?)))
        {
            let (inherit, template) = template;
            let own = &release.settings;
            let mut keys: Vec<&str> = own.switches.keys().copied().collect();
            keys.retain(|key| template.settings.switches.contains_key(key) && own.is(key) != template.settings.is(key));
            if own.timeout.is_some() && template.settings.timeout.is_some() && own.timeout != template.settings.timeout
            {
                keys.push("timeout");
            }
            let later = state.releases[index + 1..]
                .iter()
                .find(|later| chain(state, later).iter().any(|one| one.template == inherit.template));
            if let (false, Some(later)) = (keys.is_empty(), later) {
                notices.push(format!(
                    "{}: `{}` differs from template `{}`; helmfile 1.7 also applies it to the releases from {} on, \
                     k8s-bootstrap does not",
                    release.at,
                    keys.join("`, `"),
                    inherit.template,
                    later.at
                ));
            }
        }
    }
}
