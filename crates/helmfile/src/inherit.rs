//! Releases with the templates that they inherit.

use super::Findings;
use super::state::{Draft, Inherit, State};
use yaml::{Diagnostic, near};

/// Every release over its templates, in file order.
pub(super) fn resolve(state: &State, findings: &mut Findings) -> Vec<Draft> {
    leaks(state, &mut findings.notices);
    let releases = state.releases.iter();
    releases.map(|release| over_templates(state, release, &chain(state, release), &mut vec![], findings)).collect()
}

/// The templates of a release: the default ones come first, unless the release names them itself.
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
            let message = format!("there is no template `{}`", inherit.template);
            let near = near(&inherit.template, state.templates.keys().map(String::as_str));
            findings.found.push(Diagnostic::at(inherit.at.clone(), message).did_you_mean(near));
            continue;
        };
        if path.contains(&inherit.template) {
            let cycle = [path.join(" -> "), inherit.template.clone()].join(" -> ");
            findings.error(&inherit.at, format!("the templates inherit each other: {cycle}"));
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

/// helmfile 1.7 lets what one release says about a setting of its template leak into the releases after it. It is not
/// repeated here, but who relied on it should know.
fn leaks(state: &State, notices: &mut Vec<String>) {
    for (index, release) in state.releases.iter().enumerate() {
        for template in chain(state, release).iter().filter_map(|one| Some((one, state.templates.get(&one.template)?)))
        {
            let (inherit, template) = template;
            let said = &release.settings;
            let mut keys: Vec<&str> = said.switches.keys().copied().collect();
            keys.retain(|key| {
                template.settings.switches.contains_key(key) && said.is(key) != template.settings.is(key)
            });
            if said.timeout.is_some()
                && template.settings.timeout.is_some()
                && said.timeout != template.settings.timeout
            {
                keys.push("timeout");
            }
            let later = state.releases[index + 1..]
                .iter()
                .find(|later| chain(state, later).iter().any(|one| one.template == inherit.template));
            if let (false, Some(later)) = (keys.is_empty(), later) {
                notices.push(format!(
                    "{}: `{}` differs from template `{}`; helmfile 1.7 would carry that over to the releases after it, \
                     from {} on, k8s-bootstrap does not",
                    release.at,
                    keys.join("`, `"),
                    inherit.template,
                    later.at
                ));
            }
        }
    }
}
