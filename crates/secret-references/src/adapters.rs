//! Other secret managers: the schemes of their references, as `k8s-bootstrap.yaml` declares them. `ref+…`, the references of
//! vals, need no declaration.

use std::collections::BTreeMap;

use regex::Regex;

use super::Reference;

/// How the references of one scheme are resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adapter {
    /// The program and its arguments. `{ref}` is the whole reference, `{path}` what follows its scheme, `{1}`, `{2}` … the
    /// parts of the path.
    pub command: Vec<String>,
    /// Where the value is in the JSON that the program prints (RFC 6901).
    pub pointer: Option<String>,
}

/// Adapters by scheme.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Adapters(pub BTreeMap<String, Adapter>);

impl Adapters {
    /// Whether a text may contain a reference.
    pub fn mentions(&self, text: &str) -> bool {
        text.contains("ref+") || self.0.keys().any(|scheme| text.contains(&format!("{scheme}://")))
    }

    /// Every reference of a template, in order.
    pub fn references(&self, template: &str) -> Vec<Reference> {
        let mut found = Vec::new();
        // A reference of vals; a `+` may end it. Source: vals 0.42, "Expression syntax".
        let vals = lazy_regex::regex!(r#"(?P<text>(?:secret)?ref\+[A-Za-z0-9]+://[^+\s'"]*[^+\s'",])\+?"#);
        for captures in vals.captures_iter(template) {
            if let (Some(whole), Some(text)) = (captures.get(0), captures.name("text")) {
                found.push(Reference::new(template, text.as_str(), whole.range()));
            }
        }
        for scheme in self.0.keys() {
            let scheme = regex::escape(scheme);
            let pattern =
                format!(r#"\{{\{{\s*(?P<braced>{scheme}://[^}}\n]+?)\s*\}}\}}|(?P<bare>{scheme}://[^\s'",}}\]]+)"#);
            for captures in Regex::new(&pattern).iter().flat_map(|pattern| pattern.captures_iter(template)) {
                let (Some(whole), Some(text)) = (captures.get(0), captures.name("braced").or(captures.name("bare")))
                else {
                    continue;
                };
                let before = template[..whole.start()].chars().next_back();
                if !before.is_some_and(|c| c.is_alphanumeric() || "+-.\\".contains(c)) {
                    found.push(Reference::new(template, text.as_str(), whole.range()));
                }
            }
        }
        found.sort_by_key(|reference| reference.range.start);
        found
    }
}
