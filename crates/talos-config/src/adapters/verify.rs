//! Validation of rendered configs, independent of their format.

use std::collections::HashMap;

use serde_json::Value;

use crate::{InventoryNode, RenderedConfig};
use talos_schema::validate::validate_at;
use talos_schema::{Contract, RuntimeMode, unsupported_kubernetes};
use yaml::{Diagnostic, Diagnostics};

/// gRPC's default message limit, which applies to nodes in maintenance mode.
const LARGEST: usize = 4 << 20;

/// `talos` is the version that the node runs.
pub(super) fn verify(rendered: &RenderedConfig, node: &InventoryNode, talos: &str) -> Result<(), Diagnostics> {
    let mut found = Diagnostics::default();
    let mut seen: HashMap<(String, String), usize> = HashMap::new();
    for (index, document) in rendered.documents.0.iter().enumerate() {
        let text = |key: &str| document.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (kind, name) = (text("kind"), text("name"));
        let what = match (kind.as_str(), name.as_str()) {
            ("", _) => "the document without `kind`".to_owned(),
            (kind, "") => format!("`{kind}`"),
            (kind, name) => format!("`{kind}` with the name `{name}`"),
        };
        if let Some(first) = seen.insert((kind, name), index) {
            let (this, first) = (rendered.maker(index), rendered.maker(first));
            found.push(
                Diagnostic::general(format!(
                    "node `{}`: {what} is defined twice, in {first} and in {this}",
                    node.hostname
                ))
                .with_hint("remove one of them, or make it a patch of the other"),
            );
        }
    }
    let place = |document: usize, path: &str| rendered.place(document, path);
    let findings = validate_at(&rendered.documents, RuntimeMode::Metal, &place);
    for diagnostic in findings.errors {
        let message = format!("node `{}`: {}", node.hostname, diagnostic.message);
        found.push(Diagnostic { message, ..diagnostic });
    }
    // The range of a Talos that is not known is not known either.
    let contract = talos.parse::<Contract>().ok();
    for image in contract.iter().flat_map(|contract| unsupported_kubernetes(&rendered.documents, *contract, talos)) {
        let at = place(image.document, image.path).unwrap_or_else(|| node.at.clone());
        found.error(at, format!("node `{}`: `{}`: {}", node.hostname, image.path, image.message));
    }
    let bytes = rendered.documents.to_yaml().len();
    if bytes > LARGEST {
        found.push(
            Diagnostic::at_location(
                node.at.clone(),
                format!("the config of node `{}` has {bytes} bytes; the limit is {LARGEST} bytes", node.hostname),
            )
            .with_hint("move large inline manifests to Flux, and shorten files"),
        );
    }
    found.into_result(())
}
