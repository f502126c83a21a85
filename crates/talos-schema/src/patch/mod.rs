//! Patches of machine configs: strategic merge patches and JSON patches, distinguished like in Talos.
//!
//! A patch is parsed once, which finds all its errors with their places, and applied to the configs of all nodes.

mod delete;
mod json6902;
#[cfg(test)]
mod tests;

use serde_json::Value;

use self::delete::{Deletion, Rest, located};
use self::json6902::Operations;
use super::container::conflict;
use super::contract::Contract;
use super::document::{Documents, is_legacy};
use super::merge::{Clash, merge_document};
use super::schema::schema;
use super::typed;
use super::typed::{RawValue, UnknownKinds, encode};
use yaml::{Diagnostic, Diagnostics, Location, Origin};

/// Why a patch could not be applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(transparent)]
pub struct MergeError(#[from] pub Diagnostics);

impl From<Diagnostic> for MergeError {
    fn from(diagnostic: Diagnostic) -> Self {
        Self(diagnostic.into())
    }
}

/// A parsed patch.
#[derive(Debug, Clone, PartialEq)]
pub struct ConfigPatch {
    origin: Origin,
    content: Content,
}

#[derive(Debug, Clone, PartialEq)]
enum Content {
    /// No documents, such as a file with only comments.
    Empty,
    Strategic(Vec<Change>),
    Json(Operations),
}

/// A change by a strategic merge patch.
#[derive(Debug, Clone, PartialEq)]
enum Change {
    DeleteDocument(Target),
    Delete(Target, Deletion),
    Merge(Target, Value),
}

/// The document that a change applies to.
#[derive(Debug, Clone, PartialEq)]
struct Target {
    at: Option<Location>,
    api_version: String,
    kind: String,
    /// Empty for kinds that have no name.
    name: String,
}

impl ConfigPatch {
    /// Parses a strategic merge patch, or a JSON patch in JSON or YAML.
    ///
    /// # Errors
    ///
    /// All errors that do not depend on the config.
    pub fn parse(origin: &Origin, text: &str) -> Result<Self, Diagnostics> {
        let written = RawValue::parse(origin, text)?;
        let content = match written.as_slice() {
            [] => Content::Empty,
            [only] if matches!(only.content, typed::RawContent::List(_)) => {
                match Operations::from_json(&only.to_json()) {
                    Some(operations) => Content::Json(operations),
                    None => {
                        let message =
                            "a patch that is a list must consist of JSON patch operations, each a mapping with `op`";
                        return Err(located(only.at.as_ref(), message.to_owned()).into());
                    }
                }
            }
            _ => {
                let mut found = check_duplicates(&written);
                let changes = changes(written, UnknownKinds::Reject, &mut found);
                Content::Strategic(found.into_result(changes)?)
            }
        };
        Ok(Self { origin: origin.clone(), content })
    }

    /// The file name in an argument, like talosctl: `@FILE`, or a name that cannot be an inline patch.
    pub fn file(argument: &str) -> Option<&str> {
        let inline = argument.contains(['\n', ' ']) || argument.starts_with(['[', '{']);
        argument.strip_prefix('@').or((!inline).then_some(argument))
    }

    /// Whether the patch has no documents.
    pub fn is_empty(&self) -> bool {
        self.content == Content::Empty
    }

    /// The source of the patch.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Checks that a Talos version has all document kinds that the patch adds or changes.
    ///
    /// # Errors
    ///
    /// All documents of newer Talos versions, with their places.
    pub fn check_kinds(&self, contract: Contract) -> Result<(), Diagnostics> {
        let Content::Strategic(changes) = &self.content else { return Ok(()) };
        let mut found = Diagnostics::default();
        for change in changes {
            let Change::Merge(target, _) = change else { continue };
            let kind = Some(target.kind.as_str()).filter(|kind| !kind.is_empty());
            if let Some(since) = schema().kind(kind).map(|kind| kind.since).filter(|since| *since > contract) {
                let title = target.title();
                let message =
                    format!("document {title} requires Talos {since} or later, the config is for Talos {contract}");
                found.push(located(target.at.as_ref(), message));
            }
        }
        found.into_result(())
    }

    /// Returns the patched config.
    ///
    /// # Errors
    ///
    /// The patch cannot be applied.
    pub fn apply(&self, config: &Documents) -> Result<Documents, MergeError> {
        match &self.content {
            Content::Empty => Ok(config.clone()),
            Content::Strategic(changes) => apply(config, changes),
            Content::Json(operations) => {
                let [document] = config.0.as_slice() else {
                    let message = format!("{}: a JSON patch only applies to a config with one document", self.origin);
                    return Err(Diagnostic::general(message).with_hint("write it as a strategic merge patch").into());
                };
                let patched = operations
                    .apply(document)
                    .map_err(|error| Diagnostic::general(format!("{}: {error}", self.origin)))?;
                check_patched(&self.origin, &patched)?;
                Ok(Documents(vec![patched]))
            }
        }
    }
}

/// Duplicate documents of a patch. Talos up to 1.13 rejects them; later versions merge one into the other.
fn check_duplicates(documents: &[RawValue]) -> Diagnostics {
    let mut found = Diagnostics::default();
    let mut seen: Vec<Target> = Vec::new();
    for written in documents {
        if delete::is_deleted(written) || typed::kind_of(written).is_err() {
            continue;
        }
        let target = Target::from_document(written);
        if let Some(first) = seen.iter().find(|first| first.is_same_document(&target)) {
            let first = first.at.as_ref().map_or_else(String::new, |at| format!(", first at {at}"));
            let title = if target.kind.is_empty() { "legacy document".to_owned() } else { target.title() };
            found.push(located(target.at.as_ref(), format!("duplicate {title} in the patch{first}")));
        }
        seen.push(target);
    }
    found
}

/// Checks the result of a JSON patch, which Talos checks only with the next patch or on the node.
fn check_patched(origin: &Origin, patched: &Value) -> Result<(), Diagnostics> {
    let mut found = Diagnostics::default();
    typed::document(&RawValue::from(patched), UnknownKinds::Reject, &mut found);
    let mut all = Diagnostics::default();
    all.extend(found.into_iter().map(|diagnostic| Diagnostic {
        message: format!("{origin}: the patched config is invalid: {}", diagnostic.message),
        ..diagnostic
    }));
    all.into_result(())
}

/// Merges the strategic patch `patch` into `config`. Documents of unknown kinds merge like free-form values.
///
/// # Errors
///
/// The patch cannot be applied.
pub fn merge(config: &Documents, patch: &Documents) -> Result<Documents, MergeError> {
    let mut found = Diagnostics::default();
    let changes = changes(patch.0.iter().map(RawValue::from).collect(), UnknownKinds::Pass, &mut found);
    apply(config, &found.into_result(changes)?)
}

fn changes(documents: Vec<RawValue>, unknown: UnknownKinds, found: &mut Diagnostics) -> Vec<Change> {
    let mut changes = Vec::new();
    for written in documents {
        let target = Target::from_document(&written);
        let (rest, deletions) = match delete::extract(written) {
            Ok(parts) => parts,
            Err(diagnostic) => {
                found.push(diagnostic);
                continue;
            }
        };
        changes.extend(deletions.into_iter().map(|deletion| Change::Delete(target.clone(), deletion)));
        match rest {
            Rest::Document if target.kind.is_empty() || target.api_version.is_empty() => found.push(located(
                target.at.as_ref(),
                "deleting a document requires `apiVersion` and `kind`; the legacy document cannot be deleted"
                    .to_owned(),
            )),
            Rest::Document => changes.push(Change::DeleteDocument(target)),
            Rest::Nothing => {}
            Rest::Written(written) => {
                let value = typed::document(&written, unknown, found);
                changes.push(Change::Merge(target, value));
            }
        }
    }
    changes
}

fn apply(config: &Documents, changes: &[Change]) -> Result<Documents, MergeError> {
    let mut found = Diagnostics::default();
    let mut documents: Vec<Value> = Vec::new();
    for document in &config.0 {
        documents.push(typed::document(&RawValue::from(document), UnknownKinds::Pass, &mut found));
    }
    found.into_result(())?;
    for change in changes {
        match change {
            Change::DeleteDocument(target) => documents.retain(|document| !target.is(document)),
            Change::Delete(target, deletion) => {
                // Deleting from an absent document is not an error, as in Talos from 1.14 on.
                if let Some(document) = documents.iter_mut().find(|document| target.is(document)) {
                    deletion.apply(&target.title(), document)?;
                }
            }
            Change::Merge(target, patch) => match documents.iter_mut().find(|document| target.is(document)) {
                Some(document) => merge_document(document, patch).map_err(|clash| target.clash(&clash))?,
                None => documents.push(patch.clone()),
            },
        }
    }
    if let Some(conflict) = conflict(&documents) {
        return Err(Diagnostic::general(conflict).into());
    }
    let (legacy, others): (Vec<Value>, Vec<Value>) = documents.iter().map(encode).partition(is_legacy);
    Ok(Documents(legacy.into_iter().chain(others).collect()))
}

impl Target {
    fn from_document(written: &RawValue) -> Self {
        let text = |key: &str| written.get(key).and_then(RawValue::text).unwrap_or_default().to_owned();
        let named = schema().kind(written.get("kind").and_then(RawValue::text)).is_none_or(|kind| kind.named);
        let name = if named && written.get("kind").is_some() { text("name") } else { String::new() };
        Self { at: written.at.clone(), api_version: text("apiVersion"), kind: text("kind"), name }
    }

    fn is(&self, document: &Value) -> bool {
        self.is_same_document(&Self::from_document(&RawValue::from(document)))
    }

    fn is_same_document(&self, other: &Self) -> bool {
        (&self.api_version, &self.kind, &self.name) == (&other.api_version, &other.kind, &other.name)
    }

    fn title(&self) -> String {
        format!("{} {}", self.kind, self.name).trim().to_owned()
    }

    fn clash(&self, clash: &Clash) -> Diagnostic {
        let title = self.title();
        let prefix = if title.is_empty() { String::new() } else { format!("{title}: ") };
        let path = clash.path().join(".").replace(".[", "[");
        located(self.at.as_ref(), format!("{prefix}`{path}` {}", clash.message()))
    }
}
