//! Which layer set each field of a machine config.
//!
//! A config is built in layers: generated fields, input fields, patches. [`RenderedConfig`] compares the config before and after
//! each layer, so that layers need no bookkeeping.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

use talos_schema::Documents;
use yaml::{Diagnostic, Diagnostics, Location, Node, Origin, Position};

/// The layer that set a field, and the place in its file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldSource {
    pub layer: String,
    pub at: Option<Location>,
}

impl fmt::Display for FieldSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.at {
            Some(at) => write!(f, "{at}"),
            None => f.write_str(&self.layer),
        }
    }
}

/// The setters of a value and of everything in it.
#[derive(Debug, Clone, PartialEq)]
struct Trace {
    setter: FieldSource,
    fields: BTreeMap<String, Trace>,
    items: Vec<Trace>,
}

impl Trace {
    /// Where the value or a part of it was set in a file.
    fn place(&self) -> Option<Location> {
        let below = || self.fields.values().chain(&self.items).find_map(Self::place);
        self.setter.at.clone().or_else(below)
    }

    fn settle(&mut self, at: &Location) {
        self.setter.at = Some(at.clone());
        self.items.iter_mut().chain(self.fields.values_mut()).for_each(|trace| trace.settle(at));
    }
}

/// A config with the layer that set each field.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RenderedConfig {
    pub documents: Documents,
    traces: Vec<Trace>,
    /// Every applied patch, and whether it changed anything.
    patches: Vec<(Location, bool)>,
}

/// A field of a config with its value and setter.
#[derive(Debug, Clone, PartialEq)]
pub struct ExplainedField {
    /// The document's kind and name; empty for the legacy document.
    pub document: String,
    /// Such as `machine.network.interfaces[0].mtu`.
    pub path: String,
    pub value: Value,
    pub setter: FieldSource,
}

/// The documents of a layer with their positions.
#[derive(Debug, Clone, Copy)]
pub struct LayerSource<'w> {
    pub origin: &'w Origin,
    pub documents: &'w [Node],
}

impl RenderedConfig {
    /// A config made by one layer.
    pub fn new(layer: &str, written: Option<LayerSource<'_>>, documents: Documents) -> Self {
        let mut rendered = Self::default();
        rendered.replace(layer, None, written, documents);
        rendered
    }

    /// Changes the config; all differences are attributed to `layer` at `at`.
    pub fn set(&mut self, layer: &str, at: Option<&Location>, change: impl FnOnce(&mut Documents)) {
        let mut documents = self.documents.clone();
        change(&mut documents);
        self.replace(layer, at, None, documents);
    }

    /// Sets the location of an existing field of the legacy document.
    pub fn attribute(&mut self, path: &[&str], at: Option<&Location>) {
        let Some(at) = at else { return };
        let index = self.documents.0.iter().position(|document| label(document).is_empty());
        let mut trace = index.and_then(|index| self.traces.get_mut(index));
        for step in path {
            trace = trace.and_then(|trace| trace.fields.get_mut(*step));
        }
        if let Some(trace) = trace {
            trace.settle(at);
        }
    }

    /// Replaces the config by the patched one; all differences are attributed to the lines of the patch.
    pub fn patch(&mut self, layer: &str, at: &Location, written: LayerSource<'_>, documents: Documents) {
        self.patches.push((at.clone(), documents != self.documents));
        self.replace(layer, Some(at), Some(written), documents);
    }

    fn replace(&mut self, layer: &str, at: Option<&Location>, written: Option<LayerSource<'_>>, documents: Documents) {
        let by = FieldSource { layer: layer.to_owned(), at: at.cloned() };
        let traces = documents.0.iter().map(|document| {
            let index = self.documents.0.iter().position(|known| identity(known) == identity(document));
            let before = index.and_then(|index| Some((&self.documents.0[index], self.traces.get(index)?)));
            let node = written.and_then(|written| {
                let same = |node: &&Node| {
                    let text = |key: &str| node.find(&[key]).and_then(Node::as_str).unwrap_or_default();
                    ["apiVersion", "kind", "name"].map(text) == identity(document)
                };
                written.documents.iter().find(same).map(|node| (written.origin, node))
            });
            trace(&by, before, document, node)
        });
        self.traces = traces.collect();
        self.documents = documents;
    }

    /// The setter of a field or of its nearest parent; `document` as in [`ExplainedField`].
    pub fn setter(&self, document: &str, path: &str) -> Option<&FieldSource> {
        let index = self.documents.0.iter().position(|known| label(known) == document)?;
        Some(&nearest(self.traces.get(index)?, path).setter)
    }

    /// The field with the longest path that a node's error message contains.
    pub fn field_in_message(&self, message: &str) -> Option<ExplainedField> {
        // A path of one step may be a common word.
        let named = |field: &ExplainedField| field.path.contains('.') && message.contains(&field.path);
        self.explain().into_iter().filter(named).max_by_key(|field| field.path.len())
    }

    /// Where a field of the document with this index was set.
    pub(super) fn place(&self, document: usize, path: &str) -> Option<Location> {
        nearest(self.traces.get(document)?, path).place()
    }

    /// The patches that change nothing in any of these configs.
    pub fn unused_patches<'r>(all: impl IntoIterator<Item = &'r Self>) -> Diagnostics {
        let mut changed: BTreeMap<&Location, bool> = BTreeMap::new();
        for (at, changes) in all.into_iter().flat_map(|rendered| &rendered.patches) {
            *changed.entry(at).or_default() |= changes;
        }
        let mut found = Diagnostics::default();
        for (at, _) in changed.into_iter().filter(|(_, changes)| !changes) {
            found.push(
                Diagnostic::at_location(at.clone(), "this patch changes nothing on any node")
                    .with_hint("the fields that it deletes do not exist, or have the same values already"),
            );
        }
        found
    }

    /// The layer that created a document.
    pub(super) fn maker(&self, document: usize) -> String {
        self.traces.get(document).map(|trace| trace.setter.to_string()).unwrap_or_default()
    }

    /// Every field with its setter, in document order.
    pub fn explain(&self) -> Vec<ExplainedField> {
        let mut lines = Vec::new();
        for (document, trace) in self.documents.0.iter().zip(&self.traces) {
            explain(&mut lines, &label(document), String::new(), document, trace);
        }
        lines
    }
}

/// Follows a path such as `a.b[0]` as far as it exists; keys may contain dots.
fn nearest<'t>(trace: &'t Trace, path: &str) -> &'t Trace {
    let path = path.strip_prefix('.').unwrap_or(path);
    if let Some((index, rest)) = path.strip_prefix('[').and_then(|path| path.split_once(']')) {
        let item = index.parse().ok().and_then(|index: usize| trace.items.get(index));
        return item.map_or(trace, |item| nearest(item, rest));
    }
    let below = |key: &&String| {
        path.strip_prefix(key.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    };
    match trace.fields.keys().filter(below).max_by_key(|key| key.len()) {
        Some(key) if !path.is_empty() => nearest(&trace.fields[key], &path[key.len()..]),
        _ => trace,
    }
}

/// The fields that identify a document.
fn identity(document: &Value) -> [&str; 3] {
    ["apiVersion", "kind", "name"].map(|key| document.get(key).and_then(Value::as_str).unwrap_or_default())
}

/// The name of a document in messages.
fn label(document: &Value) -> String {
    let text = |key: &str| document.get(key).and_then(Value::as_str).unwrap_or_default();
    format!("{} {}", text("kind"), text("name")).trim().to_owned()
}

fn explain(lines: &mut Vec<ExplainedField>, document: &str, path: String, value: &Value, trace: &Trace) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                if let Some(trace) = trace.fields.get(key) {
                    explain(lines, document, path, value, trace);
                }
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for (index, (value, trace)) in items.iter().zip(&trace.items).enumerate() {
                explain(lines, document, format!("{path}[{index}]"), value, trace);
            }
        }
        value => lines.push(ExplainedField {
            document: document.to_owned(),
            path,
            value: value.clone(),
            setter: trace.setter.clone(),
        }),
    }
}

type Known<'k> = Option<(&'k Value, &'k Trace)>;
type LayerNode<'p> = Option<(&'p Origin, &'p Node)>;

fn trace(by: &FieldSource, before: Known<'_>, value: &Value, place: LayerNode<'_>) -> Trace {
    if let Some((known, trace)) = before
        && known == value
    {
        return trace.clone();
    }
    let setter = match before {
        // A mapping or list keeps its setter when its content changes.
        Some((known, trace)) if same_kind(known, value) => trace.setter.clone(),
        _ => by.clone(),
    };
    let mut traced = Trace { setter, fields: BTreeMap::new(), items: Vec::new() };
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let before = before.and_then(|(known, trace)| Some((known.get(key)?, trace.fields.get(key)?)));
                let (by, place) = field_place(by, place, key);
                traced.fields.insert(key.clone(), trace(&by, before, value, place));
            }
        }
        Value::Array(items) => traced.items = trace_items(by, before, items, place),
        _ => {}
    }
    traced
}

fn same_kind(a: &Value, b: &Value) -> bool {
    (a.is_object() && b.is_object()) || (a.is_array() && b.is_array())
}

/// The setter of a field, with the line in the layer.
fn field_place<'p>(by: &FieldSource, place: LayerNode<'p>, key: &str) -> (FieldSource, LayerNode<'p>) {
    let Some((origin, node)) = place else { return (by.clone(), None) };
    let entry = node.as_mapping().and_then(|mapping| mapping.iter().find(|entry| entry.key == key));
    match entry {
        Some(entry) => (at(by, origin, entry.key_at), Some((origin, &entry.value))),
        None => (by.clone(), None),
    }
}

fn at(by: &FieldSource, origin: &Origin, position: Position) -> FieldSource {
    FieldSource { layer: by.layer.clone(), at: Some(origin.location(position)) }
}

/// An unchanged element keeps its setters, also at another index; a changed element is matched by its index.
fn trace_items(by: &FieldSource, before: Known<'_>, items: &[Value], place: LayerNode<'_>) -> Vec<Trace> {
    let known: Vec<(&Value, &Trace)> = match before {
        Some((Value::Array(values), trace)) => values.iter().zip(&trace.items).collect(),
        _ => vec![],
    };
    let mut used = vec![false; known.len()];
    let written = place.and_then(|(origin, node)| Some((origin, node.as_sequence()?)));
    let mut traces = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        if let Some(same) = (0..known.len()).find(|same| !used[*same] && known[*same].0 == item) {
            used[same] = true;
            traces.push(known[same].1.clone());
            continue;
        }
        let before = known.get(index).filter(|_| !used[index]).copied();
        let node = written.and_then(|(origin, nodes)| {
            let same = nodes.iter().find(|node| node.to_json() == *item);
            same.or_else(|| nodes.iter().find(|node| names_same(&node.to_json(), item))).map(|node| (origin, node))
        });
        let by = node.map_or_else(|| by.clone(), |(origin, node)| at(by, origin, node.at));
        traces.push(trace(&by, before, item, node));
    }
    traces
}

/// Whether two elements have the same first field, which is usually their name.
fn names_same(a: &Value, b: &Value) -> bool {
    let first = a.as_object().and_then(|map| map.iter().next());
    first.is_some_and(|(key, value)| b.get(key) == Some(value))
}
