//! A release's `set`, `setString`, `setTemplate` and `env`: helmfile's translation to Helm's flags, and Helm's reading of them.

use serde_json::{Map, Value};

use super::fields::Scope;
use super::state::{Draft, Element, Given, SetDraft, Text};
use super::{Findings, values};
use crate::set;
use crate::set::SetFlag;

use yaml::{Diagnostic, Location};

/// A `set` as the text of one flag.
struct Flag<'f> {
    kind: SetFlag,
    text: String,
    at: &'f Location,
}

/// Applies all of them in Helm's order: typed values, strings, files.
pub(super) fn apply(
    scope: &Scope<'_>,
    draft: &Draft,
    data: &Value,
    what: &str,
    into: &mut Map<String, Value>,
    findings: &mut Findings,
) {
    let mut flags = vec![];
    let render = |text: &Text| template::render(&text.source(), data, &scope.files.functions(&scope.files.folder));
    let as_written = |text: &Text| Ok(text.raw.clone());
    for (key, kind) in [("setTemplate", SetFlag::Typed), ("set", SetFlag::Typed), ("setString", SetFlag::Text)] {
        for set in draft.set(key) {
            let flag = if key == "setTemplate" { flag(set, kind, render) } else { flag(set, kind, as_written) };
            match flag {
                Ok(flag) => flags.extend(flag),
                Err(diagnostic) => findings.found.push(diagnostic),
            }
        }
    }
    for set in draft.set("env") {
        flags.extend(variable(scope, set, what, findings));
    }
    flags.sort_by_key(|flag| [SetFlag::Typed, SetFlag::Text, SetFlag::File].iter().position(|kind| *kind == flag.kind));
    for Flag { kind, text, at } in flags {
        values::without_references(&Value::from(text.as_str()), at, findings);
        let read = |path: &str| std::fs::read_to_string(scope.files.path(path));
        if let Err(error) = set::assign(into, &text, kind, &read) {
            // The text is not shown, it may contain a secret.
            findings.error(at, format!("cannot set a value of {what}: {error}"));
        }
    }
}

/// The flag of one item; an empty list sets nothing.
fn flag(
    set: &SetDraft,
    kind: SetFlag,
    render: impl Fn(&Text) -> Result<String, Diagnostic>,
) -> Result<Option<Flag<'_>>, Diagnostic> {
    let name = escape(&render(&set.name)?);

    let flag = |kind: SetFlag, text: String| Some(Flag { kind, text: format!("{name}={text}"), at: &set.at });
    Ok(match &set.given {
        Given::Value(value) => flag(kind, escape(&render(value)?)),
        Given::File(file) => flag(SetFlag::File, render(file)?),
        Given::Values(elements) if elements.is_empty() => None,
        Given::Values(elements) => {
            let mut texts = vec![];
            for element in elements {
                texts.push(escape(&match element {
                    Element::Text(text) => render(text)?,
                    Element::Data(data) => data.to_string(),
                }));
            }
            flag(kind, format!("{{{}}}", texts.join(",")))
        }
    })
}

/// `env: [{name, value: VARIABLE}]`, an older form of `set`.
fn variable<'s>(scope: &Scope<'_>, set: &'s SetDraft, what: &str, findings: &mut Findings) -> Option<Flag<'s>> {
    let Given::Value(variable) = &set.given else { return None };
    let Some(value) = scope.files.variables.get(&variable.raw) else {
        let message = format!("environment variable `{}` of {what} is not set", variable.raw);
        findings.error(&variable.at, message);
        return None;
    };
    Some(Flag { kind: SetFlag::Typed, text: format!("{}={}", escape(&set.name.raw), escape(value)), at: &set.at })
}

/// Escapes braces and commas, as helmfile does.
fn escape(text: &str) -> String {
    text.replace('{', "\\{").replace('}', "\\}").replace(',', "\\,")
}
