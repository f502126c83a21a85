//! Which layer set what: the texts that a config was put together from, in their order.

use serde_json::Value;

use super::typed::{Content, DIRECTIVE, Written};
use crate::yaml::{Diagnostics, Location, Origin};

/// One text that went into a config: a patch, a template's result, a finished config.
#[derive(Debug, Clone)]
pub struct Layer(Vec<Written>);

impl Layer {
    /// Reads a layer. A JSON patch has none of its values at the places that it sets, so nothing is found in it.
    ///
    /// # Errors
    ///
    /// Text that is no YAML.
    pub fn parse(origin: &Origin, text: &str) -> Result<Self, Diagnostics> {
        Ok(Self(Written::parse(origin, text)?))
    }
}

/// Where the last of the layers stands that set the value at `path` (`a.b[0].c`) of a document, if any of them did.
pub fn set_by(layers: &[Layer], document: &Value, path: &str) -> Option<Location> {
    let steps: Vec<&str> = path.split(['.', '[']).filter(|step| !step.is_empty()).collect();
    let documents = layers.iter().rev().flat_map(|layer| layer.0.iter().rev());
    documents.filter(|written| same_document(written, document)).find_map(|written| find(written, document, &steps))
}

fn same_document(written: &Written, document: &Value) -> bool {
    ["apiVersion", "kind", "name"].into_iter().all(|key| {
        let text = |value: Option<&str>| value.unwrap_or_default().to_owned();
        text(written.get(key).and_then(Written::text)) == text(document.get(key).and_then(Value::as_str))
    })
}

fn find(written: &Written, merged: &Value, steps: &[&str]) -> Option<Location> {
    let Some((step, rest)) = steps.split_first() else { return written.at.clone() };
    match (&written.content, step.strip_suffix(']').and_then(|index| index.parse::<usize>().ok())) {
        // Merging moves elements, so one is known by what it says.
        (Content::List(items), Some(index)) => {
            let merged = merged.get(index)?;
            items.iter().rev().filter(|item| says(item, merged)).find_map(|item| find(item, merged, rest))
        }
        (Content::Map(entries), None) => {
            let entry = entries.iter().find(|entry| entry.key == *step)?;
            let within = find(&entry.value, merged.get(*step)?, rest)?;
            // The key is what an operator looks for; null and empty values stand elsewhere or nowhere.
            if rest.is_empty() { entry.at.clone() } else { Some(within) }
        }
        _ => None,
    }
}

/// Whether everything that a layer says of a value is true of what became of it.
fn says(written: &Written, merged: &Value) -> bool {
    match &written.content {
        Content::Null => true,
        Content::Scalar { resolved, spelled } => resolved == merged || merged.as_str() == Some(spelled),
        Content::List(items) => merged
            .as_array()
            .is_some_and(|merged| items.iter().all(|item| merged.iter().any(|known| says(item, known)))),
        Content::Map(entries) => entries.iter().all(|entry| {
            entry.key == DIRECTIVE || merged.get(&entry.key).is_some_and(|known| says(&entry.value, known))
        }),
    }
}
