//! Other secret managers: a scheme of references, and the program that prints the value of one.
//!
//! `k8s-bootstrap.yaml` declares them; `ref+…`, the references of vals, need no declaration. A value comes on standard
//! output, whole or as a part of JSON; arguments hold references only.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use regex::Regex;
use secrecy::SecretString;
use serde_json::Value;

use super::{Error, Reference, UnresolvedReason};
use process::{Command, Credentials};

/// Cloud services respond within seconds; an unattended login prompt would wait for ever.
const DEADLINE: Duration = Duration::from_mins(2);

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

    /// The value of a reference that one of these resolves; `folder` is where its program runs.
    ///
    /// # Errors
    ///
    /// A program that is not installed, fails, or prints unexpected output.
    pub async fn resolve(&self, reference: &Reference, folder: &Path) -> Result<SecretString, Error> {
        let unresolved = |reason: UnresolvedReason| Error::Unresolved { reference: reference.clone(), reason };
        let (adapter, address) = self.adapter_of(reference);
        let (path, part) = match address.split_once('#').filter(|_| adapter.command != vals().command) {
            Some((path, part)) => (path, Some(part)),
            None => (address, None),
        };
        let mut words = adapter.command.iter().map(|word| fill(word, reference, path));
        let Some(program) = words.next() else { return Err(unresolved(UnresolvedReason::NoCommand)) };
        let command = Command::new(&program).args(words).current_dir(folder).deadline(DEADLINE);
        let output = command.credentials(Credentials::Operator).run().await.map_err(|error| match error {
            process::Error::Start { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                let next = format!("install {program}, which resolves {}", reference.text);
                Error::Missing { program: program.clone(), next }
            }
            process::Error::Failed { stderr, .. } => {
                unresolved(UnresolvedReason::Rejected { program: program.clone(), message: stderr })
            }
            other => unresolved(UnresolvedReason::Program(other)),
        })?;
        let text = String::from_utf8(output.stdout)
            .map_err(|_| unresolved(UnresolvedReason::NotText { program: program.clone() }))?;
        let pointer = [adapter.pointer.as_deref(), part].into_iter().flatten().collect::<Vec<_>>();
        if pointer.is_empty() {
            let value = text.strip_suffix('\n').unwrap_or(&text);
            return Ok(value.strip_suffix('\r').unwrap_or(value).to_owned().into());
        }
        let pointer = pointer.iter().map(|part| format!("/{}", part.trim_matches('/'))).collect::<String>();
        // What was printed is not quoted, since it holds the secret.
        let json: Value = serde_json::from_str(&text)
            .map_err(|_| unresolved(UnresolvedReason::NotJson { program: program.clone() }))?;
        match json.pointer(&pointer) {
            Some(Value::String(value)) => Ok(value.clone().into()),
            Some(value @ (Value::Number(_) | Value::Bool(_))) => Ok(value.to_string().into()),
            _ => Err(unresolved(UnresolvedReason::NoValue { program, pointer })),
        }
    }

    /// The adapter of a reference, and what follows its scheme.
    fn adapter_of<'r>(&self, reference: &'r Reference) -> (Adapter, &'r str) {
        let (scheme, address) = reference.text.split_once("://").unwrap_or(("", &reference.text));
        (self.0.get(scheme).cloned().unwrap_or_else(vals), address)
    }
}

/// vals itself reads what follows `#`.
fn vals() -> Adapter {
    Adapter { command: ["vals", "get", "{ref}"].map(str::to_owned).to_vec(), pointer: None }
}

fn fill(word: &str, reference: &Reference, path: &str) -> String {
    let mut filled = word.replace("{ref}", &reference.text).replace("{path}", path);
    for (index, part) in path.split('/').enumerate() {
        filled = filled.replace(&format!("{{{}}}", index + 1), part);
    }
    filled
}
