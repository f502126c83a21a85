//! The fields of a machine config with the layers that set them.

use serde_json::{Value, json};
use talos_config::{InventoryNode, RenderedConfig};

/// Characters of a line; certificates are longer.
const MAX_WIDTH: usize = 120;

/// The fields as text, each passed through `mask`.
pub(crate) fn explained_text(node: &InventoryNode, rendered: &RenderedConfig, mask: &dyn Fn(&str) -> String) -> String {
    let mut lines = vec![format!("# {}", node.hostname)];
    let mut document = String::new();
    for field in rendered.explain() {
        if field.document != document {
            document.clone_from(&field.document);
            lines.push(format!("--- {document}"));
        }
        let text = mask(&format!("{}: {}", field.path, field.value));
        let short: String = text.chars().take(MAX_WIDTH).collect();
        let more = if short.len() < text.len() { "…" } else { "" };
        lines.push(format!("{:<60}  # {}", format!("{short}{more}"), field.setter));
    }
    lines.join("\n")
}

/// The fields as JSON.
pub(crate) fn explained_json(node: &InventoryNode, rendered: &RenderedConfig) -> String {
    let fields = rendered.explain();
    let fields: Vec<Value> = fields
        .iter()
        .map(|field| {
            let at = field.setter.at.as_ref().map(ToString::to_string);
            json!({"document": field.document, "path": field.path, "value": field.value,
                   "layer": field.setter.layer, "at": at})
        })
        .collect();
    json!({"node": node.hostname, "fields": fields}).to_string()
}
