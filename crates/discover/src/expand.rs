//! The one expander of `{{ … }}`: `{{.NAME}}` of task, `{{ name }}` of just, `{{ env.NAME }}` of mise.

use lazy_regex::regex;
use regex::Captures;

/// The text with its variables replaced; none where one of them is unknown or the braces hold more than a name.
pub(crate) fn expand(text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Option<String> {
    if !text.contains("{{") {
        return Some(text.to_owned());
    }
    let braces = regex!(r"\{\{-?\s*(?:env\.|\.)?([A-Za-z_]\w*)\s*-?\}\}");
    let mut is_known = true;
    let expanded = braces.replace_all(text, |found: &Captures<'_>| {
        let value = lookup(&found[1]);
        is_known &= value.is_some();
        value.unwrap_or_default()
    });
    (is_known && !expanded.contains("{{")).then(|| expanded.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_variable_is_replaced() {
        let lookup = |name: &str| ["A", "environment"].contains(&name).then(|| format!("<{name}>"));
        for (text, expected) in [
            ("{{.A}}/x", Some("<A>/x")),
            ("{{ A }}-{{- .A -}}", Some("<A>-<A>")),
            ("{{ env.A }}", Some("<A>")),
            ("{{ environment }}", Some("<environment>")),
            ("plain", Some("plain")),
            ("{{.A}}{{.B}}", None),
            ("{{ exec(command='date') }}", None),
        ] {
            assert_eq!(expand(text, &lookup).as_deref(), expected, "{text}");
        }
    }
}
