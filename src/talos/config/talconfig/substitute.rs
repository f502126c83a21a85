//! talhelper's `${VAR}`: textual, before YAML is read; `$$` is a dollar sign.

use crate::yaml::{Diagnostic, Diagnostics, Origin, Position};

/// Replaces `${NAME}` and `${NAME:-default}` by what `lookup` knows.
///
/// Reports every variable that is not known and has no default, with its place.
pub(super) fn substitute(
    origin: &Origin,
    text: &str,
    lookup: &dyn Fn(&str) -> Option<String>,
    found: &mut Diagnostics,
) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        out.push_str(&rest[..dollar]);
        let tail = &rest[dollar..];
        if let Some(after) = tail.strip_prefix("$$") {
            out.push('$');
            rest = after;
            continue;
        }
        let braced = tail.strip_prefix("${").and_then(|inner| inner.split_once('}'));
        let Some((expression, after)) = braced else {
            out.push('$');
            rest = &tail[1..];
            continue;
        };
        let (name, default) =
            expression.split_once(":-").map_or((expression, None), |(name, value)| (name, Some(value)));
        match lookup(name).filter(|value| default.is_none() || !value.is_empty()).or(default.map(str::to_owned)) {
            Some(value) => out.push_str(&value),
            None => found.push(
                Diagnostic::at(
                    origin.at(position(text, text.len() - tail.len())),
                    format!("the variable `{name}` is not defined"),
                )
                .with_hint("define it in talenv.yaml beside the talconfig, or in the environment"),
            ),
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

fn position(text: &str, offset: usize) -> Position {
    let before = &text[..offset];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |last| last.chars().count()) + 1;
    Position { line, column }
}
