//! Reads `jsonPatches` and `strategicMergePatches`.

use serde_json::{Map, Value as Json};

use super::Findings;
use super::fields::Scope;
use super::merge::{Lists, merge_layer};
use super::model::{Patch, PatchTarget};
use super::state::{Draft, Values};
use super::values::ValuesFile;
use yaml::{Dialect, Fields, Location, Node, Origin};

/// The format of a patch.
#[derive(Clone, Copy, PartialEq)]
enum Format {
    Json,
    StrategicMerge,
}

/// Reads the patches of a release; files may be templates, whose `.Values` include the release's values.
pub(super) fn read(
    scope: &Scope<'_>,
    draft: &Draft,
    data: &Json,
    values: &Map<String, Json>,
    what: &str,
    findings: &mut Findings,
) -> Vec<Patch> {
    let lists = [(&draft.json_patches, Format::Json), (&draft.merge_patches, Format::StrategicMerge)];
    if lists.iter().all(|(list, _)| list.is_empty()) {
        return vec![];
    }
    let mut data = data.clone();
    let mut all = scope.values.clone();
    merge_layer(&mut all, values, Lists::Replace);
    data["StateValues"] = Json::Object(all.clone());
    data["Values"] = Json::Object(all);
    let missing = draft.missing.or(scope.state.missing);
    let file = ValuesFile { files: scope.files, what, noun: "patch file", data: &data, missing };
    let mut patches = vec![];
    for (list, format) in lists {
        for item in list {
            match item {
                Values::Inline(value, at) if format == Format::Json => {
                    patches.extend(inline(value, at, what, findings));
                }
                Values::Inline(object, at) => patches.push(Patch::Merge { object: object.clone(), at: at.clone() }),
                Values::Other(kind, at) => {
                    findings.error(at, format!("a patch must be a path or a mapping, not {kind}"));
                }
                Values::Path(path) => {
                    let Some((origin, text)) = file.read("", path, findings) else { continue };
                    patches.extend(documents(&origin, &text, format, what, findings));
                }
            }
        }
    }
    patches
}

fn documents(origin: &Origin, text: &str, format: Format, what: &str, findings: &mut Findings) -> Vec<Patch> {
    let documents = match yaml::parse_as(origin, text, Dialect::Kubernetes) {
        Ok(documents) => documents,
        Err(diagnostic) => {
            findings.found.push(diagnostic);
            return vec![];
        }
    };
    let documents = documents.iter().filter(|node| !node.is_null());
    if format == Format::Json {
        return documents.take(1).filter_map(|node| json_patch(origin, node, what, findings)).collect();
    }
    documents.map(|node| Patch::Merge { object: node.to_json(), at: origin.location(node.at) }).collect()
}

/// Diagnostics of an inline patch have the location of its list item; those of a file are exact.
fn inline(value: &Json, at: &Location, what: &str, findings: &mut Findings) -> Option<Patch> {
    let text = yaml::to_string(value).unwrap_or_default();
    let documents = yaml::parse_as(&at.origin, &text, Dialect::Kubernetes).unwrap_or_default();
    let mut inside = Findings::default();
    let patch = json_patch(&at.origin, documents.first()?, what, &mut inside);
    for diagnostic in inside.found {
        findings.found.push(yaml::Diagnostic { location: Some(at.clone()), ..diagnostic });
    }
    match patch {
        Some(Patch::Json { target, operations, .. }) => Some(Patch::Json { target, operations, at: at.clone() }),
        other => other,
    }
}

/// `{target: …, patch: […]}`.
fn json_patch(origin: &Origin, node: &Node, what: &str, findings: &mut Findings) -> Option<Patch> {
    let found = &mut findings.found;
    let mut fields = Fields::from_node(origin, node, format!("a JSON patch of {what}"), found);
    let target = fields.get("target");
    let operations = fields.get("patch").map(Node::to_json);
    if fields.get("path").is_some() {
        let at = fields.key_location("path").unwrap_or_else(|| fields.location());
        found.error(
            at,
            format!("`path` in a JSON patch of {what} is not supported: write the operations under `patch`"),
        );
    }
    let at = fields.location();
    fields.finish(found);
    let mut selected = PatchTarget::default();
    if let Some(node) = target {
        let mut fields = Fields::from_node(origin, node, format!("`target` of a JSON patch of {what}"), found);
        let mut text = |key| fields.string_or_number(key, found).unwrap_or_default();
        selected = PatchTarget {
            group: text("group"),
            version: text("version"),
            kind: text("kind"),
            name: text("name"),
            namespace: text("namespace"),
        };
        for key in ["labelSelector", "annotationSelector"] {
            if fields.get(key).is_some() {
                let at = fields.key_location(key).unwrap_or_else(|| fields.location());
                found.error(at, format!("`{key}` in a JSON patch of {what} is not supported"));
            }
        }
        fields.finish(found);
    }
    match operations {
        Some(operations @ Json::Array(_)) => Some(Patch::Json { target: selected, operations, at }),
        _ => {
            found.error(at, format!("a JSON patch of {what} needs a list `patch`"));
            None
        }
    }
}
