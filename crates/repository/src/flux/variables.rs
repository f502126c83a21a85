//! `postBuild`: the variables that kustomize-controller substitutes in manifests before it applies them.
//!
//! Source: Flux 2.7, "Kustomization: post build variable substitution". Forms with functions (`${VAR/a/b}`) are left unchanged.

use std::collections::BTreeMap;

use lazy_regex::{Captures, Regex, regex};
use serde_json::Value;

use yaml::Origin;

/// The values of variables that the repository holds; values from Secrets are unknown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Variables(pub(super) BTreeMap<String, String>);

/// `${NAME}` with any default, or the escape `$${…}`.
fn reference() -> &'static Regex {
    regex!(r"\$\$(?P<escaped>\{[^}\n]*\})|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::?[=-](?P<default>[^}\n]*))?\}")
}

/// The first variable in a text with its braces, `${NAME}`; also the escape `$${…}`.
pub(super) fn first(text: &str) -> Option<&str> {
    reference().find(text).map(|found| found.as_str())
}

impl Variables {
    /// The value as Flux applies it; unknown variables stay.
    pub(super) fn substitute(&self, value: &Value) -> Value {
        match value {
            Value::String(text) if text.contains("${") => {
                let replaced = self.replace(text);
                if replaced == *text { value.clone() } else { retyped(replaced) }
            }
            Value::Array(items) => items.iter().map(|item| self.substitute(item)).collect(),
            Value::Object(map) => map.iter().map(|(key, value)| (self.replace(key), self.substitute(value))).collect(),
            other => other.clone(),
        }
    }

    fn replace(&self, text: &str) -> String {
        let value = |found: &Captures<'_>| {
            if let Some(escaped) = found.name("escaped") {
                return format!("${}", escaped.as_str());
            }
            let known = self.0.get(&found["name"]).map(String::as_str);
            let default = found.name("default").map(|default| default.as_str());
            known.or(default).unwrap_or(&found[0]).to_owned()
        };
        reference().replace_all(text, value).into_owned()
    }
}

/// Flux substitutes in the text of a manifest, so a value that reads as a number afterwards is a number.
fn retyped(text: String) -> Value {
    let read = yaml::parse_one(&Origin::new("<value>"), &text).ok().filter(|_| !text.contains('\n'));
    match read.map(|node| node.to_json()) {
        Some(scalar @ (Value::Bool(_) | Value::Number(_) | Value::Null)) => scalar,
        _ => Value::String(text),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn variables_are_substituted_as_by_kustomize_controller() {
        let variables =
            Variables([("ID", "1"), ("NAME", "blue")].map(|(key, value)| (key.into(), value.into())).into());
        for (written, expected) in [
            (json!("${ID}"), json!(1)),
            (json!("id-${ID}.${NAME}"), json!("id-1.blue")),
            (json!("${GONE:=true}"), json!(true)),
            (json!("${GONE:-x}"), json!("x")),
            (json!("${SECRET}"), json!("${SECRET}")),
            (json!("$${NAME} $NAME"), json!("${NAME} $NAME")),
            (json!({"a-${NAME}": ["${ID}", "a\n${ID}"]}), json!({"a-blue": [1, "a\n1"]})),
        ] {
            assert_eq!(variables.substitute(&written), expected, "{written}");
        }
        assert_eq!(first("a ${B:=c} ${D}"), Some("${B:=c}"));
        assert_eq!(first("{{ $x }} $(y)"), None);
    }
}
