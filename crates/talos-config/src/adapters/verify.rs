//! What every config must be before it is sent, whatever made it.

use std::collections::HashMap;

use serde_json::Value;

use crate::{Node, Rendered};
use talos_schema::validate::{Mode, validate_at};
use yaml::{Diagnostic, Diagnostics};

/// What gRPC takes in one message unless told otherwise, and so the most that a node in maintenance mode receives.
const LARGEST: usize = 4 << 20;

pub(super) fn verify(rendered: &Rendered, node: &Node) -> Result<(), Diagnostics> {
    let mut found = Diagnostics::default();
    let mut seen: HashMap<(String, String), usize> = HashMap::new();
    for (index, document) in rendered.documents.0.iter().enumerate() {
        let text = |key: &str| document.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (kind, name) = (text("kind"), text("name"));
        let what = match (kind.as_str(), name.as_str()) {
            ("", _) => "the document without `kind`".to_owned(),
            (kind, "") => format!("`{kind}`"),
            (kind, name) => format!("`{kind}` of the name `{name}`"),
        };
        if let Some(first) = seen.insert((kind, name), index) {
            let (this, first) = (rendered.maker(index), rendered.maker(first));
            found.push(
                Diagnostic::general(format!(
                    "node `{}`: {what} stands there twice, from {first} and from {this}; it must be single",
                    node.hostname
                ))
                .with_hint("remove one of them, or make it a patch of the other"),
            );
        }
    }
    let place = |document: usize, path: &str| rendered.place(document, path);
    let findings = validate_at(&rendered.documents, Mode::Metal, &place);
    for diagnostic in findings.errors {
        let message = format!("node `{}`: {}", node.hostname, diagnostic.message);
        found.push(Diagnostic { message, ..diagnostic });
    }
    let bytes = rendered.documents.to_yaml().len();
    if bytes > LARGEST {
        found.push(
            Diagnostic::at(
                node.at.clone(),
                format!("the config of node `{}` has {bytes} bytes; a node takes {LARGEST} at most", node.hostname),
            )
            .with_hint("inline manifests and files are the usual reason: let Flux apply the former"),
        );
    }
    found.into_result(())
}
